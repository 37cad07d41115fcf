"""Operators that read images between their pixels: grid_sample, affine_grid, deform_conv.

Each axis contributes an index and a weight per tap; pixels outside have weight zero.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from . import NodeTypes, Op, register, shape_error
from .axes import ALL, AxesMapping, every, follow, mixed, others
from .common import Inputs, at_least, choice, integers, operands
from .conv import Conv, channel_link, direct_macs, weight_links
from .resize import cubic
from .windows import Windows, resolve_windows

AxisTaps = tuple[Array, Array]
"""Index and weight of each tap along one axis, both (taps, *points)."""


def inside(index: Array, weight: Array, size: int) -> AxisTaps:
    """The taps, those beyond an axis of `size` with weight zero (and a valid index)."""
    valid = (index >= 0) & (index < size)
    return np.where(valid, index, 0).astype(np.int64), np.where(valid, weight, 0)


def linear_taps(x: Array) -> tuple[Array, Array]:
    """The two pixels about each coordinate, and their weights: (2, *points) each."""
    low = np.floor(x)
    return np.stack([low, low + 1]), np.stack([low + 1 - x, x - low])


def interpolate(image: Array, axes: Sequence[AxisTaps]) -> Array:
    """The weighted sum over all combinations of taps: image (C, *size) -> (C, *points)."""
    total: Any = 0
    for taps in itertools.product(*(zip(*axis, strict=True) for axis in axes)):
        weight = math.prod(w for _, w in taps)
        total = total + image[(slice(None),) + tuple(i for i, _ in taps)] * weight
    return np.asarray(total)


def reflect(x: Array, low: float, high: float) -> Array:
    """x mirrored at both bounds until it is within them."""
    if high <= low:
        return np.full_like(x, low)
    distance = np.abs(x - low) % (2 * (high - low))
    return low + np.minimum(distance, 2 * (high - low) - distance)


@register
class GridSample(Op):
    """x (N, C, *in) at the points of a grid (N, *out, rank) whose -1 and 1 are the ends of x.

    The grid's coordinates run from the innermost axis outwards.
    """

    name = "grid_sample"
    attributes = {"align_corners": 0, "mode": "linear", "padding_mode": "zeros"}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, grid = operands(node, inputs, 2, 2)
        choice(node, "mode", ("nearest", "linear", "cubic"))
        choice(node, "padding_mode", ("zeros", "border", "reflection"))
        ends = (x.shape[:1], (x.rank - 2,))
        fits = grid.rank == x.rank and (grid.shape[:1], grid.shape[-1:]) == ends
        if x.rank < 3 or not fits or 0 in x.shape[2:]:
            raise shape_error(node, inputs, "the grid does not fit x")
        return [TensorType((*x.shape[:2], *grid.shape[1:-1]), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        rank = types.rank(0)
        points = [follow(a + 1) for a in range(1, rank - 1)]
        return AxesMapping([(follow(0), follow(1), *[ALL] * (rank - 2)), (follow(0), *points, ALL)])

    def taps(self, node: Node, grid: Array, size: int) -> AxisTaps:
        """The taps of an axis of `size` for its normalised coordinates."""
        align, padding, mode = node["align_corners"], node["padding_mode"], node["mode"]
        x = (grid + 1) / 2 * (size - 1) if align else ((grid + 1) * size - 1) / 2
        bounds = (0.0, size - 1.0) if align else (-0.5, size - 0.5)
        if mode == "nearest":
            x = np.rint(x)
        if mode != "cubic":  # cubic moves each tap inside, below, not the point between them
            if padding == "border":
                x = np.where((x < bounds[0]) | (x > bounds[1]), np.clip(x, 0, size - 1), x)
            elif padding == "reflection":
                x = reflect(x, *bounds)
        if mode == "nearest":
            index, weight = np.rint(x)[None], np.ones((1, *x.shape))
        elif mode == "linear":
            index, weight = linear_taps(x)
        else:
            index = np.floor(x) + np.arange(-1, 3).reshape(-1, *[1] * x.ndim)
            weight = cubic(index - x, -0.75)
        if padding == "border":
            index = np.clip(index, 0, size - 1)
        elif padding == "reflection":
            index = np.clip(np.rint(reflect(index, *bounds)), 0, size - 1)
        return inside(index, weight, size)

    def reference(self, node: Node, x: Any, grid: Any) -> tuple[Array, ...]:
        images = []
        for image, points in zip(x, grid.astype(np.float64), strict=True):
            coordinates = reversed(np.moveaxis(points, -1, 0))
            sizes = zip(coordinates, image.shape[1:], strict=True)
            images.append(interpolate(image, [self.taps(node, c, n) for c, n in sizes]))
        y = np.stack(images) if images else np.zeros((0, x.shape[1], *grid.shape[1:-1]))
        return (y.astype(x.dtype),)


@register
class AffineGrid(Op):
    """The grid for grid_sample that theta (N, rank, rank + 1) makes from the points of an
    output."""

    name = "affine_grid"
    attributes = {"align_corners": 0}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        theta, size = operands(node, inputs, 2, 2)
        sizes = integers(node, inputs, size) or []
        rank = len(sizes) - 2
        if rank < 1 or min(sizes) < 1 or theta.shape != (sizes[0], rank, rank + 1):
            raise shape_error(node, inputs, f"theta does not fit an output of {sizes}")
        return [TensorType((sizes[0], *sizes[2:], rank), theta.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return AxesMapping([(follow(0), follow(types.output.rank - 1), ALL), *others(types, 1)])

    def reference(self, node: Node, theta: Any, size: Any) -> tuple[Array, ...]:
        lines = []
        for n in (int(v) for v in size[2:]):
            step = np.arange(n, dtype=np.float64)
            if node["align_corners"]:
                lines.append(step * (2 / max(n - 1, 1)) - 1 if n > 1 else step)
            else:
                lines.append((2 * step + 1) / n - 1)
        points = np.meshgrid(*lines, indexing="ij")
        base = np.stack([*reversed(points), np.ones_like(points[0])], axis=-1)
        grid = np.einsum("...k,nrk->n...r", base, theta.astype(np.float64))
        return (grid.astype(theta.dtype),)


@register
class DeformConv(Op):
    """A convolution whose taps are moved by `offset`, and weighted by `mask`.

    Inputs x, weight, offset (N, offset_group * taps * rank, *out), bias, mask (N, offset_group *
    taps, *out).
    """

    name = "deform_conv"
    all_pairs = True
    attributes = {
        "dilations": None,
        "group": 1,
        "kernel_shape": None,
        "offset_group": 1,
        "pads": None,
        "strides": None,
    }

    def windows(self, node: Node, x: tuple[int, ...], weight: tuple[int, ...]) -> Windows:
        return resolve_windows(node, x[2:], kernel=weight[2:])

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, weight, offset, bias, mask = operands(node, inputs, 3, 5)
        (out,) = Conv.infer(Conv(), node, (x, weight, bias))
        groups = at_least(node, "offset_group", 1)
        taps = math.prod(weight.shape[2:])
        lead, size = x.shape[:1], out.shape[2:]
        if x.shape[1] % groups or offset.shape != (*lead, groups * taps * len(size), *size):
            raise shape_error(node, inputs, "offset does not fit x and weight")
        if mask and mask.shape != (*lead, groups * taps, *size):
            raise shape_error(node, inputs, "mask does not fit x and weight")
        return [out]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        x, weight = types.shape(0), types.shape(1)
        spatial = range(2, len(x))
        offset = (follow(0), ALL, *(follow(a) for a in spatial))
        made = [
            (follow(0), channel_link(node, x[1], weight[0]), *[mixed(*spatial)] * len(spatial)),
            weight_links(len(weight)),
            offset,
            every(types, 3, follow(1)),
            offset if types.has(4) else None,
        ]
        return AxesMapping(made[: len(types.inputs)])

    def macs(self, node: Node, types: NodeTypes) -> int:
        return direct_macs(types, 1)

    def reference(
        self, node: Node, x: Any, weight: Any, offset: Any, bias: Any = None, mask: Any = None
    ) -> tuple[Array, ...]:
        w = self.windows(node, x.shape, weight.shape)
        rank, groups = len(w.kernel), node["offset_group"]
        n, taps = x.shape[0], math.prod(w.kernel)
        moved = offset.reshape(n, groups, taps, rank, *w.out)
        factor = np.ones((n, groups, taps, *w.out)) if mask is None else mask
        factor = factor.reshape(n, groups, taps, *w.out)
        starts = zip(w.out, w.stride, w.begin, strict=True)
        corner = np.meshgrid(*(np.arange(o) * s - b for o, s, b in starts), indexing="ij")
        columns = np.empty((n, groups, x.shape[1] // groups, taps, *w.out), x.dtype)
        for image, group, t in np.ndindex(n, groups, taps):
            tap = np.unravel_index(t, w.kernel)
            axes = []
            for a in range(rank):
                place = corner[a] + tap[a] * w.dilation[a] + moved[image, group, t, a]
                axes.append(inside(*linear_taps(place), w.size[a]))
            part = x[image].reshape(groups, -1, *w.size)[group]
            columns[image, group, :, t] = interpolate(part, axes) * factor[image, group, t]
        m, depth = weight.shape[0], math.prod(weight.shape[1:])
        columns = columns.reshape(n, node["group"], depth, math.prod(w.out))
        kernel = weight.reshape(node["group"], m // node["group"], depth)
        y = np.matmul(kernel, columns).reshape(n, m, *w.out)
        if bias is not None:
            y = y + bias.reshape(-1, *[1] * rank)
        return (y.astype(x.dtype, copy=False),)
