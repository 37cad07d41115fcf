"""Sorting, searching and running totals: topk, non_zero, unique, cum_sum, cum_prod."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _core
from ..dtypes import as_dtype
from ..graph import Array, Node, TensorType, Value
from . import NodeTypes, Op, RunSubgraph, register, shape_error
from .axes import AxesMapping, along, mixes_all_axes
from .common import ByValue, Inputs, axis_of, check_kind, family, integers, operands

INT64 = np.dtype(np.int64)


@register
class TopK(Op):
    """The k largest (or smallest) elements along `axis` and their indices, always sorted."""

    name = "topk"
    attributes = {"axis": -1, "largest": 1, "sorted": 1}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, k = operands(node, inputs, 2, 2)
        axis = axis_of(node, inputs, node["axis"], x.rank)
        count = integers(node, inputs, k) or []
        if len(count) != 1 or not 0 <= count[0] <= x.shape[axis]:
            raise shape_error(node, inputs, f"k {count} of {x.shape[axis]} elements")
        shape = (*x.shape[:axis], count[0], *x.shape[axis + 1 :])
        return [TensorType(shape, x.type.dtype), TensorType(shape, INT64)][: len(node.outputs)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return along(types, node["axis"])

    def reference(self, node: Node, x: Any, k: Any) -> tuple[Array, ...]:
        axis = node["axis"]
        if node["largest"]:  # among equals the first: sort the reverse and reverse that
            order = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
            order = x.shape[axis] - 1 - order
        else:
            order = np.argsort(x, axis=axis, kind="stable")
        best = np.take(order, np.arange(int(k.reshape(()))), axis=axis)
        return (np.take_along_axis(x, best, axis), best.astype(INT64))[: len(node.outputs)]


@register
class NonZero(ByValue):
    """The indices of the elements that are not zero, (rank, count)."""

    name = "non_zero"
    arity = (1, 1)

    def evaluate(self, node: Node, inputs: Sequence[Any], run: RunSubgraph) -> list[Value]:
        (x,) = inputs
        if x.ndim == 0:
            return list(self.reference(node, x))
        bits = np.ascontiguousarray(x).view(f"u{x.itemsize}")
        sign = 1 if as_dtype(x.dtype).kind == "f" else 0  # -0 is zero
        return [_core.non_zero(bits, (1 << 8 * x.itemsize - sign) - 1)]

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        return (np.argwhere(x).T.astype(INT64),)


@register
class Unique(ByValue):
    """The distinct elements (slices along `axis`), their first positions, inverse indices and
    counts.

    They are in ascending order, or with `sorted` = 0 in that of their first occurrence.
    """

    name = "unique"
    attributes = {"axis": None, "sorted": 1}
    arity = (1, 1)

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        axis = node["axis"]
        if axis is None and node["sorted"] and len(node.outputs) == 1:
            return (np.unique(x),)  # sorted elements alone, without their places
        if axis is None:
            y, first, inverse, counts = np.unique(
                x, return_index=True, return_inverse=True, return_counts=True
            )
            inverse = inverse.reshape(-1)
        else:
            axis = axis_of(node, (), axis, x.ndim)
            first, inverse, counts = distinct_slices(x, axis)
            y = np.take(x, first, axis=axis)
        if not node["sorted"]:
            order = np.argsort(first)
            rank = np.argsort(order)
            y, first, counts = np.take(y, order, axis=axis or 0), first[order], counts[order]
            inverse = rank[inverse]
        outputs = (y, *(a.astype(INT64) for a in (first, inverse, counts)))
        return outputs[: len(node.outputs)]


def distinct_slices(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """First positions, inverse indices and counts of the distinct slices along an axis, ascending.

    `numpy.unique` sorts records of as many fields as a slice has elements, which takes minutes for
    a million.
    """
    lines = np.moveaxis(x, axis, 0)
    slices = lines.reshape(len(lines), math.prod(lines.shape[1:]))
    order = ascending_slices(slices)
    new = np.ones(len(slices), bool)
    new[1:] = (slices[order[1:]] != slices[order[:-1]]).any(axis=1)
    inverse = np.empty(len(slices), np.int64)
    inverse[order] = np.cumsum(new) - 1
    return order[new], inverse, np.bincount(inverse)


def ascending_slices(slices: Array) -> Array:
    """The order of rows by their first element, then their second...; equal ones as they stand."""
    rows, columns = slices.shape
    if 0 < columns <= rows:
        return np.lexsort(slices.T[::-1])

    # A key for each column takes 3 us: few rows are compared one by one.
    def compare(i: int, j: int) -> int:
        differs = np.flatnonzero(slices[i] != slices[j])[:1]
        return int(np.where(slices[i, differs] < slices[j, differs], -1, 1).sum())

    return np.array(sorted(range(rows), key=functools.cmp_to_key(compare)), np.int64)


class Cumulative(Op):
    """The sum, or product, of the elements up to each along the axis that is the second input.

    `reverse`: from each to the end; `exclusive`: without the element itself.
    """

    attributes = {"exclusive": 0, "reverse": 0}
    functions = {"cumsum": np.add, "cumprod": np.multiply}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, axis = operands(node, inputs, 2, 2)
        check_kind(node, inputs, axis, "iu", "integers")
        if axis.type.size != 1 or x.rank == 0:
            raise shape_error(node, inputs, "takes one axis of x")
        if axis.value is not None:
            axis_of(node, inputs, int(axis.value.reshape(())), x.rank)
        return [x.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        axis = types.integers(1)
        return mixes_all_axes(types) if axis is None else along(types, *axis)

    def reference(self, node: Node, x: Any, axis: Any) -> tuple[Array, ...]:
        function = self.functions[self.name]
        lanes = np.moveaxis(x, int(axis.reshape(())), -1)
        lanes = lanes[..., ::-1] if node["reverse"] else lanes
        if node["exclusive"]:
            first = np.full((*lanes.shape[:-1], 1), function.identity, x.dtype)
            lanes = np.concatenate([first, lanes], axis=-1)[..., : lanes.shape[-1]]
        y = function.accumulate(lanes, axis=-1, dtype=x.dtype)
        y = y[..., ::-1] if node["reverse"] else y
        return (np.moveaxis(y, -1, int(axis.reshape(()))),)


family(Cumulative, Cumulative.functions)
