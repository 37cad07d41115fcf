"""The command line.

The exit status is 0, or 2 for wrong usage, or 130 after an interruption. It is 1, with one line on
stderr, if something cannot be read or written. Everything printed goes through `SafeStream`: names
in files, and of files, may hold codes that a terminal would obey.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout

from . import __version__
from .commands import COMMANDS
from .commands.common import complain, tell
from .errors import CnnrtError, PreprocessingWarning
from .storage.text import SafeStream


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    with (
        redirect_stdout(SafeStream(sys.stdout)),
        redirect_stderr(SafeStream(sys.stderr)),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("always", PreprocessingWarning)
        warnings.showwarning = tell
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    execute: Callable[[argparse.Namespace], int] = options.execute
    try:
        status = execute(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of stdout, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (CnnrtError, OSError, ImportError) as error:
        complain(error)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnrt",
        description="Convolutional networks on CPUs. `python -m cnnrt` is the same program.",
    )
    parser.add_argument("--version", action="version", version=f"cnnrt {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.HELP)
        one.set_defaults(execute=command.execute, usage_error=one.error)
        command.add_arguments(one)
    return parser
