"""The first layer by Winograd's algorithm along rows: seven columns of taps at stride 2."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core
from ..cost import Machine
from ..dtypes import FLOAT32
from ..graph import Array
from ..layout.tensors import BLOCK, Blocked
from ..ops.windows import Windows
from .conv_lowering import ConvLowering
from .conv_winograd import WINOGRAD_G

ROW_TILE, ROW_TAPS, ROW_STRIDE = 4, 7, 2
"""Outputs of a tile, columns of the kernel and stride of conv_planar_winograd.h."""

LEAST_COLUMNS, LEAST_LINES, LEAST_LINES_NARROW = 32, 6, 16
"""The outputs of a row, and the kernel rows of all channels, from which on the transforms are worth
their time. Register tiles of 14 rows of AVX-512 are faster by a tenth from 6 or 7 kernel rows on.
Narrower tiles are faster by a twentieth with 21."""

MOST_BYTES = 4 << 20
"""Maximum bytes of transformed rows. With 2.8 MB it is 1.5 times as fast as the direct sum."""

ROWS_TIME = 0.6
"""Its time relative to the direct sum, with 64 outputs at 112 x 112."""


def _toom_cook(points: tuple[float, ...], taps: int) -> Array:
    """Winograd's G of a kernel of `taps` for symmetric points, and infinity at the end.

    The row of a point has its powers, divided by the product of its distances from the others.
    The source is S. Winograd, "Arithmetic Complexity of Computations", 1980.
    """
    rows = [
        [p**k / math.prod(p - other for other in points if other != p) for k in range(taps)]
        for p in points
    ]
    return np.array([*rows, [*[0.0] * (taps - 1), 1.0]])


def _row_g() -> Array:
    """G of F(4, 7) at stride 2: F(4, 4) of the even taps, then F(4, 3) of the odd ones."""
    even = _toom_cook((0.375, -0.375, 0.875, -0.875, 1.5, -1.5), 4)
    odd = WINOGRAD_G[ROW_TILE, 3, 1]
    g = np.zeros((len(even) + len(odd), ROW_TAPS))
    g[: len(even), 0::2], g[len(even) :, 1::2] = even, odd
    return g


ROW_G = _row_g()


def fits_rows(w: Windows, channels: int, machine: Machine) -> bool:
    """True if the algorithm fits a convolution and is faster than the direct sum."""
    w = w.in_3d
    lines = channels * w.kernel[0] * w.kernel[1]
    return (
        (w.kernel[2], w.stride[2]) == (ROW_TAPS, ROW_STRIDE)
        and w.dilation[1:] == (1, 1)
        and lines >= (LEAST_LINES if machine.tile_rows > 6 else LEAST_LINES_NARROW)
        and w.out[2] >= LEAST_COLUMNS
        and w.out[2] * lines * len(ROW_G) * FLOAT32.itemsize <= MOST_BYTES * ROW_TILE
    )


def transformed_rows(conv: ConvLowering, y: Blocked) -> Any:
    """The weights of a convolution, transformed at each position of a tile."""
    lines = math.prod(conv.windows.kernel[:-1]) * conv.group_c
    blocks = y.blocks

    def pack(weight: Array) -> Any:
        wide = np.zeros((blocks * BLOCK, lines, ROW_TAPS))
        wide[: len(weight)] = weight.reshape(len(weight), lines, ROW_TAPS)
        every = np.einsum("pk,mlk->pml", ROW_G, wide).astype(np.float32)
        return _core.pack_planar(every.reshape(-1, lines, 1), conv.builder.team)

    floats = len(ROW_G) * blocks * BLOCK * lines
    return conv.builder.weight(conv.weight_name, "planar_winograd", floats, pack)
