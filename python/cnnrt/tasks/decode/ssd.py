"""SSD and others that give boxes and scores apart, before or after suppression.

W. Liu et al., "SSD: Single Shot MultiBox Detector" (2016). Two forms occur:

* a score of each class for each box: boxes (1, N, 4), scores (1, N, C) or (1, C, N);
* the boxes that the network has chosen itself: boxes (1, N, 4), scores (1, N) and classes (1, N).
  ONNX' model zoo has them so. TensorFlow adds their number.
"""

from __future__ import annotations

import numpy as np

from ...graph import Array
from ..boxes import Candidates, from_centres
from .outputs import Outputs, pairs, sigmoid, softmax

OVERLAP = 0.45
"""The usual threshold of suppression."""
FRACTIONS = 4.0
"""Boxes whose greatest number is below this are in fractions of the input's sides. In pixels, all
of them would lie in the outermost corner of the picture."""


def decode(outputs: Outputs) -> Candidates:
    """The candidates of one picture.

    Raises:
        ShapeError: the outputs are not those of SSD.
    """
    boxes, rest = _boxes(outputs)
    count = len(boxes)
    scores = outputs.named("scores")
    if scores is None:
        wide = [y for y in rest.values() if y.ndim == 3 and count in y.shape[1:]]
        if not wide:
            return _selected(outputs, boxes, rest)
        scores = wide[0]
    if scores.ndim == 3:
        scores = scores[0] if scores.shape[1] == count else scores[0].T
    if scores.ndim != 2:
        return _selected(outputs, boxes, rest)
    classes = scores.shape[1]
    background = _background(outputs, classes)
    if outputs.task.get("logits", bool(scores.size and (scores.min() < 0 or scores.max() > 1))):
        scores = softmax(scores) if background >= 0 else sigmoid(scores)
    rows, columns = pairs(scores, outputs.min_score, background)
    values = scores[rows, columns]
    shifted = columns - (columns > background) if _apart(outputs, classes, background) else columns
    return Candidates(
        _corners(outputs, boxes)[rows], values, shifted.astype(np.int64), max_overlap=OVERLAP
    )


def _boxes(outputs: Outputs) -> tuple[Array, dict[str, Array]]:
    """The boxes (N, 4), and the other outputs."""
    rest = dict(outputs.arrays)
    boxes = outputs.named("boxes")
    if boxes is None:
        names = [
            name
            for name, y in rest.items()
            if y.ndim in (2, 3, 4) and y.shape[-1] == 4 and y.dtype.kind == "f"
        ]
        names = [name for name in names if "box" in name.lower()] or names
        if not names:
            outputs.refuse("boxes (1, N, 4)")
        boxes = rest.pop(names[0])
    return boxes.reshape(-1, 4), rest


def _selected(outputs: Outputs, boxes: Array, rest: dict[str, Array]) -> Candidates:
    """The things that the network has chosen itself."""
    count = len(boxes)
    flat = {name: y.reshape(-1) for name, y in rest.items() if y.size == count and y.ndim <= 3}
    single = [y.reshape(-1) for y in rest.values() if y.size == 1]
    scores, classes = outputs.named("scores"), outputs.named("labels")
    if scores is None or classes is None:
        known = [name for name in flat if "class" in name.lower() or "label" in name.lower()]
        known = known or [name for name, y in flat.items() if y.dtype.kind in "iu"]
        if not known or len(flat) < 2:
            outputs.refuse("boxes (1, N, 4), scores (1, N) and classes (1, N)")
        classes = flat.pop(known[0])
        scores = next(y for y in flat.values())
    scores, classes = scores.reshape(-1), classes.reshape(-1)
    if len(scores) != count or len(classes) != count:
        outputs.refuse("as many scores and classes as boxes")
    if count != 1 and single:  # TensorFlow's number of detections
        count = min(count, max(0, int(single[0][0])))
    with np.errstate(invalid="ignore"):
        chosen = np.flatnonzero(scores[:count] > outputs.min_score)
        numbers = np.nan_to_num(classes[chosen]).astype(np.int64)
    if outputs.task.get("background", -1) == 0:
        numbers = numbers - 1
    return Candidates(_corners(outputs, boxes)[chosen], scores[chosen], numbers)


def _background(outputs: Outputs, count: int) -> int:
    """The column of scores that is no class; -1 if each is one."""
    stated: int | None = outputs.task.get("background", None)
    if stated is not None:
        return stated
    if outputs.classes is None:
        return -1 if count in (1, 20, 80) else 0  # Pascal VOC's and COCO's classes
    return 0 if count == outputs.classes + 1 else -1


def _apart(outputs: Outputs, count: int, background: int) -> bool:
    """True if the labels do not name the background."""
    return background >= 0 and (outputs.classes is None or count == outputs.classes + 1)


def _corners(outputs: Outputs, boxes: Array) -> Array:
    """(N, 4): left, top, right and bottom in pixels of the input."""
    task = outputs.task
    tensorflow = any(name.startswith("detection_boxes") for name in outputs.arrays)
    order = task.get("order", "yxyx" if tensorflow else "xyxy")
    if order == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif order == "cxcywh":
        boxes = from_centres(boxes)
    finite = boxes[np.isfinite(boxes)]
    small = not finite.size or float(np.abs(finite).max()) < FRACTIONS
    if task.get("units", "fractions" if small else "pixels") == "fractions":
        boxes = boxes * np.array([outputs.size[1], outputs.size[0]] * 2, np.float32)
    return boxes
