"""Fully connected layers."""

from __future__ import annotations

import math
from typing import Any

from .. import _core
from ..dtypes import FLOAT64
from ..graph import Array, Node
from ..layout.tensors import BLOCK, ceil_div
from .builder import PlanBuilder
from .doubles import lower_linear_double
from .registry import FLOATS, lowers
from .step_list import epilogue, loop_order

PART = 4 << 20
"""Bytes of a weight that are packed at a time."""


def linear_step(node: Node, builder: PlanBuilder, note: str) -> None:
    """y = x weight^T + bias, with weight (columns, depth, ...); x and y by their last axes."""
    residual = node.input(3)
    key = node.inputs[1]
    columns, depth = builder.type(key).shape[:2]
    x = builder.plain(node.inputs[0])
    rows = x.type.size // depth if depth else math.prod(x.type.shape[:-1])
    r = builder.plain(residual) if residual else None

    packed = builder.weight(
        key,
        "linear",
        ceil_div(columns, BLOCK) * BLOCK * depth,
        lambda w: _pack(w.reshape(columns, depth), builder),
    )
    y = builder.new_plain(node.outputs[0])
    itemsize = x.type.dtype.itemsize
    weight_bytes = columns * depth * itemsize
    bandwidth = builder.machine.cold if builder.weights_are_cold else builder.machine.warm
    compute = rows * columns * depth / builder.machine.macs[x.type.dtype]
    builder.step(
        "linear",
        x=x.at,
        y=y.at,
        residual=r.at if r else None,
        weight=packed,
        bias=builder.bias(node, columns),
        rows=rows,
        depth=depth,
        columns=columns,
        x_row=depth,
        y_row=columns,
        residual_row=columns,
        order=loop_order(weight_bytes, rows * (depth + columns) * itemsize),
        epilogue=epilogue(node["activation"]),
        note=note,
        cost_ns=builder.machine.time_overlapped(compute, weight_bytes / bandwidth),
    )


def _pack(weight: Array, builder: PlanBuilder) -> Any:
    """Packs [columns, depth] part by part, in the order in which it is stored. So no more than one
    part of a mapped weight is in memory. (VGG-16's first layer has 411 MB.)"""
    columns, depth = weight.shape
    memory = _core.Memory.empty(ceil_div(columns, BLOCK) * BLOCK * depth * weight.itemsize)
    axis = int(weight.strides[0] < weight.strides[1])
    size = max(1, PART // (weight.shape[1 - axis] * weight.itemsize * BLOCK)) * BLOCK
    for first in range(0, weight.shape[axis], size):
        part = weight[:, first : first + size] if axis else weight[first : first + size]
        row, column = (0, first) if axis else (first, 0)
        _core.pack_linear(memory, depth, row, column, part, builder.team)
        if size < weight.shape[axis]:
            builder.options.packed.release()
    return memory


@lowers("linear", types=FLOATS)
def lower_linear(node: Node, builder: PlanBuilder) -> bool:
    if builder.type(node.inputs[0]).dtype == FLOAT64:
        return lower_linear_double(node, builder)
    weight = builder.constant(node.inputs[1])
    bias = node.input(2)
    if weight is None or weight.size == 0 or (bias and builder.constant(bias) is None):
        return False
    linear_step(node, builder, "linear")
    return True
