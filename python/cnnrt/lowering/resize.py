"""Resizing along the spatial axes."""

from __future__ import annotations

from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..graph import Array, Node
from ..ops import OPS
from ..ops.resize import Resize
from ..symbolic import call, whole
from .builder import PlanBuilder
from .registry import lowers


class _Axis(NamedTuple):
    """How one axis is resized."""

    inputs: Array
    """int32 (out, taps): the inputs that each output takes."""
    weight: Any
    """The memory of float32 (out, taps): the weights of these inputs."""
    taps: int


@lowers("resize")
def lower_resize(node: Node, builder: PlanBuilder) -> bool:
    shape = builder.type(node.inputs[0]).shape
    if not 3 <= len(shape) <= 5:
        return False
    constants = builder.graph.constants
    given = [whole(constants, n) if n in constants else None for n in node.inputs[1:]]
    made = call(_axes, node, *(*given, None, None, None)[:3], *shape)
    if not call(bool, made):
        return False
    x = builder.blocked(node.inputs[0])
    y = builder.new_blocked(node.outputs[0])
    fields = {}
    for place, letter in enumerate("dhw"):
        axis = call(itemgetter(place), made)
        fields[f"index_{letter}"] = builder.table(call(attrgetter("inputs"), axis))
        fields[f"weight_{letter}"] = call(attrgetter("weight"), axis)
        fields[f"taps_{letter}"] = call(attrgetter("taps"), axis)
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
        note=str(node["mode"]),
        cost_ns=y.image * y.n * y.itemsize / 20,
    )
    return True


def _axes(
    node: Node, roi: Array | None, scales: Array | None, sizes: Array | None, *shape: int
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
        memory = _core.Memory(np.ascontiguousarray(weight, np.float32))
        made.append(_Axis(index, memory, index.shape[1]))
    return made
