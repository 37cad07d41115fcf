"""The stress script, briefly; by `-m soak` for ten minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import environment

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


def stress(*arguments: object) -> str:
    command = [sys.executable, str(Path(__file__).with_name("stress.py")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("kind", "count"), [("forks", 60), ("signals", 400), ("nested", 150), ("imports", 4)]
)
def test_a_short_while(kind: str, count: int) -> None:
    if kind == "imports":
        pytest.importorskip("onnx")
    assert "none hung" in stress(kind, "--count", count)


@pytest.mark.soak
def test_ten_minutes() -> None:
    assert stress("all", "--minutes", 10).count("none hung") == 4
