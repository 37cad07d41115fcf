"""Convolution: dense, grouped and depthwise, in 1, 2 and 3 dimensions.

Shapes: x (N, C, *spatial), weight (M, C / group, *kernel), bias (M) -> (N, M, *out) with
out = floor((in + pad_begin + pad_end - dilation * (kernel - 1) - 1) / stride) + 1.
"""

from __future__ import annotations

import math
from typing import Any

from ..graph import Array, Node, TensorType
from . import NodeTypes, Op, register, shape_error
from .axes import ALL, AxesMapping, Link, Links, every, follow, mixed
from .common import Inputs, at_least, operands
from .elementwise import activated
from .products import convolve
from .windows import Windows, resolve_windows


def channel_link(node: Node, channels: int, outputs: int) -> Link:
    """How the output channels of a convolution follow the input channels."""
    return follow(1) if node["group"] == channels == outputs else mixed(1)


def weight_links(rank: int) -> Links:
    """The links of a weight (M, C / group, *kernel), the M being axis 1 of the output."""
    return (follow(1), *[ALL] * (rank - 1))


def direct_macs(types: NodeTypes, weight: int) -> int:
    """The multiply-adds of a convolution: C / group times the taps for each output."""
    return types.output.size * math.prod(types.shape(weight)[1:])


@register
class Conv(Op):
    """ONNX Conv with two more inputs, which the passes make. `residual` is added before the
    activation, and x is first multiplied by `scale` (N, C, 1, ...)."""

    name = "conv"
    all_pairs = True
    attributes = {
        "auto_pad": "NOTSET",
        "dilations": None,
        "group": 1,
        "kernel_shape": None,
        "pads": None,
        "strides": None,
        "activation": None,
        "algorithm": "auto",
    }

    def windows(self, node: Node, x: tuple[int, ...], weight: tuple[int, ...]) -> Windows:
        return resolve_windows(node, x[2:], kernel=weight[2:])

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, weight, bias, residual, scale = operands(node, inputs, 2, 5)
        x_shape, w_shape = x.type.shape, weight.type.shape
        if len(x_shape) < 3 or len(w_shape) != len(x_shape):
            raise shape_error(node, inputs, "x and weight need the same rank, at least 3")
        group = at_least(node, "group", 1)
        if w_shape[1] * group != x_shape[1] or w_shape[0] % group:
            raise shape_error(
                node, inputs, f"weight takes {w_shape[1]} x {group} (group) input channels"
            )
        if bias and bias.type.shape != w_shape[:1]:
            raise shape_error(node, inputs, f"bias must have shape ({w_shape[0]},)")
        spatial = self.windows(node, x_shape, w_shape).out
        out = TensorType((x_shape[0], w_shape[0], *spatial), x.type.dtype)
        if residual and residual.shape != out.shape:
            raise shape_error(node, inputs, f"residual must have shape {out.shape}")
        if scale and scale.shape != (factors := (*x_shape[:2], *[1] * (x.rank - 2))):
            raise shape_error(node, inputs, f"scale must have shape {factors}")
        return [out]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        x, weight = types.shape(0), types.shape(1)
        channels = channel_link(node, x[1], weight[0])
        made = [
            (follow(0), channels, *self.windows(node, x, weight).links()),
            weight_links(len(weight)),
            every(types, 2, follow(1)),
            [follow(axis) for axis in range(len(x))] if types.has(3) else None,
            (follow(0), channels, *[ALL] * (len(x) - 2)) if types.has(4) else None,
        ]
        return AxesMapping(made[: len(types.inputs)])

    def macs(self, node: Node, types: NodeTypes) -> int:
        return direct_macs(types, 1)

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        x, weight, bias, residual, scale = (*inputs, *[None] * 3)[:5]
        if scale is not None:
            x = x * scale
        w = self.windows(node, x.shape, weight.shape)
        y = convolve(x, weight, w, node["group"])
        if bias is not None:
            y = y + bias.reshape(-1, *[1] * len(w.kernel))
        if residual is not None:
            y = y + residual
        return (activated(node, y.astype(x.dtype, copy=False)),)
