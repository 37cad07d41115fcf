"""Operators of the QLinear family, which state the scales and zero points themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...graph import Node
from .makers import make_average, make_pair
from .products import Factor, make_factor
from .state import State
from .values import Code, Kind, Pending, Scaling
from .weights import Weight


def _code(state: State, node: Node, first: int) -> Code | None:
    """The tensor of bytes whose name, scale and zero point are three inputs in a row."""
    name = node.inputs[first]
    found = state.scaling(node.input(first + 1), node.input(first + 2), name)
    if found is None or name in state.constants:
        return None
    return Code(state.as_bytes(name, found.dtype), found)


def _operand(state: State, node: Node, first: int) -> Code | None:
    """The same, also of constant bytes."""
    name = node.inputs[first]
    if name not in state.constants:
        return _code(state, node, first)
    found = state.scaling(node.input(first + 1), node.input(first + 2), name)
    return found and state.constant_code(name, found)


def _result(state: State, node: Node, scale: int, like: np.dtype[np.generic]) -> Scaling | None:
    """The scaling of the result, whose scale is the input of this number."""
    return state.scaling(node.input(scale), node.input(scale + 1), dtype=like)


def _weight(state: State, node: Node, axis: int) -> Weight | None:
    """The weight, the fourth input, with scale and zero point per element of an axis."""
    values, scale = (state.constants.get(node.input(i)) for i in (3, 4))
    zero = state.constants.get(node.input(5))
    if values is None or scale is None or zero is None or scale.dtype != np.float32:
        return None
    if values.dtype.itemsize > 1:
        return None
    flat = np.asarray(scale).reshape(-1)
    return Weight(node.inputs[3], values, flat, np.asarray(zero).reshape(-1), axis)


def product(state: State, node: Node) -> bool:
    """QLinearConv, or QLinearMatMul by a constant matrix."""
    x = _code(state, node, 0)
    y = _result(state, node, 6, np.dtype(np.uint8))
    conv = node.op == "qlinear_conv"
    weight = _weight(state, node, 0 if conv else 1)
    if x is None or y is None or weight is None:
        return False
    if not conv:
        if weight.values.ndim != 2:
            return False
        weight = weight.transposed()
    bias: Weight | None = None
    if node.input(8):
        values = state.constants.get(node.input(8))
        if values is None:
            return False
        sums = (x.scaling.scale * weight.scale).astype(np.float32)
        if sums.size == 1:
            sums = np.repeat(sums, values.size)
        bias = Weight(node.inputs[8], values, sums, None, 0)
    output = state.output_of(node.outputs[0], y.dtype)
    if make_factor(state, Pending("product", node, (x,)), Factor(weight, bias), y, output):
        return True
    state.uint8.pop(node.outputs[0], None)
    return False


def pair(state: State, node: Node) -> bool:
    """QLinearAdd and QLinearMul."""
    a, b = _operand(state, node, 0), _operand(state, node, 3)
    if a is None or b is None or a.scaling.dtype != b.scaling.dtype:
        return False
    y = _result(state, node, 6, a.scaling.dtype)
    if y is None or y.dtype != a.scaling.dtype:
        return False
    kind: Kind = "add" if node.op == "qlinear_add" else "mul"
    plain = Node(kind, node.name, [], node.outputs)
    output = state.output_of(node.outputs[0], y.dtype)
    return make_pair(state, Pending(kind, plain, (a, b)), y, output)


def average(state: State, node: Node) -> bool:
    """QLinearAveragePool and QLinearGlobalAveragePool."""
    x = _code(state, node, 0)
    y = x and _result(state, node, 3, x.scaling.dtype)
    if x is None or y is None or y.dtype != x.scaling.dtype:
        return False
    plain = node.op.removeprefix("qlinear_")
    pending = Pending("average", Node(plain, node.name, [], [], node.attributes), (x,))
    return make_average(state, pending, y, state.output_of(node.outputs[0], y.dtype))


QLINEAR: dict[str, Callable[[State, Node], bool]] = {
    "qlinear_conv": product,
    "qlinear_matmul": product,
    "qlinear_add": pair,
    "qlinear_mul": pair,
    "qlinear_average_pool": average,
    "qlinear_global_average_pool": average,
}
