"""How fast a network runs, beside other engines: each in a process of its own, taking turns."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import feeds, formats
from ..formats import Document
from ..graph import Array
from ..model import Model
from .process import Worker, WorkerError
from .worker import ENGINES, Source

PAUSE = 0.06
"""Seconds between turns: onnxruntime's threads spin for about 20 ms after its last run."""

ROUNDS = 4
"""Turns into which the time of each engine is split: what disturbs the machine for a while then
disturbs all alike."""

WRONG = 1e-2
"""Relative error above which an engine does not compute the network."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One engine at one number of threads and batch size; times in milliseconds."""

    engine: str
    version: str | None
    threads: int
    batch: int
    failed: str = ""
    """Why there are no numbers."""
    min_ms: float = 0.0
    median_ms: float = 0.0
    p99_ms: float = 0.0
    per_second: float = 0.0
    """Images, or whatever the first axis counts."""
    runs: int = 0
    load_ms: float = 0.0
    """From the file to a network that is ready, without importing the engine."""
    peak_bytes: int | None = None
    """Most memory of the process, with Python and NumPy."""
    error: float = 0.0
    """Largest difference from cnnrt's reference run over the largest output."""


def benchmark(
    path: str,
    *,
    engines: Sequence[str] = ("cnnrt",),
    threads: Sequence[int],
    batches: Sequence[int | None] = (None,),
    seconds: float = 3.0,
    shapes: Callable[[Model, int | None], dict[str, tuple[int, ...]]],
    done: Callable[[Measurement], None] = lambda _: None,
) -> list[Measurement]:
    """Measures every engine at every number of threads and batch size.

    Args:
        path: model.bin or an ONNX file.
        batches: batch sizes; None: the one that `shapes` finds.
        seconds: how long each of them runs.
        shapes: of the inputs, by name, for a batch size. It raises ShapeError for one that the
            network does not take; all are asked for before anything runs.
        done: called with each measurement when it is there.

    Raises:
        FormatError, UnsupportedOperator, ShapeError: cnnrt cannot read or run the network so.
        ImportError: an engine needs it as ONNX, and the package `onnx` is missing.
    """
    document = formats.read(path)
    model = Model(document.graph)
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx = _as_onnx(path, document, folder) if set(engines) - {"cnnrt"} else Path(path)
        for asked, sizes in [(batch, shapes(model, batch)) for batch in batches]:
            files = _inputs(model, sizes, folder)
            first = next(iter(sizes.values()))
            batch = asked or (first[0] if first else 1)
            source = Source(onnx, None, first, Path(path))
            for count in threads:
                for row in _race(engines, source, files, count, batch, seconds):
                    found.append(row)
                    done(row)
    return found


def _as_onnx(path: str, document: Document, folder: Path) -> Path:
    """The network as an ONNX file."""
    with Path(path).open("rb") as file:
        if file.read(9)[8:] != b"{":
            return Path(path)
    from ..formats.onnx.writer import write_onnx  # noqa: PLC0415  (needs a package)

    write_onnx(folder / "model.onnx", document.graph)
    return folder / "model.onnx"


def _inputs(model: Model, shapes: dict[str, tuple[int, ...]], folder: Path) -> tuple[Path, Path]:
    """Files with random inputs, and with cnnrt's first output for them."""
    inputs = dict(
        zip((spec.name for spec in model.inputs), feeds.example(model.inputs, shapes), strict=True)
    )
    files = folder / "input.npy", folder / "reference.npy"
    if len(inputs) == 1:
        np.save(files[0], next(iter(inputs.values())))
    else:
        files = folder / "input.npz", files[1]
        np.savez(files[0], **inputs)
    y: Array | dict[str, Array] = model.run(inputs)
    np.save(files[1], next(iter(y.values())) if isinstance(y, dict) else y)
    return files


def _race(
    engines: Sequence[str],
    source: Source,
    files: tuple[Path, Path],
    threads: int,
    batch: int,
    seconds: float,
) -> list[Measurement]:
    """All engines, loaded first and then taking turns."""
    workers: dict[str, Worker] = {}
    loaded: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    times: dict[str, list[int]] = {name: [] for name in engines}
    memory: dict[str, dict[str, Any]] = {}
    try:
        for name in engines:
            try:
                workers[name] = Worker(name, threads)
                loaded[name] = workers[name].ask(
                    "load", source=source, input=files[0], ref=files[1]
                )
                if not loaded[name]["error"] < WRONG:
                    raise WorkerError(f"wrong result: relative error {loaded[name]['error']:.2g}")
            except WorkerError as error:
                failed[name] = str(error)
        for r in range(ROUNDS):
            running = [name for name in engines if name not in failed]
            start = r % max(1, len(running))  # nobody always follows the same engine
            for name in running[start:] + running[:start]:
                time.sleep(PAUSE)
                try:
                    answer = workers[name].ask("turn", seconds=seconds / ROUNDS, all=True)
                    times[name] += answer["times"]
                    memory[name] = workers[name].ask("memory")
                except WorkerError as error:
                    failed[name] = str(error)
    finally:
        for worker in workers.values():
            worker.close()
    return [
        Measurement(name, ENGINES[name].version(), threads, batch, failed=failed[name])
        if name in failed
        else _measurement(name, threads, batch, times[name], loaded[name], memory[name])
        for name in engines
    ]


def _measurement(
    name: str,
    threads: int,
    batch: int,
    times: list[int],
    loaded: dict[str, Any],
    memory: dict[str, Any],
) -> Measurement:
    return Measurement(
        engine=name,
        version=memory["version"],
        threads=threads,
        batch=batch,
        min_ms=min(times) / 1e6,
        median_ms=statistics.median(times) / 1e6,
        p99_ms=float(np.quantile(times, 0.99, method="higher")) / 1e6,
        per_second=batch * len(times) / sum(times) * 1e9,
        runs=len(times),
        load_ms=1e3 * loaded["load_seconds"],
        peak_bytes=memory["peak_bytes"],
        error=loaded["error"],
    )
