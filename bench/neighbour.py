"""What a loaded model costs the rest of a program: its CPU while idle, the speed of other work.

    python bench/neighbour.py [model.bin]

A loop of NumPy products and one of PyTorch convolutions are timed by turns: without a model, beside
a model that has run and is idle, and right after each run of it. All in one process: the same loop
differs by a third between two processes, by where their arrays lie. Printed are the least and the
median of all rounds, and the CPU time of the process during idle seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import cnnrt

MODES = {"alone": "alone", "idle": "model idle", "after": "after a run"}
ROUNDS, TURNS = 40, 3


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


def measure(
    mode: str, path: Path, works: dict[str, Callable[[], object]]
) -> dict[str, list[float]]:
    """Milliseconds of each loop, and what the process uses while idle, in percent of a CPU."""
    before: Callable[[], object] = lambda: time.sleep(0.002)  # noqa: E731
    if mode != "alone":
        model = cnnrt.load(path)
        x = np.zeros([d if isinstance(d, int) else 1 for d in model.inputs[0].shape], np.float32)
        for _ in range(10):
            model(x)
        if mode == "after":
            before = lambda: model(x)  # noqa: E731
    found: dict[str, list[float]] = {"idle": [idle_percent(1)]}
    for name, work in works.items():
        times = []
        for _ in range(ROUNDS):
            before()
            start = time.perf_counter()
            work()
            times.append((time.perf_counter() - start) * 1e3)
        found[name] = times[ROUNDS // 4 :]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parent.parent / "examples" / "efficientnet_lite0.bin"
    parser.add_argument("model", nargs="?", default=default, type=Path)
    path = parser.parse_args().model
    works = neighbours()
    table: dict[str, dict[str, list[float]]] = {}
    for _ in range(TURNS):
        for mode in MODES:
            found = measure(mode, path, works)
            for name, values in found.items():
                table.setdefault(name, {}).setdefault(mode, []).extend(values)
    print(f"{'least (median)':22s}" + "".join(f"{text:>20s}" for text in MODES.values()))
    for name, by_mode in table.items():
        unit = "%" if name == "idle" else "ms"
        cells = [f"{min(v):.3f} ({statistics.median(v):.3f}) {unit}" for v in by_mode.values()]
        print(f"{name:22s}" + "".join(f"{cell:>20s}" for cell in cells))


if __name__ == "__main__":
    main()
