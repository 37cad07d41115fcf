"""Python scripts run by tests in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cnnrt

EXAMPLES = Path(__file__).parent.parent / "examples"


def environment(**variables: str) -> dict[str, str]:
    """This process's environment, with the package found where it is found here."""
    folder = str(Path(cnnrt.__file__).parent.parent)
    path = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
    # NumPy's own pool would count among a process's threads.
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", **variables}


def run_script(
    folder: Path, text: str, *arguments: Any, timeout: float = 120, **variables: str
) -> str:
    """The output of a script; the test fails if the script fails or hangs.

    It is a file, not `-c`, so that processes started by it can import what it defines.
    """
    file = folder / "script.py"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, str(file), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(**variables),
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
