"""The time of whole networks on more CPUs than this machine has, simulated from measured shares.

    python bench/cores.py [--networks a,b] [--cores 1,2,4,8,16] [--seconds S] [--layers N]
                          [--barrier NS] [--dram GB/S] [--out cores.json]

A plan for N threads divides each step into N shares. Here one thread does all of them, one after
the other, and each is timed (`Plan.trace_in_turn`). A simulation then runs the shares side by side:
each thread goes on to its next share at once, and at a barrier it waits for the slowest. As many
threads as there are CPUs are also measured, beside what was predicted for them.

What is assumed: a core reads what another core wrote as fast as what it wrote itself. The first
share of a step finds its weights and inputs in no cache, the others may. A barrier takes N - 1
times `--barrier`, the time between two threads on cores near each other. With `--dram`, a step
takes at least the time in which all cores together read its weights at that speed. Without, each
core has the speed of this machine's memory.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import report
from machine import cache_folder

import cnnrt
import networks
from cnnrt.layout.tensors import At
from cnnrt.model import plan_for
from cnnrt.planning.plan import Plan


@dataclass(frozen=True)
class Shares:
    """A plan's shares, as one thread did them."""

    times: np.ndarray[Any, np.dtype[np.float64]]
    """Nanoseconds by thread and step; 0 without a share."""
    waits: list[bool]
    """Steps that begin with a barrier."""
    weights: list[int]
    """Bytes of constants that each step reads."""

    def predict(self, barrier_ns: float, dram: float | None = None) -> Prediction:
        """The run with each thread on a core of its own.

        Args:
            barrier_ns: nanoseconds of a barrier between two threads.
            dram: bytes of weights per nanosecond that all cores read together; None: no limit.
        """
        threads, steps = self.times.shape
        cost = barrier_ns * (threads - 1)
        clock = np.zeros(threads)
        barriers, lost, began = 0, np.zeros(steps), 0.0
        for i in range(steps):
            if self.waits[i] and threads > 1:
                clock[:] = clock.max() + cost
                barriers += 1
                began = clock.max()
            clock += self.times[:, i]
            if dram:
                clock = np.maximum(clock, began + self.weights[i] / dram * (self.times[:, i] > 0))
            lost[i] = self.times[:, i].max() - self.times[:, i].sum() / threads
        return Prediction(float(clock.max() + cost), barriers * cost, lost)


@dataclass(frozen=True)
class Prediction:
    """A simulated run, in nanoseconds."""

    time: float
    barriers: float
    lost: np.ndarray[Any, np.dtype[np.float64]]
    """By step: the slowest share less the mean share."""


def load(path: Path, threads: int, x: Any) -> Plan:
    """The plan of a network for an input."""
    plan = plan_for(cnnrt.load(path, threads=threads), (x,))
    if not isinstance(plan, Plan):
        raise TypeError(f"{path} is run in several plans")
    return plan


def measure(plans: Sequence[Plan], x: Any, seconds: float, real: int) -> list[tuple[Any, float]]:
    """For each plan its shares, and the shortest real run in ns (inf if it is not to be run).

    The plans take turns, and each share has its shortest time.

    Args:
        real: the most threads of plans that are run as they are.
    """
    shares: list[Any] = [None] * len(plans)
    runs = [np.inf] * len(plans)
    end = time.perf_counter() + seconds * len(plans)
    rounds = 0
    while rounds < 3 or time.perf_counter() < end:
        rounds += 1
        for i, plan in enumerate(plans):
            spans = plan.trace_in_turn((x,))
            taken = np.where(spans[..., 1] < 0, 0, spans[..., 1] - spans[..., 0])
            shares[i] = taken if shares[i] is None else np.minimum(shares[i], taken)
            if plan.threads <= real:
                start = time.perf_counter_ns()
                plan.run((x,))
                runs[i] = min(runs[i], time.perf_counter_ns() - start)
    found = []
    for plan, taken, run in zip(plans, shares, runs, strict=True):
        weights = [
            sum(
                value.buffer.nbytes
                for value in getattr(step, "fields", {}).values()
                if isinstance(value, At) and value.buffer.memory is not None
            )
            for step in plan.steps
        ]
        found.append((Shares(taken.astype(np.float64), plan.waits(), weights), run))
    return found


def arguments() -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=report.words, default=list(networks.NETWORKS))
    parser.add_argument("--cores", type=report.numbers, default=[1, 2, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=2.0, help="per network and number")
    parser.add_argument("--layers", type=int, default=0, help="steps that lose most, to be listed")
    parser.add_argument("--barrier", type=float, default=60.0, help="ns between two threads")
    parser.add_argument("--dram", type=float, help="GB/s at which all cores together read weights")
    parser.add_argument("--cache", help="folder for exported networks")
    parser.add_argument("--out", type=Path, help="also write the figures here, as JSON")
    args = parser.parse_args()
    if min(args.cores) < 1 or args.seconds <= 0:
        parser.error("cores and seconds are positive")
    return args


def main() -> None:
    """The command line."""
    args = arguments()
    cache = cache_folder(args.cache)
    result = report.header({k: getattr(args, k) for k in ("cores", "seconds", "barrier", "dram")})
    result["rows"] = []
    print("ms predicted (measured) and, in brackets, times as fast as on the first number of cores")
    print(f"{'network':<20}" + "".join(f"{n:>22}" for n in args.cores) + "  lost on the last")
    for name in args.networks:
        failed = report.run_tool("networks.py", name, "--cache", str(cache))
        if failed:
            report.note(f"{name}: cannot be prepared: {failed}")
            continue
        result["rows"].append(row(name, args, cache))
        if args.out:
            report.save(args.out, result)


def row(name: str, args: argparse.Namespace, cache: Path) -> dict[str, Any]:
    """One network: simulated, printed, and as JSON."""
    files = networks.prepare(name, 1, cache)
    x = np.load(files.input)
    plans = [load(files.onnx, n, x) for n in args.cores]
    cells, entries, first = [], [], 0.0
    found = measure(plans, x, args.seconds, os.cpu_count() or 1)
    for plan, (shares, run) in zip(plans, found, strict=True):
        predicted = shares.predict(args.barrier, args.dram)
        first = first or predicted.time
        measured = f"({run / 1e6:.3g})" if np.isfinite(run) else ""
        cells.append(f"{predicted.time / 1e6:.3g} {measured} [{first / predicted.time:.1f}]")
        entry = {
            "cores": plan.threads,
            "predicted_ms": round(predicted.time / 1e6, 5),
            "measured_ms": round(run / 1e6, 5) if np.isfinite(run) else None,
            "barriers_ms": round(predicted.barriers / 1e6, 5),
            "uneven_ms": round(float(predicted.lost.sum()) / 1e6, 5),
        }
        entries.append(entry)
    parts = f"shares {predicted.lost.sum() / predicted.time:.0%}"
    parts += f", barriers {predicted.barriers / predicted.time:.0%}"
    print(f"{name:<20}" + "".join(f"{c:>22}" for c in cells) + f"  {parts}", flush=True)
    infos = plan.describe()
    for i in np.argsort(-predicted.lost)[: args.layers]:
        taken = shares.times[:, i]
        print(
            f"    {infos[i].node} {infos[i].kernel} ({infos[i].note}): {(taken > 0).sum()} shares, "
            f"longest {taken.max() / 1e3:.1f} us, mean of {plan.threads} {taken.mean() / 1e3:.1f}"
        )
    return {"name": name, "cores": entries}


if __name__ == "__main__":
    main()
