"""DETR and its successors: a set of boxes with scores, none of them to be suppressed.

N. Carion et al., "End-to-End Object Detection with Transformers" (2020): the last class of a
softmax is none at all. X. Zhu et al., "Deformable DETR" (2021), and RT-DETR have a sigmoid for each
class, and any class of any box may count. Boxes are centre and size, in fractions of the picture.
"""

from __future__ import annotations

import numpy as np

from ...graph import Array
from ..boxes import Candidates, from_centres
from .outputs import Outputs, pairs, sigmoid, softmax

MAX_PAIRS = 300
"""Pairs of a box and a class that remain, the best; as the models' own code does."""
SOFTMAX_SIZES = {92, 251}
"""Numbers of scores of the first DETR: COCO's 91 classes or its 250 of panoptic segmentation, and
one for none."""


def decode(outputs: Outputs) -> Candidates:
    """The candidates of one picture.

    Raises:
        ShapeError: the outputs are not those of DETR.
    """
    logits, boxes = _arrays(outputs)
    if _chosen(logits):
        corners = _in_pixels(outputs, boxes)
        return Candidates(corners, logits[:, 0], logits[:, 1].astype(np.int64))
    count = logits.shape[1]
    background = outputs.task.get("background", None)
    if background is None:
        none_last = count in SOFTMAX_SIZES if outputs.classes is None else count > outputs.classes
        background = count - 1 if none_last else -1
    if not outputs.task.get("logits", _beyond(logits)):
        scores = logits
    else:
        scores = sigmoid(logits) if background < 0 else softmax(logits)
    if background >= 0:  # one class for each box
        shown = np.delete(scores, background, 1) if background < count else scores
        if not shown.shape[1]:
            outputs.refuse("a score for each class beside that of none")
        rows, classes = np.arange(len(shown)), shown.argmax(1)
        classes = classes + (classes >= background)
        best = scores[rows, classes]
    else:
        rows, classes = pairs(scores, outputs.min_score)
        best = scores[rows, classes]
        order = np.argsort(-best, kind="stable")[:MAX_PAIRS]
        rows, classes, best = rows[order], classes[order], best[order]
    return Candidates(_in_pixels(outputs, boxes[rows]), best, classes)


def _in_pixels(outputs: Outputs, boxes: Array) -> Array:
    """(N, 4): centres and sizes as corners in pixels of the input."""
    corners = from_centres(boxes)
    if outputs.task.get("units", "fractions") == "fractions":
        corners = corners * np.array([outputs.size[1], outputs.size[0]] * 2, np.float32)
    return corners


def _chosen(scores: Array) -> bool:
    """True if rows are a score and the number of a class, as ultralytics' later exports have them.

    Scores of two classes are no whole numbers.
    """
    if scores.shape[1] != 2 or not len(scores):
        return False
    numbers = scores[:, 1]
    return bool(np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all())


def _arrays(outputs: Outputs) -> tuple[Array, Array]:
    """The scores (Q, C) and the boxes (Q, 4)."""
    logits, boxes = outputs.named("scores"), outputs.named("boxes")
    if logits is None or boxes is None:
        flat = {name: y for name, y in outputs.arrays.items() if y.ndim == 3}
        if len(flat) == 1:  # ultralytics' RT-DETR: the box, then the scores
            (rows,) = flat.values()
            if rows.shape[2] > 4:
                return rows[0, :, 4:], rows[0, :, :4]
        narrow = [name for name, y in flat.items() if y.shape[2] == 4]
        if len(narrow) > 1:  # three classes and none of them are four scores too
            narrow = [name for name in narrow if "box" in name.lower()] or narrow[1:]
        if not narrow:
            outputs.refuse("scores (1, Q, classes) and boxes (1, Q, 4)")
        boxes = flat.pop(narrow[0])
        rest = [y for y in flat.values() if y.shape[1] == boxes.shape[1]]
        logits = rest[0] if rest else outputs.refuse("scores (1, Q, classes) for each box")
    scores, places = (y[0] if y.ndim == 3 else y for y in (logits, boxes))
    if scores.ndim != 2 or places.shape != (len(scores), 4):
        outputs.refuse("scores (1, Q, classes) and boxes (1, Q, 4)")
    return scores, places


def _beyond(scores: Array) -> bool:
    """True if scores are no probabilities yet."""
    return bool(scores.size and (scores.min() < 0 or scores.max() > 1))
