"""Convolutions and products of matrices with quantised inputs and weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ...graph import Array, Node
from ...ops import complete
from ...ops.quantize import CONV_ATTRIBUTES
from ...ops.requantised import Addition
from .state import State
from .values import SIGN, Code, Pending, Scaling
from .weights import Weight, factors, weight_of


class Factor(NamedTuple):
    """The constant side of a product."""

    weight: Weight
    """With its output channels first."""
    bias: Array | Weight | None


def product(state: State, node: Node) -> None:
    """Notes a convolution or product, or the addition of a bias to one, as pending."""
    x, y = node.inputs[0], node.outputs[0]
    if node.op == "add":
        _with_bias(state, node)
        return
    code = state.code(x)
    if code is None:
        return
    pending = Pending("product", node, (code,), bias=node.input(2))
    if factor_of(state, pending) is not None:
        state.pending[y] = state.products[y] = pending


def _with_bias(state: State, node: Node) -> None:
    """Notes x W + b: the addition of one constant for each column."""
    for x, other in (node.inputs, node.inputs[::-1]):
        pending, bias = state.pending.get(x), state.constants.get(other)
        if pending is None or pending.kind != "product" or bias is None or not state.sole(x):
            continue
        if pending.node.op != "matmul" or pending.bias or pending.clamps or pending.moves:
            continue
        factor = factor_of(state, pending)
        if factor is not None and bias.shape == factor.weight.values.shape[:1]:
            state.pending[node.outputs[0]] = pending.with_bias(other)


def with_residual(state: State, node: Node) -> bool:
    """Notes the addition of dequantised bytes to a product that is not rounded before."""
    for x, other in (node.inputs, node.inputs[::-1]):
        pending, code = state.pending.get(x), state.code(other)
        if pending is None or pending.kind != "product" or code is None or not state.sole(x):
            continue
        a, b = state.types.get(x), state.types.get(other)
        fits = a is not None and b is not None and a.shape == b.shape
        changed = pending.clamps or pending.moves
        if fits and not changed and pending.residual is None:
            state.pending[node.outputs[0]] = replace(pending, residual=code)
            return True
    return False


def factor_of(state: State, pending: Pending) -> Factor | None:
    """The weight and the bias of a product, if both are constant."""
    node = pending.node
    weight = weight_of(node.inputs[1], state.producers, state.constants)
    if weight is None:
        return None
    if node.op == "conv":
        if weight.values.ndim < 3 or node.attributes.get("activation") is not None:
            return None
    else:
        if weight.values.ndim != 2:
            return None
        if node.op == "gemm":
            plain = node["alpha"] == 1 and not node["transA"]
            if not plain or (node.input(2) and node["beta"] != 1):
                return None
        if node.op == "matmul" or not node["transB"]:
            weight = weight.transposed()
    if not pending.bias:
        return Factor(weight, None)
    bias: Array | Weight | None = weight_of(pending.bias, state.producers, state.constants)
    if bias is None:
        bias = state.constants.get(pending.bias)
        if bias is None or bias.size != weight.values.shape[0] or bias.dtype != np.float32:
            return None
    return Factor(weight, bias)


def make_product(state: State, pending: Pending, y: Scaling, output: str) -> bool:
    """Makes a product as bytes."""
    factor = factor_of(state, pending)
    return factor is not None and make_factor(state, pending, factor, y, output)


def make_factor(state: State, pending: Pending, factor: Factor, y: Scaling, output: str) -> bool:
    """Makes the product of the pending's input with a factor as bytes."""
    (x,) = pending.codes
    low, high = pending.limits(y)
    limits = (low, high) if pending.residual is None else None
    names = factors(state.graph, output, factor.weight, factor.bias, x.scaling, y, limits)
    if names is None:
        return False
    inputs, addition = [x.tensor, *names], None
    if pending.residual is not None:
        inputs.append(pending.residual.tensor)
        addition = _addition(pending.residual, y)
    state.emit(
        _op(pending.node),
        pending.node.name,
        inputs,
        output,
        addition=addition,
        **_windows(pending.node),
        x_zero=x.scaling.zero,
        zero=y.zero,
        low=low,
        high=high,
    )
    return True


def _addition(residual: Code, y: Scaling) -> Addition:
    """How a residual is added to a product over y's scale."""
    shift = SIGN if y.dtype == residual.scaling.dtype == np.int8 else 0
    ratio = np.float32(residual.scaling.scale / y.scale)
    constant = np.float32(y.zero - shift) - ratio * np.float32(residual.scaling.zero - shift)
    return Addition(1.0, float(ratio), float(constant), shift=shift)


def finish_floats(state: State) -> None:
    """Products whose result is read as floats have sums of integers, too."""
    needed = {spec.name for spec in state.graph.outputs}
    for node in reversed(state.graph.nodes):
        if needed.isdisjoint(node.outputs):
            continue
        pending = state.products.get(node.outputs[0])
        if pending is not None and pending.node is node:
            _as_floats(state, pending)
        needed.update(node.inputs)


def _as_floats(state: State, pending: Pending) -> None:
    node, (x,) = pending.node, pending.codes
    factor = factor_of(state, pending)
    if factor is None:
        return
    key = node.outputs[0]
    names = factors(state.graph, key, factor.weight, factor.bias, x.scaling, None)
    if names is None:
        return
    node.attributes = {**_windows(node), "x_zero": x.scaling.zero, "floats": 1}
    node.op, node.inputs = _op(node), [x.tensor, *names]
    complete(node)


def _op(node: Node) -> str:
    return "qconv" if node.op in ("conv", "qlinear_conv") else "qlinear"


def _windows(node: Node) -> dict[str, Any]:
    if _op(node) != "qconv":
        return {}
    return {name: node[name] for name in CONV_ATTRIBUTES}
