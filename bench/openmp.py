"""A loop that alternates another library's OpenMP regions with runs of a network, by executor.

    python bench/openmp.py [model.bin] [--threads 2] [--rounds 12]

The other library is PyTorch (convolutions) or scikit-learn (predictions of boosted trees). The
network runs by cnnrt on its thread pool, by cnnrt on the OpenMP runtime of the library, or by
onnxruntime. There is a process for each pair, and they take turns; while one works the others wait
on a pipe. Printed are the least and (the median) of the milliseconds of one round of the loop, and
of its two parts.

The last table is the CPU time that the other threads of a process use in the 100 ms after a run,
with nothing else to do: what OpenMP's threads spin, by runtime.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

import cnnrt
from cnnrt import feeds
from cnnrt.formats.onnx.writer import write_onnx

Work = Callable[[], object]
Times = list[tuple[float, float]]

ENGINES = ("cnnrt, pool", "cnnrt, OpenMP", "onnxruntime")
RUNTIMES = {
    "pool": "",
    "OpenMP, GCC's": "scikit_learn.libs/libgomp-*.so*",
    "OpenMP, LLVM's": "cmeel.prefix/lib/libomp.so",
}
LOOPS = 12


def convolutions(threads: int) -> Work:
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    conv, x = torch.nn.Conv2d(64, 64, 3, padding=1).eval(), torch.randn(1, 64, 56, 56)
    return lambda: [conv(x) for _ in range(4)]


def trees(threads: int) -> Work:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4000, 20)), rng.integers(0, 5, 4000)
    fitted = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(x, y)
    return lambda: fitted.predict_proba(x)


LIBRARIES = {"PyTorch": convolutions, "scikit-learn": trees}


def runner(engine: str, model: Path, onnx: Path, threads: int) -> Work:
    """One inference by the engine."""
    loaded = cnnrt.load(model, threads=1)
    x = feeds.example(loaded.inputs, None)[0]
    if engine == "onnxruntime":
        import onnxruntime  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        given = {session.get_inputs()[0].name: x}
        return lambda: session.run(None, given)
    executor: Any = "pool" if engine == "cnnrt, pool" else "openmp"
    ours = cnnrt.load(model, threads=threads, threading=executor)
    return lambda: ours(x)


def alternate(pipe: Connection, library: str, engine: str, *how: Any) -> None:
    """Answers each message by the times of LOOPS rounds of the loop: the library's, the run's."""
    work = LIBRARIES[library](how[-1])
    work()
    run = runner(engine, *how)
    while pipe.recv():
        times: Times = []
        for _ in range(LOOPS):
            start = time.perf_counter()
            work()
            between = time.perf_counter()
            run()
            times.append((between - start, time.perf_counter() - between))
        pipe.send(times[LOOPS // 4 :])


def spinning(pipe: Connection, library: Path | None, model: Path, threads: int) -> None:
    """Answers each message by the milliseconds that the other threads use after a run."""
    if library:
        ctypes.CDLL(str(library))
    ours = cnnrt.load(model, threads=threads, threading="openmp" if library else "pool")
    x = feeds.example(ours.inputs, None)[0]
    ours(x)
    own = time.pthread_getcpuclockid(threading.get_ident())

    def others() -> float:
        return time.process_time() - time.clock_gettime(own)

    while pipe.recv():
        used = []
        for _ in range(5):
            ours(x)
            before = others()
            time.sleep(0.1)
            used.append((max(others() - before, 0.0), 0.0))  # two clocks, read in turn
        pipe.send(used)


def in_turn(target: Callable[..., None], cases: dict[str, tuple[Any, ...]], rounds: int) -> Any:
    """The times of each case, whose processes take turns."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for name, arguments in cases.items():
        pipes[name], other = context.Pipe()
        context.Process(target=target, args=(other, *arguments), daemon=True).start()
    found: dict[str, Times] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, pipe in pipes.items():
            pipe.send(True)
            found[name] += pipe.recv()
            time.sleep(0.3)  # the threads of some spin on
    for pipe in pipes.values():
        pipe.send(False)
    return found


def cell(values: list[float]) -> str:
    return f"{min(values) * 1e3:.2f} ({statistics.median(values) * 1e3:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", nargs="?", type=Path, default="examples/efficientnet_lite0.bin")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder) / "model.onnx"
        write_onnx(onnx, cnnrt.load(options.model).graph)
        how = (options.model, onnx, options.threads)
        cases = {f"{lib}, then {e}": (lib, e, *how) for lib in LIBRARIES for e in ENGINES}
        found = in_turn(alternate, cases, options.rounds)
    print(f"{'least (median) ms':<36}{'both':>18}{'library':>18}{'network':>18}")
    for name, times in found.items():
        columns = [[a + b for a, b in times], *map(list, zip(*times, strict=True))]
        print(f"{name:<36}" + "".join(f"{cell(column):>18}" for column in columns))

    cases = {}
    for name, pattern in RUNTIMES.items():
        files = [file for root in sys.path if pattern for file in Path(root).glob(pattern)]
        if files or not pattern:
            cases[name] = (files[0] if files else None, options.model, options.threads)
    print("\nms of CPU in the 100 ms after a run, of threads besides the caller's")
    for name, used in in_turn(spinning, cases, 4).items():
        print(f"{name:<36}{cell([first for first, _ in used]):>18}")


if __name__ == "__main__":
    main()
