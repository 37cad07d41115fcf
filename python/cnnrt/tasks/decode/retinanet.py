"""RetinaNet's heads: scores, and offsets of boxes from anchors.

T.-Y. Lin et al., "Focal Loss for Dense Object Detection" (2017). Nine anchors lie at each place of
five levels. Two forms occur, with anchors of their own:

* rows over all levels, (1, N, classes) and (1, N, 4), as torchvision's head gives them;
* maps (1, 9 * classes, h, w) and (1, 36, h, w) for each level, as NVIDIA's odtk and ONNX' model zoo
  have them.
"""

from __future__ import annotations

import math

import numpy as np

from ...graph import Array
from ..boxes import Candidates, from_centres
from .outputs import Outputs, pairs, sigmoid

STRIDES = (8, 16, 32, 64, 128)
ANCHORS = 9
OVERLAP = 0.5
"""The threshold of suppression in both."""
MAX_LOG = math.log(1000 / 16)
"""The largest logarithm of a box's growth, as torchvision limits it."""
MAX_PAIRS = 1000
"""Pairs of an anchor and a class that a level keeps, the best; as both limit them."""


def decode(outputs: Outputs) -> Candidates:
    """The candidates of one picture.

    Raises:
        ShapeError: the outputs are not those of RetinaNet.
    """
    maps = [y[0] for y in outputs.arrays.values() if y.ndim == 4 and y.shape[0] == 1]
    levels = _of_maps(outputs, maps) if maps else _of_rows(outputs)
    boxes, scores, classes = [], [], []
    for anchors, score, deltas in levels:
        rows, columns = pairs(score, outputs.min_score)
        values = score[rows, columns]
        best = np.argsort(-values, kind="stable")[:MAX_PAIRS]
        rows, columns, values = rows[best], columns[best], values[best]
        centres, sides = anchors[rows, :2], anchors[rows, 2:]
        change = deltas[rows]
        with np.errstate(over="ignore"):  # infinite boxes are left out later
            grown = np.exp(np.minimum(change[:, 2:], MAX_LOG)) * sides
        boxes.append(np.concatenate([change[:, :2] * sides + centres, grown], 1))
        scores.append(values)
        classes.append(columns)
    return Candidates(
        from_centres(np.concatenate(boxes)),
        np.concatenate(scores),
        np.concatenate(classes),
        max_overlap=OVERLAP,
    )


Level = tuple[Array, Array, Array]
"""Anchors (N, 4) as centre and size, scores (N, C) and changes (N, 4) of a level."""


def _of_rows(outputs: Outputs) -> list[Level]:
    """The levels of rows, with torchvision's anchors."""
    scores, deltas = outputs.named("scores"), outputs.named("boxes")
    if scores is None or deltas is None:
        flat = {name: y for name, y in outputs.arrays.items() if y.ndim == 3}
        narrow = [name for name, y in flat.items() if y.shape[2] == 4]
        narrow = [n for n in narrow if "box" in n.lower() or "reg" in n.lower()] or narrow
        if not narrow or len(flat) != 2:
            outputs.refuse("scores (1, N, classes) and offsets (1, N, 4)")
        deltas = flat.pop(narrow[0])
        (scores,) = flat.values()
    scores, deltas = scores[0], deltas[0]
    grids = [tuple(-(-side // stride) for side in outputs.size) for stride in STRIDES]
    counts = [ANCHORS * h * w for h, w in grids]
    if len(scores) != sum(counts) or deltas.shape != (len(scores), 4):
        outputs.refuse(f"{sum(counts)} rows of scores and offsets")
    if outputs.task.get("logits", bool(scores.min() < 0 or scores.max() > 1)):
        scores = sigmoid(scores)
    levels = []
    begin = 0
    for i, ((h, w), count) in enumerate(zip(grids, counts, strict=True)):
        part = slice(begin, begin + count)
        step = np.array([outputs.size[1] // w, outputs.size[0] // h], np.float32)
        places = np.indices((h, w)).reshape(2, -1)[::-1].T * step
        corners = _torchvision_anchors(32 * 2**i)
        centres = (corners[:, :2] + corners[:, 2:]) / 2
        anchors = np.concatenate(
            [
                (places[:, None] + centres).reshape(-1, 2),
                np.tile(corners[:, 2:] - corners[:, :2], (h * w, 1)),
            ],
            1,
        )
        levels.append((anchors, scores[part], deltas[part]))
        begin += count
    return levels


def _torchvision_anchors(side: int) -> Array:
    """float32 (9, 4): corners around 0, by proportions and then by size, rounded to pixels."""
    sides = np.array([side, int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3))], np.float32)
    tall = np.sqrt(np.array([0.5, 1.0, 2.0], np.float32))
    w = (1 / tall[:, None] * sides).reshape(-1)
    h = (tall[:, None] * sides).reshape(-1)
    return np.asarray(np.round(np.stack([-w, -h, w, h], 1) / 2), np.float32)


def _of_maps(outputs: Outputs, maps: list[Array]) -> list[Level]:
    """The levels of maps, with NVIDIA's anchors, which count a pixel more on each side."""
    deltas = sorted((y for y in maps if len(y) == 4 * ANCHORS), key=lambda y: -y[0].size)
    scores = sorted((y for y in maps if len(y) != 4 * ANCHORS), key=lambda y: -y[0].size)
    if not scores:  # four classes: the scores come first
        half = len(maps) // 2
        scores, deltas = (sorted(y, key=lambda y: -y[0].size) for y in (maps[:half], maps[half:]))
    if [y.shape[1:] for y in scores] != [y.shape[1:] for y in deltas] or len(scores[0]) % ANCHORS:
        outputs.refuse("maps of scores (1, 9 * classes, h, w) and of offsets (1, 36, h, w)")
    logits = outputs.task.get("logits", any(bool((y < 0).any() or (y > 1).any()) for y in scores))
    levels = []
    for score, delta in zip(scores, deltas, strict=True):
        h, w = score.shape[1:]
        stride = outputs.size[1] // w
        sizes = [
            (stride * scale / math.sqrt(tall) + 1, stride * scale * math.sqrt(tall) + 1)
            for scale in (4.0, 4 * 2 ** (1 / 3), 4 * 2 ** (2 / 3))
            for tall in (1.0, 2.0, 0.5)
        ]
        places = np.indices((h, w)).reshape(2, -1)[::-1].T * stride + (stride + 1) / 2
        anchors = np.concatenate(
            [np.tile(places, (ANCHORS, 1)), np.repeat(np.array(sizes), h * w, 0)], 1
        ).astype(np.float32)
        by_class = score.reshape(ANCHORS, -1, h * w).transpose(0, 2, 1).reshape(ANCHORS * h * w, -1)
        change = delta.reshape(ANCHORS, 4, h * w).transpose(0, 2, 1).reshape(-1, 4)
        levels.append((anchors, sigmoid(by_class) if logits else by_class, change))
    return levels
