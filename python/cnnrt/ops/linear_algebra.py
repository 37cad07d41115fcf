"""Matrices as wholes: det and inverse, over the last two axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from . import NodeTypes, Op, register, shape_error
from .axes import ALL, AxesMapping, along, follow
from .common import Inputs, check_kind, operands


class OfSquares(Op):
    """An operator on square matrices (..., n, n) of floats."""

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        check_kind(node, inputs, x, "f", "floats")
        if x.rank < 2 or x.shape[-1] != x.shape[-2]:
            raise shape_error(node, inputs, "takes square matrices")
        return [x.type]


def wide(x: Array) -> Array:
    """x in a precision that LAPACK has."""
    return x.astype(np.promote_types(x.dtype, np.float32), copy=False)


@register
class Det(OfSquares):
    """The determinant of each matrix: (..., n, n) -> (...)."""

    name = "det"

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = super().infer(node, inputs)
        return [TensorType(x.shape[:-2], x.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return AxesMapping([[*(follow(axis) for axis in range(types.rank(0) - 2)), ALL, ALL]])

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        return (np.asarray(np.linalg.det(wide(x)), dtype=x.dtype),)


@register
class Inverse(OfSquares):
    """The inverse of each matrix; infinities if the matrix is singular."""

    name = "inverse"
    python_loop = True

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return along(types, -2, -1)

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        y = np.empty_like(wide(x))
        for index in np.ndindex(*x.shape[:-2]):
            try:
                y[index] = np.linalg.inv(wide(x)[index])
            except np.linalg.LinAlgError:
                y[index] = np.inf
        return (y.astype(x.dtype, copy=False),)
