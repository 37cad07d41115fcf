"""Semantic segmentation: a score of each class for each pixel, and the best of them."""

from __future__ import annotations

import numpy as np

from ...graph import Array
from ..boxes import Placement
from ..masks import Axis
from .outputs import Outputs, sigmoid

BAND = 64
"""Rows of the picture that are looked at together: the scores of all classes stay small."""
THRESHOLD = 0.5
"""Probability from which a pixel belongs to the one class of a network."""


def classes_of_pixels(outputs: Outputs, placement: Placement) -> Array:
    """int64 (H, W): the class of each pixel of the picture.

    The scores are interpolated between the pixels of the output, and then compared. With a single
    score, pixels from the task's `threshold` on are class 1, the others class 0.

    Raises:
        ShapeError: no output has scores or classes of pixels.
    """
    scores = _scores(outputs)
    count, h, w = scores.shape
    height, width = placement.size
    y = (np.arange(height) + 0.5 - placement.top) / placement.down * h / placement.input_size[0]
    x = (np.arange(width) + 0.5 - placement.left) / placement.across * w / placement.input_size[1]
    found = np.empty((height, width), np.int64)
    if scores.dtype.kind in "iub":  # classes already
        nearest = np.clip(np.floor(y), 0, h - 1).astype(int)
        found[:] = scores[0][nearest[:, None], np.clip(np.floor(x), 0, w - 1).astype(int)]
        return found
    if count == 1 and outputs.task.get("logits", bool(scores.min() < 0 or scores.max() > 1)):
        scores = sigmoid(scores)
    columns = Axis(x, w)
    for top in range(0, height, BAND):
        rows = Axis(y[top : top + BAND], h)
        low, high = scores[:, rows.low], scores[:, rows.high]
        mixed = low + (high - low) * rows.weight[:, None]
        left, right = mixed[..., columns.low], mixed[..., columns.high]
        band = left + (right - left) * columns.weight
        if count == 1:
            found[top : top + BAND] = band[0] >= outputs.task.get("threshold", THRESHOLD)
        else:
            found[top : top + BAND] = band.argmax(0)
    return found


def _scores(outputs: Outputs) -> Array:
    """Scores (C, h, w), or classes (1, h, w) of integers."""
    scores = outputs.named("scores")
    if scores is None:
        maps = {name: y for name, y in outputs.arrays.items() if y.ndim in (3, 4)}
        if not maps:
            outputs.refuse("scores (1, classes, h, w) or classes (1, h, w)")
        scores = maps.get("out", next(iter(maps.values())))  # torchvision's name
    if scores.ndim == 4:
        scores = scores[0].transpose(2, 0, 1) if outputs.channels_last else scores[0]
    if scores.ndim != 3 or not scores.size:
        outputs.refuse("scores (1, classes, h, w) or classes (1, h, w)")
    return scores
