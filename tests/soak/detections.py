"""Runs the tail of a detector with 1,000 different numbers of detections; tells how memory grew.

    python tests/soak/detections.py [RUNS]

One tail is small enough to be run without a plan. The other sums floats, so each number of
detections has a plan of its own, of which the latest are kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

import numpy as np  # noqa: E402

import cnnrt  # noqa: E402
from networks import network  # noqa: E402

BOXES, WARM = 2000, 100
"""Boxes of which some are detected, and runs before memory is first looked at."""


def tail(*, planned: bool) -> cnnrt.Model:
    """Boxes (2000, 4) where the score is above zero: the sum, or the extent, of each."""
    op = "reduce_sum" if planned else "reduce_max"
    return cnnrt.Model(
        network(
            {"boxes": np.zeros((BOXES, 4), np.float32), "scores": np.zeros(BOXES, np.float32)},
            {"zero": np.float32(0), "last": np.array([-1])},
            ("over", "greater", "scores zero"),
            ("where", "non_zero", "over"),
            ("rows", "transpose", "where", {"perm": [1, 0]}),
            ("kept", "gather_nd", "boxes rows"),
            ("y", op, "kept last", {"keepdims": 0}),
        ),
        threads=1,
    )


def growth(runs: int, *, planned: bool) -> float:
    """Megabytes by which the process grew over runs of which each has another number of boxes."""
    model, boxes = tail(planned=planned), np.ones((BOXES, 4), np.float32)
    counts = np.random.default_rng(0).permutation(BOXES - 1)[: runs + WARM] + 1
    before = 0.0
    for i, count in enumerate(counts):
        if i == WARM:
            before = resident()
        scores = np.zeros(BOXES, np.float32)
        scores[:count] = 1
        got = model({"boxes": boxes, "scores": scores})
        assert got.shape == (count,)
        assert (got == (4 if planned else 1)).all()
    return resident() - before


def resident() -> float:
    """Megabytes of memory that the process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def main() -> int:
    """The command line."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for planned in (False, True):
        grown = growth(runs, planned=planned)
        print(
            f"{runs} numbers of detections, {'planned' if planned else 'without a plan'}: ", end=""
        )
        print(f"{grown:.1f} MB")
        if grown > 5:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
