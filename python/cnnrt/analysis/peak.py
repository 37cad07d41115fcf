"""Peak of this machine: multiply-adds in registers, measured."""

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
    """The peak by `measure_peak`, measured once per process."""
    return measure_peak(isa, threads)


def measure_peak(isa: str, threads: int, dtype: str = "float32") -> float:
    """Billions of operations per second, two for a multiply-add, on `threads` threads together.

    The best of some runs that take a few milliseconds in all. Processors that clock lower the more
    cores work give less per thread with more threads.

    Args:
        isa: an instruction-set tier, or one without an overlay (`avx512+novnni`).
        threads: number of threads.
        dtype: "float32", or "uint8" for products of unsigned by signed bytes.
    """
    kernel, factor = ("peak", 1e-3) if dtype == "float32" else ("peak_u8", 1)
    core = _core.Plan(isa)
    core.add(kernel, {"y": (EXTERNAL, 0), "steps": STEPS, "tasks": threads})
    y = np.full(64 // np.dtype(dtype).itemsize * (1 + threads), factor, dtype)
    if dtype == "uint8":
        y = np.concatenate([y[:64], np.zeros(64 * threads, y.dtype)])
    core.finish(0, [], [(y.shape, y.dtype)], threads)
    workspace = core.workspace()
    fastest = min(
        int(step_times(core.run_steps(workspace, [y], 0, 1, timed=True))[0]) for _ in range(RUNS)
    )
    # Sums of ones times ones count the products of bytes.
    macs = (
        STEPS * SUMS[isa.partition("+")[0]] * 16 * threads
        if dtype == "float32"
        else int(y[64:].view(np.int32).sum(dtype=np.int64))
    )
    return 2.0 * macs / fastest


SUMS = {"avx512": 28, "avx2": 6, "neon": 6, "portable": 2}
"""Registers of 16 floats that the kernel adds to (kTileRows kTileBlocks of cpp/simd/vec.h)."""
