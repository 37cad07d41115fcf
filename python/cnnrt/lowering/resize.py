"""Resizing along the spatial axes."""

from __future__ import annotations

from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..graph import Array, Node
from ..layout.tensors import BLOCK
from ..ops import OPS
from ..ops.resize import Resize
from ..symbolic import call, whole
from .builder import PlanBuilder
from .registry import lowers

PIXEL_NS = 0.8
"""Nanoseconds of a pixel with two taps on each axis, without vectors' help: Zen 4 takes 0.7."""


class _Axis(NamedTuple):
    """How one axis is resized."""

    inputs: Array
    """int32 (out, taps): the inputs that each output takes. (taps, out) for the last axis of a
    plain tensor."""
    weight: Any
    """The memory of float32 weights of these inputs, in the same order."""
    taps: int


@lowers("resize")
def lower_resize(node: Node, builder: PlanBuilder) -> bool:
    shape = builder.type(node.inputs[0]).shape
    if not 3 <= len(shape) <= 5:
        return False
    constants = builder.graph.constants
    given = [whole(constants, n) if n in constants else None for n in node.inputs[1:]]
    planar = shape[1] < BLOCK and not builder.is_blocked(node.inputs[0])
    made = call(_axes, node, planar, *(*given, None, None, None)[:3], *shape)
    if not call(bool, made):
        return False
    fields = {}
    for place, letter in enumerate("dhw"):
        axis = call(itemgetter(place), made)
        fields[f"index_{letter}"] = builder.table(call(attrgetter("inputs"), axis))
        fields[f"weight_{letter}"] = call(attrgetter("weight"), axis)
        fields[f"taps_{letter}"] = call(attrgetter("taps"), axis)
    note = str(node["mode"])
    if planar:  # blocking three channels makes the tensor five times as large
        _planar(node, builder, fields, note)
        return True
    x = builder.blocked(node.inputs[0])
    y = builder.new_blocked(node.outputs[0])
    builder.step(
        "resize",
        x=x.view(),
        y=y.view(),
        n=y.n,
        blocks=y.blocks,
        in_w=x.spatial[2],
        out_d=y.spatial[0],
        out_h=y.spatial[1],
        out_w=y.spatial[2],
        **fields,
        note=note,
        cost_ns=y.image * y.n * y.itemsize / 20,
    )
    return True


def _planar(node: Node, builder: PlanBuilder, fields: dict[str, Any], note: str) -> None:
    """Appends the step for a plain tensor."""
    x, y = builder.plain(node.inputs[0]), builder.new_plain(node.outputs[0])
    sizes = {}
    for side, tensor in (("in", x), ("out", y)):
        spatial = tensor.type.shape[2:]
        for letter, size in zip("dhw", (*[1] * (3 - len(spatial)), *spatial), strict=True):
            sizes[f"{side}_{letter}"] = size
    builder.step(
        "resize_planar",
        x=x.at,
        y=y.at,
        planes=y.type.shape[0] * y.type.shape[1],
        **sizes,
        **fields,
        note=note,
        cost_ns=y.type.size * PIXEL_NS,
    )


def _axes(
    node: Node,
    planar: bool,
    roi: Array | None,
    scales: Array | None,
    sizes: Array | None,
    *shape: int,
) -> list[_Axis]:
    """How the axes d, h and w are resized; an empty list if others are, or results are outside."""
    op = OPS[node.op]
    assert isinstance(op, Resize)
    lists = (
        None if p is None or p.size == 0 else p.reshape(-1).tolist() for p in (roi, scales, sizes)
    )
    tables = op.taps(node, shape, *lists)
    if not all(t.axis >= 2 and not t.outside.any() for t in tables):
        return []
    by_axis = {t.axis: t for t in tables}
    made = []
    spatial = (*[1] * (5 - len(shape)), *shape[2:])
    for axis, size in enumerate(spatial, start=len(shape) - 3):
        index: Array = np.arange(size)[:, None]
        weight: Array = np.ones((size, 1))
        taps = by_axis.get(axis) if axis >= 2 else None
        if taps is not None:
            used = np.abs(taps.weight).max(axis=0) > 0  # a tap that never counts is left out
            index, weight = taps.index[:, used], taps.weight[:, used]
        taps_used = index.shape[1]
        if planar and axis == len(shape) - 1:  # the kernel goes along the outputs of a tap
            index, weight = np.ascontiguousarray(index.T), weight.T
        memory = _core.Memory(np.ascontiguousarray(weight, np.float32))
        made.append(_Axis(index, memory, taps_used))
    return made
