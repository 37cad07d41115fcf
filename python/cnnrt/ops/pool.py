"""Pooling: maxima, means and norms over windows, over whole images, and over adaptive windows.

Shapes: x (N, C, *spatial) -> (N, C, *out), with out as in conv.py (rounded up with `ceil_mode`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ..graph import Array, Node, TensorType
from . import REQUIRED, NodeTypes, Op, register, shape_error
from .axes import AxesMapping, Link, along, follow, mixed, others
from .common import Inputs, at_least, check_indices, family, integers, operands
from .windows import Windows, resolve_windows


def lowest(dtype: np.dtype[Any]) -> Any:
    """The value that is below or equal to every other of a dtype."""
    if dtype.kind == "f":
        return -np.inf
    return False if dtype.kind == "b" else np.iinfo(dtype).min


def fold_windows(function: np.ufunc, patches: Array, rank: int) -> Array:
    """A function of two values over the last `rank` axes, those of the taps."""
    taps = patches.shape[-rank:]
    if math.prod(taps) > MAX_TAPS:
        return np.asarray(function.reduce(patches, axis=tuple(range(-rank, 0))))
    # Tap by tap NumPy goes over whole rows: ten times as fast as window by window.
    indices: list[Any] = [(..., *tap) for tap in itertools.product(*map(range, taps))]
    total = patches[indices[0]].copy()
    for index in indices[1:]:
        function(total, patches[index], out=total)
    return np.asarray(total)


MAX_TAPS = 64
"""Taps of a window that are gone through one by one."""


class Pool(Op):
    """A value for every window of every channel."""

    attributes: ClassVar[dict[str, Any]] = {
        "auto_pad": "NOTSET",
        "ceil_mode": 0,
        "dilations": None,
        "kernel_shape": REQUIRED,
        "pads": None,
        "strides": None,
    }

    def windows(self, node: Node, x: tuple[int, ...]) -> Windows:
        return resolve_windows(
            node, x[2:], kernel=node["kernel_shape"], ceil_mode=bool(node["ceil_mode"])
        )

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        if x.rank < 3:
            raise shape_error(node, inputs, "x needs at least 3 axes")
        if "p" in self.attributes:
            at_least(node, "p", 1)
        shape = (*x.shape[:2], *self.windows(node, x.shape).out)
        types = [TensorType(shape, x.type.dtype), TensorType(shape, np.dtype(np.int64))]
        return types[: len(node.outputs) if self.name == "max_pool" else 1]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        links = self.windows(node, types.shape(0)).links()
        return AxesMapping([(follow(0), follow(1), *links)])


@register
class MaxPool(Pool):
    """The maximum of each window, and on demand its flat index in x.

    With `storage_order` = 1 the index counts the spatial axes in the reverse order.
    """

    name = "max_pool"
    attributes = {**Pool.attributes, "storage_order": 0}

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        (x,) = super().axes(node, types).first
        # An index counts from the first element of the first image.
        index = (mixed(0), mixed(1), *(replace(link, uniform=False) for link in (x or ())[2:]))
        return AxesMapping([x], [[index]])

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        w = self.windows(node, x.shape)
        rank = len(w.kernel)
        patches = w.patches(x, fill=lowest(x.dtype))
        y = fold_windows(np.maximum, patches, rank)
        if len(node.outputs) < 2:
            return (y,)
        taps = math.prod(w.kernel)
        best = patches.reshape(*y.shape, taps).argmax(-1)[..., None]
        count = math.prod(w.size)
        pixels = np.arange(count).reshape(w.size, order="F" if node["storage_order"] else "C")
        places = w.patches(pixels[None, None], fill=-1).reshape(1, 1, *w.out, taps)
        planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * rank)
        places = np.broadcast_to(places, (*y.shape, taps))
        index = planes * count + np.take_along_axis(places, best, -1)[..., 0]
        return (y, index.astype(np.int64))


@register
class AveragePool(Pool):
    """The mean of each window; of its part within x unless `count_include_pad`."""

    name = "average_pool"
    attributes = {**Pool.attributes, "count_include_pad": 0}

    def counts(self, node: Node, w: Windows) -> Array:
        """The divisors of the windows' sums, (1, 1, *out).

        Elements beyond the padding, which a window can reach with `ceil_mode`, never count.
        """
        if node["count_include_pad"]:
            size = tuple(b + n + e for b, n, e in zip(w.begin, w.size, w.end, strict=True))
            none = (0,) * len(size)
            w = replace(w, size=size, begin=none, end=none)
        inside = w.patches(np.ones((1, 1, *w.size), np.int64))
        return inside.sum(axis=tuple(range(-len(w.kernel), 0)))  # type: ignore[no-any-return]

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        w = self.windows(node, x.shape)
        whole = x if x.dtype.kind == "f" else x.astype(np.int64)
        total = fold_windows(np.add, w.patches(whole), len(w.kernel))
        return ((total / self.counts(node, w)).astype(x.dtype),)


@register
class LpPool(Pool):
    """The p-norm of each window."""

    name = "lp_pool"
    attributes = {**Pool.attributes, "p": 2}

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        w = self.windows(node, x.shape)
        return (norm(w.patches(x), at_least(node, "p", 1), tuple(range(-len(w.kernel), 0))),)


def norm(x: Array, p: int, axes: tuple[int, ...], *, keepdims: bool = False) -> Array:
    """The p-norm of x over `axes`."""
    total = (np.abs(x) ** p).sum(axis=axes, keepdims=keepdims)
    return np.asarray(total ** (1 / p), dtype=x.dtype)


@register
class MaxUnpool(Op):
    """The inverse of max_pool: x (N, C, *in) at the flat `indices` of an output of zeros.

    The output has the size whose pooling is x, or that of `output_shape`; indices refer to the
    former.
    """

    name = "max_unpool"
    attributes = {"kernel_shape": REQUIRED, "pads": None, "strides": None}

    def sizes(self, node: Node, x: tuple[int, ...]) -> tuple[int, ...]:
        rank = len(x) - 2
        strides = node["strides"] or [1] * rank
        pads = node["pads"] or [0] * 2 * rank
        if len(node["kernel_shape"]) != rank or len(strides) != rank or len(pads) != 2 * rank:
            raise shape_error(node, (), f"kernel_shape, strides or pads do not have {rank} axes")
        begin, end = pads[:rank], pads[rank:]
        per_axis = zip(x[2:], strides, node["kernel_shape"], begin, end, strict=True)
        return (*x[:2], *((n - 1) * s + k - b - e for n, s, k, b, e in per_axis))

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, indices, shape = operands(node, inputs, 2, 3)
        if x.rank < 3 or indices.shape != x.shape:
            raise shape_error(node, inputs, "x needs at least 3 axes, and an index per element")
        pooled = self.sizes(node, x.shape)
        sizes = pooled if shape is None else tuple(integers(node, inputs, shape) or ())
        short = len(sizes) != x.rank or any(n < p for n, p in zip(sizes, pooled, strict=True))
        if short or min(pooled) < 1 or sizes[:2] != x.shape[:2]:
            raise shape_error(node, inputs, f"output sizes {list(sizes)}")
        check_indices(node, inputs, indices, math.prod(pooled))
        return [TensorType(sizes, x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        rank = types.rank(0)
        made = mixed(*range(rank))  # an index counts from the first element of the first image
        return AxesMapping([[made] * rank, [made] * rank, *others(types, 2)])

    def reference(self, node: Node, x: Any, indices: Any, shape: Any = None) -> tuple[Array, ...]:
        sizes = self.sizes(node, x.shape)
        y = np.zeros(int(np.prod(sizes)), x.dtype)
        y[indices.reshape(-1)] = x.reshape(-1)
        y = y.reshape(sizes)
        if shape is None:
            return (y,)
        larger = np.zeros(tuple(shape), x.dtype)
        larger[tuple(slice(n) for n in sizes)] = y
        return (larger,)


class Global(Op):
    """One value per channel: the spatial axes are reduced to size 1."""

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        if x.rank < 3 or 0 in x.shape[2:]:
            raise shape_error(node, inputs, "x needs at least 3 axes, none of them empty")
        if "p" in self.attributes:
            at_least(node, "p", 1)
        return [TensorType((*x.shape[:2], *[1] * (x.rank - 2)), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return along(types, *range(2, types.rank(0)))


@register
class GlobalAveragePool(Global):
    """The mean of each channel."""

    name = "global_average_pool"

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        mean = x.mean(axis=tuple(range(2, x.ndim)), keepdims=True)
        return (mean.astype(x.dtype, copy=False),)


@register
class GlobalMaxPool(Global):
    """The maximum of each channel."""

    name = "global_max_pool"

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


@register
class GlobalLpPool(Global):
    """The p-norm of each channel."""

    name = "global_lp_pool"
    attributes = {"p": 2}

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        return (norm(x, at_least(node, "p", 1), tuple(range(2, x.ndim)), keepdims=True),)


class Adaptive(Op):
    """PyTorch's adaptive pools: output i of o folds inputs floor(i n / o) to ceil((i+1) n / o)."""

    attributes = {"output_size": REQUIRED}
    fold: ClassVar[dict[str, Callable[..., Any]]] = {
        "adaptive_average_pool": np.mean,
        "adaptive_max_pool": np.max,
    }

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        size = tuple(node["output_size"])
        if x.rank < 3 or len(size) != x.rank - 2 or min(size) < 1 or 0 in x.shape[2:]:
            raise shape_error(node, inputs, f"output_size {list(size)} does not fit x")
        return [TensorType((*x.shape[:2], *size), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return AxesMapping([(follow(0), follow(1), *self.links(types.shape(0)[2:], node))])

    def links(self, sizes: Sequence[int], node: Node) -> list[Link]:
        """How the spatial axes of the output follow those of x."""
        made = []
        for axis, (n, m) in enumerate(zip(sizes, node["output_size"], strict=True), start=2):
            ratio = n // m
            whole = m > 1 and n % m == 0
            made.append(Link((axis,), ratio - 1, ratio, (ratio - 1) / 2) if whole else mixed(axis))
        return made

    def bounds(self, size: int, out: int) -> Array:
        """Where each window begins and ends along an axis of `size` elements, (out, 2)."""
        i = np.arange(out)
        return np.stack([i * size // out, -(-(i + 1) * size // out)], axis=1)

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        fold = self.fold[self.name]
        for axis, out in enumerate(node["output_size"], start=2):
            lanes = np.moveaxis(x, axis, -1)
            bounds = self.bounds(x.shape[axis], out).tolist()
            parts = [fold(lanes[..., a:b], axis=-1) for a, b in bounds]
            x = np.stack(parts, axis=axis).astype(x.dtype, copy=False)
        return (x,)


family(Adaptive, Adaptive.fold)
