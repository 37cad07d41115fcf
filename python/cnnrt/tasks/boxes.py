"""Boxes: candidates of a network, the best of them chosen, and their places in the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .. import _core
from ..graph import Array
from ..preprocessing import Preprocessing

MAX_CANDIDATES = 30_000
"""Candidates that are compared with each other, the best by score; as ultralytics limits them."""


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in the input of a network.

    The point (x, y) of the input shows the point (left + x * across, top + y * down) of the
    picture. Pixel i of a row reaches from i to i + 1.
    """

    left: float
    top: float
    across: float
    down: float
    size: tuple[int, int]
    """Height and width of the picture."""
    input_size: tuple[int, int]
    """Height and width of the network's input."""

    @classmethod
    def of(cls, preprocessing: Preprocessing, size: tuple[int, int]) -> Placement:
        """The place that a preprocessing gives a picture of this height and width."""
        left, top, right, bottom = preprocessing.seen(size[1], size[0])
        h, w = preprocessing.size
        return cls(left, top, (right - left) / w, (bottom - top) / h, size, (h, w))

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Placement:
        """The place of a picture that is the input as it is."""
        return cls(0.0, 0.0, 1.0, 1.0, size, size)

    def boxes(self, boxes: Array) -> Array:
        """float32 (N, 4): corners in the input as corners in the picture, inside of it."""
        height, width = self.size
        scaled = boxes * np.array([self.across, self.down] * 2) + [self.left, self.top] * 2
        return np.asarray(scaled.clip(0, [width, height] * 2), np.float32)

    def keypoints(self, points: Array) -> Array:
        """float32 (N, K, 3): x, y and score in the input as those in the picture, inside of it."""
        height, width = self.size
        placed = points.astype(np.float32)
        x = points[..., 0] * self.across + self.left
        y = points[..., 1] * self.down + self.top
        placed[..., 0], placed[..., 1] = x.clip(0, width), y.clip(0, height)
        return placed


Masks = Callable[[Array, Array, Placement], Array]
"""Masks bool (n, H, W) of chosen candidates: their numbers, their boxes in the picture, its
place."""


class Candidates(NamedTuple):
    """Boxes that a network gives for one picture, in any order."""

    boxes: Array
    """(N, 4): left, top, right and bottom, in pixels of the input."""
    scores: Array
    """(N,)"""
    classes: Array
    """int64 (N,)"""
    keypoints: Array | None = None
    """(N, K, 3): x and y in pixels of the input, and the score."""
    masks: Masks | None = None
    max_overlap: float | None = None
    """The usual threshold of suppression in this family; None: they are suppressed already."""


def empty() -> Candidates:
    """No candidates at all."""
    return Candidates(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


def choose(
    found: Candidates,
    *,
    min_score: float,
    max_overlap: float | None,
    max_detections: int,
    class_agnostic: bool,
) -> Array:
    """int64 (n,): the numbers of the candidates that remain, best first.

    A candidate remains if its score is above the least one and it overlaps no better one of its
    class by more than the threshold. Boxes with a NaN or an infinite corner go.

    Args:
        max_overlap: intersection over union; None: no candidate is suppressed.
        class_agnostic: a box also suppresses those of other classes.
    """
    scores = found.scores
    with np.errstate(invalid="ignore"):
        # NaN is above nothing.
        valid = (scores > min_score) & np.isfinite(found.boxes).all(1)
    order = np.flatnonzero(valid)
    order = order[np.argsort(-scores[order], kind="stable")]
    if max_overlap is None:
        return order[:max_detections]
    order = order[:MAX_CANDIDATES]
    boxes = np.ascontiguousarray(found.boxes[order], np.float32)
    ranks = np.ascontiguousarray(-np.arange(len(order)), np.float32)  # equal scores stay in order
    groups = np.zeros(len(order), np.int64) if class_agnostic else found.classes[order]
    kept = [
        members[_suppressed(boxes[members], ranks[members], max_detections, max_overlap)]
        for members in (np.flatnonzero(groups == group) for group in np.unique(groups))
    ]
    chosen = np.sort(np.concatenate(kept)) if kept else np.empty(0, np.int64)
    return np.asarray(order[chosen[:max_detections]])


def _suppressed(boxes: Array, scores: Array, most: int, overlap: float) -> Array:
    """The numbers of boxes of one class that remain."""
    found = _core.non_max_suppression(boxes[None], scores[None, None], most, overlap, None, False)
    return found[:, 2]


def from_centres(boxes: Array) -> Array:
    """(N, 4): centre x, centre y, width and height as left, top, right and bottom."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1)
