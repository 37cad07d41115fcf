"""Operators of the domain com.microsoft on floats, as nodes of ONNX's own operators.

ONNX Runtime writes them when it saves an optimised model, and its tools for transformers do.
Definitions: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import numpy as np

from ...errors import UnsupportedOperator
from ...graph import Node
from .expansion import Adapter, Expansion, Surroundings
from .legacy import ALWAYS, simplified_layer_normalization

ACTIVATIONS = {
    "Relu": ("relu", ()),
    "Sigmoid": ("sigmoid", ()),
    "Tanh": ("tanh", ()),
    "LeakyRelu": ("leaky_relu", ("alpha",)),
    "HardSigmoid": ("hard_sigmoid", ("alpha", "beta")),
    "HardSwish": ("hard_swish", ()),
    "Elu": ("elu", ("alpha",)),
    "Gelu": ("gelu", ()),
    "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()),
    "ThresholdedRelu": ("thresholded_relu", ("alpha",)),
}
"""Activations of the fused operators: cnnrt's name, and the attributes that their numbers set."""


def activate(e: Expansion, x: str, name: str, numbers: list[float], out: str) -> str:
    """An activation by its name in ONNX.

    Raises:
        UnsupportedOperator: there is no activation of this name.
    """
    if name == "Clip":
        low, high = (e.constant(v, np.float32) for v in (*numbers, -np.inf, np.inf)[:2])
        return e.add("clip", x, low, high, out=out)
    if name not in ACTIVATIONS:
        raise UnsupportedOperator(f"activation {name!r}")
    op, attributes = ACTIVATIONS[name]
    return e.add(op, x, out=out, **dict(zip(attributes, numbers, strict=False)))


def _rest(e: Expansion) -> dict[str, object]:
    """The remaining attributes, for the operator that takes them as they are."""
    rest, e.node.attributes = e.node.attributes, {}
    return rest


def fused_conv(node: Node, around: Surroundings) -> list[Node]:
    """Conv, then an addition (the fourth input), then an activation."""
    e = Expansion(node, around)
    name, numbers = e.attribute("activation", ""), e.attribute("activation_params", [])
    x, weight, bias, added = e.inputs[:4]
    last = node.outputs[0]
    y = e.add("conv", x, weight, bias, out="" if added or name else last, **_rest(e))
    if added:
        y = e.add("add", y, added, out="" if name else last)
    if name:
        activate(e, y, name, numbers, last)
    return e.nodes


def _fused_gemm(node: Node, around: Surroundings) -> list[Node]:
    """Gemm, then an activation."""
    e = Expansion(node, around)
    name = e.attribute("activation", "")
    numbers = [e.attribute(f"activation_{n}") for n in ("alpha", "beta", "gamma")]
    out = node.outputs[0]
    y = e.add("gemm", *node.inputs, out="" if name else out, **_rest(e))
    if name:
        activate(e, y, name, [n for n in numbers if n is not None], out)
    return e.nodes


def _transposed(e: Expansion, index: int, matrix: bool, batch: bool) -> str:
    """An input with its matrices transposed; with `batch` its first axis comes before the last."""
    x = e.inputs[index]
    if not matrix and not batch:
        return x
    axes = list(range(e.rank(index)))
    if len(axes) < 2:
        return x
    if batch:
        axes = [*axes[1:-1], axes[0], axes[-1]]
    if matrix:
        axes[-2:] = axes[:-3:-1]
    return e.add("transpose", x, perm=axes)


def _fused_matmul(node: Node, around: Surroundings) -> list[Node]:
    """alpha times the product of matrices, each transposed or not."""
    e = Expansion(node, around)
    sides = [
        _transposed(e, i, bool(e.attribute(f"trans{name}")), bool(e.attribute(f"transBatch{name}")))
        for i, name in enumerate("AB")
    ]
    alpha = e.attribute("alpha", 1.0)
    out = node.outputs[0]
    y = e.add("matmul", *sides, out=out if alpha == 1 else "")
    if alpha != 1:
        e.add("mul", y, e.constant(alpha, around.dtype(node.inputs[0]) or np.float32), out=out)
    return e.nodes


def _gelu(node: Node, around: Surroundings, approximate: str) -> list[Node]:
    e = Expansion(node, around)
    x, bias = e.inputs[:2]
    x = e.add("add", x, bias) if bias else x
    e.add("gelu", x, out=node.outputs[0], approximate=approximate)
    return e.nodes


def _exact_gelu(node: Node, around: Surroundings) -> list[Node]:
    """Gelu by erf, of x or of x and a bias."""
    return _gelu(node, around, "none")


def _fast_gelu(node: Node, around: Surroundings) -> list[Node]:
    """Gelu by tanh, of x or of x and a bias."""
    return _gelu(node, around, "tanh")


def _quick_gelu(node: Node, around: Surroundings) -> list[Node]:
    """x sigmoid(alpha x)."""
    e = Expansion(node, around)
    e.add("swish", node.inputs[0], out=node.outputs[0], alpha=e.attribute("alpha", 1.702))
    return e.nodes


def _skip_layer_normalization(simplified: bool) -> Adapter:
    """The sum of two inputs and a bias, normalised; the fourth output is the sum itself."""

    def adapter(node: Node, around: Surroundings) -> list[Node]:
        e = Expansion(node, around)
        if e.outputs[1] or e.outputs[2]:
            raise UnsupportedOperator("the mean and the deviation as outputs")
        inputs = e.inputs
        x, skip, gamma = inputs[:3]
        beta, bias = ("", inputs[3]) if simplified else inputs[3:5]
        total = e.add("add", x, skip, out="" if bias else e.outputs[3])
        if bias:
            total = e.add("add", total, bias, out=e.outputs[3])
        op = "rms_normalization" if simplified else "layer_normalization"
        epsilon = e.attribute("epsilon", 1e-12)
        e.add(op, total, gamma, beta, out=node.outputs[0], epsilon=epsilon)
        return e.nodes

    return adapter


def _embed_layer_normalization(node: Node, around: Surroundings) -> list[Node]:
    """The embeddings of words, positions and segments added and normalised. Further outputs are the
    number of mask elements that are set, and the sum before the norm."""
    e = Expansion(node, around)
    ids, segments, words, places, kinds, gamma, beta, mask, positions = e.inputs[:9]
    total = e.add("gather", words, ids)
    if positions:
        at = e.add("gather", places, positions)
    else:
        length = e.add("shape", ids, start=1, end=2)
        zero = e.constant([0], np.int64)
        at = e.add("slice", places, zero, length, zero)
    total = e.add("add", total, at, out="" if segments else e.outputs[2])
    if segments:
        total = e.add("add", total, e.add("gather", kinds, segments), out=e.outputs[2])
    epsilon = e.attribute("epsilon", 1e-12)
    e.attribute("mask_index_type")
    e.add("layer_normalization", total, gamma, beta, out=node.outputs[0], epsilon=epsilon)
    if e.outputs[1]:
        axis = e.constant([1], np.int64)
        if mask:
            ones = e.add("cast", mask, to="int32")
        else:
            ones = e.add("mul", e.add("cast", ids, to="int32"), e.constant(0, np.int32))
        e.add("reduce_sum", ones, axis, out=e.outputs[1], keepdims=0)
    return e.nodes


def _crop_and_resize(node: Node, around: Surroundings) -> list[Node]:
    """Regions (R, 4) y1, x1, y2, x2 in fractions of the image, each resized to `crop_size`. As in
    TensorFlow, their corners are pixels, and points outside have the extrapolation value."""
    e = Expansion(node, around)
    x, regions, images = e.inputs[:3]
    modes = {"bilinear": "linear", "nearest": "nearest"}
    mode = modes[e.attribute("mode", "bilinear")]
    height, width = (int(n) for n in e.value(3, "a size").reshape(-1))
    outside = e.attribute("extrapolation_value", 0.0)
    two, one = e.constant(2, np.float32, "two"), e.constant(1, np.float32, "one")
    zero = e.constant(0, np.float32, "zero")
    places, inside = [], []
    for axis, count in enumerate((height, width)):
        steps = np.linspace(0, 1, count) if count > 1 else np.array([0.5])
        low, high = (
            e.add("gather", regions, e.constant([i], np.int64), axis=1) for i in (axis, axis + 2)
        )
        at = e.add("mul", e.add("sub", high, low), e.constant(steps[None], np.float32))
        at = e.add("add", at, low)  # (R, count)
        within = e.add("and", e.add("greater_or_equal", at, zero), e.add("less_or_equal", at, one))
        if mode == "nearest":  # halves go up, unlike those of grid_sample
            pixels = e.add("cast", e.add("shape", x, start=2 + axis, end=3 + axis), to="float32")
            last_pixel = e.add("sub", pixels, one)
            at = e.add("mul", at, last_pixel)
            at = e.add("floor", e.add("add", at, e.constant(0.5, np.float32)))
            at = e.add("div", at, e.add("max", last_pixel, one))
        shape = e.constant([-1, count, 1] if axis == 0 else [-1, 1, count], np.int64)
        whole = e.constant([1, height, width], np.int64)
        at = e.add("sub", e.add("mul", at, two), one)
        places.append(e.add("expand", e.add("reshape", at, shape), whole))
        inside.append(e.add("reshape", within, shape))
    last = e.constant([3], np.int64)
    pairs = [e.add("unsqueeze", place, last) for place in reversed(places)]
    grid = e.add("concat", *pairs, axis=3)
    chosen = e.add("gather", x, images, axis=0)
    y = e.add("grid_sample", chosen, grid, mode=mode, padding_mode="border", align_corners=1)
    both = e.add("unsqueeze", e.add("and", *inside), e.constant([1], np.int64))
    e.add("where", both, y, e.constant(outside, np.float32), out=node.outputs[0])
    return e.nodes


def _conv_transpose_with_dynamic_pads(node: Node, around: Surroundings) -> list[Node]:
    """ConvTranspose whose padding is its third input."""
    e = Expansion(node, around)
    x, weight, pads, bias = e.inputs[:4]
    rest = _rest(e)
    if pads:
        rest["pads"] = [int(n) for n in e.value(2, "padding").reshape(-1)]
    e.add("conv_transpose", x, weight, bias, out=node.outputs[0], **rest)
    return e.nodes


def _unique(node: Node, around: Surroundings) -> list[Node]:
    """Distinct elements in the order of their first occurrence, their inverse indices and
    counts."""
    e = Expansion(node, around)
    y, inverse, counts = e.outputs[:3]
    e.add_many("unique", (node.inputs[0],), [y, "", inverse, counts], sorted=0)
    return e.nodes


def _rfft(node: Node, around: Surroundings) -> list[Node]:
    """The transform of a real signal over its last axes: (..., n) -> (..., n // 2 + 1, 2)."""
    e = Expansion(node, around)
    axes = _signal_axes(e)
    y = e.add("unsqueeze", node.inputs[0], e.constant([-1], np.int64))
    for i in range(axes):
        last = i == axes - 1
        axis = e.constant(-2 - i, np.int64)
        y = e.add("dft", y, "", axis, out=node.outputs[0] if last else "", onesided=int(i == 0))
    return e.nodes


def _irfft(node: Node, around: Surroundings) -> list[Node]:
    """The real signal whose transform this is: (..., n // 2 + 1, 2) -> (..., n), n even."""
    e = Expansion(node, around)
    y = node.inputs[0]
    for i in reversed(range(_signal_axes(e))):
        y = e.add("dft", y, "", e.constant(-2 - i, np.int64), inverse=1, onesided=int(i == 0))
    e.add("squeeze", y, e.constant([-1], np.int64), out=node.outputs[0])
    return e.nodes


def _signal_axes(e: Expansion) -> int:
    """The number of axes that are transformed.

    Raises:
        UnsupportedOperator: the transform is normalised or two-sided.
    """
    if e.attribute("normalized", 0) or not e.attribute("onesided", 1):
        raise UnsupportedOperator("normalised or two-sided transforms")
    return int(e.attribute("signal_ndim", 1))


def renamed(op: str) -> Adapter:
    """An adapter to the same operator in ONNX's own domain."""

    def adapter(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
        node.op = op
        return [node]

    return adapter


def _grid_sample(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
    node.op = "grid_sample"
    mode = node.attributes.get("mode", "bilinear")
    node.attributes["mode"] = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    return [node]


FLOATS: dict[str, Adapter] = {
    "BiasGelu": _exact_gelu,
    "ConvTransposeWithDynamicPads": _conv_transpose_with_dynamic_pads,
    "CropAndResize": _crop_and_resize,
    "EmbedLayerNormalization": _embed_layer_normalization,
    "ExpandDims": renamed("unsqueeze"),
    "FastGelu": _fast_gelu,
    "FusedConv": fused_conv,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul,
    "Gelu": _exact_gelu,
    "GridSample": _grid_sample,
    "Inverse": renamed("inverse"),
    "Irfft": _irfft,
    "LayerNormalization": renamed("layer_normalization"),
    "Pad": renamed("pad"),
    "QuickGelu": _quick_gelu,
    "Rfft": _rfft,
    "SimplifiedLayerNormalization": simplified_layer_normalization,
    "SkipLayerNormalization": _skip_layer_normalization(simplified=False),
    "SkipSimplifiedLayerNormalization": _skip_layer_normalization(simplified=True),
    "TransposeMatMul": _fused_matmul,
    "Trilu": renamed("trilu"),
    "Unique": _unique,
}

__all__ = ["ALWAYS", "FLOATS", "activate", "fused_conv", "renamed"]
