"""Interleaves the pixels of the phases of a transposed convolution."""

from __future__ import annotations

import itertools
import math

from ..graph import Node
from ..layout.strides import Strided
from ..layout.tensors import BLOCK, At, row_major
from .builder import PlanBuilder
from .conv_lowering import three
from .registry import lowers


@lowers("interleave")
def lower_interleave(node: Node, builder: PlanBuilder) -> bool:
    """A strided copy for each phase: of whole blocks if the channels of a phase fill them."""
    x_name, y_name = node.inputs[0], node.outputs[0]
    x_type, type_ = builder.type(x_name), builder.type(y_name)
    if x_type.rank > 5 or 0 in x_type.shape or 0 in type_.shape:
        return False
    phases, group = math.prod(node["strides"]), node["group"]
    m = type_.shape[1] // group
    q, out = three(x_type.shape[2:], 1), three(type_.shape[2:], 1)
    strides, begin = (
        three(tuple(node["strides"]), 1),
        three(tuple(node["pads"][: x_type.rank - 2]), 0),
    )
    blocked = builder.is_blocked(x_name) and m % BLOCK == 0
    if blocked:
        # Over n, block, d, h, w, lane; a phase is as many blocks further as it has channels.
        x, y = (
            Strided.of_blocked(builder.blocked(x_name)),
            Strided.of_blocked(builder.new_blocked(y_name)),
        )
        lead, tail = (x_type.shape[0], group, m // BLOCK), [BLOCK]
        x_lead = (x.strides[0], phases * m // BLOCK * x.strides[1], x.strides[1])
        y_lead = (y.strides[0], m // BLOCK * y.strides[1], y.strides[1])
        x_space, y_space = x.strides[2:5], y.strides[2:5]
        x_phase = m // BLOCK * x.strides[1]
    else:
        lead, tail = (x_type.shape[0], group, m), []
        x, y = (Strided(p.at, ()) for p in (builder.plain(x_name), builder.new_plain(y_name)))
        x_space, y_space = row_major(q), row_major(out)
        x_phase, y_channel = m * math.prod(q), math.prod(out)
        x_lead = (x_type.shape[1] * math.prod(q), phases * x_phase, math.prod(q))
        y_lead = (type_.shape[1] * y_channel, m * y_channel, y_channel)
    lane, item = (1,) * len(tail), x_type.dtype.itemsize
    for number, phase in enumerate(itertools.product(*map(range, strides))):
        axes = [_reach(*a) for a in zip(q, out, strides, begin, phase, strict=True)]
        if any(count <= 0 for _, _, count in axes):
            continue
        x_at = number * x_phase + sum(a * s for (a, _, _), s in zip(axes, x_space, strict=True))
        y_at = sum(a * s for (_, a, _), s in zip(axes, y_space, strict=True))
        builder.copy_strided(
            At(x.at.buffer, x.at.offset + x_at * item),
            At(y.at.buffer, y.at.offset + y_at * item),
            (*lead, *(count for _, _, count in axes), *tail),
            (*x_lead, *x_space, *lane),
            (*y_lead, *(s * t for s, t in zip(y_space, strides, strict=True)), *lane),
            item,
            "interleave, whole blocks" if blocked else "interleave",
        )
    return True


def _reach(q: int, out: int, stride: int, begin: int, phase: int) -> tuple[int, int, int]:
    """The first q of a phase along an axis that is not cropped, its output, and the number that
    follow."""
    first = max(0, -(-(begin - phase) // stride))
    last = min(q - 1, (out - 1 + begin - phase) // stride)
    return first, first * stride + phase - begin, last - first + 1
