"""Softmax."""

from __future__ import annotations

import math

from ..graph import Node
from . import Lowering, lowers


@lowers("softmax", "log_softmax")
def lower_softmax(node: Node, to: Lowering) -> bool:
    x = to.plain(node.inputs[0])
    shape = x.type.shape
    if 0 in shape or not shape:
        return False
    axis = node["axis"] % len(shape)
    y = to.new_plain(node.outputs[0])
    to.step(
        "softmax",
        x=x.at,
        y=y.at,
        outer=math.prod(shape[:axis]),
        axis=shape[axis],
        inner=math.prod(shape[axis + 1 :]),
        log=int(node.op == "log_softmax"),
        note="softmax",
        work=x.type.size * 0.5,
    )
    return True
