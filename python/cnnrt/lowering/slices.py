"""Operators that cut tensors apart or add borders, by views if strides allow, else by copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import _core
from ..graph import Node
from ..layout.strides import Strided
from ..layout.tensors import BLOCK, At, Plain
from ..ops import OPS
from ..ops.slices import EVERYTHING, Pad, Slice, Split
from ..symbolic import call, integer, spread
from .builder import PlanBuilder
from .registry import ALL_TYPES, lowers
from .shape import MAX_DIMS


def integers(node: Node, builder: PlanBuilder, index: int) -> list[int] | None:
    """A constant input as integers; None if it is absent."""
    value = builder.constant(node.inputs[index]) if len(node.inputs) > index else None
    return None if value is None else [integer(v) for v in spread(value).reshape(-1)]


def _cut(builder: PlanBuilder, x: str, y: str, starts: Sequence[int], steps: Sequence[int]) -> None:
    """Makes y the view of x that begins at `starts` and goes by `steps`."""
    view = builder.strided(x)
    offset = sum(i * s for i, s in zip(starts, view.strides, strict=True))
    strides = [i * s for i, s in zip(steps, view.strides, strict=True)]
    item = builder.type(x).dtype.itemsize
    builder.alias_strided(
        y, Strided(view.at._replace(offset=view.at.offset + offset * item), strides)
    )


def _cut_blocks(builder: PlanBuilder, x: str, y: str, first: int) -> bool:
    """Makes y a slice of the blocks of x from channel `first` on, if channels and borders allow."""
    source, type_ = builder.blocked(x), builder.type(y)
    end = first + type_.shape[1]
    if (
        first % BLOCK
        or (end % BLOCK and end != source.c)
        or not builder.tensors.fits_border(y, source)
    ):
        return False
    builder.alias_blocked(y, source.part(type_, first // BLOCK))
    return True


def is_constant(name: str, builder: PlanBuilder) -> bool:
    """True if a tensor is a constant or a view of one, whose memory has no parts."""
    if builder.constant(name) is not None:
        return True
    return not builder.is_blocked(name) and builder.strided(name).at.buffer.memory is not None


@lowers("split", types=ALL_TYPES)
def lower_split(node: Node, builder: PlanBuilder) -> bool:
    x = node.inputs[0]
    type_ = builder.type(x)
    if is_constant(x, builder):
        return False
    axis = node["axis"] % type_.rank
    op = OPS["split"]
    assert isinstance(op, Split)
    sizes = op.sizes(node, (), type_.shape[axis], integers(node, builder, 1))
    start = 0
    for name, size in zip(node.outputs, sizes, strict=True):
        if name and not (
            builder.is_blocked(x) and axis == 1 and _cut_blocks(builder, x, name, start)
        ):
            starts = [start if i == axis else 0 for i in range(type_.rank)]
            _cut(builder, x, name, starts, [1] * type_.rank)
        start += size
    return True


def _begin(size: int, cut: slice) -> int:
    return range(size)[cut].start


def _step(size: int, cut: slice) -> int:
    return range(size)[cut].step


@lowers("slice", types=ALL_TYPES)
def lower_slice(node: Node, builder: PlanBuilder) -> bool:
    x = node.inputs[0]
    shape = builder.type(x).shape
    if is_constant(x, builder) or any(
        name and builder.constant(name) is None for name in node.inputs[1:]
    ):
        return False
    op = OPS["slice"]
    assert isinstance(op, Slice)
    cuts = op.slices(node, (), shape, [integers(node, builder, i) for i in range(1, 5)])
    ranges = [
        (0, 1) if c == EVERYTHING else (call(_begin, n, c), call(_step, n, c))
        for c, n in zip(cuts, shape, strict=True)
    ]
    kept = builder.type(node.outputs[0]).shape
    of_channels = all(
        axis == 1 or (n == left and step == 1)
        for axis, (n, left, (_, step)) in enumerate(zip(shape, kept, ranges, strict=True))
    )
    if (
        builder.is_blocked(x)
        and of_channels
        and ranges[1][1] == 1
        and kept[1]
        and _cut_blocks(builder, x, node.outputs[0], ranges[1][0])
    ):
        return True
    _cut(builder, x, node.outputs[0], [r[0] for r in ranges], [r[1] for r in ranges])
    return True


@lowers("pad", types=ALL_TYPES)
def lower_pad(node: Node, builder: PlanBuilder) -> bool:
    """Makes the borders by copies: of a constant, or axis by axis of the elements already in
    place."""
    x, shape = node.inputs[0], builder.type(node.inputs[0]).shape
    named = [name for name in node.inputs[1:] if name]
    if any(builder.constant(name) is None for name in named) or len(shape) > MAX_DIMS:
        return False
    if is_constant(x, builder):
        return False
    op = OPS["pad"]
    assert isinstance(op, Pad)
    borders = op.pads(node, (), shape, integers(node, builder, 1), integers(node, builder, 3))
    view, mode = builder.strided(x), node["mode"]
    core = [n + min(b, 0) + min(e, 0) for n, (b, e) in zip(shape, borders, strict=True)]
    for n, (b, e) in zip(core, borders, strict=True):
        if mode != "constant" and max(b, e) > (n - 1 if mode == "reflect" else n):
            return False
    y = builder.new_plain(node.outputs[0])
    strides, item = y.strides(), y.type.dtype.itemsize
    if mode == "constant" and core != list(y.type.shape):
        given = (
            builder.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        )
        fill = _core.Memory(np.full(1, 0 if given is None else given.reshape(()), y.type.dtype))
        builder.copy_strided(fill, y.at, (y.type.size,), (0,), (1,), item, "pad")
    if 0 in core:
        return True
    skipped = sum(max(-b, 0) * s for (b, _), s in zip(borders, view.strides, strict=True))
    inside = sum(max(b, 0) * s for (b, _), s in zip(borders, strides, strict=True))
    source = view.at._replace(offset=view.at.offset + skipped * item)
    builder.copy_strided(
        source, At(y.buffer, y.offset + inside * item), core, view.strides, strides, item, "pad"
    )
    if mode != "constant":
        _mirror(builder, y, core, borders, mode)
    return True


def _mirror(
    builder: PlanBuilder,
    y: Plain,
    core: Sequence[int],
    borders: Sequence[tuple[int, int]],
    mode: str,
) -> None:
    """Fills the borders of y from its middle, one axis after the other."""
    strides, item = y.strides(), y.type.dtype.itemsize
    start = [max(b, 0) for b, _ in borders]
    extent = list(core)
    for axis, (before, after) in enumerate(borders):
        s, first, n = strides[axis], start[axis], core[axis]
        begin, end = max(before, 0), max(after, 0)
        # For each border: its position, its width, the position of its first source element, the
        # step.
        source = {
            "edge": ((first, 0), (first + n - 1, 0)),
            "reflect": ((first + begin, -1), (first + n - 2, -1)),
            "wrap": ((first + n - begin, 1), (first, 1)),
        }[mode]
        base = sum(i * t for a, (i, t) in enumerate(zip(start, strides, strict=True)) if a != axis)
        for place, width, (from_, step) in (
            (0, begin, source[0]),
            (first + n, end, source[1]),
        ):
            if width == 0:
                continue
            shape = [width if a == axis else m for a, m in enumerate(extent)]
            x_strides = [step * s if a == axis else t for a, t in enumerate(strides)]
            builder.copy_strided(
                At(y.buffer, y.offset + (base + from_ * s) * item),
                At(y.buffer, y.offset + (base + place * s) * item),
                shape,
                x_strides,
                strides,
                item,
                f"pad, {mode}",
            )
        start[axis] = 0
        extent[axis] = begin + n + end
