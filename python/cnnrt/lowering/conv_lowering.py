"""Types and helpers that the lowerings of all convolution algorithms share."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..cost import ConvShape
from ..graph import Array, Node
from ..layout.tensors import Blocked
from ..ops.windows import Windows
from .builder import PlanBuilder
from .step_list import epilogue


class Choice(NamedTuple):
    """The algorithm of a convolution."""

    kind: str
    """planar, depthwise, linear, im2col, winograd2, winograd4 or winograd6."""
    reason: str
    cost_ns: float
    """Estimated nanoseconds for one image on one thread."""
    tile: int | None = None
    """Outputs of a Winograd tile along an axis."""


class ConvLowering:
    """One convolution whose algorithm has been chosen.

    Making it appends the reorder that blocks the residual, if one is needed.
    """

    def __init__(
        self, node: Node, builder: PlanBuilder, choice: Choice, windows: Windows, weight: Array
    ) -> None:
        self.node = node
        self.builder = builder
        self.choice = choice
        self.windows = windows
        self.weight_name = node.inputs[1]
        self.m, self.group_c = weight.shape[:2]
        """Output channels, and input channels of a group."""
        self.group: int = node["group"]
        self.bias = builder.bias(node, self.m)
        residual = node.input(3)
        self.residual: Blocked | None = builder.blocked(residual) if residual else None
        self.activation = node.attributes["activation"]
        self.note = f"{choice.kind}: {choice.reason}"
        self.cost_ns = choice.cost_ns
        if self.activation is not None:
            outputs = math.prod(builder.type(node.outputs[0]).shape[1:])
            self.cost_ns += builder.machine.time_of(self.activation, outputs)

    def epilogue(self) -> dict[str, Any]:
        """The fields by which a kernel adds bias and residual and applies the activation."""
        return {
            "residual": self.residual.view() if self.residual else None,
            "bias": self.bias,
            "epilogue": epilogue(self.activation),
        }


def conv_shape(w: Windows, c: int, m: int) -> ConvShape:
    """A convolution from c to m channels as the cost model sees it."""
    w = w.in_3d
    out_d, out_h, out_w = w.out
    kernel_d, kernel_h, kernel_w = w.kernel
    taps = kernel_d * kernel_h * kernel_w
    kernel = (kernel_d, kernel_h, kernel_w)
    by_row, by_column = (d if k > 1 else 1 for d, k in zip(w.dilation[1:], kernel[1:], strict=True))
    dilation = by_row, by_column
    return ConvShape(
        c,
        m,
        taps,
        out_h,
        out_w,
        out_d,
        kernel,
        dilation=dilation,
        stride=w.stride[2],
        stride_d=w.stride[0],
    )


def three(values: tuple[int, ...], fill: int) -> tuple[int, int, int]:
    """The values of one to three spatial axes as those of three."""
    if len(values) == 2:
        return (fill, *values)
    d, h, w = (*[fill] * (3 - len(values)), *values)
    return d, h, w


AXIS_FIELDS = {
    name: tuple(f"{field}_{axis}" for axis in "dhw")
    for name, field in {
        "kernel": "kernel",
        "stride": "stride",
        "dilation": "dilation",
        "begin": "pad",
        "size": "in",
    }.items()
}
"""Fields of kernels.def that hold those of Windows."""


def per_axis(w: Windows, *names: str) -> dict[str, int]:
    """The fields kernel_d, kernel_h, ... of kernels.def from those of Windows."""
    fields = {}
    w = w.in_3d
    for name in names:
        d, h, w_name = AXIS_FIELDS[name]
        fields[d], fields[h], fields[w_name] = getattr(w, name)
    return fields
