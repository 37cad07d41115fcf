"""Resizing along the spatial axes."""

from __future__ import annotations

import math
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..dtypes import FLOAT32
from ..graph import Array, Node, TensorType
from ..layout.tensors import BLOCK, At, Plain, row_major
from ..ops import OPS
from ..ops.resize import Resize, Taps
from ..symbolic import call, known, whole
from .builder import PlanBuilder
from .registry import ALL_TYPES, lowers

PIXEL_NS = 0.3
"""Nanoseconds of a pixel with two taps on each axis: Zen 4 takes 0.2 if a row is made longer, and
0.65 otherwise."""

NEAREST_SIZES = (1, 2, 4, 8)
"""Bytes of the elements that the kernels move."""


class _Axis(NamedTuple):
    """How one axis is resized."""

    inputs: Array
    """int32 (out, taps): the inputs that each output takes. (taps, out) for the last axis of a
    plain tensor."""
    weight: Any
    """The memory of float32 weights of these inputs, in the same order."""
    taps: int


class _Choice(NamedTuple):
    """The inputs along one axis that the outputs take, one each: number `first`, then always `step`
    further after `repeats` outputs; or those of a table."""

    axis: int
    outputs: int
    first: int
    step: int
    repeats: int
    table: tuple[int, ...] | None


@lowers("resize", types=ALL_TYPES)
def lower_resize(node: Node, builder: PlanBuilder) -> bool:
    shape, dtype = builder.type(node.inputs[0]).shape, builder.type(node.inputs[0]).dtype
    constants = builder.graph.constants
    given = [whole(constants, n) if n in constants else None for n in node.inputs[1:]]
    given = [*given, None, None, None][:3]
    planar = len(shape) > 1 and shape[1] < BLOCK and not builder.is_blocked(node.inputs[0])
    # A result that only the caller sees would be unblocked by one more pass over it.
    result = node.outputs[0]
    if builder.tensors.is_only_output(result) and builder.type(result).size >= math.prod(shape):
        planar = len(shape) > 1
    if planar and _choose(node, builder, given):
        return True
    made: Any = ()
    if dtype == FLOAT32 and 3 <= len(shape) <= 5:
        made = call(_axes, node, planar, *given, *shape)
    if not call(bool, made):
        return _choose(node, builder, given)
    fields = {}
    for place, letter in enumerate("dhw"):
        axis = call(itemgetter(place), made)
        fields[f"index_{letter}"] = builder.table(call(attrgetter("inputs"), axis))
        fields[f"weight_{letter}"] = call(attrgetter("weight"), axis)
        fields[f"taps_{letter}"] = call(attrgetter("taps"), axis)
    note = str(node["mode"])
    if planar:  # blocking three channels makes the tensor five times as large
        _planar(node, builder, fields, note)
        return True
    x = builder.blocked(node.inputs[0])
    y = builder.new_blocked(node.outputs[0])
    builder.step(
        "resize",
        x=x.view(),
        y=y.view(),
        n=y.n,
        blocks=y.blocks,
        in_w=x.spatial[2],
        out_d=y.spatial[0],
        out_h=y.spatial[1],
        out_w=y.spatial[2],
        **fields,
        note=note,
        cost_ns=y.image * y.n * y.itemsize / 20,
    )
    return True


def _planar(node: Node, builder: PlanBuilder, fields: dict[str, Any], note: str) -> None:
    """Appends the step for a plain tensor."""
    x, y = builder.plain(node.inputs[0]), builder.new_plain(node.outputs[0])
    sizes = {}
    for side, tensor in (("in", x), ("out", y)):
        spatial = tensor.type.shape[2:]
        for letter, size in zip("dhw", (*[1] * (3 - len(spatial)), *spatial), strict=True):
            sizes[f"{side}_{letter}"] = size
    builder.step(
        "resize_planar",
        x=x.at,
        y=y.at,
        planes=y.type.shape[0] * y.type.shape[1],
        **sizes,
        **fields,
        note=note,
        cost_ns=y.type.size * PIXEL_NS,
    )


def _choose(node: Node, builder: PlanBuilder, given: list[Array | None]) -> bool:
    """Appends a copy for each axis: elements of any type that are chosen, not computed."""
    type_ = builder.type(node.inputs[0])
    item = type_.dtype.itemsize
    if node["mode"] != "nearest" or item not in NEAREST_SIZES:
        return False
    choices = known(call(_choices, node, *given, *type_.shape))
    if choices is None:
        return False
    x = builder.plain(node.inputs[0])
    if not choices:
        builder.alias(node.outputs[0], x)
    for number, choice in enumerate(choices, 1):
        shape = list(x.type.shape)
        size = shape[choice.axis]
        outer, inner = math.prod(shape[: choice.axis]), math.prod(shape[choice.axis + 1 :])
        shape[choice.axis] = choice.outputs
        y_type = TensorType(tuple(shape), type_.dtype)
        if number == len(choices):
            y = builder.new_plain(node.outputs[0])
        else:
            y = Plain(builder.new_buffer(y_type.nbytes), y_type)
        at = At(x.buffer, x.offset + choice.first * inner * item)
        if choice.table is None:
            steps = choice.outputs // choice.repeats
            sizes = (outer, steps, choice.repeats, inner)
            strides = (size * inner, choice.step * inner, 0, 1)
            builder.copy_strided(at, y.at, sizes, strides, row_major(sizes), item, "nearest")
        else:
            builder.step(
                "gather",
                x=x.at,
                y=y.at,
                indices=builder.table(choice.table),
                outer=outer,
                axis=size,
                inner=inner,
                count=choice.outputs,
                index_row=1,
                index_bytes=4,
                element=item,
                note="nearest",
                cost_ns=y_type.nbytes / 10,
            )
        x = y
    return True


def _choices(
    node: Node,
    roi: Array | None,
    scales: Array | None,
    sizes: Array | None,
    *shape: int,
) -> tuple[_Choice, ...] | None:
    """The choices along each axis, those that leave fewer elements first; None if an output is not
    one of the inputs."""
    tables = _tables(node, roi, scales, sizes, shape)
    if any(t.outside.any() or t.index.shape[1] != 1 for t in tables):
        return None
    made = [_choice(t.axis, np.ascontiguousarray(t.index[:, 0], np.int32)) for t in tables]
    return tuple(sorted(made, key=lambda c: (c.outputs > shape[c.axis], -c.axis)))


def _choice(axis: int, index: Array) -> _Choice:
    first, count = int(index[0]), len(index)
    changes = np.flatnonzero(np.diff(index))
    repeats = int(changes[0]) + 1 if changes.size else count
    step = int(index[repeats] - first) if changes.size else 0
    even = count % repeats == 0 and step >= 0
    if even and np.array_equal(index, first + np.arange(count) // repeats * step):
        return _Choice(axis, count, first, step, repeats, None)
    return _Choice(axis, count, 0, 0, 1, tuple(index.tolist()))


def _tables(
    node: Node,
    roi: Array | None,
    scales: Array | None,
    sizes: Array | None,
    shape: tuple[int, ...],
) -> list[Taps]:
    op = OPS[node.op]
    assert isinstance(op, Resize)
    lists = (
        None if p is None or p.size == 0 else p.reshape(-1).tolist() for p in (roi, scales, sizes)
    )
    return op.taps(node, shape, *lists)


def _axes(
    node: Node,
    planar: bool,
    roi: Array | None,
    scales: Array | None,
    sizes: Array | None,
    *shape: int,
) -> list[_Axis]:
    """How the axes d, h and w are resized; an empty list if others are, or results are outside."""
    tables = _tables(node, roi, scales, sizes, shape)
    if not all(t.axis >= 2 and not t.outside.any() for t in tables):
        return []
    by_axis = {t.axis: t for t in tables}
    made = []
    spatial = (*[1] * (5 - len(shape)), *shape[2:])
    for axis, size in enumerate(spatial, start=len(shape) - 3):
        index: Array = np.arange(size)[:, None]
        weight: Array = np.ones((size, 1))
        taps = by_axis.get(axis) if axis >= 2 else None
        if taps is not None:
            used = np.abs(taps.weight).max(axis=0) > 0  # a tap that never counts is left out
            index, weight = taps.index[:, used], taps.weight[:, used]
        taps_used = index.shape[1]
        if planar and axis == len(shape) - 1:  # the kernel goes along the outputs of a tap
            index, weight = np.ascontiguousarray(index.T), weight.T
        memory = _core.Memory(np.ascontiguousarray(weight, np.float32))
        made.append(_Axis(index, memory, taps_used))
    return made
