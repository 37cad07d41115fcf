"""SCRFD, InsightFace's detector of faces: scores, distances and keypoints for each level.

J. Guo et al., "Sample and Computation Redistribution for Efficient Face Detection" (2021). Each
place of a level has one or two anchors, which share its corner. A box is given by its distances to
the left, up, right and down, in strides of the level. Keypoints are given likewise.
"""

from __future__ import annotations

import numpy as np

from ...graph import Array
from ..boxes import Candidates
from .outputs import Outputs, sigmoid

STRIDES = {3: (8, 16, 32), 5: (8, 16, 32, 64, 128)}
"""Pixels between the places of each level, by the number of levels."""
OVERLAP = 0.4
"""InsightFace's threshold of suppression."""


def decode(outputs: Outputs) -> Candidates:
    """The candidates of one picture.

    Raises:
        ShapeError: the outputs are not those of SCRFD.
    """
    scores, boxes, points = _levels(outputs)
    strides = tuple(outputs.task.get("strides", STRIDES.get(len(scores), ())))
    if len(strides) != len(scores):
        outputs.refuse("three or five levels of scores (N, 1) and distances (N, 4)")
    found: list[tuple[Array, Array, Array]] = []
    for level, stride in enumerate(strides):
        rows, columns = (-(-side // stride) for side in outputs.size)
        count = len(scores[level])
        anchors = count // (rows * columns) if rows * columns else 0
        if not count or anchors * rows * columns != count:
            outputs.refuse(f"a multiple of {rows} x {columns} places at stride {stride}")
        score = scores[level][:, 0]
        score = sigmoid(score) if outputs.task.get("logits", False) else score
        with np.errstate(invalid="ignore"):
            chosen = np.flatnonzero(score > outputs.min_score)
        place = chosen // anchors
        corner = np.stack([place % columns, place // columns], 1).astype(np.float32) * stride
        distances = boxes[level][chosen] * stride
        box = np.concatenate([corner - distances[:, :2], corner + distances[:, 2:]], 1)
        if points:
            offsets = points[level][chosen].reshape(len(chosen), points[level].shape[1] // 2, 2)
            marks = corner[:, None] + offsets * stride
        else:
            marks = np.empty((len(chosen), 0, 2), np.float32)
        found.append((box, score[chosen], marks))
    box, score, marks = (np.concatenate(parts) for parts in zip(*found, strict=True))
    keypoints = np.concatenate([marks, np.ones_like(marks[..., :1])], 2)
    return Candidates(
        box,
        score,
        np.zeros(len(score), np.int64),
        keypoints=keypoints if points else None,
        max_overlap=OVERLAP,
    )


def _levels(outputs: Outputs) -> tuple[list[Array], list[Array], list[Array]]:
    """Scores (N, 1), distances (N, 4) and keypoints (N, 2 K) of each level, the finest first."""
    by_size: dict[int, list[Array]] = {}
    for y in outputs.arrays.values():
        if y.ndim not in (2, 3):
            outputs.refuse("rows of scores, distances and keypoints")
        rows = y.reshape(-1, y.shape[-1])
        by_size.setdefault(rows.shape[1], []).append(rows)
    scores, boxes = by_size.pop(1, []), by_size.pop(4, [])
    points = next(iter(by_size.values()), [])
    groups = [sorted(group, key=len, reverse=True) for group in (scores, boxes, points)]
    lengths = [[len(rows) for rows in group] for group in groups]
    fits = lengths[0] and lengths[0] == lengths[1] and (not points or lengths[2] == lengths[0])
    if len(by_size) > 1 or not fits:
        outputs.refuse("scores (N, 1), distances (N, 4) and perhaps keypoints for each level")
    return groups[0], groups[1], groups[2]
