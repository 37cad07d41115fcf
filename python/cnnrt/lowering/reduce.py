"""Reductions over axes: each run of neighbouring axes is one step on [outer, axis, inner]."""

from __future__ import annotations

import math

from ..dtypes import FLOAT32
from ..graph import Node
from ..layout.tensors import At
from ..ops import OPS
from ..ops.reduce import Reduce
from .builder import PlanBuilder
from .registry import lowers
from .slices import integers

ONE_RUN = {"l1", "l2", "sum_square"}
"""Reductions of which a second one over other axes would give another result."""


@lowers(*(f"reduce_{name}" for name in ("sum", "mean", "max", "min", *sorted(ONE_RUN))))
def lower_reduce(node: Node, builder: PlanBuilder) -> bool:
    if node.input(1) and builder.constant(node.inputs[1]) is None:
        return False
    op = OPS[node.op]
    assert isinstance(op, Reduce)
    kind = node.op.removeprefix("reduce_")
    shape = list(builder.type(node.inputs[0]).shape)
    axes = sorted(op.reduced_axes(node, (), integers(node, builder, 1), len(shape)))
    runs = _runs(axes)
    if 0 in shape or not runs or (kind in ONE_RUN and len(runs) > 1):
        return False
    x = builder.plain(node.inputs[0])
    y = builder.new_plain(node.outputs[0])
    at = x.at
    for i, (first, stop) in enumerate(reversed(runs)):
        outer, axis = math.prod(shape[:first]), math.prod(shape[first:stop])
        inner = math.prod(shape[stop:])
        shape[first:stop] = [1] * (stop - first)
        last = i + 1 == len(runs)
        target = y.at if last else At(builder.new_buffer(outer * inner * y.type.dtype.itemsize), 0)
        reduce_step(builder, kind, at, target, (outer, axis, inner))
        at = target
    return True


def reduce_step(builder: PlanBuilder, kind: str, x: At, y: At, shape: tuple[int, int, int]) -> None:
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
        note=f"{kind} over {axis}",
        cost_ns=math.prod(shape) * FLOAT32.itemsize / builder.machine.activations,
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
