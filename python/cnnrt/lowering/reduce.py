"""Reductions over axes: each run of neighbouring axes is one step on [outer, axis, inner]."""

from __future__ import annotations

import math

from ..dtypes import BFLOAT16, BOOL, FLOAT16, FLOAT32, FLOAT64, DType
from ..graph import Node
from ..layout.strides import around_axes
from ..layout.tensors import At
from ..ops import OPS
from ..ops.reduce import Reduce
from .builder import PlanBuilder
from .registry import ALL_TYPES, lowers
from .slices import integers

ONE_RUN = {"l1", "l2", "sum_square"}
"""Reductions of which a second one over other axes would give another result."""

EXTREMA = {"max", "min"}
"""Reductions that truth values have too."""

KINDS = ("sum", "mean", "max", "min", "prod", *sorted(ONE_RUN))


@lowers(*(f"reduce_{kind}" for kind in KINDS), types=ALL_TYPES)
def lower_reduce(node: Node, builder: PlanBuilder) -> bool:
    if node.input(1) and builder.constant(node.inputs[1]) is None:
        return False
    op = OPS[node.op]
    assert isinstance(op, Reduce)
    kind, dtype = node.op.removeprefix("reduce_"), builder.type(node.inputs[0]).dtype
    shape = list(builder.type(node.inputs[0]).shape)
    axes = sorted(op.reduced_axes(node, (), integers(node, builder, 1), len(shape)))
    runs = _runs(axes)
    once = kind in ONE_RUN or (kind == "mean" and dtype.kind != "f")
    if 0 in shape or not runs or (once and len(runs) > 1) or not _has_kind(kind, dtype):
        return False
    view = builder.strided(node.inputs[0])
    permuted = around_axes(shape, view.strides, axes)
    if permuted is not None:
        y = builder.new_plain(node.outputs[0])
        reduce_step(builder, kind, view.at, y.at, permuted, dtype)
        return True
    at = builder.plain(node.inputs[0]).at
    y = builder.new_plain(node.outputs[0])
    for i, (first, stop) in enumerate(reversed(runs)):
        outer, axis = math.prod(shape[:first]), math.prod(shape[first:stop])
        inner = math.prod(shape[stop:])
        shape[first:stop] = [1] * (stop - first)
        last = i + 1 == len(runs)
        target = y.at if last else At(builder.new_buffer(outer * inner * y.type.dtype.itemsize), 0)
        reduce_step(builder, kind, at, target, (outer, axis, inner), dtype)
        at = target
    return True


def _has_kind(kind: str, dtype: DType) -> bool:
    """True if the kernel reduces elements of a type so."""
    if dtype in (BFLOAT16, FLOAT16):
        return False
    if dtype == BOOL:
        return kind in EXTREMA
    return kind != "l2" or dtype in (FLOAT32, FLOAT64)


def reduce_step(
    builder: PlanBuilder,
    kind: str,
    x: At,
    y: At,
    shape: tuple[int, int, int],
    dtype: DType = FLOAT32,
) -> None:
    """y = the reduction of plain x over the middle one of its axes [outer, axis, inner]."""
    outer, axis, inner = shape
    builder.step(
        "reduce",
        x=x,
        y=y,
        op=kind,
        outer=outer,
        axis=axis,
        inner=inner,
        type=dtype.name,
        note=f"{kind} over {axis}",
        cost_ns=math.prod(shape) * dtype.itemsize / builder.machine.activations,
    )


def _runs(axes: list[int]) -> list[tuple[int, int]]:
    """Sorted axes as ranges (first, stop) of neighbours."""
    runs: list[tuple[int, int]] = []
    for axis in axes:
        if runs and runs[-1][1] == axis:
            runs[-1] = (runs[-1][0], axis + 1)
        else:
            runs.append((axis, axis + 1))
    return runs
