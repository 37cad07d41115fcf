"""Operators that move or rename data: aliases where nothing moves, strided copies elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate

from ..graph import Node
from . import Lowering, lowers
from .concat import in_whole_blocks
from .tensors import BLOCK, Plain


@lowers("reshape", "flatten", "squeeze", "unsqueeze")
def lower_reshape(node: Node, to: Lowering) -> bool:
    x = to.plain(node.inputs[0])
    to.alias(node.outputs[0], x.reshaped(to.type(node.outputs[0]).shape))
    return True


@lowers("identity", "dropout")
def lower_identity(node: Node, to: Lowering) -> bool:
    if len(list(filter(None, node.outputs))) != 1:
        return False
    if to.is_blocked(node.inputs[0]):
        x = to.blocked(node.inputs[0])
        if to.fits_border(node.outputs[0], x):
            to.alias_blocked(node.outputs[0], x)
            return True
    to.alias(node.outputs[0], to.plain(node.inputs[0]))
    return True


@lowers("transpose")
def lower_transpose(node: Node, to: Lowering) -> bool:
    x = to.plain(node.inputs[0])
    if x.type.rank > 8:
        return False
    perm = node["perm"] or list(range(x.type.rank))[::-1]
    y = to.new_plain(node.outputs[0])
    strides = x.strides()
    to.copy_strided(
        x.at, y.at, y.type.shape, [strides[p] for p in perm], y.strides(), 4, "transpose"
    )
    return True


@lowers("expand")
def lower_expand(node: Node, to: Lowering) -> bool:
    x = to.plain(node.inputs[0])
    y = to.new_plain(node.outputs[0])
    if y.type.rank > 8:
        return False
    missing = y.type.rank - x.type.rank
    strides = [0] * missing + [
        0 if n == 1 else s for n, s in zip(x.type.shape, x.strides(), strict=True)
    ]
    to.copy_strided(x.at, y.at, y.type.shape, strides, y.strides(), 4, "expand")
    return True


@lowers("concat")
def lower_concat(node: Node, to: Lowering) -> bool:
    type_ = to.type(node.outputs[0])
    axis = node["axis"] % type_.rank
    names = [n for n in node.inputs if 0 not in to.type(n).shape]
    if in_whole_blocks(to.graph, node) and any(to.is_blocked(n) for n in names):
        _concat_blocks(node, to)
        return True
    y = to.new_plain(node.outputs[0])
    outer, inner = math.prod(type_.shape[:axis]), math.prod(type_.shape[axis + 1 :])
    offset = 0
    for name in names:
        x = to.plain(name)
        run = x.type.shape[axis] * inner
        target = Plain(y.buffer, x.type, y.offset + offset * 4).at
        to.copy_strided(
            x.at, target, (outer, run), (run, 1), (type_.shape[axis] * inner, 1), 4, "concat"
        )
        offset += run
    return True


def _concat_blocks(node: Node, to: Lowering) -> None:
    """Channels that fill whole blocks: nothing to do for those made in their place already."""
    parts = [to.blocked(name) for name in node.inputs]
    firsts = list(accumulate((p.blocks for p in parts), initial=parts[0].first_block))[:-1]
    joined = replace(parts[0], type=to.type(node.outputs[0]))
    follow = (
        p.buffer is joined.buffer and p.first_block == first
        for p, first in zip(parts, firsts, strict=True)
    )
    if all(follow) and to.fits_border(node.outputs[0], joined):
        to.alias_blocked(node.outputs[0], joined)
        return
    y = to.new_blocked(node.outputs[0])
    first = 0
    for x in parts:
        target_part = y.part(x.type, first)
        first += x.blocks
        if x.buffer is y.buffer and x.first_block == target_part.first_block:
            continue
        source, target = x.view(), target_part.view()
        d, h, w = x.spatial
        to.copy_strided(
            source.at,
            target.at,
            (x.n, x.blocks, d, h, w * BLOCK),
            (source.image, source.block, source.plane, source.row, 1),
            (target.image, target.block, target.plane, target.row, 1),
            4,
            "concat of whole blocks",
        )
