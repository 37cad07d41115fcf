"""Operators that cut tensors apart or add borders to them: split, slice, pad, crop, compress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from ..symbolic import call
from . import NodeTypes, Op, register, shape_error
from .axes import AxesMapping, Link, Links, along, follow, mixed, mixes_all_axes, others, picked
from .common import Inputs, at_least, axes_of, axis_of, choice, integers, operands
from .shape import numbers

EVERYTHING = slice(None)
"""A whole axis."""


@register
class Split(Op):
    """Parts along `axis`: of the given sizes, or `num_outputs` equal ones with a smaller last
    one."""

    name = "split"
    attributes = {"axis": 0, "num_outputs": None}

    def sizes(self, node: Node, inputs: Inputs, total: int, given: list[int] | None) -> list[int]:
        if given is None:
            count = len(node.outputs)
            if node["num_outputs"] is not None and at_least(node, "num_outputs", 1) != count:
                raise shape_error(node, inputs, f"num_outputs {node['num_outputs']}, not {count}")
            each = -(-total // count)
            given = [min(each, max(0, total - i * each)) for i in range(count)]
        if len(given) != len(node.outputs) or sum(given) != total or min(given) < 0:
            raise shape_error(
                node, inputs, f"{total} elements do not split into {len(node.outputs)} of {given}"
            )
        return given

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, split = operands(node, inputs, 1, 2)
        axis = axis_of(node, inputs, node["axis"], x.rank)
        sizes = self.sizes(node, inputs, x.shape[axis], integers(node, inputs, split))
        return [TensorType((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.type.dtype) for n in sizes]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        rank = types.rank(0)
        axis = node["axis"] % rank
        made: list[list[Links]] = []
        first = 0
        for y in types.outputs:
            part = Link((axis,), start=first, uniform=False)
            x = [part if a == axis else follow(a) for a in range(rank)]
            made.append([x, *others(types, 1)])
            first += y.shape[axis] if y else 0
        return AxesMapping(made[0], made[1:])

    def reference(self, node: Node, x: Any, split: Any = None) -> tuple[Array, ...]:
        axis = node["axis"]
        given = None if split is None else numbers(split)
        sizes = self.sizes(node, (), x.shape[axis], given)
        return tuple(np.split(x, np.cumsum(sizes)[:-1], axis=axis))


@register
class Slice(Op):
    """Elements from starts to ends by steps along axes; negative positions count from the end."""

    name = "slice"
    runs_on_values = True

    def slices(
        self, node: Node, inputs: Inputs, shape: tuple[int, ...], values: Sequence[list[int] | None]
    ) -> tuple[slice, ...]:
        """Where the result lies in x, in NumPy's terms.

        Raises:
            ShapeError: starts, ends, axes and steps do not fit each other or x.
        """
        starts, ends, axes, steps = values
        if starts is None or ends is None:
            raise shape_error(node, inputs, "takes starts and ends")
        steps = [1] * len(starts) if steps is None else steps
        found = axes_of(node, inputs, range(len(starts)) if axes is None else axes, len(shape))
        if not len(starts) == len(ends) == len(found) == len(steps) or 0 in steps:
            raise shape_error(node, inputs, f"{starts=}, {ends=}, axes={list(found)}, {steps=}")
        result = [EVERYTHING] * len(shape)
        for axis, start, end, step in zip(found, starts, ends, steps, strict=True):
            result[axis] = call(_cut, shape[axis], start, end, step)
        return tuple(result)

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, *rest = operands(node, inputs, 3, 5)
        values = [integers(node, inputs, v) for v in rest]
        cuts = self.slices(node, inputs, x.shape, values)
        shape = [
            n if cut == EVERYTHING else call(_length, n, cut)
            for n, cut in zip(x.shape, cuts, strict=True)
        ]
        return [TensorType(tuple(shape), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        given = [types.integers(i) for i in range(1, 5)]
        if any(types.has(i + 1) and values is None for i, values in enumerate(given)):
            return mixes_all_axes(types)
        shape = types.shape(0)
        cuts = [
            s.indices(n) for s, n in zip(self.slices(node, (), shape, given), shape, strict=True)
        ]
        x = [
            follow(axis)
            if cut == (0, shape[axis], 1)
            else Link((axis,), 0, cut[2] if cut[2] > 0 else None, cut[0], uniform=False)
            for axis, cut in enumerate(cuts)
        ]
        return AxesMapping([x, *others(types, 1)])

    def reference(
        self, node: Node, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None
    ) -> tuple[Array, ...]:
        values = [None if v is None else numbers(v) for v in (starts, ends, axes, steps)]
        return (x[self.slices(node, (), x.shape, values)],)


def _cut(size: int, start: int, end: int, step: int) -> slice:
    """The part of an axis of `size` elements, with positions counted from the front."""
    low, high = (0, size) if step > 0 else (-1, size - 1)
    first, last = (min(max(p + size if p < 0 else p, low), high) for p in (start, end))
    count = len(range(first, last, step))
    stop = first + count * step
    return slice(first, stop if stop >= 0 else None, step) if count else slice(0)


def _length(size: int, cut: slice) -> int:
    return len(range(*cut.indices(size)))


@register
class Pad(Op):
    """x with borders: `mode` constant, reflect, edge or wrap; negative pads crop."""

    name = "pad"
    settings = (1, 2, 3)
    attributes = {"mode": "constant"}

    def pads(
        self,
        node: Node,
        inputs: Inputs,
        shape: tuple[int, ...],
        pads: list[int] | None,
        axes: list[int] | None,
    ) -> list[tuple[int, int]]:
        """The border before and after every axis of x.

        Raises:
            ShapeError: pads or axes do not fit x.
        """
        found = axes_of(node, inputs, range(len(shape)) if axes is None else axes, len(shape))
        if pads is None or len(pads) != 2 * len(found):
            raise shape_error(node, inputs, f"pads {pads} for {len(found)} axes")
        result = [(0, 0)] * len(shape)
        for i, axis in enumerate(found):
            begin, end = result[axis] = (pads[i], pads[len(found) + i])
            core = shape[axis] + min(begin, 0) + min(end, 0)
            grows = max(begin, end) > 0
            if core < 0 or (core == 0 and grows and node["mode"] != "constant"):
                raise shape_error(node, inputs, f"pads {begin} and {end} of axis {axis}")
        return result

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, pads, value, axes = operands(node, inputs, 2, 4)
        if value and value.type.size != 1:
            raise shape_error(node, inputs, "the value must be a scalar")
        choice(node, "mode", ("constant", "reflect", "edge", "wrap"))
        given, found = integers(node, inputs, pads), integers(node, inputs, axes)
        borders = self.pads(node, inputs, x.shape, given, found)
        shape = tuple(b + n + e for n, (b, e) in zip(x.shape, borders, strict=True))
        return [TensorType(shape, x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        pads, axes = types.integers(1), types.integers(3)
        if pads is None or (types.has(3) and axes is None):
            return mixes_all_axes(types)
        x: list[Link] = []
        for axis, (begin, end) in enumerate(self.pads(node, (), types.shape(0), pads, axes)):
            inside = begin == end == 0 or node["mode"] == "constant"
            near = Link((axis,), start=-begin, uniform=begin == end == 0)
            x.append(near if inside or node["mode"] != "wrap" else mixed(axis))
        return AxesMapping([x, *others(types, 1)])

    def reference(
        self, node: Node, x: Any, pads: Any, value: Any = None, axes: Any = None
    ) -> tuple[Array, ...]:
        found = None if axes is None else numbers(axes)
        borders = self.pads(node, (), x.shape, numbers(pads), found)
        inner = zip(x.shape, borders, strict=True)
        core = x[tuple(slice(max(-b, 0), n - max(-e, 0)) for n, (b, e) in inner)]
        grow = [(max(b, 0), max(e, 0)) for b, e in borders]
        if node["mode"] != "constant":
            return (np.pad(core, grow, mode=node["mode"]),)
        fill = 0 if value is None else value.reshape(())
        return (np.pad(core, grow, constant_values=fill),)


@register
class CenterCropPad(Op):
    """The middle of x along `axes`, or x in the middle of zeros, to the sizes given."""

    name = "center_crop_pad"
    attributes = {"axes": None}

    def shape(
        self, node: Node, inputs: Inputs, shape: tuple[int, ...], sizes: list[int] | None
    ) -> tuple[int, ...]:
        given = range(len(shape)) if node["axes"] is None else node["axes"]
        axes = axes_of(node, inputs, given, len(shape))
        if sizes is None or len(sizes) != len(axes) or min(sizes, default=0) < 0:
            raise shape_error(node, inputs, f"sizes {sizes} for {len(axes)} axes")
        wanted = dict(zip(axes, sizes, strict=True))
        return tuple(wanted.get(i, n) for i, n in enumerate(shape))

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, sizes = operands(node, inputs, 2, 2)
        shape = self.shape(node, inputs, x.shape, integers(node, inputs, sizes))
        return [TensorType(shape, x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        x = []
        for axis, (old, new) in enumerate(zip(types.shape(0), types.output.shape, strict=True)):
            count = min(old, new)
            start = (old - count) // 2 - (new - count) // 2
            x.append(Link((axis,), start=start, uniform=old == new))
        return AxesMapping([x, None])

    def reference(self, node: Node, x: Any, sizes: Any) -> tuple[Array, ...]:
        shape = self.shape(node, (), x.shape, numbers(sizes))
        y = np.zeros(shape, x.dtype)
        source, target = [], []
        for old, new in zip(x.shape, shape, strict=True):
            count = min(old, new)
            source.append(slice((old - count) // 2, (old - count) // 2 + count))
            target.append(slice((new - count) // 2, (new - count) // 2 + count))
        y[tuple(target)] = x[tuple(source)]
        return (y,)


@register
class Compress(Op):
    """The slices along `axis`, or the elements, whose condition holds."""

    name = "compress"
    runs_on_values = True
    attributes = {"axis": None}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, condition = operands(node, inputs, 2, 2)
        holds = integers(node, inputs, condition, kinds="b") or []
        count, axis = sum(holds), node["axis"]
        if axis is not None:
            axis = axis_of(node, inputs, axis, x.rank)
        if len(holds) > (x.type.size if axis is None else x.shape[axis]):
            raise shape_error(node, inputs, "the condition is longer than x")
        if axis is None:
            return [TensorType((count,), x.type.dtype)]
        return [TensorType((*x.shape[:axis], count, *x.shape[axis + 1 :]), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        if node["axis"] is None:
            return mixes_all_axes(types)
        return along(types, node["axis"], link=picked(node["axis"] % types.rank(0)))

    def reference(self, node: Node, x: Any, condition: Any) -> tuple[Array, ...]:
        return (np.compress(condition.reshape(-1), x, axis=node["axis"]),)
