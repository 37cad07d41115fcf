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
from ..layout.tensors import BLOCK, Border, ceil_div
from ..ops.requantised import Addition
from ..ops.windows import Windows, resolve_windows
from .builder import PlanBuilder
from .conv_im2col import group_windows
from .conv_lowering import conv_shape, per_axis, three
from .registry import ALL_TYPES, borders, lowers
from .step_list import epilogue

QUAD = 4
"""Inputs that one step of a product of bytes takes."""


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


def parts_of(weight: Array) -> list[Array]:
    """Weights of 9 bits as the sum of two of 8, or of three if one is 255."""
    rest, parts = np.asarray(weight), []
    if weight.dtype == np.int8:
        return [rest]
    for _ in range(_count(weight)):
        part = np.clip(rest, -128, 127)
        parts.append(part.astype(np.int8))
        rest = rest - part
    return parts


def _count(weight: Array) -> int:
    """How many int8 weights are added for one."""
    if weight.dtype == np.int8:
        return 1
    return 3 if np.asarray(weight).max() > 254 else 2


def pack(builder: PlanBuilder, weight: Array, channels: int) -> Any:
    """Weights (M, C, taps) as panels; parts of those of 9 bits as further channels."""
    parts = parts_of(weight)
    if len(parts) > 1:
        missing = ceil_div(channels, BLOCK) * BLOCK - channels
        parts = [np.pad(part, ((0, 0), (0, missing), (0, 0))) for part in parts]
    whole = np.ascontiguousarray(np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0])
    return _core.pack_conv(whole, builder.threads)


def panel_of(weight: Array, taps: int) -> int:
    """Bytes of one block's panel of weights (M, C, ...)."""
    channels: int = weight.shape[1]
    if weight.dtype != np.int8:
        return _count(weight) * ceil_div(channels, BLOCK) * BLOCK * taps * BLOCK
    steps = channels // BLOCK * QUAD + ceil_div(channels % BLOCK, QUAD)
    return steps * taps * BLOCK * QUAD


def windows_of(node: Node, builder: PlanBuilder) -> Windows:
    """The windows of a convolution over its input."""
    weight = builder.type(node.inputs[1]).shape
    return resolve_windows(node, builder.type(node.inputs[0]).shape[2:], kernel=weight[2:])


def _is_depthwise(node: Node, builder: PlanBuilder) -> bool:
    x, weight = builder.type(node.inputs[0]).shape, builder.type(node.inputs[1])
    alone = node["group"] == x[1] == weight.shape[0] and weight.dtype == np.int8
    return alone and x[1] > 1 and not node["floats"] and not node.input(4)


def _has_kernel(node: Node, builder: PlanBuilder) -> bool:
    weight = builder.constant(node.inputs[1])
    given = [name for name in (node.input(2), node.input(3), node.input(5)) if name]
    if weight is None or any(builder.constant(name) is None for name in given):
        return False
    x = builder.type(node.inputs[0]).shape
    wide = weight.dtype != np.int8
    return len(x) <= 5 and weight.size > 0 and not (wide and node.attributes.get("group", 1) > 1)


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


def _im2col(node: Node, builder: PlanBuilder, w: Windows) -> None:
    weight = _constant(builder, node.inputs[1])
    x = builder.blocked(node.inputs[0])
    residual = builder.blocked(node.inputs[4]) if node.input(4) else None
    y = builder.new_blocked(node.outputs[0])
    kernel, dilation, stride = (three(v, 1) for v in (w.kernel, w.dilation, w.stride))
    begin, taps, group = three(w.begin, 0), math.prod(w.kernel), node["group"]
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
        panel = blocks_read * BLOCK * taps * BLOCK
        packed = _packed(
            builder,
            node.inputs[1],
            f"grouped quads {group}",
            panel * y.blocks,
            lambda v: _core.pack_conv_grouped(
                np.ascontiguousarray(v.reshape(m, group_c, taps)),
                group,
                window,
                blocks_read,
                builder.threads,
            ),
        )
        last = x.c - (x.blocks - 1) * BLOCK
        depths = [last if first + blocks_read == x.blocks else BLOCK for first in window]
        table = [v for first, d in zip(window, depths, strict=True) for v in (first * x.block, d)]
        fields = {
            "taps": (blocks_read - 1) * taps,
            "last_taps": taps,
            "last_depth": BLOCK,
            "windows": builder.table(table),
        }
    offsets = [b * x.block + tap for b in range(blocks_read) for tap in tap_offsets]
    if weight.dtype != np.int8:
        offsets *= _count(weight)
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
    nbytes = y.blocks * kernel[0] * kernel[1] * quads * BLOCK * QUAD
    packed = _packed(
        builder,
        node.inputs[1],
        "depthwise quads",
        nbytes,
        lambda v: _core.Memory(depthwise_quads(v.reshape(v.shape[0], *kernel))),
    )
    out_d, out_h, out_w = y.spatial
    fields = per_axis(w, "kernel", "stride", "dilation")
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


def depthwise_quads(weight: Array) -> Array:
    """Weights (C, D, H, W) as [C / 16][D][H][W / 4][16][4], with zeros beyond."""
    c, d, h, width = weight.shape
    blocks, quads = ceil_div(c, BLOCK), ceil_div(width, QUAD)
    padded = np.zeros((blocks * BLOCK, d, h, quads * QUAD), np.int8)
    padded[:c, :, :, :width] = weight
    parts = padded.reshape(blocks, BLOCK, d, h, quads, QUAD)
    return np.ascontiguousarray(parts.transpose(0, 2, 3, 4, 1, 5))


@lowers("qlinear", types=ALL_TYPES)
def lower_qlinear(node: Node, builder: PlanBuilder) -> bool:
    if not _has_kernel(node, builder) or _constant(builder, node.inputs[1]).dtype != np.int8:
        return False
    weight = _constant(builder, node.inputs[1])
    columns, depth = weight.shape
    x = builder.plain(node.inputs[0])
    residual = builder.plain(node.inputs[4]) if node.input(4) else None
    rows = x.type.size // depth
    panel = ceil_div(depth, QUAD) * QUAD * BLOCK
    packed = _packed(
        builder,
        node.inputs[1],
        "quads",
        ceil_div(columns, BLOCK) * panel,
        lambda v: pack(builder, v.reshape(columns, depth, 1), depth),
    )
    y = builder.new_plain(node.outputs[0])
    machine = builder.machine
    bandwidth = machine.cold if builder.weights_are_cold else machine.warm
    compute = rows * columns * depth / machine.macs[UINT8]
    builder.step(
        "linear_u8",
        x=x.at,
        y=y.at,
        residual=residual.at if residual else None,
        weight=packed,
        bias=sums_bias(node, builder, weight),
        rows=rows,
        depth=depth,
        columns=columns,
        x_row=depth,
        y_row=columns,
        residual_row=columns,
        order="channels" if weight.nbytes > rows * (depth + columns) else "rows",
        epilogue=epilogue(node["activation"]),
        **requant(node, builder, columns),
        note="linear of bytes",
        cost_ns=machine.time_overlapped(compute, weight.nbytes / bandwidth),
    )
    return True
