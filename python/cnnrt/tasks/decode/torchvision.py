"""torchvision's detectors: boxes, labels and scores of what they have chosen themselves.

Mask R-CNN adds masks, and Keypoint R-CNN keypoints with scores.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from ...graph import Array
from ..boxes import Candidates, Placement
from ..masks import Axis, room_for, sample
from .outputs import Outputs, sigmoid

MIN_PROBABILITY = 0.5
"""Probability from which a pixel belongs to a mask."""


class _Arrays(NamedTuple):
    boxes: Array
    scores: Array
    labels: Array
    masks: Array | None = None
    keypoints: Array | None = None
    keypoint_scores: Array | None = None


def decode(outputs: Outputs) -> Candidates:
    """The detections of one picture.

    A keypoint's score is the sigmoid of the one that torchvision gives, which is 0 between a seen
    and an unseen one.

    Raises:
        ShapeError: the outputs are not torchvision's.
    """
    found = _arrays(outputs)
    count = len(found.boxes)
    keypoints = None
    if found.keypoints is not None:
        keypoints = found.keypoints.copy()
        if found.keypoint_scores is not None:
            keypoints[..., 2] = sigmoid(found.keypoint_scores)
    masks = found.masks
    if masks is not None:
        masks = masks.reshape(count, *masks.shape[-2:])
    return Candidates(
        found.boxes,
        found.scores,
        found.labels.astype(np.int64),
        keypoints=keypoints,
        masks=None if masks is None else partial(_placed, masks),
    )


def _arrays(outputs: Outputs) -> _Arrays:
    """The arrays by their roles: by torchvision's names, or by their shapes and dtypes."""
    rest = dict(outputs.arrays)

    def take(role: str, rank: int, kinds: str, last: int | None = None) -> Array | None:
        named = outputs.named(role)
        if named is not None:
            return named
        fits = [
            name
            for name, y in rest.items()
            if y.ndim == rank and y.dtype.kind in kinds and (last is None or y.shape[-1] == last)
        ]
        return rest.pop(role if role in fits else fits[0]) if fits else None

    boxes, labels = take("boxes", 2, "f", 4), take("labels", 1, "iu")
    scores, masks = take("scores", 1, "f"), take("masks", 4, "f")
    keypoints = take("keypoints", 3, "f", 3)
    points = take("keypoints_scores", 2, "f") if keypoints is not None else None
    if boxes is None or labels is None or scores is None:
        outputs.refuse("boxes (N, 4), labels (N,) of integers and scores (N,)")
    counts = {len(y) for y in (boxes, labels, scores, masks, keypoints, points) if y is not None}
    if len(counts) != 1 or (points is not None and points.shape != keypoints.shape[:2]):  # type: ignore[union-attr]
        outputs.refuse("as many labels, scores, masks and keypoints as boxes")
    return _Arrays(boxes, scores, labels, masks, keypoints, points)


def _placed(masks: Array, chosen: Array, boxes: Array, placement: Placement) -> Array:  # noqa: ARG001
    """Masks bool (n, H, W) of probabilities (N, h, w) over the whole input."""
    height, width = placement.size
    found = room_for(len(chosen), placement.size)
    if masks.shape[1:] == placement.size == placement.input_size:
        for mask, i in zip(found, chosen, strict=True):
            np.greater_equal(masks[i], MIN_PROBABILITY, out=mask)
        return found
    h, w = masks.shape[1:]
    y = (np.arange(height) + 0.5 - placement.top) / placement.down * h / placement.input_size[0]
    x = (np.arange(width) + 0.5 - placement.left) / placement.across * w / placement.input_size[1]
    rows, columns = Axis(y, h), Axis(x, w)
    for mask, i in zip(found, chosen, strict=True):
        mask[:] = sample(masks[i], rows, columns) >= MIN_PROBABILITY
    return found
