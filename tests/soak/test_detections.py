"""Memory over runs that each leave another number of detections."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import environment


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_thousand_numbers_of_detections_leave_no_memory_behind() -> None:
    command = [sys.executable, str(Path(__file__).with_name("detections.py")), "1000"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" MB") == 2
