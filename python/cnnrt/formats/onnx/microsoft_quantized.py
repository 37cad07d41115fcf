"""Operators of the domain com.microsoft on integers, as ONNX Runtime's quantiser writes them.

They become ONNX's own operators if these give the same bits. If ONNX Runtime rounds in another way,
they become operators of cnnrt (`ops.qlinear`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import UnsupportedOperator
from ...graph import Node
from .expansion import Adapter, Expansion, Surroundings
from .legacy import ALWAYS
from .microsoft import FLOATS, renamed
from .microsoft_attention import ATTENTION, packed


def _by_floats(op: str, *attributes: str) -> Adapter:
    """An adapter that runs the operator on floats. Its inputs are x, scale and zero point, then y's
    scale and zero point."""

    def adapter(node: Node, around: Surroundings) -> list[Node]:
        e = Expansion(node, around)
        x, scale, zero, y_scale, y_zero = e.inputs[:5]
        given = {name: e.attribute(name) for name in attributes if name in node.attributes}
        y = e.add(op, e.add("dequantize_linear", x, scale, zero), **given)
        e.add("quantize_linear", y, y_scale, _zero(e, y_zero, 0), out=node.outputs[0])
        return e.nodes

    return adapter


def _zero(e: Expansion, zero: str, like: int) -> str:
    """A zero point; if absent, a zero in the dtype of input number `like`."""
    return zero or e.constant(0, e.around.dtype(e.inputs[like]) or np.uint8)


def channels_first(e: Expansion, x: str, rank: int, last: bool) -> str:
    """x with its channels as axis 1."""
    return e.add("transpose", x, perm=[0, rank - 1, *range(1, rank - 1)]) if last else x


def channels_last(e: Expansion, y: str, rank: int, out: str) -> None:
    e.add("transpose", y, out=out, perm=[0, *range(2, rank), 1])


def _pool(op: str, quantized: bool) -> Adapter:
    """A pool whose channels are the last axis if `channels_last` says so, perhaps quantised."""

    def adapter(node: Node, around: Surroundings) -> list[Node]:
        e = Expansion(node, around)
        last = not quantized or bool(e.attribute("channels_last", 0))
        rank = e.rank() if last else 0
        rest, node.attributes = node.attributes, {}
        x = channels_first(e, node.inputs[0], rank, last)
        out = "" if last else node.outputs[0]
        y = e.add(op, x, *node.inputs[1:], out=out, **rest)
        if last:
            channels_last(e, y, rank, node.outputs[0])
        return e.nodes

    return adapter


def _qlinear_conv(node: Node, around: Surroundings) -> list[Node]:
    """ONNX's QLinearConv, except that the channels may be the last axis."""
    e = Expansion(node, around)
    last = bool(e.attribute("channels_last", 0))
    node.op = "qlinear_conv"
    if not last:
        return [node]
    rank, out = e.rank(), node.outputs[0]
    rest, node.attributes = node.attributes, {}
    x = channels_first(e, node.inputs[0], rank, last)
    y = e.add("qlinear_conv", x, *node.inputs[1:], **rest)
    channels_last(e, y, rank, out)
    return e.nodes


def _concat(node: Node, around: Surroundings) -> list[Node]:
    """Concatenation. Inputs are y's scale and zero point, then for each part its data, scale and
    zero point."""
    e = Expansion(node, around)
    scale, zero, *rest = node.inputs
    axis = e.attribute("axis")
    parts = []
    for i in range(0, len(rest) - 2, 3):
        x = e.add("dequantize_linear", *rest[i : i + 3])
        parts.append(e.add("quantize_linear", x, scale, zero))
    e.add("concat", *parts, out=node.outputs[0], axis=axis)
    return e.nodes


def _where(node: Node, around: Surroundings) -> list[Node]:
    """Selection. Inputs are the condition, then data, scale and zero point of x and y, then y's
    scale and zero point."""
    e = Expansion(node, around)
    condition, *rest, scale, zero = node.inputs
    x, y = (e.add("dequantize_linear", *rest[i : i + 3]) for i in (0, 3))
    chosen = e.add("where", condition, x, y)
    e.add("quantize_linear", chosen, scale, zero, out=node.outputs[0])
    return e.nodes


def _rescaled(e: Expansion, total: str, factors: tuple[str, ...], constant: float = 1.0) -> str:
    """An int32 tensor times scales."""
    y, factor = e.add("cast", total, to="float32"), factors[0]
    if constant != 1:
        factor = e.add("mul", e.constant(constant, np.float32), factor)
    for other in factors[1:]:
        factor = e.add("mul", factor, other)
    return e.add("mul", y, factor)


def _rounded(e: Expansion, y: str, zero: str, out: str) -> str:
    """Rounds to even, adds the zero point, and saturates."""
    return e.add("quantize_linear", y, e.constant(1, np.float32), zero, out=out)


def _gemm(node: Node, around: Surroundings) -> list[Node]:
    """Gemm. Inputs are data, scale and zero point of a and of b, an int32 bias, and y's scale and
    zero point. Without the last two y is float."""
    e = Expansion(node, around)
    a, a_scale, a_zero, b, b_scale, b_zero, bias, y_scale, y_zero = e.inputs[:9]
    alpha = e.attribute("alpha", 1.0)
    a = e.add("transpose", a, perm=[1, 0]) if e.attribute("transA", 0) else a
    b = e.add("transpose", b, perm=[1, 0]) if e.attribute("transB", 0) else b
    total = e.add("matmul_integer", a, b, a_zero, b_zero)
    total = e.add("add", total, bias) if bias else total
    out = node.outputs[0]
    y = e.add("cast", total, to="float32")
    factor = e.add("mul", a_scale, b_scale)
    if alpha != 1:
        factor = e.add("mul", e.constant(alpha, np.float32), factor)
    if not y_scale:
        e.add("mul", y, factor, out=out)
        return e.nodes
    y = e.add("mul", y, e.add("div", factor, y_scale))
    _rounded(e, y, _zero(e, y_zero, 0), out)
    return e.nodes


def _product(e: Expansion, a: str, b: str, scales: tuple[str, str], zeros: tuple[str, str]) -> str:
    """The product of quantised matrices in floats."""
    return _rescaled(e, e.add("matmul_integer", a, b, *zeros), scales)


def _matmul_integer_to_float(node: Node, around: Surroundings) -> list[Node]:
    """A product in floats. Inputs are a, b, their scales, their zero points and a float bias."""
    e = Expansion(node, around)
    a, b, a_scale, b_scale, a_zero, b_zero, bias = e.inputs[:7]
    y = _product(e, a, b, (a_scale, b_scale), (a_zero, b_zero))
    return _finished(e, y, bias)


def _dynamic_quantize_matmul(node: Node, around: Surroundings) -> list[Node]:
    """A product with a, of floats, quantised by its range. Then come b, its scale and zero point,
    and a bias."""
    e = Expansion(node, around)
    a, b, scale, zero, bias = e.inputs[:5]
    a, a_scale, a_zero = e.add_many("dynamic_quantize_linear", (a,), [""] * 3)
    return _finished(e, _product(e, a, b, (a_scale, scale), (a_zero, zero)), bias)


def _finished(e: Expansion, y: str, bias: str) -> list[Node]:
    """Adds a bias, and makes the last node's output that of the expansion."""
    if bias:
        e.add("add", y, bias, out=e.node.outputs[0])
    else:
        e.add("identity", y, out=e.node.outputs[0])
    return e.nodes


def _dynamic_quantize_lstm(node: Node, around: Surroundings) -> list[Node]:
    """An LSTM with quantised weights (directions, inputs, gates), which are widened.

    ONNX Runtime also quantises the input of each step, by its range, and so is less exact.
    """
    e = Expansion(node, around)
    x, w, r, bias, lengths, h, c, p, *scaling = e.inputs[:12]
    wide = [
        _widened_rows(e, weight, *scaling[2 * i : 2 * i + 2]) for i, weight in enumerate((w, r))
    ]
    rest, node.attributes = node.attributes, {}
    inputs = (x, *wide, bias, lengths, h, c, p)
    e.add_many("lstm", inputs, list(node.outputs), **rest)
    return e.nodes


def _widened_rows(e: Expansion, weight: str, scale: str, zero: str) -> str:
    """The floats of a weight (directions, inputs, gates), as (directions, gates, inputs)."""
    values, factors, zeros = map(e.around.value, (weight, scale, zero))
    if values is None or factors is None or zeros is None:
        raise UnsupportedOperator("weights or scales that are computed")
    directions, inputs, gates = values.shape
    # One of each for a row, which is a block.
    shape = (directions, gates, 1)
    rows = [np.broadcast_to(v.reshape(directions, -1, 1), shape) for v in (factors, zeros)]
    return e.add(
        "dequantize_linear",
        e.add("transpose", weight, perm=[0, 2, 1]),
        e.constant(rows[0], np.float32, "scale"),
        e.constant(rows[1], values.dtype, "zero") if zeros.any() else "",
        axis=2,
        block_size=max(1, inputs),
    )


def _qattention(node: Node, around: Surroundings) -> list[Node]:
    """Attention whose product with the weight is in integers."""
    e = Expansion(node, around)
    x, weight, bias, x_scale, w_scale, mask, x_zero, w_zero, past = e.inputs[:9]
    y = _product(e, x, weight, (x_scale, w_scale), (x_zero, w_zero))
    packed(e, e.add("add", y, bias), mask, 5, past)
    return e.nodes


def _qlinear_softmax(node: Node, around: Surroundings) -> list[Node]:
    """Softmax as defined by the opset in the attribute `opset`."""
    e = Expansion(node, around)
    old = e.attribute("opset", 1) < 13
    axis = e.attribute("axis", 1 if old else -1)
    inputs: tuple[Any, ...] = tuple(node.inputs)
    if not old:
        e.add("qlinear_softmax", *inputs, out=node.outputs[0], axis=axis)
        return e.nodes
    matrix = e.add("flatten", inputs[0], axis=axis % e.rank())
    y = e.add("qlinear_softmax", matrix, *inputs[1:], axis=-1)
    e.add("reshape", y, e.add("shape", inputs[0]), out=node.outputs[0])
    return e.nodes


QUANTIZED: dict[str, Adapter] = {
    "DequantizeLinear": renamed("dequantize_linear"),
    "DynamicQuantizeLSTM": _dynamic_quantize_lstm,
    "DynamicQuantizeMatMul": _dynamic_quantize_matmul,
    "MatMulIntegerToFloat": _matmul_integer_to_float,
    "NhwcMaxPool": _pool("max_pool", quantized=False),
    "QAttention": _qattention,
    "QGemm": _gemm,
    "QLinearAdd": renamed("qlinear_add"),
    "QLinearAveragePool": _pool("qlinear_average_pool", quantized=True),
    "QLinearConcat": _concat,
    "QLinearConv": _qlinear_conv,
    "QLinearGlobalAveragePool": _pool("qlinear_global_average_pool", quantized=True),
    "QLinearLeakyRelu": _by_floats("leaky_relu", "alpha"),
    "QLinearMul": renamed("qlinear_mul"),
    "QLinearSigmoid": _by_floats("sigmoid"),
    "QLinearSoftmax": _qlinear_softmax,
    "QLinearWhere": _where,
    "QuantizeLinear": renamed("quantize_linear"),
}

MICROSOFT = {
    f"com.microsoft.{name}": [(ALWAYS, adapter)]
    for name, adapter in {**FLOATS, **ATTENTION, **QUANTIZED}.items()
}
"""Adapters by operator, as in `opsets.ADAPTERS`."""
