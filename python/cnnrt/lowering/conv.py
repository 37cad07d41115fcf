"""Convolution: the choice of algorithm, the packing of weights, and the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..cost import ConvShape, im2col_time, winograd_batch, winograd_time
from ..graph import Array, Node
from ..layout.tensors import BLOCK, At, Blocked, Border, ceil_div
from ..ops.windows import Windows, resolve_windows
from . import Lowering, Strided, blocked_shape, borders, epilogue, lowers
from .dense import linear_step

PLANAR_CHANNELS = 15
"""Up to this many input channels a plain input is read in place: blocking it would not pay."""

GROUP_LANES = (2, 4, 8)
"""Channels in a group for which the kernel multiplies each lane by its own group's channels. Groups
of other sizes are blocks of 16 x 16 whose weights between the groups are zero."""

MOST_BAND_STEPS = 1 << 20
"""Rows times taps that are searched for bands that need fewer taps: 0.1 s."""

ROOT_2 = math.sqrt(2.0)
TILES_OF_KERNEL = {(3, 3): (2, 4), (1, 3): (2, 4), (3, 1): (2, 4), (5, 5): (2,)}
WINOGRAD_G: dict[tuple[int, int], Array] = {
    # Weight transforms G of F(m, r): of F(2, 3) for the points 0, +-1, of F(4, 3) and F(2, 5) for
    # 0, +-sqrt(1/2), +-sqrt(2); of an axis with one tap none. The input and output transforms that
    # belong to them: cpp/kernels/winograd.cpp.
    (1, 1): np.ones((1, 1)),
    (2, 3): np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    (4, 3): np.array(
        [
            [1, 0, 0],
            [-2 / 3, -ROOT_2 / 3, -1 / 3],
            [-2 / 3, ROOT_2 / 3, -1 / 3],
            [1 / 6, ROOT_2 / 6, 1 / 3],
            [1 / 6, -ROOT_2 / 6, 1 / 3],
            [0, 0, 1],
        ]
    ),
    (2, 5): np.array(
        [
            [1, 0, 0, 0, 0],
            [-2 / 3, -ROOT_2 / 3, -1 / 3, -ROOT_2 / 6, -1 / 6],
            [-2 / 3, ROOT_2 / 3, -1 / 3, ROOT_2 / 6, -1 / 6],
            [1 / 6, ROOT_2 / 6, 1 / 3, ROOT_2 / 3, 2 / 3],
            [1 / 6, -ROOT_2 / 6, 1 / 3, -ROOT_2 / 3, 2 / 3],
            [0, 0, 0, 0, 1],
        ]
    ),
}


@dataclass(frozen=True)
class Choice:
    """How a convolution is done."""

    kind: str  # planar, depthwise, linear, im2col, winograd2, winograd4
    reason: str
    time: float  # predicted, nanoseconds


def three(values: tuple[int, ...], fill: int) -> tuple[int, int, int]:
    """Values per spatial axis, of one to three axes, as of three."""
    d, h, w = (*[fill] * (3 - len(values)), *values)
    return d, h, w


def windows_of(node: Node, to: Lowering) -> Windows:
    known: Windows | None = to.windows.get(node.outputs[0])
    if known is None:
        x, weight = to.type(node.inputs[0]).shape, to.type(node.inputs[1]).shape
        known = to.windows[node.outputs[0]] = resolve_windows(node, x[2:], kernel=weight[2:])
    return known


def choose(node: Node, to: Lowering) -> Choice | None:
    """The way a convolution is done; None: by its reference, as its weights are computed."""
    if node.name in to.choices:
        return to.choices[node.name]  # type: ignore[no-any-return]
    choice = _choose(node, to)
    to.choices[node.name] = choice
    return choice


def _choose(node: Node, to: Lowering) -> Choice | None:
    x, weight = to.type(node.inputs[0]).shape, to.constant(node.inputs[1])
    if weight is None or len(x) > 5 or 0 in (*x, *weight.shape):
        return None
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    if bias and to.constant(bias) is None:
        return None
    w = windows_of(node, to)
    group, (m, c) = node["group"], weight.shape[:2]
    taps = math.prod(w.kernel)
    shape = conv_shape(w, c, m)
    bandwidth = to.machine.cold if to.weights_are_cold else to.machine.warm
    im2col = im2col_time(to.machine, shape, bandwidth)
    if len(node.inputs) > 4:  # scaled: the kernel's factors are those of 1x1 panels
        alone = group == taps == 1 and not any((*w.begin, *w.end))
        return Choice("im2col", "weights scaled by image", im2col) if alone else None
    small = math.prod(x[1:]) < 1 << 31  # tap offsets have 32 bits
    in_place = x[1] <= PLANAR_CHANNELS and small and to.is_input(node.inputs[0])
    # One channel of the input is as good as a plain image, and that needs no blocking.
    if group == x[1] and c == 1 and m == group and not (in_place and group == 1 and taps > 1):
        time = m * taps * math.prod(w.out) / (0.6 * to.machine.macs)
        return Choice("depthwise", "one filter per channel", time)
    if group > 1:
        return Choice("im2col", f"{group} groups", im2col)
    if math.prod(x[2:]) == 1 and math.prod(w.out) == 1 and not any((*w.begin, *w.end)):
        return Choice("linear", "a single pixel", im2col)
    asked = to.algorithm(node.name)
    if in_place:
        return Choice("planar", f"{x[1]} input channels, read in place", im2col)
    times = {"im2col": im2col}
    if max(*w.begin, *w.end) <= 2 and (len(w.kernel) < 3 or c % BLOCK == 0):
        for tile in winograd_tiles(w.kernel, w.stride, w.dilation):
            times[f"winograd{tile}"] = winograd_time(to.machine, shape, tile, bandwidth)
    if asked in times:
        return Choice(asked, "asked for", times[asked])
    # Below 16 channels on a side the transforms cost more than they save, by measurement.
    allowed = times if c >= BLOCK and m >= BLOCK else {"im2col": im2col}
    best = min(allowed, key=lambda k: allowed[k])
    reason = ", ".join(f"{k} {v / 1e3:.0f} us" for k, v in times.items())
    return Choice(best, reason, times[best])


def winograd_tiles(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """Outputs on an axis of the tiles by which Winograd's algorithm can do a convolution: 2 and 4
    with 3 taps on one of the last two axes and 1 or 3 on the other, 2 with 5 on both; none at
    another stride or dilation than 1."""
    if {*stride, *dilation} != {1}:
        return ()
    return TILES_OF_KERNEL.get(three(tuple(kernel), 1)[1:], ())


def algorithms(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[str, ...]:
    """The ways of doing a convolution that can be asked for by name: one, if there is no choice."""
    return "im2col", *(f"winograd{tile}" for tile in winograd_tiles(kernel, stride, dilation))


def conv_shape(w: Windows, c: int, m: int) -> ConvShape:
    """What the cost model needs to know of a convolution from c to m channels."""
    out_d, out_h, out_w = three(w.out, 1)
    return ConvShape(c, m, math.prod(w.kernel), out_h, out_w, out_d, three(w.kernel, 1))


@borders("conv")
def conv_borders(node: Node, to: Lowering) -> Mapping[str, Border]:
    choice = choose(node, to)
    if choice is None or choice.kind != "im2col":
        return {}
    w = windows_of(node, to)
    border = Border(*map(max, three(w.begin, 0), three(w.end, 0)))
    if len(row_bands(w)) > 1:  # none of its taps leaves the image
        border = border._replace(h=0)
    return {node.inputs[0]: border}


@lowers("conv")
def lower_conv(node: Node, to: Lowering) -> bool:
    choice = choose(node, to)
    if choice is None:
        return False
    weight = to.constant(node.inputs[1])
    assert weight is not None
    note = f"{choice.kind}: {choice.reason}"
    if choice.kind == "linear":
        linear_step(node, to, note)
        return True
    if choice.kind == "depthwise" and _is_affine(node, to, weight):
        _affine(node, to, weight)
        return True
    bias = to.bias(node, weight.shape[0])
    residual = node.inputs[3] if len(node.inputs) > 3 and node.inputs[3] else ""
    r = to.blocked(residual) if residual else None
    common = {
        "residual": r.view() if r else None,
        "bias": bias,
        "epilogue": epilogue(node["activation"]),
        "note": note,
        "work": choice.time
        + to.machine.time_of(node["activation"], math.prod(to.type(node.outputs[0]).shape[1:])),
    }
    w = windows_of(node, to)
    if choice.kind == "planar":
        _planar(node, to, w, weight, common)
    elif choice.kind == "depthwise":
        _depthwise(node, to, w, common)
    elif choice.kind == "im2col":
        del common["residual"]
        _im2col(node, to, w, weight, r, common)
    else:
        _winograd(node, to, w, int(choice.kind[-1]), common)
    return True


def _is_affine(node: Node, to: Lowering, weight: Array) -> bool:
    """Whether a depthwise convolution only scales and shifts the channels of a plain tensor."""
    w = windows_of(node, to)
    moved = (*w.begin, *w.end, *(s - 1 for s in w.stride))
    residual = len(node.inputs) > 3
    return bool(weight.size == len(weight)) and not (
        any(moved) or residual or to.is_blocked(node.inputs[0])
    )


def _affine(node: Node, to: Lowering, weight: Array) -> None:
    """Batch normalisation alone: two passes over x are half of what blocking it takes."""
    x, y = to.plain(node.inputs[0]), to.new_plain(node.outputs[0])
    shape = x.type.shape
    per_channel = [0, 1, *[0] * (len(shape) - 2)]
    out = Strided.of_plain(y, shape)
    factor = Strided(to.constant_memory(node.inputs[1], "plain", weight), per_channel)
    shift = Strided(to.bias(node, len(weight)), per_channel)
    to.elementwise("mul", shape, Strided.of_plain(x, shape), factor, out)
    to.elementwise("add", shape, out, shift, out, node["activation"])


FIELDS = {"begin": "pad", "size": "in"}
"""What kernels call the fields of Windows that they call otherwise."""


def _per_axis(w: Windows, *names: str) -> dict[str, Any]:
    """kernel_d, kernel_h, ... from the fields of Windows."""
    fill = {"begin": 0}
    fields = {}
    for name in names:
        values = three(getattr(w, name), fill.get(name, 1))
        for axis, value in zip("dhw", values, strict=True):
            fields[f"{FIELDS.get(name, name)}_{axis}"] = value
    return fields


def _planar(node: Node, to: Lowering, w: Windows, weight: Array, common: dict[str, Any]) -> None:
    x = to.plain(node.inputs[0])
    y = to.new_blocked(node.outputs[0])
    m, c = weight.shape[:2]
    packed = to.weight(
        node.inputs[1],
        "planar",
        y.blocks * BLOCK * c * math.prod(w.kernel),
        lambda value: _core.pack_planar(value.reshape(m, c, -1), to.threads),
    )
    in_d, in_h, in_w = three(w.size, 1)
    out_d, out_h, out_w = y.spatial
    to.step(
        "conv_planar",
        x=x.at,
        weight=packed,
        y=y.view(),
        panel=c * math.prod(w.kernel) * BLOCK,
        n=y.n,
        c=c,
        in_d=in_d,
        in_h=in_h,
        in_w=in_w,
        out_d=out_d,
        out_h=out_h,
        out_w=out_w,
        blocks=y.blocks,
        **_per_axis(w, "kernel", "stride", "begin", "dilation"),
        **common,
    )


def _depthwise(node: Node, to: Lowering, w: Windows, common: dict[str, Any]) -> None:
    x = to.blocked(node.inputs[0])
    y = to.new_blocked(node.outputs[0])
    packed = to.weight(
        node.inputs[1],
        "depthwise",
        y.blocks * BLOCK * math.prod(w.kernel),
        lambda value: _core.pack_depthwise(value.reshape(value.shape[0], -1)),
    )
    out_d, out_h, out_w = y.spatial
    residual = common.pop("residual")
    if residual:
        common = {**common, "epilogue": None}
    to.step(
        "depthwise",
        x=x.view(),
        weight=packed,
        y=y.view(),
        n=y.n,
        blocks=y.blocks,
        out_d=out_d,
        out_h=out_h,
        out_w=out_w,
        **_per_axis(w, "size", "kernel", "stride", "begin", "dilation"),
        **common,
    )
    if residual:
        r, at = to.blocked(node.inputs[3]), Strided.of_blocked(y)
        to.elementwise("add", blocked_shape(y), at, Strided.of_blocked(r), at, node["activation"])


class Band(NamedTuple):
    """Rows [first, stop) of the output, which meet the image with taps [tap, stop_tap) only."""

    first: int
    stop: int
    tap: int
    stop_tap: int


@lru_cache(256)
def row_bands(w: Windows) -> list[Band]:
    """The output cut into bands of rows by the taps that meet the image there.

    With a dilation of 12 over 16 rows, as in DeepLab, half of the products are with padding. Where
    less than a quarter is, as with ordinary windows, there is one band with all taps.
    """
    kernel, stride, dilation = (three(v, 1)[1] for v in (w.kernel, w.stride, w.dilation))
    begin, size, out = three(w.begin, 0)[1], three(w.size, 1)[1], three(w.out, 1)[1]
    bands: list[Band] = []
    if out * kernel > MOST_BAND_STEPS:
        return [Band(0, out, 0, kernel)]
    for row in range(out):
        first = row * stride - begin
        live = [k for k in range(kernel) if 0 <= first + k * dilation < size]
        taps = (live[0], live[-1] + 1) if live else (0, kernel)
        if bands and bands[-1][2:] == taps:
            bands[-1] = bands[-1]._replace(stop=row + 1)
        else:
            bands.append(Band(row, row + 1, *taps))
    work = sum((b.stop - b.first) * (b.stop_tap - b.tap) for b in bands)
    outside = any(b.tap * dilation + b.first * stride < begin for b in bands)
    if work > 0.75 * out * kernel or outside:
        return [Band(0, out, 0, kernel)]
    return bands


def _im2col(
    node: Node,
    to: Lowering,
    w: Windows,
    weight: Array,
    residual: Blocked | None,
    common: dict[str, Any],
) -> None:
    x = to.blocked(node.inputs[0])
    y = to.new_blocked(node.outputs[0])
    for band in row_bands(w):
        _im2col_band(node, to, w, weight, x, y, residual, band, common)


def _im2col_band(
    node: Node,
    to: Lowering,
    w: Windows,
    weight: Array,
    x: Blocked,
    y: Blocked,
    residual: Blocked | None,
    band: Band,
    common: dict[str, Any],
) -> None:
    name, group = node.inputs[1], node["group"]
    m, group_c = weight.shape[:2]
    dilation, stride, begin = three(w.dilation, 1), three(w.stride, 1), three(w.begin, 0)
    depth, _, width = three(w.kernel, 1)
    kernel = (depth, band.stop_tap - band.tap, width)
    taps = math.prod(kernel)
    fields: dict[str, Any]

    def flat_weight(value: Array) -> Array:
        by_rows = value.reshape(m, group_c, *three(w.kernel, 1))
        return by_rows[:, :, :, band.tap : band.stop_tap].reshape(m, group_c, taps)

    rows = "" if kernel[1] == three(w.kernel, 1)[1] else f" rows {band.tap} to {band.stop_tap}"
    if group == 1:
        blocks_read = x.blocks
        panel = x.c * taps * BLOCK
        packed = to.weight(
            name,
            f"im2col{rows}",
            panel * y.blocks,
            lambda value: _core.pack_conv(flat_weight(value), to.threads),
        )
        whole = x.c // BLOCK
        fields = {
            "taps": whole * taps,
            "last_taps": 0 if x.c % BLOCK == 0 else taps,
            "last_depth": x.c % BLOCK,
        }
    else:
        window, blocks_read = group_windows(x.c, m, group)
        by_lanes = group_c in GROUP_LANES and m == x.c
        if by_lanes:
            panel = group_c * taps * BLOCK
            packed = to.weight(
                name,
                f"groups{rows}",
                panel * y.blocks,
                lambda value: _core.pack_conv(flat_weight(value), to.threads),
            )
        else:
            panel = blocks_read * BLOCK * taps * BLOCK
            packed = to.weight(
                name,
                f"grouped {group}{rows}",
                panel * y.blocks,
                lambda value: _core.pack_conv_grouped(
                    flat_weight(value), group, window, blocks_read, to.threads
                ),
            )
        # A window that ends in the tensor's last block reads only the channels that exist there.
        depths = [
            x.c - (x.blocks - 1) * BLOCK if first + blocks_read == x.blocks else BLOCK
            for first in window
        ]
        table = [v for first, d in zip(window, depths, strict=True) for v in (first * x.block, d)]
        fields = {
            "taps": (blocks_read - 1) * taps,
            "last_taps": taps,
            "last_depth": BLOCK,
            "windows": to.table(table),
            "group": group_c if by_lanes else 0,
        }
        if not by_lanes and (group_c % BLOCK or (m // group) % BLOCK):
            fields |= {"group_c": group_c, "group_m": m // group}
    tap_offsets = [
        kd * dilation[0] * x.plane + kh * dilation[1] * x.row + kw * dilation[2] * BLOCK
        for kd in range(kernel[0])
        for kh in range(kernel[1])
        for kw in range(kernel[2])
    ]
    offsets = [b * x.block + tap for b in range(blocks_read) for tap in tap_offsets]
    out_d, all_rows, out_w = y.spatial
    out_h = band.stop - band.first
    share = out_h * kernel[1] / (all_rows * three(w.kernel, 1)[1])
    flat = (
        taps == 1
        and out_h == all_rows
        and stride == (1, 1, 1)
        and all(t.contiguous for t in (x, y, residual) if t is not None)
    )
    scale = to.plain(node.inputs[4]) if len(node.inputs) > 4 else None
    weights, activations = panel * y.blocks, (x.block * x.blocks + y.block * y.blocks)
    to.step(
        "conv",
        x=x.view(-begin[0], band.first * stride[1] + band.tap * dilation[1] - begin[1], -begin[2]),
        y=y.view(h=band.first),
        residual=residual.view(h=band.first) if residual else None,
        weight=packed,
        offsets=to.table(offsets),
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
        scale=scale.at if scale else None,
        scale_image=x.c,
        order="channels" if weights > activations else "rows",
        **fields,
        **{**common, "work": common["work"] * share},
    )


def group_windows(c: int, m: int, group: int) -> tuple[list[int], int]:
    """For each block of 16 outputs the first block of channels that it reads; how many all read.

    The windows have one length, so that panels do; the last ones start earlier where they would
    reach beyond the tensor.
    """
    group_c, group_m = c // group, m // group
    blocks = ceil_div(c, BLOCK)
    ranges = []
    for o in range(ceil_div(m, BLOCK)):
        first_group = o * BLOCK // group_m
        last_group = (min(m, (o + 1) * BLOCK) - 1) // group_m
        ranges.append((first_group * group_c // BLOCK, ceil_div((last_group + 1) * group_c, BLOCK)))
    span = max(stop - start for start, stop in ranges)
    return [min(start, blocks - span) for start, _ in ranges], span


def pool_of_tile(node: Node, to: Lowering) -> Node | None:
    """The max pool that alone reads a convolution, if it takes whole windows of 2x2 pixels that do
    not overlap: each lies inside an output tile of Winograd's algorithms."""
    pool = to.sole_reader(node.outputs[0])
    if pool is None or pool.op != "max_pool" or len(pool.outputs) > 1:
        return None
    size = to.type(node.outputs[0]).shape[2:]
    p = resolve_windows(pool, size, pool["kernel_shape"], ceil_mode=bool(pool["ceil_mode"]))
    planes = (1,) * (len(size) - 2)
    fits = (
        p.kernel == p.stride == (*planes, 2, 2)
        and set(p.dilation) == {1}
        and not any((*p.begin, *p.end))
        and p.out == (*size[:-2], size[-2] // 2, size[-1] // 2)
        and pool.attributes.get("activation") is None
    )
    return pool if fits else None


def _winograd(node: Node, to: Lowering, w: Windows, tile: int, common: dict[str, Any]) -> None:
    x = to.blocked(node.inputs[0])
    shape = conv_shape(w, x.c, to.type(node.outputs[0]).shape[1])
    tile_h, tile_w = shape.tile(tile)
    pool = pool_of_tile(node, to) if tile_h == tile_w else None
    if pool is not None:
        to.done_here(pool)
        common = {**common, "note": f"{common['note']}; 2x2 max pool"}
    y = to.new_blocked((pool or node).outputs[0])
    (kernel_d, kernel_h, kernel_w), positions = shape.kernel, shape.positions(tile)
    packed = to.weight(
        node.inputs[1],
        f"winograd{tile}",
        positions * kernel_d * x.c * y.blocks * BLOCK,
        lambda value: _core.pack_winograd(
            value.reshape(*value.shape[:2], *shape.kernel),
            WINOGRAD_G[tile_h, kernel_h],
            WINOGRAD_G[tile_w, kernel_w],
            to.threads,
        ),
    )
    (in_d, in_h, in_w), (out_d, out_h, out_w) = x.spatial, three(w.out, 1)
    pad_d, pad_h, pad_w = three(w.begin, 0)
    batch = winograd_batch(to.machine, shape, tile)
    fields = {
        "x": x.view(),
        "y": y.view(),
        "weight": packed,
        "taps": max(kernel_h, kernel_w),
        "tile_h": tile_h,
        "tile_w": tile_w,
        "batch": batch,
        "n": y.n,
        "c": x.c,
        "in_d": in_d,
        "in_h": in_h,
        "in_w": in_w,
        "out_d": out_d,
        "out_h": out_h,
        "out_w": out_w,
        "blocks": y.blocks,
        "kernel_d": kernel_d,
        "pad_d": pad_d,
        "pad_h": pad_h,
        "pad_w": pad_w,
        "pooled": int(pool is not None),
        **common,
    }
    weight_bytes = positions * kernel_d * x.c * y.blocks * BLOCK * 4
    # Each thread would read all the weights; sharing the transformed input lets each read its part.
    if to.threads == 1 or weight_bytes <= 8 << 20:
        to.step("winograd", **fields)
        return
    batches = ceil_div(y.n * shape.tiles(tile), batch)
    plane = x.blocks * in_d * batch * BLOCK + BLOCK
    transformed = At(to.new_buffer(batches * positions * plane * 4), 0)
    common_work = {k: v for k, v in fields.items() if k not in ("work", "residual")}
    to.step("winograd_input", transformed=transformed, work=1e4, **common_work)
    to.step("winograd_output", transformed=transformed, **fields)
