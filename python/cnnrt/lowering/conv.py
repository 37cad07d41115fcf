"""Convolution: the choice of algorithm, and the algorithms that are one plain kernel call.

Implicit im2col is in `conv_im2col`, Winograd's algorithm in `conv_winograd`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .. import _core
from ..cost import LARGE_TILE, Machine, im2col_time, winograd_time
from ..dtypes import FLOAT32, FLOAT64
from ..graph import Array, Node
from ..layout.strides import Strided, blocked_shape
from ..layout.tensors import BLOCK, Border
from ..ops.windows import Windows, resolve_windows
from ..symbolic import call, memo
from .builder import PlanBuilder
from .conv_im2col import im2col, live_share, row_bands
from .conv_lowering import Choice, ConvLowering, conv_shape, per_axis
from .conv_rows import ROW_TILE, ROWS_TIME, fits_rows, transformed_rows
from .conv_winograd import winograd, winograd_tiles
from .dense import linear_step
from .doubles import lower_conv_double
from .registry import FLOATS, borders, lowers
from .step_list import epilogue

PLANAR_CHANNELS = 15
"""Maximum input channels of a plain input that is read in place: blocking it would not pay."""

MOST_PACKED = 32 << 20
"""Maximum number of packed weights that one convolution may have unless it is asked to. The head of
FCN-ResNet-50, 3x3 over 2048 channels, takes 67 MB by winograd2 and 151 by winograd4. The network
needs 15 % less memory with the former, and 2 % more time."""


def windows_of(node: Node, builder: PlanBuilder) -> Windows:
    """The windows of a convolution over its input."""
    known = builder.windows.get(node.outputs[0])
    if known is None:
        types = builder.graph.types
        x, weight = types[node.inputs[0]].shape, types[node.inputs[1]].shape
        known = resolve_windows(node, x[2:], kernel=weight[2:])
        builder.windows[node.outputs[0]] = known
    return known


def choose(node: Node, builder: PlanBuilder) -> Choice | None:
    """The algorithm of a convolution; None: its reference, as its weights are computed."""
    choices = builder.choices
    if node.name not in choices:
        choices[node.name] = _choose(node, builder)
    return choices[node.name]


def _choose(node: Node, builder: PlanBuilder) -> Choice | None:
    constants, inputs = builder.graph.constants, node.inputs
    x, weight = builder.graph.types[inputs[0]].shape, constants.get(inputs[1])
    if weight is None or len(x) > 5 or 0 in x or 0 in weight.shape:
        return None
    if len(inputs) > 2 and inputs[2] and inputs[2] not in constants:
        return None
    w = windows_of(node, builder)
    group, (m, c) = node.attributes["group"], weight.shape[:2]
    costs = _costs(builder.machine, builder.weights_are_cold, w, c, m)
    im2col_ns = costs.all[0].cost_ns
    if len(inputs) > 4:  # scaled: the kernel's factors are those of 1x1 panels
        alone = group == math.prod(w.kernel) == 1 and not w.padded
        return Choice("im2col", "weights scaled by image", im2col_ns) if alone else None
    in_place = (
        x[1] <= PLANAR_CHANNELS
        and math.prod(x[1:]) < 1 << 31  # tap offsets have 32 bits
        and inputs[0] in builder.tensors.of_inputs
    )
    # One channel of the input is as good as a plain image, and that needs no blocking.
    if group == x[1] and c == 1 and m == group:
        taps = math.prod(w.kernel)
        if not (in_place and group == 1 and taps > 1):
            macs = m * taps * math.prod(w.out)
            depthwise_ns = macs / (0.6 * builder.machine.macs[FLOAT32])
            return Choice("depthwise", "one filter per channel", depthwise_ns)
    if group > 1:
        return Choice("im2col", f"{group} groups", im2col_ns)
    if math.prod(x[2:]) == 1 and math.prod(w.out) == 1 and not w.padded:
        return Choice("linear", "a single pixel", im2col_ns)
    requested = builder.options.algorithms.of(node.name)
    if in_place:
        reason = f"{x[1]} input channels, read in place"
        if requested != "im2col" and m >= BLOCK and fits_rows(w, x[1], builder.machine):
            rows_ns = im2col_ns * ROWS_TIME
            return Choice("planar", f"{reason}; F(4, 7) along rows", rows_ns, ROW_TILE)
        return Choice("planar", reason, im2col_ns)
    if requested != "auto":
        for choice in costs.all:
            if choice.kind == requested:
                return choice._replace(reason="asked for")
    return costs.cheapest


class _Costs(NamedTuple):
    """The algorithms that can do a convolution of one group on whole images."""

    all: tuple[Choice, ...]
    """With im2col first."""
    cheapest: Choice
    """With the costs of all as its reason."""


@memo(1024)  # blocks of a network repeat their layers
def _costs(machine: Machine, cold: bool, w: Windows, c: int, m: int) -> _Costs:
    """The costs of a convolution from c to m channels."""
    shape = conv_shape(w, c, m)
    bandwidth = machine.cold if cold else machine.warm
    rows_join = w.in_3d.out[2] == 1 or _is_column(w.in_3d)
    one_row = shape._replace(out_h=1, out_w=shape.out_h * shape.out_w) if rows_join else shape
    direct_ns = im2col_time(machine, one_row, bandwidth) * live_share(w)
    found = [Choice("im2col", "", direct_ns)]
    paddings = zip((*w.begin, *w.end), w.dilation * 2, strict=True)
    usual = all(padding <= 2 * dilation for padding, dilation in paddings)
    if usual and (len(w.kernel) < 3 or c % BLOCK == 0):
        for tile in winograd_tiles(w.kernel, w.stride, w.dilation):
            cost_ns, kind = winograd_time(machine, shape, tile, bandwidth), f"winograd{tile}"
            found.append(Choice(kind, "", cost_ns, tile))
    unasked = [
        choice
        for choice in found
        if choice.tile != LARGE_TILE
        and (choice.tile in (None, 2) or shape.positions(choice.tile) * c * m <= MOST_PACKED)
    ]
    reason = ", ".join(f"{choice.kind} {choice.cost_ns / 1e3:.0f} us" for choice in unasked)
    best, *others = unasked
    # With fewer channels, the transforms cost more than they save, as measured.
    if others and c >= BLOCK and m >= BLOCK:
        costs = [choice.cost_ns for choice in others]
        cost_ns = call(min, *costs) if len(costs) > 1 else costs[0]
        if cost_ns < best.cost_ns:  # only this, not the tile, decides the layout
            tile = call(_tile_of_least, *[choice.tile for choice in others], *costs)
            best = Choice(f"winograd{tile}", "", cost_ns, tile)
    return _Costs(tuple(found), Choice(best.kind, reason, best.cost_ns, best.tile))


def _is_column(w: Windows) -> bool:
    """True if windows are one pixel wide and a row of outputs is as long as one of inputs."""
    return w.kernel[2] == 1 and w.stride[1:] == (1, 1) and w.out[2] == w.size[2]


def _tile_of_least(*tiles_and_costs: Any) -> int:
    """The first tile with the least cost; the tiles come before their costs."""
    count = len(tiles_and_costs) // 2
    costs = tiles_and_costs[count:]
    tile: int = tiles_and_costs[costs.index(min(costs))]
    return tile


def algorithms(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[str, ...]:
    """The algorithms of a convolution that can be requested by name; one if there is no choice."""
    return "im2col", *(f"winograd{tile}" for tile in winograd_tiles(kernel, stride, dilation))


@borders("conv")
def conv_borders(node: Node, builder: PlanBuilder) -> Mapping[str, Border]:
    choice = choose(node, builder)
    if choice is None or choice.kind != "im2col":
        return {}
    w = windows_of(node, builder)
    if not w.padded:
        return {}
    border = Border(*map(max, w.in_3d.begin, w.in_3d.end))
    if len(row_bands(w)) > 1:  # none of its taps leaves the image
        border = border._replace(h=0)
    return {node.inputs[0]: border}


@lowers("conv", types=FLOATS)
def lower_conv(node: Node, builder: PlanBuilder) -> bool:
    if builder.type(node.inputs[0]).dtype == FLOAT64:
        return lower_conv_double(node, builder, windows_of(node, builder))
    choice = choose(node, builder)
    if choice is None:
        return False
    weight = builder.constant(node.inputs[1])
    assert weight is not None
    if choice.kind == "linear":
        linear_step(node, builder, f"{choice.kind}: {choice.reason}")
        return True
    w = windows_of(node, builder)
    if choice.kind == "depthwise" and _is_affine(node, builder, w, weight):
        _affine(node, builder, weight)
        return True
    conv = ConvLowering(node, builder, choice, w, weight)
    if choice.kind == "planar":
        _planar(conv)
    elif choice.kind == "depthwise":
        _depthwise(conv)
    elif choice.tile is None:
        im2col(conv)
    else:
        winograd(conv, choice.tile)
    return True


def _is_affine(node: Node, builder: PlanBuilder, w: Windows, weight: Array) -> bool:
    """True if a depthwise convolution only scales and shifts the channels of a plain tensor."""
    if weight.size != len(weight) or len(node.inputs) > 3 or builder.is_blocked(node.inputs[0]):
        return False
    return not w.padded and max(w.stride) == 1


def _affine(node: Node, builder: PlanBuilder, weight: Array) -> None:
    """Batch normalisation alone: two passes over x are half of what blocking it takes."""
    x, y = builder.plain(node.inputs[0]), builder.new_plain(node.outputs[0])
    shape = x.type.shape
    per_channel = [0, 1, *[0] * (len(shape) - 2)]
    out = Strided.of_plain(y, shape)
    factor = Strided(builder.constant_memory(node.inputs[1], "plain", weight), per_channel)
    shift = Strided(builder.bias(node, len(weight)), per_channel)
    builder.elementwise("mul", shape, Strided.of_plain(x, shape), factor, out)
    builder.elementwise("add", shape, out, shift, out, node["activation"])


def _planar(conv: ConvLowering) -> None:
    """Reads the input as it lies, row-major."""
    builder, w, m, c = conv.builder, conv.windows, conv.m, conv.group_c
    x = builder.plain(conv.node.inputs[0])
    y = builder.new_blocked(conv.node.outputs[0])
    panel = c * math.prod(w.kernel) * BLOCK
    packed = builder.weight(
        conv.weight_name,
        "planar",
        y.blocks * panel,
        lambda value: _core.pack_planar(value.reshape(m, c, -1), builder.team),
    )
    rows = {} if conv.choice.tile is None else {"transformed": transformed_rows(conv, y)}
    in_d, in_h, in_w = w.in_3d.size
    out_d, out_h, out_w = y.spatial
    builder.step(
        "conv_planar_winograd" if rows else "conv_planar",
        x=x.at,
        weight=packed,
        y=y.view(),
        panel=panel,
        n=y.n,
        c=c,
        in_d=in_d,
        in_h=in_h,
        in_w=in_w,
        out_d=out_d,
        out_h=out_h,
        out_w=out_w,
        blocks=y.blocks,
        note=conv.note,
        cost_ns=conv.cost_ns,
        **rows,
        **per_axis(w, "kernel", "stride", "begin", "dilation"),
        **conv.epilogue(),
    )


def _depthwise(conv: ConvLowering) -> None:
    """One filter per channel; a residual is added by a step of its own."""
    builder, w, residual = conv.builder, conv.windows, conv.residual
    x = builder.blocked(conv.node.inputs[0])
    y = builder.new_blocked(conv.node.outputs[0])
    packed = builder.weight(
        conv.weight_name,
        "depthwise",
        y.blocks * BLOCK * math.prod(w.kernel),
        lambda value: _core.pack_depthwise(value.reshape(value.shape[0], -1)),
    )
    out_d, out_h, out_w = y.spatial
    builder.step(
        "depthwise",
        x=x.view(),
        weight=packed,
        y=y.view(),
        n=y.n,
        blocks=y.blocks,
        out_d=out_d,
        out_h=out_h,
        out_w=out_w,
        bias=conv.bias,
        epilogue=None if residual else epilogue(conv.activation),
        note=conv.note,
        cost_ns=conv.cost_ns,
        **per_axis(w, "size", "kernel", "stride", "begin", "dilation"),
    )
    if residual:
        at = Strided.of_blocked(y)
        added = Strided.of_blocked(residual)
        builder.elementwise("add", blocked_shape(y), at, added, at, conv.activation)
