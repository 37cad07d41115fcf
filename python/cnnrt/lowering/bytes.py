"""Operators on bytes that are no products of weights: tables and pools."""

from __future__ import annotations

import math
from typing import Any

from ..dtypes import UINT8
from ..graph import Node
from ..layout.tensors import BLOCK
from ..ops import OPS
from ..ops.requantised import QAveragePool, QGlobalAveragePool
from .builder import PlanBuilder
from .pool import axis_windows, byte_pool_step, whole_axis
from .registry import ALL_TYPES, lowers


@lowers("table", types=ALL_TYPES)
def lower_table(node: Node, builder: PlanBuilder) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    table = builder.constant(node.inputs[1])
    if table is None or table.dtype.itemsize != 1:
        return False
    memory = builder.constant_memory(node.inputs[1], "table", table)
    fields: dict[str, Any]
    shape: tuple[int, ...]
    if builder.is_blocked(x) and builder.type(x).dtype == UINT8 == builder.type(y).dtype:
        source, target = builder.blocked(x), builder.new_blocked(y)
        a, b = source.view(), target.view()
        d, h, w = source.spatial
        places = {"x": a.at, "y": b.at}
        shape = (source.n, source.blocks, d, h, w * BLOCK)
        fields = {
            "dims": 5,
            "shape": shape,
            "x_stride": (a.image, a.block, a.plane, a.row, 1),
            "y_stride": (b.image, b.block, b.plane, b.row, 1),
        }
    else:
        plain, made = builder.plain(x), builder.new_plain(y)
        places = {"x": plain.at, "y": made.at}
        shape = (plain.type.size,)
        fields = {"dims": 1, "shape": shape, "x_stride": (1,), "y_stride": (1,)}
    builder.step(
        "lookup_u8",
        **places,
        table=memory,
        note="table of 256",
        cost_ns=math.prod(shape) / 40,
        **fields,
    )
    return True


@lowers("qaverage_pool", types=ALL_TYPES)
def lower_average(node: Node, builder: PlanBuilder) -> bool:
    shape = builder.type(node.inputs[0]).shape
    if not 3 <= len(shape) <= 5:
        return False
    op = OPS[node.op]
    assert isinstance(op, QAveragePool)
    w = op.windows(node, shape)
    include_pad = bool(node["count_include_pad"])
    windows = [axis_windows(w, i, include_pad=include_pad) for i in range(len(w.out))]
    byte_pool_step(node, builder, windows, w.dilation, scale=node["x_scale"], **_average(node))
    return True


@lowers("qglobal_average_pool", types=ALL_TYPES)
def lower_global_average(node: Node, builder: PlanBuilder) -> bool:
    shape = builder.type(node.inputs[0]).shape
    if not 3 <= len(shape) <= 5:
        return False
    op = OPS[node.op]
    assert isinstance(op, QGlobalAveragePool)
    factor = float(op.factor(node, math.prod(shape[2:])))
    windows = [whole_axis(n) for n in shape[2:]]
    byte_pool_step(
        node, builder, windows, (1,) * len(windows), scale=factor, whole=1, **_average(node)
    )
    return True


def _average(node: Node) -> dict[str, Any]:
    return {
        "mode": "average",
        "x_zero": node["x_zero"],
        "y_scale": node["y_scale"],
        "zero": node["zero"],
        "shift": node["shift"],
        "low": node["low"],
        "high": node["high"],
    }
