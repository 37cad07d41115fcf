"""Sums and products of two tensors of bytes, which broadcast to each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..dtypes import UINT8
from ..graph import Node, TensorType
from ..layout.strides import Strided, merge_axes
from ..layout.tensors import BLOCK, NOWHERE, At, Blocked, Buffer, ViewAt, ceil_div, row_major
from ..ops.requantised import QAdd
from .builder import PlanBuilder
from .registry import ALL_TYPES, lowers

TASK = 256
"""Pixels of 16 bytes that one task takes of plain tensors: 4 KiB, some 200 ns."""


class Operands(NamedTuple):
    """Both operands in the order of the kernel."""

    names: list[str]
    shapes: list[tuple[int, ...]]
    """With as many axes as the result."""
    fields: dict[str, Any]
    """The constants of the arithmetic."""


@lowers("qadd", "qmul", types=ALL_TYPES)
def lower_pair(node: Node, builder: PlanBuilder) -> bool:
    if 0 in builder.type(node.outputs[0]).shape:
        return False
    operands = _operands(node, builder)
    if not (_as_images(node, builder, operands) or _by_rows(node, builder, operands)):
        _flat(node, builder, operands)
    return True


def _operands(node: Node, builder: PlanBuilder) -> Operands:
    y = builder.type(node.outputs[0]).shape
    given = [builder.type(name).shape for name in node.inputs]
    shapes = [(*[1] * (len(y) - len(shape)), *shape) for shape in given]
    names, order = list(node.inputs), ["a", "b"]
    fields: dict[str, Any]
    if node.op == "qadd":
        exchanged, constant = QAdd.sum_of(node, *given)
    else:
        exchanged, constant = shapes[0] != y, node["zero"] - node["shift"]
    if exchanged:
        for pair in (names, shapes, order):
            pair.reverse()
    if node.op == "qadd":
        fields = dict(zip(("a_ratio", "b_ratio"), (node[f"{x}_ratio"] for x in order), strict=True))
    else:
        fields = dict(zip(("a_zero", "b_zero"), (node[f"{x}_zero"] for x in order), strict=True))
        fields["a_ratio"] = node["ratio"]
    return Operands(names, shapes, {**fields, "constant": constant})


def _as_images(node: Node, builder: PlanBuilder, operands: Operands) -> bool:
    """Blocked tensors of one shape, or of which the second has one pixel."""
    names, (whole, other), _ = operands
    y_shape = builder.type(node.outputs[0]).shape
    if not 3 <= len(y_shape) <= 5:
        return False
    n, c, *_ = y_shape
    gate = (c, *[1] * (len(y_shape) - 2))
    if whole != y_shape or (other != y_shape and (other[1:] != gate or other[0] not in (1, n))):
        return False
    blocked = [builder.is_blocked(name) for name in names]
    if not blocked[0] and not (blocked[1] and other == y_shape):
        return False  # a reorder there and back takes three times as long as a copy of the second
    x, second = (_image(builder, *v).view() for v in zip(names, operands.shapes, strict=True))
    if other[0] == 1:
        second = second._replace(image=0)
    y = builder.new_blocked(node.outputs[0])
    d, h, w = y.spatial
    sizes = {"n": y.n, "blocks": y.blocks, "d": d, "h": h, "w": w}
    _step(node, builder, operands, (x, second, y.view()), **sizes, gate=int(other != y_shape))
    return True


def _image(builder: PlanBuilder, name: str, shape: tuple[int, ...]) -> Blocked:
    """A tensor blocked, in a shape with further axes of 1."""
    value = builder.constant(name)
    if value is not None and math.prod(shape[2:]) == 1:
        n, c = shape[:2]
        blocks = np.zeros((n, ceil_div(c, BLOCK) * BLOCK), np.uint8)
        blocks[:, :c] = np.asarray(value).reshape(n, c)
        memory = builder.constant_memory(name, f"blocks of {c}", blocks)
        return Blocked(Buffer(blocks.nbytes, memory=memory), TensorType(shape, UINT8))
    if builder.type(name).shape == shape:
        return builder.blocked(name)
    plain = builder.plain(name).reshaped(shape)
    made = Blocked(NOWHERE, plain.type)
    made.buffer = builder.new_buffer(made.nbytes)
    builder.reorder(plain, made, to_blocked=True)
    return made


def _by_rows(node: Node, builder: PlanBuilder, operands: Operands) -> bool:
    """Plain tensors, of which one is the same for all rows of the other, as a bias is."""
    shape = builder.type(node.outputs[0]).shape
    if math.prod(shape) % BLOCK:
        return False
    strides = [Strided(None, row_major(s)).broadcast(s, shape).strides for s in operands.shapes]
    (*rows, length), steps = merge_axes(shape, *strides, row_major(shape))
    if len(rows) != 1 or length % BLOCK or any(step[1] != 1 for step in steps):
        return False
    places = [builder.plain(name).at for name in operands.names]
    places.append(builder.new_plain(node.outputs[0]).at)
    views = [ViewAt(at, 0, 0, s[0], 0, UINT8) for at, s in zip(places, steps, strict=True)]
    _step(node, builder, operands, views, d=rows[0], w=length // BLOCK)
    return True


def _flat(node: Node, builder: PlanBuilder, operands: Operands) -> None:
    """Any others, both as whole plain tensors."""
    shape = builder.type(node.outputs[0]).shape
    size = math.prod(shape)
    places = [_whole(builder, name, shape) for name in operands.names]
    made = builder.new_plain(node.outputs[0])
    fits = size % BLOCK == 0 or made.buffer.in_arena
    y = made.at if fits else At(builder.new_buffer(size), 0)
    pixels = ceil_div(size, BLOCK)
    tasks = pixels // TASK
    for first, d, w in ((0, tasks, TASK), (tasks * TASK, 1, pixels - tasks * TASK)):
        if d and w:
            views = [
                ViewAt(At(at.buffer, at.offset + first * BLOCK), 0, 0, TASK * BLOCK, 0, UINT8)
                for at in (*places, y)
            ]
            _step(node, builder, operands, views, d=d, w=w)
    if not fits:
        builder.copy_strided(y, made.at, (size,), (1,), (1,), 1)


def _whole(builder: PlanBuilder, name: str, shape: tuple[int, ...]) -> At:
    """A tensor broadcast to a shape, with bytes to read up to a whole pixel."""
    plain, size = builder.plain(name), math.prod(shape)
    padded = size % BLOCK == 0 or (plain.buffer.in_arena and plain.offset == 0)
    if plain.type.size == size and padded:
        return plain.at
    copied = At(builder.new_buffer(size), 0)
    strides = Strided.of_plain(plain, shape).strides
    builder.copy_strided(plain.at, copied, shape, strides, row_major(shape), 1, "to one shape")
    return copied


def _step(
    node: Node, builder: PlanBuilder, operands: Operands, views: Sequence[ViewAt], **sizes: int
) -> None:
    a, b, y = views
    sizes = {"n": 1, "blocks": 1, "d": 1, "h": 1, "gate": 0, **sizes}
    pixels = math.prod([size for name, size in sizes.items() if name != "gate"])
    builder.step(
        "byte_pair",
        a=a,
        b=b,
        y=y,
        op=node.op[1:],
        shift=node["shift"],
        low=node["low"],
        high=node["high"],
        note=f"{node.op[1:]} of bytes",
        cost_ns=pixels * BLOCK / 10,
        **sizes,
        **operands.fields,
    )
