"""What this machine can do at most: multiply-adds in registers, measured."""

from __future__ import annotations

import functools

import numpy as np

from .. import _core
from ..planning.plan import EXTERNAL, step_times

STEPS = 20_000
"""Multiply-adds of each register in a run: some 70 microseconds."""
RUNS = 40


@functools.cache
def peak_gflops(isa: str, threads: int) -> float:
    """As `measure_peak`, which is done once per process."""
    return measure_peak(isa, threads)


def measure_peak(isa: str, threads: int) -> float:
    """GFLOP/s of multiply-adds by one instruction-set tier on `threads` threads together.

    The best of some runs that take a few milliseconds in all. Processors that clock lower the more
    cores work give less per thread with more threads.
    """
    core = _core.Plan(isa)
    core.add("peak", {"y": (EXTERNAL, 0), "steps": STEPS, "tasks": threads})
    core.finish(0, [], [((16 + 16 * threads,), np.dtype(np.float32))], threads)
    y = np.full(16 + 16 * threads, 1e-3, np.float32)
    workspace = core.workspace()
    fastest = min(
        int(step_times(core.run_steps(workspace, [y], 0, 1, timed=True))[0]) for _ in range(RUNS)
    )
    return 2.0 * STEPS * SUMS[isa] * 16 * threads / fastest


SUMS = {"avx512": 28, "avx2": 6, "neon": 6, "portable": 2}
"""Registers of 16 floats that the kernel adds to (kTileRows kTileBlocks of cpp/simd/vec.h)."""
