"""YOLO: one row of numbers for each place of the picture, from version 3 to version 26.

J. Redmon et al., "You Only Look Once" (2016), and ultralytics' exports. The forms are:

* "classes" (v8, v9, v11, v12): 4 numbers of the box and a score for each class;
* "objectness" (v3 to v5, v7): the box, a score that there is anything, and one for each class;
* "selected" (v10, v26, or with suppression inside): corners, score, class, best first;
* "indexed" (v7 with suppression inside): number of the picture, corners, class, score.

Rows may go on with coefficients of masks or with keypoints. They may lie along either axis.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ...graph import Array
from ..boxes import Candidates, Placement, from_centres
from ..masks import from_prototypes
from ..task import Task
from .outputs import Outputs, without_batch

STRIDES = ((8, 16, 32), (4, 8, 16, 32), (8, 16, 32, 64), (16, 32), (8, 16, 32, 64, 128))
"""Pixels between the places of each level, for the usual sets of levels."""
MAX_SELECTED = 1000
"""Rows of an output that is suppressed already, at most; ultralytics has 300."""
OVERLAP, OVERLAP_V5 = 0.7, 0.45
"""ultralytics' usual threshold of suppression, and that of YOLOv5."""
HEADER = {"classes": 4, "objectness": 5, "selected": 6, "indexed": 7}
"""Numbers of a row before the scores of classes, or before what follows a selected box."""


def places(size: tuple[int, int]) -> set[int]:
    """The numbers of places that the usual sets of levels have in an input of this size."""
    return {
        sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in strides)
        for strides in STRIDES
    }


def layout_of(
    shape: tuple[int, ...], size: tuple[int, int], classes: int | None, extra: int = 0
) -> tuple[str, bool] | None:
    """The form of rows, and True if they lie along the first of the two axes.

    Args:
        shape: that of the output without its first axis.
        size: height and width of the input.
        classes: number of classes; None: not known.
        extra: numbers of a row that follow its scores.

    Returns:
        None if it is no output of YOLO.
    """
    if len(shape) != 2:
        return None
    counts = places(size)
    known = counts | {3 * count for count in counts}
    # Before the rows of two classes, which are as long.
    if (
        shape[1] == HEADER["selected"] + extra
        and shape[0] <= MAX_SELECTED
        and shape[0] not in known
    ):
        return "selected", True
    if classes is not None:
        for numbers, rows_first in ((shape[0], False), (shape[1], True)):
            for layout in ("classes", "objectness"):
                if numbers == HEADER[layout] + classes + extra:
                    return layout, rows_first
    for count, numbers, rows_first in ((shape[1], shape[0], False), (*shape, True)):
        if numbers <= 4:
            continue
        if count in counts:
            return "classes", rows_first
        if count in known:
            return "objectness", rows_first
    if shape[1] == HEADER["indexed"] and not extra:
        return "indexed", True
    return None


def decode(outputs: Outputs) -> Candidates:
    """The candidates of one picture.

    Raises:
        ShapeError: the outputs are not those of YOLO.
    """
    task = outputs.task
    rows, prototypes = _arrays(outputs)
    extra = _extra(task, prototypes)
    form, transposed = _form(outputs, rows, extra)
    rows = rows if transposed else rows.T
    if form in ("selected", "indexed"):
        begin, at_score, at_class = (0, 4, 5) if form == "selected" else (1, 6, 5)
        rows = rows[rows[:, at_score] > outputs.min_score]
        boxes, scores = rows[:, begin : begin + 4], rows[:, at_score]
        classes = rows[:, at_class].astype(np.int64)
        overlap = None
    else:
        header = HEADER[form]
        by_class = rows[:, header : rows.shape[1] - extra]
        if not by_class.shape[1]:
            outputs.refuse("a score for each class")
        best = by_class.max(1)
        scores = best * rows[:, 4] if form == "objectness" else best
        chosen = np.flatnonzero(scores > outputs.min_score)
        rows, scores = rows[chosen], scores[chosen]
        classes = by_class[chosen].argmax(1)
        boxes = from_centres(rows[:, :4])
        overlap = OVERLAP_V5 if form == "objectness" else OVERLAP
    if task.get("units", "pixels") == "fractions":
        boxes = boxes * np.array([outputs.size[1], outputs.size[0]] * 2, np.float32)
    tail = rows[:, rows.shape[1] - extra :]
    return Candidates(
        boxes,
        scores,
        classes,
        keypoints=_keypoints(tail, task, outputs) if task.kind == "pose" else None,
        masks=None if prototypes is None else partial(_masks, tail, prototypes),
        max_overlap=overlap,
    )


def _arrays(outputs: Outputs) -> tuple[Array, Array | None]:
    """The rows, and the prototypes of masks."""
    rows, prototypes = outputs.named("boxes"), outputs.named("prototypes")
    segments = outputs.task.kind == "segment"
    if rows is None:
        flat = [y for y in outputs.arrays.values() if y.ndim in (2, 3)]
        rows = flat[0] if flat else outputs.refuse("rows of boxes and scores")
    if prototypes is None and segments:
        deep = [y for y in outputs.arrays.values() if y.ndim == 4]
        prototypes = deep[0] if deep else outputs.refuse("prototypes of masks (1, M, h, w)")
    return (rows[0] if rows.ndim == 3 else rows), (
        None if prototypes is None or not segments else without_batch(prototypes)
    )


def _extra(task: Task, prototypes: Array | None) -> int:
    """Numbers of a row that follow its scores."""
    if prototypes is not None:
        return int(task.get("coefficients", prototypes.shape[0]))
    if task.kind == "pose":
        return int(task.get("keypoints", 17) * task.get("dimensions", 3))
    return 0


def _form(outputs: Outputs, rows: Array, extra: int) -> tuple[str, bool]:
    shape = (rows.shape[0], rows.shape[1])
    found = layout_of(shape, outputs.size, outputs.classes, extra)
    stated = outputs.task.get("layout", None)
    if stated is not None:
        transposed = found[1] if found else shape[0] > shape[1] or stated in ("selected", "indexed")
        return stated, transposed
    return found or outputs.refuse("rows of boxes and scores, (1, 4 + classes, N) or (1, N, 6)")


def _keypoints(tail: Array, task: Task, outputs: Outputs) -> Array:
    """(N, K, 3) of K keypoints in two or three numbers each; without a score it is 1."""
    dimensions = task.get("dimensions", 3)
    if tail.shape[1] % dimensions:
        outputs.refuse(f"keypoints in {dimensions} numbers each")
    points = tail.reshape(len(tail), tail.shape[1] // dimensions, dimensions)
    if dimensions == 2:
        points = np.concatenate([points, np.ones_like(points[..., :1])], 2)
    return points


def _masks(
    coefficients: Array, prototypes: Array, chosen: Array, boxes: Array, placement: Placement
) -> Array:
    return from_prototypes(coefficients[chosen], prototypes, boxes, placement)
