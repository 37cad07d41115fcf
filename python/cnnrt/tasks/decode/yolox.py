"""YOLOX: rows of (x, y, w, h), an objectness and scores, still in units of each level.

Z. Ge et al., "YOLOX: Exceeding YOLO Series in 2021". A place has one anchor. Its x and y are added
to its column and row, and w and h are logarithms. All are in strides of its level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..boxes import Candidates, from_centres
from .outputs import Outputs

STRIDES = ((8, 16, 32), (8, 16, 32, 64))
OVERLAP = 0.45
"""The threshold of suppression in YOLOX' demonstration of ONNX."""


def strides_of(
    count: int, size: tuple[int, int], known: Sequence[tuple[int, ...]] = STRIDES
) -> tuple[int, ...] | None:
    """The strides whose levels have so many places in an input of this size; None: none do."""
    for strides in known:
        sides = [[-(-side // stride) for side in size] for stride in strides]
        if sum(h * w for h, w in sides) == count:
            return strides
    return None


def decode(outputs: Outputs) -> Candidates:
    """The candidates of one picture.

    Raises:
        ShapeError: the outputs are not those of YOLOX.
    """
    rows = [y for y in outputs.arrays.values() if y.ndim in (2, 3)]
    if len(rows) != 1 or rows[0].shape[-1] < 6:
        outputs.refuse("rows (1, N, 5 + classes)")
    y = rows[0].reshape(-1, rows[0].shape[-1])
    stated = outputs.task.get("strides", None)
    strides = strides_of(len(y), outputs.size, (tuple(stated),) if stated else STRIDES)
    if strides is None:
        outputs.refuse("a row for each place of strides 8, 16 and 32")
    sides = [tuple(-(-side // stride) for side in outputs.size) for stride in strides]
    by_class = y[:, 5:]
    classes = by_class.argmax(1)
    scores = y[:, 4] * by_class[np.arange(len(y)), classes]
    with np.errstate(invalid="ignore"):
        chosen = np.flatnonzero(scores > outputs.min_score)
    places = np.concatenate([np.indices((h, w)).reshape(2, -1)[::-1].T for h, w in sides])
    stride = np.repeat(strides, [h * w for h, w in sides])[chosen, None].astype(np.float32)
    with np.errstate(over="ignore"):  # infinite boxes are left out later
        centres = np.concatenate(
            [(y[chosen, :2] + places[chosen]) * stride, np.exp(y[chosen, 2:4]) * stride], 1
        )
    return Candidates(from_centres(centres), scores[chosen], classes[chosen], max_overlap=OVERLAP)
