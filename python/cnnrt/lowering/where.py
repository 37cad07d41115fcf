"""Selection by a condition: where, and trilu with its constant condition."""

from __future__ import annotations

import numpy as np

from .. import _core
from ..graph import Node
from ..layout.strides import Strided, merge_axes
from ..layout.tensors import row_major
from .builder import PlanBuilder
from .registry import ALL_TYPES, lowers
from .shape import MAX_DIMS


@lowers("where", types=ALL_TYPES)
def lower_where(node: Node, builder: PlanBuilder) -> bool:
    type_ = builder.type(node.outputs[0])
    if type_.rank > MAX_DIMS:
        return False
    operands = [
        builder.strided(name).broadcast(builder.type(name).shape, type_.shape)
        for name in node.inputs
    ]
    _where(builder, node.outputs[0], *operands)
    return True


@lowers("trilu", types=ALL_TYPES)
def lower_trilu(node: Node, builder: PlanBuilder) -> bool:
    type_ = builder.type(node.outputs[0])
    name = node.input(1)
    k = builder.constant(name)
    if (name and k is None) or type_.rank > MAX_DIMS:
        return False
    rows, columns = type_.shape[-2:]
    diagonal = 0 if k is None else max(-rows, min(columns, int(k.reshape(()))))
    upper = bool(node["upper"])
    below = np.tri(rows, columns, diagonal - upper, bool)
    condition = _core.Memory(~below if upper else below)
    zero = _core.Memory(np.zeros(1, type_.dtype))
    lead = [0] * (type_.rank - 2)
    _where(
        builder,
        node.outputs[0],
        Strided(condition, [*lead, columns, 1]),
        builder.strided(node.inputs[0]),
        Strided(zero, [0] * type_.rank),
    )
    return True


def _where(builder: PlanBuilder, output: str, condition: Strided, a: Strided, b: Strided) -> None:
    y = builder.new_plain(output)
    shape = y.type.shape
    sizes, (c, a_strides, b_strides, _) = merge_axes(
        shape, condition.strides, a.strides, b.strides, row_major(shape)
    )
    itemsize = y.type.dtype.itemsize
    builder.step(
        "where",
        condition=condition.at,
        a=a.at,
        b=b.at,
        y=y.at,
        dims=len(sizes),
        element=itemsize,
        shape=sizes,
        condition_stride=c,
        a_stride=a_strides,
        b_stride=b_strides,
        note="where",
        cost_ns=y.type.size * (1 + 3 * itemsize) / builder.machine.activations,
    )
