"""Convolution by implicit im2col: one matrix product per tap, in bands of rows, in groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .. import _core
from ..graph import Array
from ..layout.tensors import BLOCK, Blocked, ceil_div
from ..ops.windows import Windows
from ..symbolic import call, memo
from .conv_lowering import ConvLowering
from .in_place import blocked_over
from .step_list import epilogue, loop_order

GROUP_LANES = (2, 4, 8)
"""Channels in a group for which the kernel multiplies each lane by its own group's channels. Groups
of other sizes are blocks of 16 x 16 whose weights between the groups are zero."""

MOST_LIVE = 0.75
"""Maximum fraction of the products for which bands are worth their steps."""

MAX_BAND_STEPS = 1 << 20
"""Maximum rows times taps in the search for bands that need fewer taps: 0.1 s."""


class Band(NamedTuple):
    """Rows [first, stop) of the output, which meet the image with taps [tap, stop_tap) only."""

    first: int
    stop: int
    tap: int
    stop_tap: int


@memo(256)
def row_bands(w: Windows) -> list[Band]:
    """The output cut into bands of rows by the taps that meet the image there.

    With a dilation of 12 over 16 rows, as in DeepLab, half of the products are with padding. If
    less than a quarter is, as with ordinary windows, there is one band with all taps.
    """
    w = w.in_3d
    kernel, stride, dilation = w.kernel[1], w.stride[1], w.dilation[1]
    begin, size, out = w.begin[1], w.size[1], w.out[1]
    whole = [Band(0, out, 0, kernel)]
    inside = _live_rows(kernel, stride, dilation, begin, size, out)
    if inside > MOST_LIVE * out * kernel or out * kernel > MAX_BAND_STEPS:
        return whole
    bands: list[Band] = []
    for row in range(out):
        first = row * stride - begin
        live = [k for k in range(kernel) if 0 <= first + k * dilation < size]
        taps = (live[0], live[-1] + 1) if live else (0, kernel)
        if bands and bands[-1][2:] == taps:
            bands[-1] = bands[-1]._replace(stop=row + 1)
        else:
            bands.append(Band(row, row + 1, *taps))
    products = sum((b.stop - b.first) * (b.stop_tap - b.tap) for b in bands)
    outside = any(b.tap * dilation + b.first * stride < begin for b in bands)
    return whole if products > MOST_LIVE * out * kernel or outside else bands


def live_share(w: Windows) -> float:
    """The fraction of all products that is left if bands leave out the taps beside the image."""
    w = w.in_3d
    if w.dilation[1] == 1:
        return 1.0
    rows = (w.kernel, w.stride, w.dilation, w.begin, w.size, w.out)
    return call(_live_share, *(v[1] for v in rows))


def _live_share(kernel: int, stride: int, dilation: int, begin: int, size: int, out: int) -> float:
    live = _live_rows(kernel, stride, dilation, begin, size, out)
    return live / (kernel * out) if live <= MOST_LIVE * kernel * out else 1.0


def _live_rows(kernel: int, stride: int, dilation: int, begin: int, size: int, out: int) -> int:
    """The pairs of an output row and a row of taps that meet the image."""
    inside = 0
    for k in range(kernel):
        before = begin - k * dilation
        first, stop = (min(max(0, ceil_div(n, stride)), out) for n in (before, before + size))
        inside += stop - first
    return inside


def im2col(conv: ConvLowering) -> None:
    """Appends one step per band of rows."""
    x = conv.builder.blocked(conv.node.inputs[0])
    over = "" if conv.group > 1 else conv.node.input(3)  # groups may be computed twice
    y = blocked_over(conv.builder, conv.node.outputs[0], over)
    for band in row_bands(conv.windows):
        _Im2col(conv, x, y, band).append()


class _Im2col:
    """One band of an im2col convolution."""

    def __init__(self, conv: ConvLowering, x: Blocked, y: Blocked, band: Band) -> None:
        self.conv = conv
        self.x, self.y = x, y
        self.band = band
        self.whole_kernel = conv.windows.in_3d.kernel
        depth, height, width = self.whole_kernel
        self.kernel = (depth, band.stop_tap - band.tap, width)
        self.taps = math.prod(self.kernel)
        self.rows = "" if self.kernel[1] == height else f" rows {band.tap} to {band.stop_tap}"
        """The part of the kernel that the packed weights hold, for their kind."""

    def append(self) -> None:
        """Appends the band's step."""
        conv, x, y, band = self.conv, self.x, self.y, self.band
        w, builder, residual = conv.windows.in_3d, conv.builder, conv.residual
        dilation, stride, begin = w.dilation, w.stride, w.begin
        blocks_read, panel, weights = self._dense() if conv.group == 1 else self._grouped()
        out_d, all_rows, out_w = y.spatial
        out_h = band.stop - band.first
        share = out_h * self.kernel[1] / (all_rows * self.whole_kernel[1])
        flat = (
            self.taps == 1
            and out_h == all_rows
            and stride == (1, 1, 1)
            and all(t.contiguous for t in (x, y, residual) if t is not None)
        )
        step_h, step_w = stride[1] * x.row, stride[2] * BLOCK
        if self._rows_join(out_w, step_h, step_w):
            step_w = step_h if out_w == 1 else step_w
            out_h, out_w = 1, out_h * out_w
        scale = builder.plain(conv.node.inputs[4]) if len(conv.node.inputs) > 4 else None
        row = band.first * stride[1] + band.tap * dilation[1] - begin[1]
        activations = x.block * x.blocks + y.block * y.blocks
        builder.step(
            "conv",
            x=x.view(-begin[0], row, -begin[2]),
            y=y.view(h=band.first),
            residual=residual.view(h=band.first) if residual else None,
            offsets=builder.table(self._offsets(blocks_read)),
            panel=panel,
            n=y.n,
            out_d=out_d,
            out_h=out_h,
            out_w=out_w,
            blocks=y.blocks,
            step_d=stride[0] * x.plane,
            step_h=step_h,
            step_w=step_w,
            flat=int(flat),
            scale=scale.at if scale else None,
            scale_image=x.c,
            order=loop_order(panel * y.blocks, activations),
            bias=conv.bias,
            epilogue=epilogue(conv.activation),
            note=conv.note,
            cost_ns=conv.cost_ns * share,
            **weights,
        )

    def _rows_join(self, out_w: int, step_h: int, step_w: int) -> bool:
        """True if the windows of a plane are equally far apart and its outputs leave no gaps.

        Then the plane is one row: rows of a pixel, as of a 5x1 convolution, would fill one of the
        many rows of a register tile.
        """
        made = [t for t in (self.y, self.conv.residual) if t is not None]
        even = out_w == 1 or step_h == out_w * step_w
        return even and all(t.row == out_w * BLOCK for t in made)

    def _offsets(self, blocks_read: int) -> Sequence[int]:
        """Each tap's distance from the first one, in elements, for each block that is read."""
        x = self.x
        if self.taps == 1:
            return [b * x.block for b in range(blocks_read)]
        kd, kh, kw = self.kernel
        dilation = self.conv.windows.in_3d.dilation
        taps = [
            d * dilation[0] * x.plane + h * dilation[1] * x.row + k * dilation[2] * BLOCK
            for d in range(kd)
            for h in range(kh)
            for k in range(kw)
        ]
        return [b * x.block + tap for b in range(blocks_read) for tap in taps]

    def _dense(self) -> tuple[int, int, dict[str, Any]]:
        """Blocks of channels that an output reads, floats of a panel, and the fields of weights."""
        x, taps = self.x, self.taps
        panel = x.c * taps * BLOCK
        packed = self._packed(
            "im2col", panel, lambda value: _core.pack_conv(value, self.conv.builder.team)
        )
        rest = x.c % BLOCK
        fields = {
            "weight": packed,
            "taps": x.c // BLOCK * taps,
            "last_taps": taps if rest else 0,
            "last_depth": rest,
            "half": int(0 < self.conv.m % BLOCK <= BLOCK // 2),
        }
        return x.blocks, panel, fields

    def _grouped(self) -> tuple[int, int, dict[str, Any]]:
        """Like `_dense`, for a convolution in groups."""
        conv, x, taps = self.conv, self.x, self.taps
        team, group_c, group_m = conv.builder.team, conv.group_c, conv.m // conv.group
        window, blocks_read = group_windows(x.c, conv.m, conv.group)
        by_lanes = group_c in GROUP_LANES and conv.m == x.c
        if by_lanes:
            panel = group_c * taps * BLOCK
            packed = self._packed("groups", panel, lambda value: _core.pack_conv(value, team))
        else:
            panel = blocks_read * BLOCK * taps * BLOCK
            packed = self._packed(
                f"grouped {conv.group}",
                panel,
                lambda value: _core.pack_conv_grouped(value, conv.group, window, blocks_read, team),
            )
        # A window that ends in the tensor's last block reads only the channels that exist there.
        last = x.c - (x.blocks - 1) * BLOCK
        depths = [last if first + blocks_read == x.blocks else BLOCK for first in window]
        table = [v for first, d in zip(window, depths, strict=True) for v in (first * x.block, d)]
        fields = {
            "weight": packed,
            "taps": (blocks_read - 1) * taps,
            "last_taps": taps,
            "last_depth": BLOCK,
            "windows": conv.builder.table(table),
            "group": group_c if by_lanes else 0,
        }
        if not by_lanes and (group_c % BLOCK or group_m % BLOCK):
            fields |= {"group_c": group_c, "group_m": group_m}
        return blocks_read, panel, fields

    def _packed(self, kind: str, panel: int, pack: Callable[[Array], Any]) -> Any:
        """The packed weights of the band, of a kind that names its rows of taps."""
        return self.conv.builder.weight(
            self.conv.weight_name,
            kind + self.rows,
            panel * self.y.blocks,
            lambda value: pack(self._taps_of(value)),
        )

    def _taps_of(self, value: Array) -> Array:
        """The weights (M, C / group, taps) of the band."""
        conv, band = self.conv, self.band
        by_rows = value.reshape(conv.m, conv.group_c, *self.whole_kernel)
        rows = by_rows[:, :, :, band.tap : band.stop_tap]
        return rows.reshape(conv.m, conv.group_c, self.taps)


def group_windows(c: int, m: int, group: int) -> tuple[list[int], int]:
    """The first block of channels that each block of 16 outputs reads, and the number that all
    read.

    The windows have one length, as panels must. The last ones start earlier if they would reach
    beyond the tensor.
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
