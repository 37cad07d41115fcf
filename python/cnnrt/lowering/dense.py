"""Fully connected layers."""

from __future__ import annotations

import math
from typing import Any

from .. import _core
from ..graph import Array, Node
from . import Lowering, epilogue, lowers
from .tensors import BLOCK, ceil_div

PART = 16 << 20
"""Bytes of a weight that are packed at a time."""


def linear_step(node: Node, to: Lowering, note: str) -> None:
    """y = x weight^T + bias, with weight (columns, depth, ...); x and y by their last axes."""
    residual = node.inputs[3] if len(node.inputs) > 3 else ""
    key = node.inputs[1]
    columns, depth = to.type(key).shape[:2]
    x = to.plain(node.inputs[0])
    rows = x.type.size // depth if depth else math.prod(x.type.shape[:-1])
    r = to.plain(residual) if residual else None

    packed = to.weight(
        key,
        "linear",
        ceil_div(columns, BLOCK) * BLOCK * depth,
        lambda w: _pack(w.reshape(columns, depth, 1), to),
    )
    y = to.new_plain(node.outputs[0])
    weight_bytes = columns * depth * 4
    bandwidth = to.machine.cold if to.weights_are_cold else to.machine.warm
    compute = rows * columns * depth / to.machine.macs
    to.step(
        "linear",
        x=x.at,
        y=y.at,
        residual=r.at if r else None,
        weight=packed,
        bias=to.bias(node, columns),
        rows=rows,
        depth=depth,
        columns=columns,
        x_row=depth,
        y_row=columns,
        residual_row=columns,
        order="channels" if weight_bytes > (rows * (depth + columns) * 4) else "rows",
        epilogue=epilogue(node["activation"]),
        note=note,
        work=to.machine.time_overlapped(compute, weight_bytes / bandwidth),
    )


def _pack(weight: Array, to: Lowering) -> Any:
    """Large weights part by part: no more than one part of those stored is in memory besides those
    packed. (VGG-16's first layer has 411 MB.)"""
    columns, depth, _ = weight.shape
    rows = max(1, PART // (depth * 4 * BLOCK)) * BLOCK
    if columns <= rows:
        return _core.pack_planar(weight, to.threads)
    memory = _core.Memory.empty(ceil_div(columns, BLOCK) * BLOCK * depth * 4)
    for first in range(0, columns, rows):
        part = weight[first : first + rows]
        _core.pack_planar_into(memory, first // BLOCK, part, to.threads)
        to.packed.release()
    return memory


@lowers("linear")
def lower_linear(node: Node, to: Lowering) -> bool:
    weight = to.constant(node.inputs[1])
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    if weight is None or weight.size == 0 or (bias and to.constant(bias) is None):
        return False
    linear_step(node, to, "linear")
    return True
