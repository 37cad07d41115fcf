"""Operators that read or write at indices: gather, scatter, one_hot, reverse_sequence.

An index below zero counts from the end of its axis. Indices that are not constant are checked when
they are used: NumPy raises IndexError.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from . import NodeTypes, Op, register, shape_error
from .axes import ALL, AxesMapping, Link, Links, along, every, follow, mixed, others, picked
from .common import Inputs, at_least, axis_of, check_indices, check_kind, choice, integers, operands

REDUCTIONS: dict[str, np.ufunc] = {
    "add": np.add,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}


@register
class Gather(Op):
    """The slices of x along `axis` at the indices, whose axes take the place of `axis`."""

    name = "gather"
    attributes = {"axis": 0}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, indices = operands(node, inputs, 2, 2)
        axis = axis_of(node, inputs, node["axis"], x.rank)
        check_indices(node, inputs, indices, x.shape[axis])
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        return [TensorType(shape, x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        rank, added = types.rank(0), types.rank(1)
        axis = node["axis"] % rank
        where = chosen(types, *range(axis, axis + added))
        after = [follow(a + added - 1) for a in range(axis + 1, rank)]
        x = [*(follow(a) for a in range(axis)), where, *after]
        return AxesMapping([x, [follow(axis + a) for a in range(added)]])

    def reference(self, node: Node, x: Any, indices: Any) -> tuple[Array, ...]:
        return (np.asarray(np.take(x, indices, axis=node["axis"])),)


def chosen(types: NodeTypes, *outputs: int) -> Link:
    """The link of an axis whose elements the second input chooses, in an unknown order if it is not
    constant."""
    return ALL if types.operand(1).value is None else picked(*outputs)


def check_along(node: Node, inputs: Inputs, x: Any, indices: Any) -> None:
    """Checks that indices has the axes of x and, but for `axis`, no larger sizes."""
    axis = axis_of(node, inputs, node["axis"], x.rank)
    pairs = enumerate(zip(indices.shape, x.shape, strict=False))
    if indices.rank != x.rank or any(i > n and a != axis for a, (i, n) in pairs):
        raise shape_error(node, inputs, f"indices exceed x, elsewhere than on axis {axis}")
    check_indices(node, inputs, indices, x.shape[axis])


def element_links(node: Node, types: NodeTypes) -> tuple[Links, Links]:
    """The links of a tensor and of indices into it, whose other axes go along with each other.

    An axis on which there are fewer indices than elements is written at its front only.
    """
    axis = node["axis"] % types.rank(0)
    pairs = enumerate(zip(types.shape(0), types.shape(1), strict=True))
    x = [mixed(a) if a == axis else follow(a) for a in range(types.rank(0))]
    return x, [mixed(a) if a == axis or i != n else follow(a) for a, (n, i) in pairs]


def grid(indices: Array, axis: int) -> tuple[Array, ...]:
    """Index arrays of the positions in `indices`, with `indices` itself as that along `axis`."""
    places: list[Array] = list(np.indices(indices.shape, sparse=True))
    places[axis] = indices
    return tuple(places)


@register
class GatherElements(Op):
    """y[i][j] = x[indices[i][j]][j] for `axis` 0, and so on."""

    name = "gather_elements"
    attributes = {"axis": 0}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, indices = operands(node, inputs, 2, 2)
        check_along(node, inputs, x, indices)
        return [TensorType(indices.shape, x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        axis = node["axis"] % types.rank(0)
        x = [chosen(types, a) if a == axis else follow(a) for a in range(types.rank(0))]
        return AxesMapping([x, [follow(a) for a in range(types.rank(1))]])

    def reference(self, node: Node, x: Any, indices: Any) -> tuple[Array, ...]:
        return (x[grid(indices, node["axis"])],)


@register
class ScatterElements(Op):
    """A copy of x with y[indices[i][j]][j] = updates[i][j] for `axis` 0, and so on.

    With a `reduction` the updates are added to x, multiplied with it, ... instead.
    """

    name = "scatter_elements"
    attributes = {"axis": 0, "reduction": "none"}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, indices, updates = operands(node, inputs, 3, 3)
        check_along(node, inputs, x, indices)
        choice(node, "reduction", ("none", *REDUCTIONS))
        if updates.shape != indices.shape:
            raise shape_error(node, inputs, "indices and updates must have the same shape")
        return [x.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        x, indices = element_links(node, types)
        return AxesMapping([x, indices, indices])

    def reference(self, node: Node, x: Any, indices: Any, updates: Any) -> tuple[Array, ...]:
        return (scatter(node, x, grid(indices, node["axis"]), updates),)


def scatter(node: Node, x: Array, places: tuple[Array, ...], updates: Array) -> Array:
    """A copy of x with `updates` written, or reduced, at `places`."""
    y: Array = x.copy()
    if node["reduction"] == "none":
        y[places] = updates
    else:
        REDUCTIONS[node["reduction"]].at(y, places, updates)
    return y


def check_places(node: Node, inputs: Inputs, indices: Any, sizes: tuple[int, ...]) -> None:
    """Checks that the tuples on the last axis of `indices` are within axes of `sizes`."""
    check_kind(node, inputs, indices, "iu", "integers")
    if indices.value is not None:
        for place, size in zip(places_of(indices.value), sizes, strict=True):
            if place.size and not -size <= place.min() <= place.max() < size:
                raise shape_error(node, inputs, f"an index is beyond {size} elements")


def places_of(indices: Array) -> tuple[Array, ...]:
    """The tuples on the last axis of `indices`, as an index in NumPy's terms."""
    return tuple(np.moveaxis(indices, -1, 0))


def from_start(indices: Array, size: int) -> Array:
    """The same indices, all counted from the start of an axis; negative ones count from its end.

    Narrow integers are widened first: NumPy does not add a size to them that they cannot hold.
    """
    if indices.dtype.kind == "u":
        return indices
    if indices.dtype.kind == "i":
        indices = indices.astype(np.int64)
    return np.where(indices < 0, indices + size, indices)


@register
class GatherND(Op):
    """The slices of x at the tuples on the last axis of the indices, after `batch_dims` axes."""

    name = "gather_nd"
    attributes = {"batch_dims": 0}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, indices = operands(node, inputs, 2, 2)
        batch = at_least(node, "batch_dims", 0)
        depth = indices.shape[-1] if indices.rank else 0
        if batch >= min(x.rank, indices.rank) or not 1 <= depth <= x.rank - batch:
            raise shape_error(node, inputs, f"tuples of {depth} do not index x")
        if x.shape[:batch] != indices.shape[:batch]:
            raise shape_error(node, inputs, f"the first {batch} axes must be alike")
        check_places(node, inputs, indices, x.shape[batch : batch + depth])
        return [TensorType((*indices.shape[:-1], *x.shape[batch + depth :]), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        batch, rank = node["batch_dims"], types.rank(1)
        depth = types.shape(1)[-1]
        where = chosen(types, *range(batch, rank - 1))
        after = [follow(rank - 1 + a) for a in range(types.rank(0) - batch - depth)]
        x = [*(follow(a) for a in range(batch)), *[where] * depth, *after]
        return AxesMapping([x, [*(follow(a) for a in range(rank - 1)), ALL]])

    def reference(self, node: Node, x: Any, indices: Any) -> tuple[Array, ...]:
        batch = node["batch_dims"]
        lead = np.indices(x.shape[:batch], sparse=True)
        spare = [1] * (indices.ndim - 1 - batch)
        lead = tuple(axis.reshape(*axis.shape, *spare) for axis in lead)
        return (np.asarray(x[lead + places_of(indices)]),)


@register
class ScatterND(Op):
    """A copy of x with the slices at the tuples on the last axis of the indices updated."""

    name = "scatter_nd"
    attributes = {"reduction": "none"}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, indices, updates = operands(node, inputs, 3, 3)
        choice(node, "reduction", ("none", *REDUCTIONS))
        depth = indices.shape[-1] if indices.rank else 0
        if not 1 <= depth <= x.rank:
            raise shape_error(node, inputs, f"tuples of {depth} do not index x")
        check_places(node, inputs, indices, x.shape[:depth])
        if updates.shape != (*indices.shape[:-1], *x.shape[depth:]):
            raise shape_error(node, inputs, "updates do not fit x and the indices")
        return [x.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        depth, lead = types.shape(1)[-1], types.rank(1) - 1
        written = mixed(*range(depth))
        kept = [Link((a,), uniform=a >= depth) for a in range(types.rank(0))]
        slices = [follow(a) for a in range(depth, types.rank(0))]
        return AxesMapping([kept, every(types, 1, written), [*[written] * lead, *slices]])

    def reference(self, node: Node, x: Any, indices: Any, updates: Any) -> tuple[Array, ...]:
        return (scatter(node, x, places_of(indices), updates),)


@register
class TensorScatter(Op):
    """A cache with `update` written from its batch element's index on along `axis`."""

    name = "tensor_scatter"
    attributes = {"axis": -2, "mode": "linear"}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        cache, update, start = operands(node, inputs, 2, 3)
        check_kind(node, inputs, start, "iu", "integers")
        axis = axis_of(node, inputs, node["axis"], cache.rank)
        choice(node, "mode", ("linear", "circular"))
        sides = {(t.rank, t.shape[:axis], t.shape[axis + 1 :]) for t in (cache, update)}
        long = update.shape[axis] > cache.shape[axis] if len(sides) == 1 else False
        if axis == 0 or len(sides) > 1 or long or (start and start.shape != cache.shape[:1]):
            raise shape_error(node, inputs, f"update does not fit the cache along axis {axis}")
        if start and start.value is not None and node["mode"] == "linear":
            room = cache.shape[axis] - update.shape[axis]
            if start.value.size and not 0 <= start.value.min() <= start.value.max() <= room:
                raise shape_error(node, inputs, f"update does not fit the cache along axis {axis}")
        return [cache.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        axis = node["axis"] % types.rank(0)
        cache = [Link((a,), uniform=a != axis) for a in range(types.rank(0))]
        update = [mixed(a) if a == axis else follow(a) for a in range(types.rank(0))]
        return AxesMapping([cache, update, every(types, 2, follow(0))][: len(types.inputs)])

    def reference(
        self, node: Node, cache: Any, update: Any, start: Any = None
    ) -> tuple[Array, ...]:
        axis = node["axis"] % cache.ndim
        n, count = cache.shape[axis], update.shape[axis]
        y = np.moveaxis(cache.copy(), axis, 1)
        for b, (row, new) in enumerate(zip(y, np.moveaxis(update, axis, 1), strict=True)):
            places = (0 if start is None else int(start[b])) + np.arange(count)
            row[places % n if node["mode"] == "circular" else places] = new
        return (np.moveaxis(y, 1, axis),)


@register
class OneHot(Op):
    """values[1] where the new `axis` has the index, values[0] elsewhere and where it is beyond."""

    name = "one_hot"
    attributes = {"axis": -1}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        indices, depth, values = operands(node, inputs, 3, 3)
        check_kind(node, inputs, indices, "iuf", "numbers")
        axis = axis_of(node, inputs, node["axis"], indices.rank + 1)
        size = integers(node, inputs, depth, kinds="iuf") or []
        if len(size) != 1 or size[0] < 1 or values.shape != (2,):
            raise shape_error(node, inputs, f"depth {size}; takes two values")
        shape = (*indices.shape[:axis], size[0], *indices.shape[axis:])
        return [TensorType(shape, values.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        axis = node["axis"] % (types.rank(0) + 1)
        indices = [follow(a + (a >= axis)) for a in range(types.rank(0))]
        return AxesMapping([indices, *others(types, 1)])

    def reference(self, node: Node, indices: Any, depth: Any, values: Any) -> tuple[Array, ...]:
        size = int(depth.reshape(()))
        axis = node["axis"] % (indices.ndim + 1)
        hot = np.expand_dims(from_start(indices, size), axis) == np.arange(size).reshape(
            -1, *[1] * (indices.ndim - axis)
        )
        return (np.where(hot, values[1], values[0]),)


@register
class ReverseSequence(Op):
    """Each sequence of the batch reversed in its first `sequence_lens` elements."""

    name = "reverse_sequence"
    python_loop = True
    attributes = {"batch_axis": 1, "time_axis": 0}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, lens = operands(node, inputs, 2, 2)
        batch = axis_of(node, inputs, node["batch_axis"], x.rank)
        time = axis_of(node, inputs, node["time_axis"], x.rank)
        check_kind(node, inputs, lens, "iu", "integers")
        if batch == time or lens.shape != (x.shape[batch],):
            raise shape_error(node, inputs, "takes a length per element of the batch")
        return [x.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        mapping = along(types, node["time_axis"])
        return AxesMapping([mapping.first[0], (follow(node["batch_axis"] % types.rank(0)),)])

    def reference(self, node: Node, x: Any, lens: Any) -> tuple[Array, ...]:
        y = x.copy()
        old, new = (np.moveaxis(a, (node["batch_axis"], node["time_axis"]), (0, 1)) for a in (x, y))
        for before, after, n in zip(old, new, np.maximum(lens, 0), strict=True):
            after[:n] = before[:n][::-1]
        return (y,)
