"""Settings of the whole process and facts of the build."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from typing import Any

from ...process.threads import set_num_threads
from .errors import Fail, status

MAX_SEVERITY = 4


def get_version_string() -> str:
    """The version of the API that is spoken."""
    from . import __version__  # noqa: PLC0415  (the package imports this module)

    return __version__


def get_build_info() -> str:
    """The library and the API that answer the calls."""
    from ... import __version__  # noqa: PLC0415  (found on first use)

    return f"cnnrt {__version__} speaking the API of ONNX Runtime {get_version_string()}"


def has_collective_ops() -> bool:
    """True if there are operators over several machines: there are none."""
    return False


def disable_telemetry_events() -> None:
    """Does nothing: nothing is ever sent."""


def enable_telemetry_events() -> None:
    """Does nothing: nothing is ever sent."""


def preload_dlls(
    cuda: bool = True,
    cudnn: bool = True,
    msvc: bool = True,
    directory: str | None = None,
) -> None:
    """Does nothing: the CPU's kernels need no other libraries."""
    del cuda, cudnn, msvc, directory


def print_debug_info() -> None:
    """Prints versions, for a bug report."""
    print(f"{get_build_info()}\nPython {sys.version}\n{platform.platform()}")


def set_default_logger_severity(severity: int) -> None:
    """Takes a level from 0 (verbose) to 4 (fatal). cnnrt logs nothing.

    Raises:
        Fail: there is no such level.
    """
    if not 0 <= int(severity) <= MAX_SEVERITY:
        raise status(Fail, f"Invalid severity level: {severity}; expected 0 to {MAX_SEVERITY}")


def set_default_logger_verbosity(level: int) -> None:
    """Takes a level. cnnrt logs nothing."""
    int(level)


def set_default_logger_callback(callback: Callable[..., Any] | None) -> None:
    """Takes a function, which is never called: cnnrt logs nothing."""
    del callback


def set_global_thread_pool_sizes(intra_op: int, inter_op: int = 0) -> None:
    """Sets the threads of sessions made from now on; `inter_op` changes nothing."""
    del inter_op
    if intra_op > 0:
        set_num_threads(intra_op)


def set_seed(seed: int) -> None:
    raise NotImplementedError(
        f"seed {seed}: random operators take the seed in the model, or a new one each run"
    )


def register_execution_provider_library(name: str, path: str) -> None:
    raise NotImplementedError(
        f"{name} ({path}): cnnrt runs on the CPU and loads no plugin execution providers"
    )


def unregister_execution_provider_library(name: str) -> None:
    raise NotImplementedError(f"{name}: cnnrt has no plugin execution providers")
