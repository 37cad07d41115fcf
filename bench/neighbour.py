"""The cost of a loaded model to the rest of its process, and of threads that run it to each other.

    python bench/neighbour.py [model.bin]

Prints

1. a loop of NumPy products and one of PyTorch convolutions, timed by turns. They run without a
   model, beside an idle model that has run, and right after each run of it. The CPU time of the
   process during an idle second before is printed too. Each turn is a fork of one process, because
   the same loop differs by a third between two processes, by where its arrays lie;
2. the CPU time that the workers use from 1 ms to 100 ms after a run has returned;
3. eight Python threads that run the model at once, against as many runs one after the other, each
   on all threads, by turns;
4. a run of the model, and of the same network on onnxruntime, beside none, one and two programs
   that keep a CPU busy each.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

import cnnrt
from cnnrt import benchmark, feeds

MODES = {"alone": "alone", "idle": "model idle", "after": "after a run"}
ROUNDS, TURNS = 24, 6
CALLERS, RUNS = 8, 10


def tasks() -> set[int]:
    return {int(entry.name) for entry in Path("/proc/self/task").iterdir()}


def cpu_time(threads: set[int]) -> float:
    """Milliseconds that these threads have run so far."""
    # The clock of a thread as the kernel numbers it, which glibc's pthread_getcpuclockid returns.
    return sum(time.clock_gettime_ns((~thread << 3) | 6) for thread in threads) / 1e6


def load(path: Path) -> tuple[cnnrt.Model, np.ndarray]:
    model = cnnrt.load(path)
    return model, np.zeros(
        [d if isinstance(d, int) else 1 for d in model.inputs[0].shape], np.float32
    )


def leaving(path: Path) -> None:
    """Prints the CPU time of the workers after runs. There must have been no workers before."""
    before = tasks()
    model, x = load(path)
    model(x)
    workers = tasks() - before
    working, after = [], []
    for _ in range(100):
        start = cpu_time(workers)
        model(x)
        time.sleep(0.001)
        gone = cpu_time(workers)
        time.sleep(0.099)
        working.append(gone - start)
        after.append(cpu_time(workers) - gone)
    print(
        f"{len(workers)} workers, {len(after)} runs: {statistics.median(working):.3f} ms of CPU in "
        f"a run and 1 ms more; from then to 100 ms at most {max(after):.3f} ms, "
        f"{statistics.mean(after):.4f} on average"
    )


def idle_percent(seconds: float) -> float:
    """CPU time of the whole process while this thread sleeps."""
    before = time.process_time()
    time.sleep(seconds)
    return (time.process_time() - before) / seconds * 100


def neighbours() -> dict[str, Callable[[], object]]:
    a = np.random.default_rng(0).standard_normal((384, 384), dtype=np.float32)
    conv, x = torch.nn.Conv2d(64, 64, 3, padding=1).eval(), torch.randn(1, 64, 56, 56)

    def convolve() -> None:
        with torch.no_grad():
            for _ in range(8):
                conv(x)

    return {
        "NumPy products": lambda: [a @ a for _ in range(8)],
        "PyTorch convolutions": convolve,
    }


WORKS = neighbours()  # the arrays are made, but no thread pool has started: a fork must find none


def measure(mode: str, path: Path) -> dict[str, list[float]]:
    """Milliseconds of each loop, and CPU time of the idle process in percent of a CPU."""
    before: Callable[[], object] = lambda: time.sleep(0.002)  # noqa: E731
    if mode != "alone":
        model, x = load(path)
        for _ in range(10):
            model(x)
        if mode == "after":
            before = lambda: model(x)  # noqa: E731
    found: dict[str, list[float]] = {"idle": [idle_percent(1)]}
    for name, work in WORKS.items():
        times = []
        for _ in range(ROUNDS):
            before()
            start = time.perf_counter()
            work()
            times.append((time.perf_counter() - start) * 1e3)
        found[name] = times[ROUNDS // 4 :]
    return found


def beside(path: Path) -> None:
    """Prints the idle CPU and the loops of others, without and with a model."""
    table: dict[str, dict[str, list[float]]] = {}
    for _ in range(TURNS):
        for mode in MODES:
            with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as child:
                found = child.submit(measure, mode, path).result()
            for name, values in found.items():
                table.setdefault(name, {}).setdefault(mode, []).extend(values)
    print(f"{'least (median)':22s}" + "".join(f"{text:>20s}" for text in MODES.values()))
    for name, by_mode in table.items():
        unit = "%" if name == "idle" else "ms"
        cells = [f"{min(v):.3f} ({statistics.median(v):.3f}) {unit}" for v in by_mode.values()]
        print(f"{name:22s}" + "".join(f"{cell:>20s}" for cell in cells))


def at_once(model: cnnrt.Model, x: np.ndarray) -> float:
    """Milliseconds per run of CALLERS threads that each run the model RUNS times."""
    start = threading.Barrier(CALLERS + 1)

    def call() -> None:
        start.wait()
        for _ in range(RUNS):
            model(x)

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    start.wait()
    begin = time.perf_counter()
    for caller in callers:
        caller.join()
    return (time.perf_counter() - begin) * 1e3 / (CALLERS * RUNS)


def in_turn(model: cnnrt.Model, x: np.ndarray) -> float:
    """Milliseconds per run of as many runs one after the other."""
    begin = time.perf_counter()
    for _ in range(CALLERS * RUNS):
        model(x)
    return (time.perf_counter() - begin) * 1e3 / (CALLERS * RUNS)


def together(path: Path) -> None:
    """Prints the time of a run, of eight callers at once and one after the other."""
    model, x = load(path)
    ways = {f"{CALLERS} at once": at_once, "in turn": in_turn}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(20):
        for name, way in ways.items():
            times[name].append(way(model, x))
    for name, found in times.items():
        print(f"{name:22s}{min(found):.3f} ({statistics.median(found):.3f}) ms a run")


def spin() -> None:
    while True:
        pass


def crowded(path: Path) -> None:
    """Prints a run beside busy programs."""
    for others in range(3):
        programs = [
            multiprocessing.get_context("spawn").Process(target=spin) for _ in range(others)
        ]
        for program in programs:
            program.start()
        rows = benchmark.benchmark(
            str(path),
            engines=["cnnrt", "onnxruntime"],
            threads=[cnnrt.get_num_threads()],
            shapes=lambda model, _: feeds.shapes(model.inputs, None),
            seconds=4,
        )
        for program in programs:
            program.kill()
        cells = [f"{r.engine} {r.min_ms:.2f} ({r.median_ms:.2f}) ms" for r in rows]
        print(f"beside {others} busy programs: {', '.join(cells)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parent.parent / "examples" / "efficientnet_lite0.bin"
    parser.add_argument("model", nargs="?", default=default, type=Path)
    path = parser.parse_args().model
    beside(path)
    leaving(path)
    together(path)
    crowded(path)


if __name__ == "__main__":
    main()
