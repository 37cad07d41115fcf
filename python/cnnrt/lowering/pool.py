"""Pooling: every kind is a table of windows per axis for one kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..dtypes import FLOAT64, UINT8
from ..graph import Array, Node
from ..ops import OPS
from ..ops.pool import Adaptive
from ..ops.windows import Windows, resolve_windows
from ..process.limits import check_memory
from ..symbolic import call, memo
from .builder import PlanBuilder
from .reduce import reduce_step
from .registry import FLOAT, FLOATS, lowers
from .step_list import epilogue

PLANAR_CHANNELS = 8
"""Maximum channels of a plain tensor that is pooled as it lies: half of a block would be empty."""

WINDOW_BYTES = 80
"""Bytes of a row of windows while the table is made."""


def axis_windows(w: Windows, axis: int, *, include_pad: bool) -> Array:
    """The windows along one axis: (out, 3) of begin and end inside the image, and the count that an
    average divides by."""
    along = (w.size, w.kernel, w.stride, w.dilation, w.begin, w.end, w.out)
    return call(_axis_windows, *(values[axis] for values in along), include_pad)


@memo(256)  # the pools of a pyramid are alike
def _axis_windows(
    size: int,
    kernel: int,
    stride: int,
    dilation: int,
    before: int,
    after: int,
    out: int,
    include_pad: bool,
) -> Array:
    start = np.arange(out) * stride - before
    begin = start + -(np.minimum(0, start) // dilation) * dilation
    reach = start + (kernel - 1) * dilation + 1
    end = np.minimum(reach, size)
    # Padding counts if include_pad is set; elements beyond it, which ceil_mode lets a window reach,
    # do not.
    last = np.minimum(reach, size + after) if include_pad else end
    first = start if include_pad else begin
    count = np.maximum(0, -((first - last) // dilation))
    return np.stack([begin, np.maximum(begin, end), count], axis=1)


def whole_axis(size: int) -> Array:
    """The one window that covers an axis, as `axis_windows` gives several."""
    return call(lambda n: np.array([[0, n, n]]), size)


def _most_taps(windows: Array) -> int:
    return int((windows[:, 1] - windows[:, 0]).max())


def _check_windows(node: Node, builder: PlanBuilder, count: int) -> None:
    """Checks that a table of so many windows may be made.

    Raises:
        MemoryLimitError: it may not.
    """
    at = f"node {node.name!r}: the table of its windows"
    check_memory(WINDOW_BYTES * count, builder.options.limit, at)


def pool_step(
    node: Node, builder: PlanBuilder, mode: str, windows: Sequence[Array], dilation: tuple[int, ...]
) -> None:
    """Appends a pool whose windows are given for each spatial axis of x."""
    missing = 3 - len(windows)
    windows = [whole_axis(1)] * missing + list(windows)
    dilations = (1,) * missing + dilation
    taps = math.prod(call(_most_taps, axis) for axis in windows)
    fields = {
        "mode": mode,
        **{f"out_{a}": call(len, axis) for a, axis in zip("dhw", windows, strict=True)},
        **{f"windows_{a}": builder.table(axis) for a, axis in zip("dhw", windows, strict=True)},
        **{f"dilation_{a}": d for a, d in zip("dhw", dilations, strict=True)},
    }
    activation = node.attributes.get("activation")
    shape = builder.type(node.inputs[0]).shape
    if (
        shape[1] <= PLANAR_CHANNELS
        and not builder.is_blocked(node.inputs[0])
        and activation is None
    ):
        plain, made = builder.plain(node.inputs[0]), builder.new_plain(node.outputs[0])
        in_d, in_h, in_w = (1,) * missing + shape[2:]
        builder.step(
            "pool_planar",
            x=plain.at,
            y=made.at,
            planes=shape[0] * shape[1],
            in_d=in_d,
            in_h=in_h,
            in_w=in_w,
            note=f"{mode}, {shape[1]} channels",
            cost_ns=made.type.size * taps / 10,
            **fields,
        )
        return
    x = builder.blocked(node.inputs[0])
    y = builder.new_blocked(node.outputs[0])
    builder.step(
        "pool",
        x=x.view(),
        y=y.view(),
        n=y.n,
        blocks=y.blocks,
        epilogue=epilogue(activation),
        note=mode,
        cost_ns=y.image * taps / 30,
        **fields,
    )


def _poolable(node: Node, builder: PlanBuilder) -> bool:
    x = builder.type(node.inputs[0])
    if x.dtype == UINT8 and "max" not in node.op:
        return False
    return len(node.outputs) == 1 and 3 <= x.rank <= 5


def byte_pool_step(
    node: Node,
    builder: PlanBuilder,
    windows: Sequence[Array],
    dilation: tuple[int, ...],
    **fields: Any,
) -> None:
    """Appends a pool of bytes whose windows are given for each spatial axis of x."""
    missing = 3 - len(windows)
    tables = [whole_axis(1)] * missing + list(windows)
    taps = math.prod(call(_most_taps, axis) for axis in tables)
    x = builder.blocked(node.inputs[0])
    y = builder.new_blocked(node.outputs[0])
    for name, table, step in zip("dhw", tables, (1,) * missing + dilation, strict=True):
        fields[f"out_{name}"] = call(len, table)
        fields[f"windows_{name}"] = builder.table(table)
        fields[f"dilation_{name}"] = step
    builder.step(
        "pool_u8",
        x=x.view(),
        y=y.view(),
        n=y.n,
        blocks=y.blocks,
        note=f"{fields['mode']} of bytes",
        cost_ns=y.image * taps / 60,
        **fields,
    )


@lowers("max_pool", "average_pool", types=FLOAT | {UINT8})
def lower_pool(node: Node, builder: PlanBuilder) -> bool:
    if not _poolable(node, builder):
        return False
    w = resolve_windows(
        node,
        builder.type(node.inputs[0]).shape[2:],
        kernel=node["kernel_shape"],
        ceil_mode=bool(node["ceil_mode"]),
    )
    include_pad = bool(node.attributes.get("count_include_pad", 0))
    _check_windows(node, builder, sum(w.out))
    windows = [axis_windows(w, i, include_pad=include_pad) for i in range(len(w.out))]
    if builder.type(node.inputs[0]).dtype == UINT8:
        byte_pool_step(node, builder, windows, w.dilation, mode="max")
        return True
    pool_step(node, builder, "max" if node.op == "max_pool" else "average", windows, w.dilation)
    return True


@lowers("global_average_pool", "global_max_pool", types=FLOATS | {UINT8})
def lower_global_pool(node: Node, builder: PlanBuilder) -> bool:
    activation, dtype = node.attributes.get("activation"), builder.type(node.inputs[0]).dtype
    if not _poolable(node, builder) or (dtype == FLOAT64 and activation is not None):
        return False
    if dtype == UINT8:
        sizes = builder.type(node.inputs[0]).shape[2:]
        byte_pool_step(node, builder, [*map(whole_axis, sizes)], (1,) * len(sizes), mode="max")
        return True
    if not builder.is_blocked(node.inputs[0]) and activation is None:
        _reduce_plain(node, builder)
        return True
    spatial = builder.type(node.inputs[0]).shape[2:]
    mode = "max" if node.op == "global_max_pool" else "average"
    pool_step(node, builder, mode, [*map(whole_axis, spatial)], (1,) * len(spatial))
    return True


def _reduce_plain(node: Node, builder: PlanBuilder) -> None:
    """Reduces a plain tensor without a reorder: the pixels of a channel follow each other."""
    x = builder.plain(node.inputs[0])
    y = builder.new_plain(node.outputs[0])
    kind = "max" if node.op == "global_max_pool" else "mean"
    shape = (math.prod(x.type.shape[:2]), math.prod(x.type.shape[2:]), 1)
    reduce_step(builder, kind, x.at, y.at, shape, x.type.dtype)


@lowers("adaptive_average_pool", "adaptive_max_pool")
def lower_adaptive_pool(node: Node, builder: PlanBuilder) -> bool:
    if not _poolable(node, builder):
        return False
    spatial, out = builder.type(node.inputs[0]).shape[2:], builder.type(node.outputs[0]).shape[2:]
    op = OPS[node.op]
    assert isinstance(op, Adaptive)
    _check_windows(node, builder, sum(out))
    bounds = [call(op.bounds, n, o) for n, o in zip(spatial, out, strict=True)]
    windows = [call(lambda b: np.hstack([b, np.diff(b)]), axis) for axis in bounds]
    mode = "max" if node.op == "adaptive_max_pool" else "average"
    pool_step(node, builder, mode, windows, (1,) * len(spatial))
    return True
