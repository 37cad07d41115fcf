"""Operators that detectors add to a network: roi_align and non_max_suppression."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _core
from ..graph import Array, Node, TensorType, Value
from . import REQUIRED, NodeTypes, Op, RunSubgraph, register, shape_error
from .axes import ALL, AxesMapping, follow, mixed
from .common import ByValue, Inputs, at_least, check_indices, choice, operands

MAX_SAMPLES = 1 << 24
"""Maximum samples of one region in all channels: 256 channels of 256 x 256. The network computes
its regions, and the largest possible one must not take all memory."""


@register
class RoiAlign(Op):
    """The mean (or maximum) of points in a grid of bins over regions (R, 4) of x (N, C, H, W).

    Regions are x1, y1, x2, y2; a third input has the image of each -> (R, C, *output). With
    `sampling_ratio` 0 a bin has about one point per pixel along each axis.
    """

    name = "roi_align"
    all_pairs = python_loop = True
    attributes = {
        "coordinate_transformation_mode": "half_pixel",
        "mode": "avg",
        "output_height": 1,
        "output_width": 1,
        "sampling_ratio": 0,
        "spatial_scale": 1.0,
    }

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, rois, images = operands(node, inputs, 3, 3)
        choice(node, "mode", ("avg", "max"))
        choice(node, "coordinate_transformation_mode", ("half_pixel", "output_half_pixel"))
        at_least(node, "sampling_ratio", 0)
        size = at_least(node, "output_height", 1), at_least(node, "output_width", 1)
        if x.rank != 4 or rois.shape != (*images.shape, 4) or images.rank != 1 or 0 in x.shape[2:]:
            raise shape_error(node, inputs, "takes an image, regions (R, 4) and images (R)")
        check_indices(node, inputs, images, x.shape[0])
        return [TensorType((rois.shape[0], x.shape[1], *size), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        image = (ALL, follow(1), mixed(2), mixed(3))
        return AxesMapping([image, (follow(0), ALL), (follow(0),)])

    def points(
        self, node: Node, low: float, high: float, bins: int, size: int
    ) -> tuple[Array, Array]:
        """The pixels (2, points) and weights of all points along an axis from low to high."""
        step = (high - low) / bins
        if not math.isfinite(step):
            low = step = 0.0
        each = node["sampling_ratio"] or max(math.ceil(step), 0)
        if bins * each > MAX_SAMPLES:
            raise ValueError(f"a region from {low} to {high} in {bins} bins of {each} points")
        x = low + step * (np.arange(bins)[:, None] + (np.arange(each) + 0.5) / max(each, 1))
        x = x.reshape(-1)
        outside = ~((x >= -1) & (x <= size))  # so that NaN is, too
        x = np.where(outside, 0, np.clip(x, 0, size - 1))
        first = np.floor(x).astype(np.int64)
        weight = np.stack([first + 1 - x, x - first])
        return np.stack([first, np.minimum(first + 1, size - 1)]), np.where(outside, 0, weight)

    def reference(self, node: Node, x: Any, rois: Any, images: Any) -> tuple[Array, ...]:
        bins = node["output_height"], node["output_width"]
        half = node["coordinate_transformation_mode"] == "half_pixel"
        y = np.zeros((len(rois), x.shape[1], *bins), x.dtype)
        for r, (region, image) in enumerate(zip(rois, images, strict=True)):
            x1, y1, x2, y2 = (float(v) * node["spatial_scale"] - 0.5 * half for v in region)
            if not half:
                x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
            rows, row_weight = self.points(node, y1, y2, bins[0], x.shape[2])
            columns, column_weight = self.points(node, x1, x2, bins[1], x.shape[3])
            if max(rows.size, columns.size, x.shape[1] * rows.size * columns.size) > MAX_SAMPLES:
                raise ValueError(
                    f"region {region.tolist()} has {rows.size} x {columns.size} points"
                )
            corners = [
                x[image][:, rows[i]][:, :, columns[j]] * row_weight[i][:, None] * column_weight[j]
                for i, j in itertools.product(range(2), repeat=2)
            ]
            if not corners[0].size:
                continue
            value = sum(corners) if node["mode"] == "avg" else np.maximum.reduce(corners)
            shape = (-1, bins[0], len(rows[0]) // bins[0], bins[1], len(columns[0]) // bins[1])
            fold = np.mean if node["mode"] == "avg" else np.max
            y[r] = fold(np.reshape(value, shape), axis=(2, 4))
        return (y,)


@register
class MaxRoiPool(Op):
    """The maximum in each bin of regions (R, 5) of x (N, C, H, W) -> (R, C, *pooled_shape).

    Regions are the number of an image and x1, y1, x2, y2, which are rounded to pixels that belong
    to them. A bin outside of the image is zero.
    """

    name = "max_roi_pool"
    attributes = {"pooled_shape": REQUIRED, "spatial_scale": 1.0}
    python_loop = True

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, rois = operands(node, inputs, 2, 2)
        size = tuple(node["pooled_shape"])
        if x.rank != 4 or rois.rank != 2 or rois.shape[1] != 5 or len(size) != 2 or min(size) < 1:
            raise shape_error(node, inputs, "takes an image, regions (R, 5) and two sizes")
        return [TensorType((rois.shape[0], x.shape[1], *size), x.type.dtype)]

    def bins(self, low: float, high: float, count: int, size: int) -> list[tuple[int, int]]:
        """The first pixel of each bin along an axis of `size`, and the one after its last."""
        first = math.floor(low + 0.5)
        step = max(math.floor(high + 0.5) - first + 1, 1) / count
        ends = [
            (math.floor(i * step) + first, math.ceil((i + 1) * step) + first) for i in range(count)
        ]
        return [(min(max(a, 0), size), min(max(b, 0), size)) for a, b in ends]

    def reference(self, node: Node, x: Any, rois: Any) -> tuple[Array, ...]:
        rows, columns = node["pooled_shape"]
        y = np.zeros((len(rois), x.shape[1], rows, columns), x.dtype)
        for r, (image, *region) in enumerate(rois):
            x1, y1, x2, y2 = (float(v) * node["spatial_scale"] for v in region)
            if not 0 <= image < len(x) or not np.isfinite([x1, y1, x2, y2]).all():
                raise ValueError(f"region {r} is {region} of image {image} of {len(x)}")
            down, across = (
                self.bins(y1, y2, rows, x.shape[2]),
                self.bins(x1, x2, columns, x.shape[3]),
            )
            for (i, (top, bottom)), (j, (left, right)) in itertools.product(
                enumerate(down), enumerate(across)
            ):
                part = x[int(image), :, top:bottom, left:right]
                if part.size:
                    y[r, :, i, j] = part.max(axis=(1, 2))
        return (y,)


@register
class NonMaxSuppression(ByValue):
    """(image, class, box) of boxes, best first, that overlap no better one of their class by more
    than a threshold.

    Inputs are boxes (N, B, 4), scores (N, classes, B), and three scalars. These are the maximum
    number per class, the threshold of intersection over union, and that of the score.
    """

    name = "non_max_suppression"
    all_pairs = python_loop = True
    attributes = {"center_point_box": 0}
    arity = (2, 5)

    def corners(self, node: Node, boxes: Array) -> tuple[Array, Array]:
        """The least and the greatest corner of each box, (B, 2) each."""
        if node["center_point_box"]:
            return boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
        return np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])

    def limits(
        self, node: Node, boxes: Array, scores: Array, given: Sequence[Any]
    ) -> tuple[int, float, float | None]:
        """How many boxes per class at most, the threshold of overlap and that of the score.

        Raises:
            ShapeError: boxes and scores do not fit each other.
        """
        fit = boxes.ndim == scores.ndim == 3 and boxes.shape[2] == 4
        if not fit or (boxes.shape[0], boxes.shape[1]) != (scores.shape[0], scores.shape[2]):
            raise shape_error(node, (), "takes boxes (N, B, 4) and scores (N, classes, B)")
        numbers = [None if v is None else v.reshape(()).item() for v in given]
        max_count, overlap, min_score = (numbers + [None] * 3)[:3]
        return int(max_count or 0), overlap or 0.0, min_score

    def evaluate(self, node: Node, inputs: Sequence[Any], run: RunSubgraph) -> list[Value]:
        boxes, scores, *given = inputs
        max_count, overlap, min_score = self.limits(node, boxes, scores, given)
        dtype = np.float64 if np.float64 in (boxes.dtype, scores.dtype) else np.float32
        boxes, scores = (np.ascontiguousarray(x, dtype) for x in (boxes, scores))
        centred = bool(node["center_point_box"])
        return [_core.non_max_suppression(boxes, scores, max_count, overlap, min_score, centred)]

    def reference(self, node: Node, boxes: Any, scores: Any, *given: Any) -> tuple[Array, ...]:
        max_count, overlap, min_score = self.limits(node, boxes, scores, given)
        chosen = []
        for image, label in np.ndindex(*scores.shape[:2]):
            low, high = self.corners(node, boxes[image])
            area = np.prod(high - low, axis=1)
            score = scores[image, label]
            order = np.argsort(-score, kind="stable")
            waiting = order if min_score is None else order[score[order] > min_score]
            for _ in range(max_count):
                if not len(waiting):
                    break
                best, waiting = waiting[0], waiting[1:]
                chosen.append((image, label, best))
                sides = np.minimum(high[best], high[waiting]) - np.maximum(low[best], low[waiting])
                shared = np.prod(np.maximum(sides, 0), axis=1)
                union = area[best] + area[waiting] - shared
                waiting = waiting[~(shared > overlap * union)]
        return (np.array(chosen, np.int64).reshape(-1, 3),)
