"""Controls a benchmark: starts engines in processes of their own and sends them commands."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .worker import Source

PROGRAM = (sys.executable, str(Path(__file__).with_name("worker.py")))
PACKAGE = Path(__file__).parent.parent.parent


class WorkerError(Exception):
    """An engine cannot do what was requested."""


class Worker:
    """A process with one engine. Close it after use."""

    def __init__(self, name: str, threads: int, program: Sequence[str] = PROGRAM) -> None:
        self.log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  (closed below)
        path = [str(PACKAGE), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [*program, name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(threads),
                "PYTHONPATH": os.pathsep.join(filter(None, path)),
            },
        )

    def ask(self, command: str, timeout: float = 900, **values: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer.

        Raises:
            WorkerError: the engine failed, or its process ended.
        """
        assert self.process.stdin
        assert self.process.stdout
        timer = threading.Timer(timeout, self.process.kill)
        timer.start()
        try:
            self.process.stdin.write(json.dumps({"do": command, **values}, default=_plain) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            raise WorkerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise WorkerError(answer["failed"])
        return answer

    def _last_words(self) -> str:
        code = self.process.wait()
        self.log.seek(0)
        lines = [line.strip() for line in self.log.read().splitlines() if line.strip()]
        return f"the process ended with {code}: {lines[-1][:200] if lines else 'no message'}"

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()


def _plain(value: Any) -> Any:
    """Paths and sources as JSON."""
    return asdict(value) if isinstance(value, Source) else str(value)
