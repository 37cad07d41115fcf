"""Reductions over axes: sums, means, products, extrema, norms, and the index of an extremum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from . import NodeTypes, Op, shape_error
from .axes import ALL, AxesMapping, Link, follow, mixes_all_axes, others
from .common import Inputs, axes_of, axis_of, family, integers, operands
from .pool import lowest

Axes = tuple[int, ...]


def greatest(dtype: np.dtype[Any]) -> Any:
    """The value that is above or equal to every other of a dtype."""
    if dtype.kind == "f":
        return np.inf
    return True if dtype.kind == "b" else np.iinfo(dtype).max


def mean(x: Array, axes: Axes) -> Array:
    """The mean, computed in float32 or better; NaN without a warning if there are no elements."""
    count = math.prod(x.shape[a] for a in axes)
    total = x.sum(axis=axes, keepdims=True, dtype=np.promote_types(x.dtype, np.float32))
    return np.asarray(total / count if count else total * np.nan)


def log_sum_exp(x: Array, axes: Axes) -> Array:
    high = x.max(axis=axes, keepdims=True, initial=lowest(x.dtype))
    high = np.where(np.isfinite(high), high, 0)
    total = np.exp(x - high).sum(axis=axes, keepdims=True)
    return np.asarray(high + np.log(total))


def reduced(types: NodeTypes, axes: Axes, keepdims: int) -> AxesMapping:
    """The mapping of a first input whose `axes` are reduced to size 1, or dropped."""
    links: list[Link] = []
    kept = 0
    for axis in range(types.rank(0)):
        links.append(ALL if axis in axes else follow(kept))
        kept += bool(keepdims) or axis not in axes
    return AxesMapping([links, *others(types, 1)])


REDUCTIONS: dict[str, Callable[[Any, Axes], Any]] = {
    "reduce_sum": lambda x, axes: x.sum(axis=axes, keepdims=True),
    "reduce_mean": mean,
    "reduce_prod": lambda x, axes: x.prod(axis=axes, keepdims=True),
    "reduce_max": lambda x, axes: x.max(axis=axes, keepdims=True, initial=lowest(x.dtype)),
    "reduce_min": lambda x, axes: x.min(axis=axes, keepdims=True, initial=greatest(x.dtype)),
    "reduce_l1": lambda x, axes: np.abs(x).sum(axis=axes, keepdims=True),
    "reduce_l2": lambda x, axes: np.sqrt((x * x).sum(axis=axes, keepdims=True)),
    "reduce_sum_square": lambda x, axes: (x * x).sum(axis=axes, keepdims=True),
    "reduce_log_sum": lambda x, axes: np.log(x.sum(axis=axes, keepdims=True)),
    "reduce_log_sum_exp": log_sum_exp,
}
"""(x, axes) -> y, the axes kept with size 1."""


class Reduce(Op):
    """A reduction over the axes of the second input or, absent that, of the attribute `axes`.

    Without axes it is over all, or with `noop_with_empty_axes` over none: then only what the
    reduction does elementwise remains, such as the square of reduce_sum_square.
    """

    attributes = {"axes": None, "keepdims": 1, "noop_with_empty_axes": 0}

    def reduced_axes(self, node: Node, inputs: Inputs, given: list[int] | None, rank: int) -> Axes:
        given = node["axes"] if given is None else given
        if not given:
            return () if node["noop_with_empty_axes"] else tuple(range(rank))
        return axes_of(node, inputs, given, rank)

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, axes = operands(node, inputs, 1, 2)
        reduced = self.reduced_axes(node, inputs, integers(node, inputs, axes), x.rank)
        return [TensorType(kept_shape(x.shape, reduced, node["keepdims"]), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        given = types.integers(1)
        if types.has(1) and given is None:
            return mixes_all_axes(types)
        return reduced(types, self.reduced_axes(node, (), given, types.rank(0)), node["keepdims"])

    def reference(self, node: Node, x: Any, axes: Any = None) -> tuple[Array, ...]:
        given = None if axes is None else [int(a) for a in axes.reshape(-1)]
        reduced = self.reduced_axes(node, (), given, x.ndim)
        with np.errstate(all="ignore"):
            y = np.asarray(REDUCTIONS[self.name](x, reduced))
        return (y.reshape(kept_shape(x.shape, reduced, node["keepdims"])).astype(x.dtype),)


def kept_shape(shape: tuple[int, ...], axes: Axes, keepdims: int) -> tuple[int, ...]:
    """`shape` with `axes` reduced to size 1, or dropped."""
    if keepdims:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


family(Reduce, REDUCTIONS)


class ArgExtremum(Op):
    """The index of the first (`select_last_index`: last) extremum along `axis`, as int64."""

    attributes = {"axis": 0, "keepdims": 1, "select_last_index": 0}
    functions: dict[str, Callable[..., Any]] = {"argmax": np.argmax, "argmin": np.argmin}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        axis = axis_of(node, inputs, node["axis"], x.rank)
        if x.shape[axis] == 0:
            raise shape_error(node, inputs, f"axis {axis} is empty")
        return [TensorType(kept_shape(x.shape, (axis,), node["keepdims"]), np.dtype(np.int64))]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return reduced(types, (node["axis"] % types.rank(0),), node["keepdims"])

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        axis = node["axis"]
        find = self.functions[self.name]
        if node["select_last_index"]:
            y = x.shape[axis] - 1 - find(np.flip(x, axis), axis=axis, keepdims=True)
        else:
            y = find(x, axis=axis, keepdims=True)
        return (y.reshape(kept_shape(x.shape, (axis % x.ndim,), node["keepdims"])),)


family(ArgExtremum, ArgExtremum.functions)
