"""`python -m cnnrt.compat PROGRAM ARGS`: a program that imports onnxruntime runs by cnnrt."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from . import install

USAGE = """usage: python -m cnnrt.compat PROGRAM [ARGS]
       python -m cnnrt.compat -m MODULE [ARGS]

Runs a program in which `import onnxruntime` means cnnrt."""


def main(arguments: list[str]) -> int:
    """Runs the program that the arguments name; returns an exit code if there is none."""
    as_module = arguments[:1] == ["-m"]
    rest = arguments[as_module:]
    if not rest or rest[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if rest else sys.stderr)
        return 0 if rest else 2
    install()
    sys.argv = rest
    if as_module:
        sys.path[0] = str(Path.cwd())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        if not Path(rest[0]).exists():
            print(f"python -m cnnrt.compat: there is no program {rest[0]!r}", file=sys.stderr)
            return 2
        sys.path[0] = str(Path(rest[0]).resolve().parent)
        runpy.run_path(rest[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
