"""Settings of the whole process and facts of the build."""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...process.threads import set_num_threads

MAX_SEVERITY = 4


def get_version_string() -> str:
    """The version of the API that is spoken."""
    from . import __version__  # noqa: PLC0415  (the package imports this module)

    return __version__


def get_build_info() -> str:
    """The library and the API that answer the calls."""
    from ... import __version__  # noqa: PLC0415  (found on first use)

    return f"cnnrt {__version__} Build Info: the API of ONNX Runtime {get_version_string()}"


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
    """Sets the least severity of messages, from 0 (verbose) to 4 (fatal).

    They go to the function of `set_default_logger_callback`; without one nothing is logged.

    Raises:
        RuntimeError: there is no such level.
    """
    _logger.severity = _severity(severity)


def set_default_logger_verbosity(level: int) -> None:
    """Takes a level of verbose messages, which changes nothing."""
    int(level)


def set_default_logger_callback(callback: Callable[..., Any] | None, severity: int = 2) -> None:
    """Calls a function with each message; None ends that.

    Args:
        callback: takes severity, category, name of the session, place in the sources, and text.
            What it raises is dropped.
        severity: see `set_default_logger_severity`; None for the function keeps it.

    Raises:
        RuntimeError: the function cannot be called, or there is no such severity.
    """
    if callback is not None and not callable(callback):
        raise RuntimeError(f"callback must be a callable, got {type(callback).__name__}")
    level = _severity(severity)
    if callback is not None:
        _logger.severity = level
    _logger.callback = callback


@dataclass
class _Logger:
    """Where messages of all sessions go."""

    callback: Callable[..., Any] | None = None
    severity: int = 2


_logger = _Logger()


def log(severity: int, own: int, logid: str, place: str, text: str) -> None:
    """Hands a message to the function of `set_default_logger_callback`, if there is one.

    Args:
        severity: of the message, 0 (verbose) to 4 (fatal).
        own: the session's least severity; -1: the default's.
        logid: the session's name.
        place: the module and function that report.
        text: the message.
    """
    callback = _logger.callback
    if callback is not None and severity >= (own if own >= 0 else _logger.severity):
        with contextlib.suppress(Exception):  # of the client's function
            callback(severity, "onnxruntime", logid, place, text)


def _severity(severity: int) -> int:
    if not 0 <= int(severity) <= MAX_SEVERITY:
        raise RuntimeError(
            f"Invalid logging severity {severity}; expected 0 (verbose) to {MAX_SEVERITY} (fatal)"
        )
    return int(severity)


@dataclass
class _GlobalPool:
    """Says if sessions share the threads of the process."""

    set: bool = False


_global_pool = _GlobalPool()


def set_global_thread_pool_sizes(intra_op: int, inter_op: int = 0) -> None:
    """Sets the threads of sessions made from now on; `inter_op` changes nothing.

    As in ONNX Runtime these sessions must have `use_per_session_threads` off.
    """
    del inter_op
    if intra_op > 0:
        set_num_threads(intra_op)
    _global_pool.set = True


def check_threads(*, per_session: bool) -> None:
    """Raises RuntimeError if a session has its own threads beside global ones, or neither."""
    if per_session and _global_pool.set:
        raise RuntimeError("use_per_session_threads must be false when using a global thread pool")
    if not per_session and not _global_pool.set:
        raise RuntimeError(
            "use_per_session_threads is false; call set_global_thread_pool_sizes before"
        )


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
