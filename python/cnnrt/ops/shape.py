"""Operators that rename, permute or repeat elements, or ask for sizes.

Sizes, axes and repeats are inputs; the result's shape depends on them, so they must be constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from . import REQUIRED, NodeTypes, Op, register, shape_error
from .axes import AxesMapping, Link, along, follow, mixed, others, picked
from .common import (
    Inputs,
    at_least,
    axes_of,
    axis_of,
    broadcast,
    choice,
    integers,
    operands,
)

INT64 = np.dtype(np.int64)


def numbers(array: Any) -> list[int]:
    """The elements of an integer array, as Python's."""
    return [int(v) for v in array.reshape(-1)]


def equal_products(
    before: Sequence[int], after: Sequence[int]
) -> list[tuple[list[int], list[int]]]:
    """The axes of two shapes with the same number of elements, in the shortest groups of equal
    products.

    An axis of one element is a group by itself, without axes on the other side.
    """
    groups: list[tuple[list[int], list[int]]] = [([i], []) for i, n in enumerate(before) if n == 1]
    left = [i for i, n in enumerate(before) if n != 1]
    right = [i for i, n in enumerate(after) if n != 1]
    while left and right:
        mine, others = [left.pop(0)], [right.pop(0)]
        a, b = before[mine[0]], after[others[0]]
        while a != b and (left if a < b else right):
            if a < b:
                mine.append(left.pop(0))
                a *= before[mine[-1]]
            else:
                others.append(right.pop(0))
                b *= after[others[-1]]
        groups.append((mine, others))
    return groups


class Rename(Op):
    """An operator that gives the elements, in their order, another shape.

    Subclasses compute it from the shape of x and the values of the second input.
    """

    def shape(
        self, node: Node, inputs: Inputs, shape: tuple[int, ...], values: list[int] | None
    ) -> tuple[int, ...]:
        raise NotImplementedError

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, values = operands(node, inputs, 1, 2)
        new = self.shape(node, inputs, x.shape, integers(node, inputs, values))
        return [TensorType(new, x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        before, after = types.shape(0), types.output.shape
        x = [mixed(*range(len(after)))] * len(before)
        for mine, made in equal_products(before, after):
            alike = [before[i] for i in mine] == [after[i] for i in made]
            for axis in mine:
                x[axis] = follow(made[0]) if alike else picked(*made)
        # A shape says no more than the type of the output does.
        return AxesMapping([x, None][: len(types.inputs)])

    def reference(self, node: Node, x: Any, values: Any = None) -> tuple[Array, ...]:
        given = None if values is None else numbers(values)
        return (x.reshape(self.shape(node, (), x.shape, given)),)


@register
class Reshape(Rename):
    """x in the given shape: 0 keeps an axis (unless `allowzero`), and -1 takes all that is left."""

    name = "reshape"
    attributes = {"allowzero": 0}

    def shape(
        self, node: Node, inputs: Inputs, shape: tuple[int, ...], values: list[int] | None
    ) -> tuple[int, ...]:
        if values is None:
            raise shape_error(node, inputs, "takes a shape")
        wanted = list(values)
        kept = [] if node["allowzero"] else [i for i, v in enumerate(wanted) if v == 0]
        if kept and kept[-1] >= len(shape):
            raise shape_error(node, inputs, f"shape {values} keeps an axis that x lacks")
        for i in kept:
            wanted[i] = shape[i]
        size = math.prod(shape)
        if wanted.count(-1) == 1:
            # Without the axes kept, which may be empty: -1 is known for no images too.
            left = math.prod(n for i, n in enumerate(shape) if i not in kept)
            rest = math.prod(v for i, v in enumerate(wanted) if v != -1 and i not in kept)
            if rest:
                wanted[wanted.index(-1)] = left // rest
        if any(n < 0 for n in wanted) or math.prod(wanted) != size:
            raise shape_error(node, inputs, f"{size} elements do not make shape {values}")
        return tuple(wanted)


@register
class Flatten(Rename):
    """x with two axes: those before `axis` merged, and the others merged."""

    name = "flatten"
    attributes = {"axis": 1}

    def shape(
        self, node: Node, inputs: Inputs, shape: tuple[int, ...], values: list[int] | None
    ) -> tuple[int, ...]:
        axis = node["axis"]
        if not -len(shape) <= axis <= len(shape):
            raise shape_error(node, inputs, f"axis {axis} of a tensor with {len(shape)} axes")
        axis += len(shape) if axis < 0 else 0
        return (math.prod(shape[:axis]), math.prod(shape[axis:]))


@register
class Squeeze(Rename):
    """x without the given axes, which have size 1; without all such axes if none are given."""

    name = "squeeze"

    def shape(
        self, node: Node, inputs: Inputs, shape: tuple[int, ...], values: list[int] | None
    ) -> tuple[int, ...]:
        if values is None:
            return tuple(n for n in shape if n != 1)
        axes = axes_of(node, inputs, values, len(shape))
        if any(shape[a] != 1 for a in axes):
            raise shape_error(node, inputs, f"axes {values} do not all have size 1")
        return tuple(n for i, n in enumerate(shape) if i not in axes)


@register
class Unsqueeze(Rename):
    """x with axes of size 1 inserted, at the positions in the second input."""

    name = "unsqueeze"

    def shape(
        self, node: Node, inputs: Inputs, shape: tuple[int, ...], values: list[int] | None
    ) -> tuple[int, ...]:
        rank = len(shape) + len(values or ())
        axes = axes_of(node, inputs, values or (), rank)
        old = iter(shape)
        return tuple(1 if i in axes else next(old) for i in range(rank))


@register
class Transpose(Op):
    """x with its axes in the order of `perm`, or reversed."""

    name = "transpose"
    attributes = {"perm": None}

    def perm(self, node: Node, inputs: Inputs, rank: int) -> tuple[int, ...]:
        given = node["perm"]
        perm = tuple(reversed(range(rank))) if given is None else tuple(given)
        if sorted(perm) != list(range(rank)):
            raise shape_error(node, inputs, f"perm {given} does not order {rank} axes")
        return perm

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        perm = self.perm(node, inputs, x.rank)
        return [TensorType(tuple(x.shape[i] for i in perm), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        perm = self.perm(node, (), types.rank(0))
        return AxesMapping([[follow(perm.index(axis)) for axis in range(len(perm))]])

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        return (x.transpose(self.perm(node, (), x.ndim)),)


@register
class Expand(Op):
    """x repeated along axes of size 1, as broadcasting with the shape given does."""

    name = "expand"

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, shape = operands(node, inputs, 2, 2)
        wanted = integers(node, inputs, shape) or []
        if any(n < 0 for n in wanted):
            raise shape_error(node, inputs, f"shape {wanted}")
        return [TensorType(broadcast(node, inputs, x.shape, wanted), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        x, rank = types.shape(0), types.output.rank
        return AxesMapping([[follow(a + rank - len(x)) for a in range(len(x))], None])

    def reference(self, node: Node, x: Any, shape: Any) -> tuple[Array, ...]:
        full = np.broadcast_shapes(x.shape, tuple(numbers(shape)))
        return (np.broadcast_to(x, full).copy(),)


@register
class Tile(Op):
    """x repeated as a whole, the given number of times along each axis."""

    name = "tile"

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, repeats = operands(node, inputs, 2, 2)
        times = integers(node, inputs, repeats) or []
        if len(times) != x.rank or any(n < 0 for n in times):
            raise shape_error(node, inputs, f"repeats {times} for {x.rank} axes")
        shape = tuple(n * t for n, t in zip(x.shape, times, strict=True))
        return [TensorType(shape, x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        pairs = enumerate(zip(types.shape(0), types.output.shape, strict=True))
        x = [follow(axis) if n == out else picked(axis) for axis, (n, out) in pairs]
        return AxesMapping([x, *others(types, 1)])

    def reference(self, node: Node, x: Any, repeats: Any) -> tuple[Array, ...]:
        return (np.tile(x, numbers(repeats)),)


@register
class Shape(Op):
    """The sizes of the axes `start` to `end`, as int64. Only the type of x matters."""

    name = "shape"
    type_only = True
    attributes = {"start": 0, "end": None}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        return [TensorType((len(x.shape[node["start"] : node["end"]]),), INT64)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return AxesMapping([None])

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        return (np.array(x.shape[node["start"] : node["end"]], INT64),)


@register
class Size(Op):
    """The number of elements, an int64 scalar. Only the type of x matters."""

    name = "size"
    type_only = True

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        operands(node, inputs, 1, 1)
        return [TensorType((), INT64)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return AxesMapping([None])

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        return (np.array(x.size, INT64),)


class Blocks(Op):
    """Moves blocks of `blocksize` x `blocksize` pixels to channels, or back.

    `mode` "DCR": channel = (row in block, column in block, channel); "CRD": channel first.
    """

    attributes = {"blocksize": REQUIRED, "mode": "DCR"}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        b = at_least(node, "blocksize", 1)
        choice(node, "mode", ("DCR", "CRD"))
        if x.rank != 4:
            raise shape_error(node, inputs, "x needs 4 axes")
        n, c, h, w = x.shape
        if self.name == "depth_to_space":
            whole, shape = c % (b * b) == 0, (n, c // (b * b), h * b, w * b)
        else:
            whole, shape = h % b == 0 and w % b == 0, (n, c * b * b, h // b, w // b)
        if not whole:
            raise shape_error(node, inputs, f"x does not divide into blocks of {b} x {b}")
        return [TensorType(shape, x.type.dtype)]


@register
class DepthToSpace(Blocks):
    """(N, C b b, H, W) -> (N, C, H b, W b)."""

    name = "depth_to_space"

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        b = node["blocksize"]
        spatial = [Link((axis,), 0, 1 / b, 0.5 / b - 0.5) for axis in (2, 3)]
        return AxesMapping([(follow(0), mixed(1, 2, 3), *spatial)])

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        b, (n, c, h, w) = node["blocksize"], x.shape
        if node["mode"] == "DCR":
            y = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
        else:
            y = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
        return (y.reshape(n, c // (b * b), h * b, w * b),)


@register
class SpaceToDepth(Blocks):
    """(N, C, H b, W b) -> (N, C b b, H, W)."""

    name = "space_to_depth"

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        b = node["blocksize"]
        spatial = [Link((axis,), b - 1, b, (b - 1) / 2) for axis in (2, 3)]
        return AxesMapping([(follow(0), mixed(1), *spatial)])

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        b, (n, c, h, w) = node["blocksize"], x.shape
        y = x.reshape(n, c, h // b, b, w // b, b)
        order = (0, 3, 5, 1, 2, 4) if node["mode"] == "DCR" else (0, 1, 3, 5, 2, 4)
        return (y.transpose(order).reshape(n, c * b * b, h // b, w // b),)


@register
class Concat(Op):
    """The inputs one after the other along `axis`."""

    name = "concat"
    attributes = {"axis": REQUIRED}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        given = operands(node, inputs, max(1, len(inputs)))
        first = given[0]
        axis = axis_of(node, inputs, node["axis"], first.rank)
        before, after, dtype = first.shape[:axis], first.shape[axis + 1 :], first.type.dtype
        total = 0
        for x in given:
            shape = x.type.shape
            same = shape[:axis] == before and shape[axis + 1 :] == after and len(shape) > axis
            if not same or x.type.dtype is not dtype:
                problem = f"inputs may differ only in the size of axis {axis}"
                raise shape_error(node, inputs, problem)
            total += shape[axis]
        return [TensorType((*before, total, *after), dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        made = along(types, node["axis"], link=picked(node["axis"] % types.rank(0))).first[0]
        return AxesMapping([made] * len(types.inputs))

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        return (np.concatenate(inputs, axis=node["axis"]),)
