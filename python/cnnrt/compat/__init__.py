"""Other runtimes' Python APIs over cnnrt: programs that call them need not be changed.

`cnnrt.compat.onnxruntime` speaks the API of ONNX Runtime. `install` puts it in place of the package
`onnxruntime` for this process; `python -m cnnrt.compat PROGRAM ARGS` does so for a whole program.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["install"]

NAME = "onnxruntime"
"""The package, and the distribution, that is stood in for."""

EVERY = DistributionFinder.Context()
"""Asks for all distributions."""


def install() -> None:
    """Puts `cnnrt.compat.onnxruntime` in place of `onnxruntime` for this process.

    Call it before anything imports `onnxruntime`. Its submodules and
    `importlib.metadata.version("onnxruntime")` are answered too. A second call does nothing.

    Raises:
        ImportError: another `onnxruntime` has been imported already.
    """
    present = sys.modules.get(NAME)
    own = importlib.import_module(f"{__name__}.{NAME}")
    if present is not None and present is not own and hasattr(present, "InferenceSession"):
        raise ImportError(
            "another onnxruntime is imported already; call cnnrt.compat.install() before it, or "
            "run the program by python -m cnnrt.compat PROGRAM"
        )
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    sys.modules[NAME] = own


class _Finder(DistributionFinder):
    """Finds the modules and the metadata of `onnxruntime` in this package."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  (the protocol's names)
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname != NAME and not fullname.startswith(f"{NAME}."):
            return None
        own = f"{__name__}.{fullname}"
        if importlib.util.find_spec(own) is None:
            return None
        return ModuleSpec(fullname, _Loader(own), is_package=True)

    def find_distributions(
        self,
        context: DistributionFinder.Context = EVERY,
    ) -> Iterable[Distribution]:
        return [_Metadata()] if context.name is None or context.name.lower() == NAME else []


class _Loader(Loader):
    """Gives a module of this package under another name, as one object."""

    def __init__(self, own: str) -> None:
        self.own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.own)
        self.kept = module.__spec__, module.__loader__
        del spec
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__, module.__loader__ = self.kept  # the import system has set its own


class _Metadata(Distribution):
    """The name and version of the API that is spoken."""

    def read_text(self, filename: str) -> str | None:
        if filename != "METADATA":
            return None
        from .onnxruntime import __version__  # noqa: PLC0415  (it loads the whole library)

        return f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {__version__}\n"

    def locate_file(self, path: Any) -> Path:
        return Path(__file__).parent / str(path)
