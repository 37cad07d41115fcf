"""Elementwise operators of several inputs, which broadcast as in NumPy: arithmetic, comparison,
logic, bits, min, max, prelu, where.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from . import REQUIRED, register, shape_error
from .common import Elementwise, Inputs, broadcast, choice, dry_run, family, fits, operands
from .elementwise import sigmoid


def divide(a: Array, b: Array) -> Array:
    """a / b; integers are rounded towards zero."""
    if a.dtype.kind not in "iu":
        return np.true_divide(a, b)
    floor = np.floor_divide(a, b)
    return np.where((floor < 0) & (floor * b != a), floor + 1, floor)


FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": divide,
    "pow": np.power,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
    "equal": np.equal,
    "less": np.less,
    "less_or_equal": np.less_equal,
    "greater": np.greater,
    "greater_or_equal": np.greater_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "min": np.minimum,
    "max": np.maximum,
    "sum": np.add,
    "mean": np.add,
}


class Binary(Elementwise):
    """f(a, b) for every pair of elements, in the dtype of a."""

    result: np.dtype[Any] | None = None
    """The dtype of the output, if it is not that of the inputs."""

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        a, b = operands(node, inputs, 2, 2)
        if a.type.dtype != b.type.dtype:
            raise shape_error(node, inputs, "both inputs must have the same dtype")
        dry_run(self, node, inputs)
        return [TensorType(broadcast(node, inputs, a.shape, b.shape), self.result or a.type.dtype)]

    def compute(self, node: Node, a: Array, b: Array) -> Any:
        return FUNCTIONS[self.name](a, b)

    def reference(self, node: Node, a: Any, b: Any) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            y = self.compute(node, a, b)
        return (np.asarray(y, dtype=self.result or a.dtype),)


family(Binary, ("add", "sub", "mul", "div", "bitwise_and", "bitwise_or", "bitwise_xor"))


class Comparison(Binary):
    """A truth value for every pair of elements."""

    result = np.dtype(bool)


family(
    Comparison,
    ("equal", "less", "less_or_equal", "greater", "greater_or_equal", "and", "or", "xor"),
)


@register
class Pow(Binary):
    """a to the power b, in the dtype of a; b may have another."""

    name = "pow"

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        a, b = operands(node, inputs, 2, 2)
        dry_run(self, node, inputs)
        return [TensorType(broadcast(node, inputs, a.shape, b.shape), a.type.dtype)]

    def compute(self, node: Node, a: Array, b: Array) -> Any:
        if b.dtype.kind == "i" and b.size and b.min() < 0:  # NumPy refuses these for integers
            b = b.astype(np.float64)
        return np.power(a, b)


@register
class Mod(Binary):
    """The remainder, with the sign of b (`fmod` = 0) or of a (`fmod` = 1)."""

    name = "mod"
    attributes = {"fmod": 0}

    def compute(self, node: Node, a: Array, b: Array) -> Any:
        return np.fmod(a, b) if node["fmod"] else np.mod(a, b)


@register
class BitShift(Binary):
    """a shifted by b bits to the "LEFT" or "RIGHT"; a shift out of range leaves only sign bits."""

    name = "bit_shift"
    attributes = {"direction": REQUIRED}

    def compute(self, node: Node, a: Array, b: Array) -> Any:
        bits = a.dtype.itemsize * 8
        inside = (b >= 0) & (b < bits)
        if choice(node, "direction", ("LEFT", "RIGHT")) == "LEFT":
            return np.where(inside, np.left_shift(a, np.where(inside, b, 0)), 0)
        return np.right_shift(a, np.where(inside, b, bits - 1).astype(a.dtype)) * (
            inside | (a < 0)
        ).astype(a.dtype)


class Variadic(Elementwise):
    """f over any number of inputs."""

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        given = operands(node, inputs, max(1, len(inputs)))
        dtype = given[0].type.dtype
        if any(x.type.dtype != dtype for x in given):
            raise shape_error(node, inputs, "all inputs must have the same dtype")
        dry_run(self, node, inputs)
        return [TensorType(broadcast(node, inputs, *(x.shape for x in given)), dtype)]

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        y = functools.reduce(FUNCTIONS[self.name], inputs)
        if self.name == "mean":
            y = y / len(inputs)
        return (np.asarray(y, dtype=inputs[0].dtype),)


family(Variadic, ("min", "max", "sum", "mean"))


@register
class PRelu(Elementwise):
    """x where it is not negative, else slope * x; slope broadcasts to the shape of x."""

    name = "prelu"

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, slope = operands(node, inputs, 2, 2)
        fits(node, inputs, slope, x.shape, "slope")
        dry_run(self, node, inputs)
        return [x.type]

    def reference(self, node: Node, x: Any, slope: Any) -> tuple[Array, ...]:
        return (np.where(x < 0, slope * x, x).astype(x.dtype, copy=False),)


@register
class SwiGLU(Elementwise):
    """a sigmoid(alpha a) b."""

    name = "swiglu"
    attributes = {"alpha": 1.0}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        a, b = operands(node, inputs, 2, 2)
        dry_run(self, node, inputs)
        return [TensorType(broadcast(node, inputs, a.shape, b.shape), a.type.dtype)]

    def reference(self, node: Node, a: Any, b: Any) -> tuple[Array, ...]:
        with np.errstate(over="ignore"):
            y = a * sigmoid(node["alpha"] * a) * b
        return (np.asarray(y, dtype=a.dtype),)


@register
class Where(Elementwise):
    """a where the condition holds, else b."""

    name = "where"

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        condition, a, b = operands(node, inputs, 3, 3)
        if condition.type.dtype != bool or a.type.dtype != b.type.dtype:
            raise shape_error(
                node, inputs, "takes a condition of bool and two inputs of the same dtype"
            )
        shape = broadcast(node, inputs, condition.shape, a.shape, b.shape)
        return [TensorType(shape, a.type.dtype)]

    def reference(self, node: Node, condition: Any, a: Any, b: Any) -> tuple[Array, ...]:
        return (np.where(condition, a, b),)
