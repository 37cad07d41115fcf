"""Resizing along the spatial axes."""

from __future__ import annotations

import numpy as np

from .. import _core
from ..graph import Array, Node
from ..ops import OPS
from ..ops.resize import Resize
from .builder import PlanBuilder
from .registry import lowers


@lowers("resize")
def lower_resize(node: Node, builder: PlanBuilder) -> bool:
    op = OPS[node.op]
    assert isinstance(op, Resize)
    shape = builder.type(node.inputs[0]).shape
    parameters = [builder.graph.constants.get(name) if name else None for name in node.inputs[1:]]
    roi, scales, sizes = (
        None if p is None or p.size == 0 else p.reshape(-1).tolist()
        for p in (*parameters, None, None, None)[:3]
    )
    tables = op.taps(node, shape, roi, scales, sizes)
    spatial = all(t.axis >= 2 and not t.outside.any() for t in tables)
    if not 3 <= len(shape) <= 5 or not spatial:
        return False
    x = builder.blocked(node.inputs[0])
    y = builder.new_blocked(node.outputs[0])
    fields = {}
    by_axis = {t.axis: t for t in tables}
    first = 5 - len(shape)  # of d, h, w, the axes that a tensor of fewer lacks
    for place, letter in enumerate("dhw"):
        size = y.spatial[place]
        index: Array = np.arange(size)[:, None]
        weight: Array = np.ones((size, 1))
        taps = by_axis.get(place - first + 2)
        if taps is not None:
            used = np.abs(taps.weight).max(axis=0) > 0  # a tap that never counts is left out
            index, weight = taps.index[:, used], taps.weight[:, used]
        fields[f"index_{letter}"] = builder.table(index)
        fields[f"weight_{letter}"] = _core.Memory(np.ascontiguousarray(weight, np.float32))
        fields[f"taps_{letter}"] = index.shape[1]
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
