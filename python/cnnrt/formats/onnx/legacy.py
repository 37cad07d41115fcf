"""Experimental operators of early versions of ONNX, as ONNX Runtime still takes them.

ONNX's tables do not have them any more, or have later versions alone. Exporters of 2017 and 2018
(Core ML's, Caffe2's, CNTK's) wrote them, most often for what a network does first to an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import UnsupportedOperator
from ...graph import Node
from .expansion import Adapter, Expansion, Surroundings

UNLISTED = {
    "Affine",
    "Crop",
    "DynamicSlice",
    "ImageScaler",
    "LayerNormalization",
    "MeanVarianceNormalization",
    "ParametricSoftplus",
    "Scale",
    "ScaledTanh",
    "SimplifiedLayerNormalization",
    "ThresholdedRelu",
}
"""Operators of ONNX's own domain that are read in opsets whose tables lack them."""


def _linear(e: Expansion, x: str, factor: float | None, addend: float | None, out: str) -> str:
    """factor * x + addend."""
    if factor is not None:
        product = "" if addend is not None else out
        x = e.add("mul", x, e.constant(factor, np.float32), out=product)
    if addend is not None:
        x = e.add("add", x, e.constant(addend, np.float32), out=out)
    return x


def _affine(node: Node, around: Surroundings) -> list[Node]:
    """alpha * x + beta."""
    e = Expansion(node, around)
    alpha, beta = e.attribute("alpha", 1.0), e.attribute("beta", 0.0)
    _linear(e, node.inputs[0], alpha, beta, node.outputs[0])
    return e.nodes


def _scale(node: Node, around: Surroundings) -> list[Node]:
    """scale * x."""
    e = Expansion(node, around)
    _linear(e, node.inputs[0], e.attribute("scale", 1.0), None, node.outputs[0])
    return e.nodes


def _image_scaler(node: Node, around: Surroundings) -> list[Node]:
    """scale * x + the bias of each channel."""
    e = Expansion(node, around)
    y = _linear(e, node.inputs[0], e.attribute("scale", 1.0), None, "")
    bias = np.reshape(e.attribute("bias", [0.0]), (-1, 1, 1))
    e.add("add", y, e.constant(bias, np.float32), out=node.outputs[0])
    return e.nodes


def _crop(node: Node, around: Surroundings) -> list[Node]:
    """Cuts off a border (left, top, right, bottom), or cuts out the size `scale` from its corner
    on."""
    e = Expansion(node, around)
    border, scale = e.attribute("border"), e.attribute("scale")
    if border is None or len(border) != 4:
        raise UnsupportedOperator(f"border {border}; expected four sizes")
    left, top, right, bottom = border
    if scale:
        ends = [top + scale[0], left + scale[1]]
    else:  # an end of -0 would be the beginning
        ends = [-n or np.iinfo(np.int64).max for n in (bottom, right)]
    limits = [e.constant(v, np.int64) for v in ([top, left], ends, [2, 3])]
    e.add("slice", node.inputs[0], *limits, out=node.outputs[0])
    return e.nodes


def _scaled(op: str) -> Adapter:
    """alpha * op(beta * x); both alpha and beta must be given."""

    def adapter(node: Node, around: Surroundings) -> list[Node]:
        e = Expansion(node, around)
        alpha, beta = e.attribute("alpha"), e.attribute("beta")
        if alpha is None or beta is None:
            raise UnsupportedOperator("without alpha or beta")
        inner = _linear(e, node.inputs[0], beta, None, "")
        _linear(e, e.add(op, inner), alpha, None, node.outputs[0])
        return e.nodes

    return adapter


def _mean_variance_normalization(node: Node, around: Surroundings) -> list[Node]:
    """Normalises over images, height and width, and channels too if `across_channels`. If not
    `normalize_variance`, only the mean is subtracted."""
    e = Expansion(node, around)
    axes = [0, 1, 2, 3] if e.attribute("across_channels", 0) else [0, 2, 3]
    x = node.inputs[0]
    if e.attribute("normalize_variance", 1):
        e.add("mean_variance_normalization", x, out=node.outputs[0], axes=axes)
    else:
        mean = e.add("reduce_mean", x, e.constant(axes, np.int64))
        e.add("sub", x, mean, out=node.outputs[0])
    return e.nodes


def _dynamic_slice(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
    node.op = "slice"
    return [node]


def simplified_layer_normalization(node: Node, around: Surroundings) -> list[Node]:
    """x / root mean square * scale. A second output would be the inverse of that root."""
    e = Expansion(node, around)
    if e.outputs[1]:
        raise UnsupportedOperator("the inverse root mean square as an output")
    attributes = {"axis": e.attribute("axis", -1), "epsilon": e.attribute("epsilon", 1e-5)}
    e.attribute("stash_type")
    x, scale = node.inputs
    e.add("rms_normalization", x, scale, out=node.outputs[0], **attributes)
    return e.nodes


ALWAYS = 10_000

LEGACY: dict[str, Sequence[tuple[int, Adapter]]] = {
    "affine": [(ALWAYS, _affine)],
    "crop": [(ALWAYS, _crop)],
    "dynamic_slice": [(ALWAYS, _dynamic_slice)],
    "image_scaler": [(ALWAYS, _image_scaler)],
    "mean_variance_normalization": [(9, _mean_variance_normalization)],
    "parametric_softplus": [(ALWAYS, _scaled("softplus"))],
    "scale": [(ALWAYS, _scale)],
    "scaled_tanh": [(ALWAYS, _scaled("tanh"))],
    "simplified_layer_normalization": [(ALWAYS, simplified_layer_normalization)],
}
"""Adapters by operator, as in `opsets.ADAPTERS`."""
