"""The commands of `python -m cnnrt`: one module each, with a description (`HELP`, `add_arguments`)
and `execute`, which returns the exit status."""

from __future__ import annotations

import argparse
from typing import Protocol

from . import (
    adapt,
    bench,
    check,
    compare,
    convert,
    demo,
    evaluate,
    features,
    profile,
    quantize,
    run,
    serve,
    summary,
    view,
)
from . import compile as compile_


class Command(Protocol):
    """Contract of a module of this package."""

    HELP: str
    """One line for the list of commands."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares the command's arguments, and its description."""

    def execute(self, options: argparse.Namespace) -> int:
        """Runs the command; returns the exit status.

        Raises:
            CnnrtError, OSError, ImportError: printed by `cnnrt.cli` as one line; exit status 1.
        """


COMMANDS: dict[str, Command] = {
    "run": run,
    "serve": serve,
    "summary": summary,
    "profile": profile,
    "bench": bench,
    "features": features,
    "view": view,
    "convert": convert,
    "quantize": quantize,
    "compile": compile_,
    "check": check,
    "compare": compare,
    "evaluate": evaluate,
    "adapt": adapt,
    "demo": demo,
}
"""The commands in the order in which `--help` lists them."""
