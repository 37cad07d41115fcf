"""What the lowerings of all convolution algorithms share."""

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
    """planar, depthwise, linear, im2col, winograd2 or winograd4."""
    reason: str
    cost_ns: float
    """Estimated nanoseconds for one image on one thread."""
    tile: int | None = None
    """Outputs of a Winograd tile along an axis."""


class ConvLowering:
    """One convolution of which the algorithm is chosen.

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
        self.activation = node["activation"]
        self.note = f"{choice.kind}: {choice.reason}"
        outputs = math.prod(builder.type(node.outputs[0]).shape[1:])
        self.cost_ns = choice.cost_ns + builder.machine.time_of(self.activation, outputs)

    @property
    def shape(self) -> ConvShape:
        """The convolution as the cost model sees it."""
        return conv_shape(self.windows, self.group_c, self.m)

    def epilogue(self) -> dict[str, Any]:
        """The fields by which a kernel adds bias and residual and applies the activation."""
        return {
            "residual": self.residual.view() if self.residual else None,
            "bias": self.bias,
            "epilogue": epilogue(self.activation),
        }


def conv_shape(w: Windows, c: int, m: int) -> ConvShape:
    """A convolution from c to m channels as the cost model sees it."""
    out_d, out_h, out_w = three(w.out, 1)
    return ConvShape(c, m, math.prod(w.kernel), out_h, out_w, out_d, three(w.kernel, 1))


def three(values: tuple[int, ...], fill: int) -> tuple[int, int, int]:
    """The values of one to three spatial axes as those of three."""
    if len(values) == 2:
        return (fill, *values)
    d, h, w = (*[fill] * (3 - len(values)), *values)
    return d, h, w


FIELDS = {"begin": "pad", "size": "in"}
"""Fields of Windows that have another name in args.h."""


def per_axis(w: Windows, *names: str) -> dict[str, int]:
    """The fields kernel_d, kernel_h, ... of args.h from those of Windows."""
    fields = {}
    for name in names:
        values = three(getattr(w, name), 0 if name == "begin" else 1)
        stem = FIELDS.get(name, name)
        for axis, value in zip("dhw", values, strict=True):
            fields[f"{stem}_{axis}"] = value
    return fields
