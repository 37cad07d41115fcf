"""Operators that move or rename data: as views of existing memory, or else as strided copies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from ..graph import Node
from ..layout.strides import Strided, reshaped
from ..layout.tensors import BLOCK, At, row_major
from .builder import PlanBuilder
from .concat import in_whole_blocks
from .registry import ALL_TYPES, lowers

MAX_DIMS = 8
"""Axes of a strided kernel (kMaxDims in cpp/kernels/args.h)."""


@lowers("reshape", "flatten", "squeeze", "unsqueeze", types=ALL_TYPES)
def lower_reshape(node: Node, builder: PlanBuilder) -> bool:
    name, shape = node.inputs[0], builder.type(node.outputs[0]).shape
    x = builder.strided(name)
    strides = reshaped(builder.type(name).shape, x.strides, shape)
    if strides is None:
        builder.alias(node.outputs[0], builder.plain(name).reshaped(shape))
    else:
        builder.alias_strided(node.outputs[0], Strided(x.at, strides))
    return True


@lowers("identity", "dropout", types=ALL_TYPES)
def lower_identity(node: Node, builder: PlanBuilder) -> bool:
    if len(list(filter(None, node.outputs))) != 1:
        return False
    if builder.is_blocked(node.inputs[0]):
        x = builder.blocked(node.inputs[0])
        if builder.tensors.fits_border(node.outputs[0], x):
            builder.alias_blocked(node.outputs[0], x)
            return True
    builder.alias(node.outputs[0], builder.plain(node.inputs[0]))
    return True


@lowers("transpose", types=ALL_TYPES)
def lower_transpose(node: Node, builder: PlanBuilder) -> bool:
    type_ = builder.type(node.inputs[0])
    if type_.rank > MAX_DIMS:
        return False
    perm = node["perm"] or list(range(type_.rank))[::-1]
    to_last = list(perm) == [0, *range(2, type_.rank), 1]
    if to_last and builder.is_blocked(node.inputs[0]) and type_.shape[1] % BLOCK == 0:
        _to_channels_last(node, builder)
        return True
    x = builder.strided(node.inputs[0])
    builder.alias_strided(node.outputs[0], Strided(x.at, [x.strides[p] for p in perm]))
    return True


def _to_channels_last(node: Node, builder: PlanBuilder) -> None:
    """[N][C / 16][D][H][W][16] -> (N, ..., W, C): whole blocks, of 16 channels each, are copied."""
    x = builder.blocked(node.inputs[0])
    y = builder.new_plain(node.outputs[0])
    n, blocks, d, h, w, lane = Strided.of_blocked(x).strides
    shape = (x.n, *x.spatial, x.blocks, BLOCK)
    strides = (n, d, h, w, blocks, lane)
    builder.copy_strided(
        x.view().at, y.at, shape, strides, row_major(shape), x.itemsize, "channels last"
    )


@lowers("expand", types=ALL_TYPES)
def lower_expand(node: Node, builder: PlanBuilder) -> bool:
    x, type_ = builder.strided(node.inputs[0]), builder.type(node.outputs[0])
    if type_.rank > MAX_DIMS:
        return False
    builder.alias_strided(
        node.outputs[0], x.broadcast(builder.type(node.inputs[0]).shape, type_.shape)
    )
    return True


@lowers("tile", types=ALL_TYPES)
def lower_tile(node: Node, builder: PlanBuilder) -> bool:
    """Copies x to the front of y; then, from the last axis on, repeats the elements in place."""
    x, type_ = builder.strided(node.inputs[0]), builder.type(node.inputs[0])
    if type_.rank + 1 > MAX_DIMS:
        return False
    y = builder.new_plain(node.outputs[0])
    filled, strides = list(type_.shape), y.strides()
    item = type_.dtype.itemsize
    if 0 in y.type.shape:
        return True
    builder.copy_strided(x.at, y.at, filled, x.strides, strides, item, "tile")
    for axis in reversed(range(type_.rank)):
        size = filled[axis]
        times = y.type.shape[axis] // size
        if times > 1:
            builder.copy_strided(
                y.at,
                At(y.buffer, y.offset + size * strides[axis] * item),
                [times - 1, *filled],
                [0, *strides],
                [size * strides[axis], *strides],
                item,
                "tile",
            )
        filled[axis] = y.type.shape[axis]
    return True


@lowers("depth_to_space", "space_to_depth", types=ALL_TYPES)
def lower_blocks(node: Node, builder: PlanBuilder) -> bool:
    """Lowers both as a reshape to six axes, a permutation of them, and a reshape back."""
    b, (n, c, h, w) = node["blocksize"], builder.type(node.inputs[0]).shape
    x = builder.plain(node.inputs[0])
    if node.op == "depth_to_space":
        c //= b * b
        first = node["mode"] == "DCR"
        split = (n, b, b, c, h, w) if first else (n, c, b, b, h, w)
        perm = (0, 3, 4, 1, 5, 2) if first else (0, 1, 4, 2, 5, 3)
    else:
        split = (n, c, h // b, b, w // b, b)
        perm = (0, 3, 5, 1, 2, 4) if node["mode"] == "DCR" else (0, 1, 3, 5, 2, 4)
    strides = row_major(split)
    view = Strided(x.at, [strides[p] for p in perm])
    _copy_reordered(builder, view, [split[p] for p in perm], node.outputs[0], node.op)
    return True


def _copy_reordered(
    builder: PlanBuilder, x: Strided, shape: Sequence[int], output: str, note: str
) -> None:
    """Copies the elements of x, over `shape`, in row-major order to the output of the present
    node."""
    y = builder.new_plain(output)
    item = y.type.dtype.itemsize
    builder.copy_strided(x.at, y.at, shape, x.strides, row_major(shape), item, note)


@lowers("concat", types=ALL_TYPES)
def lower_concat(node: Node, builder: PlanBuilder) -> bool:
    type_ = builder.type(node.outputs[0])
    axis = node["axis"] % type_.rank
    names = [n for n in node.inputs if 0 not in builder.type(n).shape]
    if in_whole_blocks(builder.graph, node) and any(builder.is_blocked(n) for n in names):
        _concat_blocks(node, builder)
        return True
    if type_.rank > MAX_DIMS:
        return False
    y = builder.new_plain(node.outputs[0])
    strides = y.strides()
    offset, item = y.offset, type_.dtype.itemsize
    for name in names:
        x, shape = builder.strided(name), builder.type(name).shape
        target = At(y.buffer, offset)
        builder.copy_strided(x.at, target, shape, x.strides, strides, item, "concat")
        offset += shape[axis] * strides[axis] * item
    return True


def _concat_blocks(node: Node, builder: PlanBuilder) -> None:
    """Concatenates channels that fill whole blocks; those made in their place already need
    nothing."""
    parts = [builder.blocked(name) for name in node.inputs]
    firsts = list(accumulate((p.blocks for p in parts), initial=parts[0].first_block))[:-1]
    joined = parts[0].retyped(builder.type(node.outputs[0]))
    follow = (
        p.buffer is joined.buffer and p.first_block == first
        for p, first in zip(parts, firsts, strict=True)
    )
    if all(follow) and builder.tensors.fits_border(node.outputs[0], joined):
        builder.alias_blocked(node.outputs[0], joined)
        return
    y = builder.new_blocked(node.outputs[0])
    first = 0
    for x in parts:
        target_part = y.part(x.type, first)
        first += x.blocks
        if x.buffer is y.buffer and x.first_block == target_part.first_block:
            continue
        source, target = x.view(), target_part.view()
        d, h, w = x.spatial
        builder.copy_strided(
            source.at,
            target.at,
            (x.n, x.blocks, d, h, w * BLOCK),
            (source.image, source.block, source.plane, source.row, 1),
            (target.image, target.block, target.plane, target.row, 1),
            x.itemsize,
            "concat of whole blocks",
        )
