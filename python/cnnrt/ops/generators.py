"""Operators that make tensors of sizes: constants, ranges, diagonals and triangles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from ..symbolic import call
from . import NodeTypes, Op, register, shape_error
from .axes import AxesMapping, Link, others
from .common import (
    Inputs,
    check_kind,
    dtype_of,
    integers,
    operands,
    value_of,
)
from .shape import numbers


@register
class ConstantOfShape(Op):
    """A tensor of the shape given, filled with the number `value` as a `dtype`.

    ONNX has one attribute, a tensor; the graph keeps its element and the name of its dtype.
    """

    name = "constant_of_shape"
    attributes = {"value": 0.0, "dtype": "float32"}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (shape,) = operands(node, inputs, 1, 1)
        wanted = integers(node, inputs, shape) or []
        if min(wanted, default=0) < 0:
            raise shape_error(node, inputs, f"shape {wanted}")
        dtype = dtype_of(node, "dtype")
        try:
            np.full((), node["value"], dtype)
        except (OverflowError, ValueError):
            raise shape_error(node, inputs, f"{node['value']} is no {dtype}") from None
        return [TensorType(tuple(wanted), dtype)]

    def reference(self, node: Node, shape: Any) -> tuple[Array, ...]:
        return (np.full(numbers(shape), node["value"], dtype_of(node, "dtype")),)


@register
class Range(Op):
    """start, start + delta, ... up to but without limit: three scalars of one dtype."""

    name = "range"
    attributes = {"stash_type": 1}

    def count(self, node: Node, inputs: Inputs, values: Sequence[Array]) -> int:
        """The number of elements.

        Raises:
            ShapeError: there is none.
        """
        if any(v.size != 1 or v.dtype.kind not in "iuf" for v in values):
            raise shape_error(node, inputs, "takes three numbers")
        first, last, step = (v.reshape(()).item() for v in values)
        if step == 0 or not np.isfinite([first, last, step]).all():
            raise shape_error(node, inputs, f"from {first} to {last} by {step}")
        count: int = math.ceil((last - first) / step)
        return max(count, 0)

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        given = operands(node, inputs, 3, 3)
        if len({x.type.dtype for x in given}) > 1:
            raise shape_error(node, inputs, "all inputs must have the same dtype")
        values = [value_of(node, inputs, x) for x in given]
        count = call(lambda *numbers: self.count(node, inputs, numbers), *values)
        return [TensorType((count,), given[0].type.dtype)]

    def reference(self, node: Node, start: Any, limit: Any, delta: Any) -> tuple[Array, ...]:
        steps = np.arange(self.count(node, (), (start, limit, delta)))
        return ((start.reshape(()).item() + steps * delta.reshape(()).item()).astype(start.dtype),)


@register
class EyeLike(Op):
    """Ones on the diagonal `k` of a matrix of the shape of x, zeros elsewhere."""

    name = "eye_like"
    attributes = {"dtype": None, "k": 0}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        if x.rank != 2:
            raise shape_error(node, inputs, "x needs two axes")
        return [TensorType(x.shape, dtype_of(node, "dtype", x.type.dtype))]

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        rows, columns = x.shape
        return (np.eye(rows, columns, k=node["k"], dtype=dtype_of(node, "dtype", x.dtype)),)


@register
class Trilu(Op):
    """The triangle of matrices above (`upper`) or below their diagonal k, which is an input."""

    name = "trilu"
    attributes = {"upper": 1}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, k = operands(node, inputs, 1, 2)
        check_kind(node, inputs, k, "iu", "integers")
        if x.rank < 2 or (k and k.type.size != 1):
            raise shape_error(node, inputs, "takes x of at least two axes, and one k")
        return [x.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        last = types.rank(0) - 2
        x = [Link((axis,), uniform=axis < last) for axis in range(types.rank(0))]
        return AxesMapping([x, *others(types, 1)])

    def reference(self, node: Node, x: Any, k: Any = None) -> tuple[Array, ...]:
        cut = np.triu if node["upper"] else np.tril
        return (cut(x, 0 if k is None else int(k.reshape(()))),)
