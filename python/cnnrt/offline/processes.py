"""The engine of one machine: a process for each core."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import warnings
from collections.abc import Sequence
from multiprocessing import connection
from typing import Any

from PIL import Image

from .job import Row, classify_files
from .model_file import ModelFile

GRACE = 5.0
"""Seconds that a process has to end by itself."""


class _Worker:
    """A process and the task that it has."""

    def __init__(self, model: ModelFile, top: int, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(
            target=_work, args=(other, model, top, threads), daemon=True, name="cnnrt run"
        )
        self.process.start()
        other.close()
        self.key: int | None = None

    def close(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join(GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Processes:
    """Worker processes that map one model file. One that ends is replaced."""

    def __init__(self, model: ModelFile, top: int, workers: int, threads: int = 1) -> None:
        """Starts the processes; use it as a context manager.

        Args:
            model: the network.
            top: classes of a row.
            workers: number of processes.
            threads: threads of each.
        """
        self._arguments = (model.here(), top, threads)
        self._workers = [_Worker(*self._arguments) for _ in range(workers)]

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.close()

    @property
    def slots(self) -> int:
        return len(self._workers)

    def submit(self, key: int, files: Sequence[str]) -> None:
        worker = next(w for w in self._workers if w.key is None)
        worker.key = key
        with contextlib.suppress(OSError):  # the process has ended: `wait` finds out
            worker.pipe.send(list(files))

    def wait(self) -> tuple[int, list[Row] | None]:
        busy = {worker.pipe: worker for worker in self._workers if worker.key is not None}
        (ready, *_) = connection.wait(list(busy))
        worker = busy[ready]  # type: ignore[index]
        key = worker.key
        assert key is not None
        try:
            answer: Any = worker.pipe.recv()
        except (EOFError, OSError):
            worker.close()
            self._workers[self._workers.index(worker)] = _Worker(*self._arguments)
            return key, None
        worker.key = None
        if isinstance(answer, Exception):
            raise answer
        return key, answer


def _work(pipe: Any, model: ModelFile, top: int, threads: int) -> None:
    """Answers tasks until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process gets it too
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    while True:
        try:
            files = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            pipe.send(classify_files(model, files, top, threads))
        except Exception as error:
            pipe.send(error)
