"""Operators that read or write at indices: views of runs of constant ones, else kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..dtypes import BFLOAT16, BOOL, FLOAT16
from ..graph import Node
from ..layout.strides import Strided
from ..layout.tensors import At, row_major
from ..ops.gather import from_start
from .builder import PlanBuilder
from .registry import ALL_TYPES, lowers
from .shape import MAX_DIMS
from .slices import is_constant

MAX_RUNS = 64
"""Maximum runs of consecutive constant indices that gather copies one by one; more go to the
kernel."""

NO_SUMS = {BFLOAT16, BOOL, FLOAT16}
"""Types that are only moved."""

INDEX_TYPES = (np.dtype(np.int32), np.dtype(np.int64))


@lowers("gather", types=ALL_TYPES)
def lower_gather(node: Node, builder: PlanBuilder) -> bool:
    axis = node["axis"] % builder.type(node.inputs[0]).rank
    rank = builder.type(node.inputs[1]).rank
    return _gather_runs(node, builder) or _gather(node, builder, axis, (0, rank))


@lowers("gather_nd", types=ALL_TYPES)
def lower_gather_nd(node: Node, builder: PlanBuilder) -> bool:
    """Lowers tuples as indices into the axes after those of the batch, merged. Constant ones are
    merged here, others by the kernel."""
    batch, indices = node["batch_dims"], builder.type(node.inputs[1])
    if indices.shape[-1] == 1:
        return _gather(node, builder, batch, (batch, indices.rank - 1))
    value, shape = builder.constant(node.inputs[1]), builder.type(node.inputs[0]).shape
    if value is None or batch or 0 in shape or value.size == 0:
        fields = _tuples(node, builder, batch)
        if fields is not None:
            _gather_step(node, builder, fields)
        return fields is not None
    depth = value.shape[-1]
    places = np.moveaxis(value, -1, 0)
    wrapped = [from_start(p, n).astype(np.int64) for p, n in zip(places, shape, strict=False)]
    flat = np.ravel_multi_index(wrapped, shape[:depth]).astype(np.int64)
    fields = {
        "indices": builder.constant_memory(node.inputs[1], f"places in {shape[:depth]}", flat),
        "outer": 1,
        "axis": math.prod(shape[:depth]),
        "inner": math.prod(shape[depth:]),
        "count": flat.size,
        "index_row": 1,
        "index_bytes": 8,
    }
    _gather_step(node, builder, fields)
    return True


@lowers("gather_elements", types=ALL_TYPES)
def lower_gather_elements(node: Node, builder: PlanBuilder) -> bool:
    axis = _common_axis(node, builder)
    return axis is not None and _gather(node, builder, axis, (axis, axis + 1))


@lowers("scatter_nd", types=ALL_TYPES)
def lower_scatter_nd(node: Node, builder: PlanBuilder) -> bool:
    """Lowers tuples as indices into the first axes, merged: whole rows are updated."""
    indices = builder.type(node.inputs[1])
    if indices.shape[-1] == 1:
        fields = _indexed(node, builder, 0, (0, indices.rank - 1))
    else:
        fields = _tuples(node, builder, 0)
    return fields is not None and _scatter(node, builder, fields)


@lowers("scatter_elements", types=ALL_TYPES)
def lower_scatter_elements(node: Node, builder: PlanBuilder) -> bool:
    axis = _common_axis(node, builder)
    fields = None if axis is None else _indexed(node, builder, axis, (axis, axis + 1))
    return fields is not None and _scatter(node, builder, fields)


@lowers("reverse_sequence", types=ALL_TYPES)
def lower_reverse_sequence(node: Node, builder: PlanBuilder) -> bool:
    x_type, lengths = builder.type(node.inputs[0]), builder.type(node.inputs[1])
    if lengths.dtype not in INDEX_TYPES:
        return False
    shape, item = x_type.shape, x_type.dtype.itemsize
    time, batch = node["time_axis"] % x_type.rank, node["batch_axis"] % x_type.rank
    first, last = min(time, batch), max(time, batch)
    x, y = builder.plain(node.inputs[0]), builder.new_plain(node.outputs[0])
    builder.step(
        "reverse_sequence",
        x=x.at,
        lengths=builder.plain(node.inputs[1]).at,
        y=y.at,
        outer=math.prod(shape[:first]),
        time=shape[time],
        middle=math.prod(shape[first + 1 : last]),
        batch=shape[batch],
        inner=math.prod(shape[last + 1 :]),
        batch_first=int(batch < time),
        length_bytes=lengths.dtype.itemsize,
        element=item,
        note="reverse sequences",
        cost_ns=2 * x_type.nbytes / builder.machine.activations,
    )
    return True


def _common_axis(node: Node, builder: PlanBuilder) -> int | None:
    """The axis of a gather or scatter of elements, if the indices span x on all of the others."""
    shape, indices = (builder.type(name).shape for name in node.inputs[:2])
    axis = int(node["axis"]) % len(shape)
    alike = all(n == i for a, (n, i) in enumerate(zip(shape, indices, strict=True)) if a != axis)
    return axis if alike else None


def _indexed(
    node: Node, builder: PlanBuilder, axis: int, rows: tuple[int, int]
) -> dict[str, Any] | None:
    """The fields about x[outer, axis, inner] and the indices[outer, count, inner].

    The axes of the indices in the range `rows` are counted; those before are outer, those after are
    inner. None: no kernel reads such indices.
    """
    shape, (name, type_) = (
        builder.type(node.inputs[0]).shape,
        (node.inputs[1], builder.type(node.inputs[1])),
    )
    if type_.dtype not in INDEX_TYPES or 0 in shape or 0 in type_.shape:
        return None
    first, last = rows
    groups = (slice(0, first), slice(first, last), slice(last, None))
    view = builder.strided(name)
    strides = [_merged(type_.shape[g], view.strides[g]) for g in groups]
    if None in strides:
        plain = builder.plain(name)
        view = Strided(plain.at, plain.strides())
        strides = [_merged(type_.shape[g], view.strides[g]) for g in groups]
    outer, row, inner = strides
    return {
        "indices": view.at,
        "outer": math.prod(shape[:axis]),
        "axis": shape[axis],
        "inner": math.prod(shape[axis + 1 :]),
        "count": math.prod(type_.shape[first:last]),
        "index_outer": outer,
        "index_row": row,
        "index_inner": inner,
        "index_bytes": type_.dtype.itemsize,
    }


def _tuples(node: Node, builder: PlanBuilder, batch: int) -> dict[str, Any] | None:
    """The same fields for tuples of several indices, into the axes of x from `batch` on."""
    shape, type_ = builder.type(node.inputs[0]).shape, builder.type(node.inputs[1])
    depth = type_.shape[-1]
    if type_.dtype not in INDEX_TYPES or 0 in shape or 0 in type_.shape or depth > MAX_DIMS:
        return None
    sizes, count = shape[batch : batch + depth], math.prod(type_.shape[batch:-1])
    return {
        "indices": builder.plain(node.inputs[1]).at,
        "outer": math.prod(shape[:batch]),
        "axis": math.prod(sizes),
        "inner": math.prod(shape[batch + depth :]),
        "count": count,
        "index_outer": count * depth,
        "index_row": depth,
        "index_bytes": type_.dtype.itemsize,
        "depth": depth,
        "sizes": list(sizes),
    }


def _merged(shape: Sequence[int], strides: Sequence[int]) -> int | None:
    """The stride of some axes walked as one; None if no single one does."""
    axes = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    if any(outer != n * inner for (_, outer), (n, inner) in pairwise(axes)):
        return None
    return axes[-1][1] if axes else 0


def _gather(node: Node, builder: PlanBuilder, axis: int, rows: tuple[int, int]) -> bool:
    """The step y[o, j, i] = x[o, index[o, j, i], i]."""
    fields = _indexed(node, builder, axis, rows)
    if fields is None:
        return False
    _gather_step(node, builder, fields)
    return True


def _gather_step(node: Node, builder: PlanBuilder, fields: dict[str, Any]) -> None:
    x, y = builder.plain(node.inputs[0]), builder.new_plain(node.outputs[0])
    item = y.type.dtype.itemsize
    work = y.type.size * item / 10
    builder.step("gather", x=x.at, y=y.at, element=item, note="gather", cost_ns=work, **fields)


def _scatter(node: Node, builder: PlanBuilder, fields: dict[str, Any]) -> bool:
    """A copy of x, then the step y[o, index[o, j, i], i] op= updates[o, j, i]."""
    x_name, _, updates_name = node.inputs
    op, dtype = node["reduction"], builder.type(x_name).dtype
    if op != "none" and dtype in NO_SUMS:
        return False
    updates, y_name = builder.plain(updates_name), node.outputs[0]
    if builder.may_overwrite(x_name, y_name) and x_name != updates_name:
        y = builder.plain(x_name)
        builder.alias(y_name, y)
    else:
        x, y = builder.plain(x_name), builder.new_plain(y_name)
        builder.copy(x, y)
    builder.step(
        "scatter",
        x=updates.at,
        y=y.at,
        op=op,
        element=dtype.itemsize,
        type=dtype.name,
        note=f"scatter, {op}",
        cost_ns=updates.type.size * 1.0,
        **fields,
    )
    return True


def _gather_runs(node: Node, builder: PlanBuilder) -> bool:
    """Lowers constant indices as views or copies of runs of what they read."""
    x, y = node.inputs[0], node.outputs[0]
    type_, value = builder.type(x), builder.constant(node.inputs[1])
    if value is None or value.size == 0 or 0 in type_.shape or is_constant(x, builder):
        return False
    axis, item = node["axis"] % type_.rank, type_.dtype.itemsize
    indices = [int(i) % type_.shape[axis] for i in value.reshape(-1)]
    runs = _runs(indices)
    if value.ndim <= 1 and len(runs) == 1:
        (run,) = runs
        view = builder.strided(x)
        strides = list(view.strides)
        at = view.at._replace(offset=view.at.offset + run.start * strides[axis] * item)
        strides[axis : axis + 1] = [run.step * strides[axis]] * value.ndim
        builder.alias_strided(y, Strided(at, strides))
        return True
    if len(runs) > MAX_RUNS or type_.rank > MAX_DIMS:
        return False
    view = builder.strided(x)
    target = builder.new_plain(y)
    flat = (*type_.shape[:axis], len(indices), *type_.shape[axis + 1 :])
    strides = list(row_major(flat))
    done = 0
    for run in runs:
        source = view.at._replace(offset=view.at.offset + run.start * view.strides[axis] * item)
        builder.copy_strided(
            source,
            At(target.buffer, target.offset + done * strides[axis] * item),
            (*flat[:axis], len(run), *flat[axis + 1 :]),
            [s * run.step if i == axis else s for i, s in enumerate(view.strides)],
            strides,
            item,
            "gather",
        )
        done += len(run)
    return True


def _runs(indices: Sequence[int]) -> list[range]:
    """The indices as the fewest arithmetic progressions that a walk through them finds."""
    runs: list[range] = []
    i = 0
    while i < len(indices):
        step = indices[i + 1] - indices[i] if i + 1 < len(indices) else 1
        stop = i + 1
        while stop < len(indices) and step and indices[stop] - indices[stop - 1] == step:
            stop += 1
        runs.append(range(indices[i], indices[i] + (stop - i) * (step or 1), step or 1))
        i = stop
    return runs
