"""Operators on bytes: convolutions and linear layers, whose sums are requantised in registers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _core
from ..cost import im2col_time
from ..dtypes import FLOAT32, UINT8
from ..graph import Array, Node
from ..layout.tensors import BLOCK, At, Border, ceil_div
from ..ops.requantised import Addition
from ..ops.windows import Windows, resolve_windows
from .builder import PlanBuilder
from .conv_im2col import group_windows
from .conv_lowering import conv_shape, per_axis, three
from .in_place import blocked_over, plain_over
from .quantised_weights import (
    QUAD,
    count_of,
    depthwise_quads,
    pack,
    pack_rows,
    panel_of,
    parts_of,
    together,
)
from .registry import ALL_TYPES, borders, lowers
from .step_list import epilogue


def requant(node: Node, builder: PlanBuilder, channels: int) -> dict[str, Any]:
    """The fields by which a kernel requantises its sums; see Requant of args.h."""
    floats, bias, table = node["floats"], node.input(2), node.input(5)
    value = builder.constant(bias)
    how: Addition = node["addition"] or Addition(0.0, 0.0, 0.0)
    fields: dict[str, Any] = {
        "requant": (
            *(floats, node["zero"], node["low"], node["high"]),
            *(how.mine, how.other, how.constant, int(how.first), how.shift),
            *(int(how.middle is not None), *(how.middle or (0, 0, 0))),
        ),
    }
    if node.input(3):
        fields["factors"] = _padded(builder, node.inputs[3], channels)
    if table:
        fields["table"] = builder.constant_memory(table, "table", _constant(builder, table))
    if floats and value is not None and value.dtype == np.float32:
        fields["added"] = _padded(builder, bias, channels)
    return fields


def _constant(builder: PlanBuilder, name: str) -> Array:
    value = builder.constant(name)
    assert value is not None
    return value


def _padded(builder: PlanBuilder, name: str, channels: int) -> Any:
    """A vector of floats in whole blocks."""
    padded = np.zeros(ceil_div(channels, BLOCK) * BLOCK, np.float32)
    padded[:channels] = _constant(builder, name)
    return builder.constant_memory(name, f"blocks of {channels}", padded)


def sums_bias(node: Node, builder: PlanBuilder, weight: Array) -> Any:
    """The bias of sums of x itself, in whole blocks: without the share of x's zero point."""
    channels = weight.shape[0]
    name, zero = node.input(2), node["x_zero"]
    value = builder.constant(name) if name else None
    padded = np.zeros(ceil_div(channels, BLOCK) * BLOCK, np.int64)
    if value is not None and value.dtype != np.float32:
        padded[:channels] = value
    key = name or node.inputs[1]
    if zero:
        total = np.asarray(weight).reshape(channels, -1).sum(axis=1, dtype=np.int64)
        padded[:channels] -= zero * total
    # Sums wrap; that of x less its zero point fits.
    wrapped = padded.astype(np.uint64).astype(np.uint32).view(np.int32)
    return builder.constant_memory(key, f"sums {node.outputs[0]} {zero}", wrapped)


def windows_of(node: Node, builder: PlanBuilder) -> Windows:
    """The windows of a convolution over its input."""
    weight = builder.type(node.inputs[1]).shape
    return resolve_windows(node, builder.type(node.inputs[0]).shape[2:], kernel=weight[2:])


def _is_depthwise(node: Node, builder: PlanBuilder) -> bool:
    x, weight = builder.type(node.inputs[0]).shape, builder.type(node.inputs[1])
    alone = node["group"] == x[1] == weight.shape[0]
    # Parts of weights of 9 bits are planes of the kernel, which must have no others.
    alone &= weight.dtype == np.int8 or len(x) < 5
    return alone and x[1] > 1 and not node["floats"] and not node.input(4)


def _has_kernel(node: Node, builder: PlanBuilder) -> bool:
    weight = builder.constant(node.inputs[1])
    given = [name for name in (node.input(2), node.input(3), node.input(5)) if name]
    if weight is None or any(builder.constant(name) is None for name in given):
        return False
    return len(builder.type(node.inputs[0]).shape) <= 5 and weight.size > 0


@borders("qconv")
def conv_borders(node: Node, builder: PlanBuilder) -> Mapping[str, Border]:
    if not _has_kernel(node, builder):
        return {}
    w = windows_of(node, builder)
    begin, end = three(w.begin, 0), list(three(w.end, 0))
    if _is_depthwise(node, builder):
        # The last quad of a row reads beyond the window.
        width = three(w.kernel, 1)[2]
        end[2] += (ceil_div(width, QUAD) * QUAD - width) * three(w.dilation, 1)[2]
    border = Border(*map(max, begin, end))
    if any((*w.begin, *w.end)):
        builder.tensors.require_fill(node.inputs[0], node["x_zero"])
    return {node.inputs[0]: border}


@lowers("qconv", types=ALL_TYPES)
def lower_qconv(node: Node, builder: PlanBuilder) -> bool:
    if not _has_kernel(node, builder):
        return False
    w = windows_of(node, builder)
    if any((*w.begin, *w.end)) and builder.tensors.fill(node.inputs[0]) != node["x_zero"]:
        return False  # two readers of one tensor take other values for zero
    if _is_depthwise(node, builder):
        _depthwise(node, builder, w)
    else:
        _im2col(node, builder, w)
    return True


def _cost(builder: PlanBuilder, w: Windows, c: int, m: int) -> float:
    machine = builder.machine
    bandwidth = machine.cold if builder.weights_are_cold else machine.warm
    return im2col_time(machine, conv_shape(w, c, m)._replace(dtype=UINT8), bandwidth)


def _left_out(node: Node, builder: PlanBuilder, weight: Array, w: Windows) -> dict[str, Any]:
    """The fields by which conv_u8 leaves out taps that read only padding."""
    if not w.padded or math.prod(w.kernel) == 1:
        return {}
    fields: dict[str, Any] = per_axis(w, "kernel", "stride", "dilation", "begin", "size")
    zero = node["x_zero"]
    if zero:
        channels = weight.shape[0]
        sums = np.asarray(weight).reshape(*weight.shape[:2], -1).sum(axis=1, dtype=np.int64)
        share = np.zeros((sums.shape[1], ceil_div(channels, BLOCK) * BLOCK), np.int32)
        share[:, :channels] = zero * sums.T
        key = node.inputs[1]
        fields["share"] = builder.constant_memory(key, f"share {node.outputs[0]} {zero}", share)
    return fields


def _im2col(node: Node, builder: PlanBuilder, w: Windows) -> None:
    weight = _constant(builder, node.inputs[1])
    x = builder.blocked(node.inputs[0])
    residual = builder.blocked(node.inputs[4]) if node.input(4) else None
    y = blocked_over(builder, node.outputs[0], node.input(4))
    kernel, dilation, stride = (three(v, 1) for v in (w.kernel, w.dilation, w.stride))
    begin, taps, group = three(w.begin, 0), math.prod(w.kernel), node["group"]
    count = count_of(weight)
    m, group_c = weight.shape[:2]
    tap_offsets = [
        d * dilation[0] * x.plane + h * dilation[1] * x.row + k * dilation[2] * BLOCK
        for d in range(kernel[0])
        for h in range(kernel[1])
        for k in range(kernel[2])
    ]
    fields: dict[str, Any]
    if group == 1:
        panel, blocks_read = panel_of(weight, taps), x.blocks
        packed = _packed(
            builder,
            node.inputs[1],
            "quads",
            panel * y.blocks,
            lambda v: pack(builder, v.reshape(m, group_c, taps), group_c),
        )
        rest = x.c % BLOCK
        fields = {
            "taps": x.c // BLOCK * taps,
            "last_taps": taps if rest else 0,
            "last_depth": rest,
        }
    else:
        window, blocks_read = group_windows(x.c, m, group)
        panel = count * blocks_read * BLOCK * taps * BLOCK
        last = x.c - (x.blocks - 1) * BLOCK
        depths = [last if first + blocks_read == x.blocks else BLOCK for first in window]

        def packed_parts(v: Array) -> Any:
            parts = [np.ascontiguousarray(p) for p in parts_of(v.reshape(m, group_c, taps))]
            packed = [
                _core.pack_conv_grouped(p, group, window, blocks_read, builder.team) for p in parts
            ]
            whole = (blocks_read - 1) * taps * BLOCK * BLOCK
            return packed[0] if count == 1 else together(packed, whole, taps, depths)

        packed = _packed(
            builder, node.inputs[1], f"grouped quads {group}", panel * y.blocks, packed_parts
        )
        table = [v for first, d in zip(window, depths, strict=True) for v in (first * x.block, d)]
        fields = {
            "taps": count * (blocks_read - 1) * taps,
            "last_taps": count * taps,
            "last_depth": BLOCK,
            "windows": builder.table(table),
        }
    offsets = [b * x.block + tap for b in range(blocks_read) for tap in tap_offsets]
    if group > 1:
        offsets = offsets[:-taps] * count + offsets[-taps:] * count
    elif count > 1:
        offsets *= count
        fields = {"taps": len(offsets), "last_taps": 0, "last_depth": 0}
    flat = (
        taps == 1
        and stride == (1, 1, 1)
        and all(t.contiguous for t in (x, y, residual) if t is not None)
    )
    out_d, out_h, out_w = y.spatial
    more_weights = panel * y.blocks > x.block * x.blocks + y.block * y.blocks
    builder.step(
        "conv_u8",
        x=x.view(-begin[0], -begin[1], -begin[2]),
        y=y.view(),
        residual=residual.view() if residual else None,
        weight=packed,
        bias=sums_bias(node, builder, weight),
        offsets=builder.table(offsets),
        panel=panel,
        n=y.n,
        out_d=out_d,
        out_h=out_h,
        out_w=out_w,
        blocks=y.blocks,
        step_d=stride[0] * x.plane,
        step_h=stride[1] * x.row,
        step_w=stride[2] * BLOCK,
        flat=int(flat),
        order="channels" if more_weights else "rows",
        epilogue=epilogue(node["activation"]),
        **requant(node, builder, m),
        note="im2col of bytes" if group == 1 else f"im2col of bytes, {group} groups",
        cost_ns=_cost(builder, w, group_c, m),
        **_left_out(node, builder, weight, w),
        **fields,
    )


def _packed(builder: PlanBuilder, name: str, kind: str, nbytes: int, make: Any) -> Any:
    return builder.weight(name, kind, nbytes // FLOAT32.itemsize, make)


def _depthwise(node: Node, builder: PlanBuilder, w: Windows) -> None:
    x = builder.blocked(node.inputs[0])
    y = builder.new_blocked(node.outputs[0])
    weight = _constant(builder, node.inputs[1])
    kernel, begin = three(w.kernel, 1), three(w.begin, 0)
    quads = ceil_div(kernel[2], QUAD)
    planes = kernel[0] * count_of(weight)
    nbytes = y.blocks * planes * kernel[1] * quads * BLOCK * QUAD
    packed = _packed(
        builder,
        node.inputs[1],
        "depthwise quads",
        nbytes,
        lambda v: _core.Memory(
            depthwise_quads(
                np.concatenate(parts_of(v.reshape(v.shape[0], *kernel)), axis=1, dtype=np.int8)
            )
        ),
    )
    out_d, out_h, out_w = y.spatial
    fields = per_axis(w, "kernel", "stride", "dilation")
    if planes > kernel[0]:
        fields |= {"kernel_d": planes, "dilation_d": 0}  # all read the same plane of x
    products = y.c * math.prod(kernel) * math.prod(w.out)
    builder.step(
        "depthwise_u8",
        x=x.view(-begin[0], -begin[1], -begin[2]),
        y=y.view(),
        weight=packed,
        bias=sums_bias(node, builder, weight),
        n=y.n,
        blocks=y.blocks,
        out_d=out_d,
        out_h=out_h,
        out_w=out_w,
        **requant(node, builder, y.c),
        note="depthwise of bytes",
        cost_ns=products / (0.35 * builder.machine.macs[UINT8]),
        **fields,
    )


@lowers("qlinear", types=ALL_TYPES)
def lower_qlinear(node: Node, builder: PlanBuilder) -> bool:
    if not _has_kernel(node, builder):
        return False
    weight = _constant(builder, node.inputs[1])
    columns, depth = weight.shape
    x = builder.plain(node.inputs[0])
    residual = builder.plain(node.inputs[4]) if node.input(4) else None
    rows = x.type.size // depth
    count = count_of(weight)
    source, whole = x.at, depth
    if count > 1:
        source, whole = _repeated(builder, x.at, rows, depth, count)
    packed = _packed(
        builder,
        node.inputs[1],
        "quads",
        ceil_div(columns, BLOCK) * ceil_div(whole, QUAD) * QUAD * BLOCK,
        lambda v: pack_rows(builder, v.reshape(columns, depth)),
    )
    y = plain_over(builder, node.outputs[0], node.input(4))
    machine = builder.machine
    bandwidth = machine.cold if builder.weights_are_cold else machine.warm
    compute = rows * columns * whole / machine.macs[UINT8]
    builder.step(
        "linear_u8",
        x=source,
        y=y.at,
        residual=residual.at if residual else None,
        weight=packed,
        bias=sums_bias(node, builder, weight),
        rows=rows,
        depth=whole,
        columns=columns,
        x_row=whole,
        y_row=columns,
        residual_row=columns,
        order="channels" if weight.size > rows * (depth + columns) else "rows",
        epilogue=epilogue(node["activation"]),
        **requant(node, builder, columns),
        note="linear of bytes",
        cost_ns=machine.time_overlapped(compute, count * weight.size / bandwidth),
    )
    return True


def _repeated(builder: PlanBuilder, x: At, rows: int, depth: int, count: int) -> tuple[At, int]:
    """Rows of bytes, each `count` times side by side, for as many parts of the weights."""
    y = At(builder.new_buffer(rows * depth * count), 0)
    shape, whole = (rows, count, depth), count * depth
    builder.copy_strided(x, y, shape, (depth, 0, 1), (whole, depth, 1), 1, "parts of weights")
    return y, whole
