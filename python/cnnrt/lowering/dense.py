"""Fully connected layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core
from ..dtypes import FLOAT32, FLOAT64
from ..graph import Array, Node
from ..layout.tensors import BLOCK, ceil_div
from ..weights.widen import Narrow, narrow
from .builder import PlanBuilder
from .doubles import lower_linear_double
from .in_place import plain_over
from .registry import FLOATS, lowers
from .step_list import epilogue, loop_order

PART = 4 << 20
"""Bytes of a weight that are packed at a time."""

NARROW_ROWS = 64
"""Maximum number of rows that are multiplied by weights as they are stored. They wait for memory.
More rows are worth that the weights are widened once, when they are packed."""

LINE = 64
"""Bytes of a cache line. Packed weights take whole ones."""


def linear_step(node: Node, builder: PlanBuilder, note: str) -> None:
    """y = x weight^T + bias, with weight (columns, depth, ...); x and y by their last axes."""
    residual = node.input(3)
    key = node.inputs[1]
    columns, depth = builder.type(key).shape[:2]
    x = builder.plain(node.inputs[0])
    rows = x.type.size // depth if depth else math.prod(x.type.shape[:-1])
    r = builder.plain(residual) if residual else None

    stored = narrow(builder.constant(key))
    if stored and rows > NARROW_ROWS:
        stored = None
    dtype = stored.dtype if stored else x.type.dtype
    packed = builder.weight(
        key,
        f"linear {dtype}" if stored else "linear",
        panel_bytes(columns, depth, dtype.itemsize) // FLOAT32.itemsize,
        lambda w: pack(w.reshape(columns, depth), builder),
        stored and stored.values,
    )
    narrow_fields = _narrow_fields(key, stored, columns, builder) if stored else {}
    y = plain_over(builder, node.outputs[0], residual)
    itemsize = x.type.dtype.itemsize
    weight_bytes = columns * depth * dtype.itemsize
    bandwidth = builder.machine.cold if builder.weights_are_cold else builder.machine.warm
    compute = rows * columns * depth / builder.machine.macs[x.type.dtype]
    builder.step(
        "linear_narrow" if stored else "linear",
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
        **narrow_fields,
        note=f"{note}, weights of {dtype}" if stored else note,
        cost_ns=builder.machine.time_overlapped(compute, weight_bytes / bandwidth),
    )


def _narrow_fields(key: str, stored: Narrow, columns: int, builder: PlanBuilder) -> dict[str, Any]:
    """The fields that only linear_narrow has."""
    fields: dict[str, Any] = {"weight_type": str(stored.dtype)}
    if stored.factors is not None:
        blocks = stored.factors.shape[1]
        fields["factors"] = builder.weight(
            key,
            "linear factors",
            panel_bytes(columns, blocks, FLOAT32.itemsize) // FLOAT32.itemsize,
            lambda w: pack(w, builder),
            stored.factors,
        )
    return fields


def panel_bytes(columns: int, depth: int, itemsize: int) -> int:
    """Bytes of the panels of a weight [columns, depth]."""
    return ceil_div(ceil_div(columns, BLOCK) * BLOCK * depth * itemsize, LINE) * LINE


def pack(weight: Array, builder: PlanBuilder) -> Any:
    """Packs [columns, depth] part by part, in the order in which it is stored. So no more than one
    part of a mapped weight is in memory. (VGG-16's first layer has 411 MB.)"""
    if weight.dtype == np.float16:
        weight = weight.view(np.uint16)  # as the bits of bfloat16 are
    columns, depth = weight.shape
    memory = _core.Memory.empty(panel_bytes(columns, depth, weight.itemsize))
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
