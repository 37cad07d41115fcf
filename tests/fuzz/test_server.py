"""A few seconds of the hostile requests that `server.py` makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import environment

for package in (
    "grpc",
    "httptools",
    "httpx",
    "open_inference",
    "prometheus_client",
    "starlette",
    "uvicorn",
):
    pytest.importorskip(package)


def test_hostile_requests() -> None:
    """In a process of its own: the messages here and those of tritonclient exclude each other."""
    script = Path(__file__).with_name("server.py")
    done = subprocess.run(
        [sys.executable, script, "--minutes", "0.07"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.endswith(" requests, 0 findings\n")
    assert "200: " in done.stdout
    assert "gRPC INVALID_ARGUMENT: " in done.stdout
