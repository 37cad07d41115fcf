"""The largest and smallest elements along an axis, their indices, and running totals."""

from __future__ import annotations

import math

from ..dtypes import BFLOAT16, FLOAT16
from ..graph import Node
from ..layout.strides import Strided, around_axes
from .builder import PlanBuilder
from .registry import ALL_TYPES, lowers

HALVES = {BFLOAT16, FLOAT16}
"""Types in which nothing is compared or summed."""


@lowers("topk", types=ALL_TYPES)
def lower_topk(node: Node, builder: PlanBuilder) -> bool:
    type_, k = builder.type(node.inputs[0]), builder.constant(node.inputs[1])
    if type_.dtype in HALVES or k is None or int(k.reshape(())) == 0 or 0 in type_.shape:
        return False
    count, axis = int(k.reshape(())), node["axis"] % type_.rank
    if type_.shape[axis] >= 1 << 32:
        return False
    x = builder.plain(node.inputs[0])
    values, indices = (
        builder.new_plain(name).at if name else None for name in [*node.outputs, "", ""][:2]
    )
    builder.step(
        "topk",
        x=x.at,
        values=values,
        indices=indices,
        outer=math.prod(type_.shape[:axis]),
        axis=type_.shape[axis],
        inner=math.prod(type_.shape[axis + 1 :]),
        k=count,
        largest=int(bool(node["largest"])),
        type=type_.dtype.name,
        note=f"{count} of {type_.shape[axis]}",
        cost_ns=type_.size * 0.3
        + 5 * type_.size / type_.shape[axis] * count * math.log2(count + 1),
    )
    return True


@lowers("argmax", "argmin", types=ALL_TYPES)
def lower_arg_extremum(node: Node, builder: PlanBuilder) -> bool:
    type_ = builder.type(node.inputs[0])
    if type_.dtype in HALVES or type_.rank == 0 or 0 in type_.shape:
        return False
    axis = node["axis"] % type_.rank
    if type_.shape[axis] >= 1 << 24:  # places are counted in floats
        return False
    x = builder.strided(node.inputs[0])
    sizes = around_axes(type_.shape, x.strides, {axis})
    if sizes is None:
        x = Strided.of_plain(builder.plain(node.inputs[0]), type_.shape)
        sizes = math.prod(type_.shape[:axis]), type_.shape[axis], math.prod(type_.shape[axis + 1 :])
    y = builder.new_plain(node.outputs[0])
    outer, length, inner = sizes
    builder.step(
        "arg_extremum",
        x=x.at,
        y=y.at,
        outer=outer,
        axis=length,
        inner=inner,
        largest=int(node.op == "argmax"),
        last=int(bool(node["select_last_index"])),
        type=type_.dtype.name,
        note=f"{node.op} of {type_.shape[axis]}",
        cost_ns=type_.size * 8 / builder.machine.activations,
    )
    return True


@lowers("cumsum", "cumprod", types=ALL_TYPES)
def lower_cumulative(node: Node, builder: PlanBuilder) -> bool:
    type_, which = builder.type(node.inputs[0]), builder.constant(node.inputs[1])
    if type_.dtype in HALVES or which is None or 0 in type_.shape:
        return False
    axis = int(which.reshape(())) % type_.rank
    x, y = builder.plain(node.inputs[0]), builder.new_plain(node.outputs[0])
    inner = math.prod(type_.shape[axis + 1 :])
    builder.step(
        "cumulative",
        x=x.at,
        y=y.at,
        outer=math.prod(type_.shape[:axis]),
        axis=type_.shape[axis],
        inner=inner,
        op="add" if node.op == "cumsum" else "mul",
        exclusive=int(bool(node["exclusive"])),
        reverse=int(bool(node["reverse"])),
        type=type_.dtype.name,
        note=f"{node.op} of {type_.shape[axis]}",
        cost_ns=type_.size * (1.0 if inner == 1 else type_.dtype.itemsize / 16),
    )
    return True
