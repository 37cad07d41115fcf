"""Fully connected layers."""

from __future__ import annotations

import math

import numpy as np

from .. import _core
from ..graph import Array, Node
from . import Lowering, epilogue, lowers


def linear_step(node: Node, to: Lowering, weight: Array, key: str, note: str, columns: int) -> None:
    """y = x weight^T + bias, with weight (columns, depth); x and y by their last axes."""
    residual = node.inputs[3] if len(node.inputs) > 3 else ""
    depth = weight.shape[1]
    x = to.plain(node.inputs[0])
    rows = x.type.size // depth if depth else math.prod(x.type.shape[:-1])
    r = to.plain(residual) if residual else None

    packed = to.packed.get(
        to.constant(key),
        (key, "linear"),
        lambda: _core.pack_planar(
            np.ascontiguousarray(weight, np.float32).reshape(columns, depth, 1), to.threads
        ),
    )
    y = to.new_plain(node.outputs[0])
    weight_bytes = weight.size * 4
    bandwidth = to.machine.cold if to.weights_are_cold else to.machine.warm
    compute = rows * weight.size / to.machine.macs
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


@lowers("linear")
def lower_linear(node: Node, to: Lowering) -> bool:
    weight = to.constant(node.inputs[1])
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    if weight is None or weight.size == 0 or (bias and to.constant(bias) is None):
        return False
    linear_step(node, to, weight, node.inputs[1], "linear", weight.shape[0])
    return True
