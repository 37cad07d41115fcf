"""The cost model: the time that a step is expected to take on one thread, by which algorithms are
chosen.

The estimates never depend on batch or thread count, so that a result does not either. The constants
were measured on Zen 5 (avx512) and Zen 3 (avx2), docs/tuning-log.md. Other machines of the same
tier differ by a factor that is nearly common to all algorithms, and only the order of the estimates
matters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from .dtypes import FLOAT32, UINT8, DType
from .ops.elementwise import ACTIVATIONS
from .symbolic import call

WINOGRAD: dict[tuple[tuple[int, int], int, int], tuple[float, float]] = {
    ((3, 3), 1, 2): (3.5, 2.5),
    ((3, 3), 1, 4): (7.0, 5.0),
    ((3, 3), 1, 6): (16.0, 11.0),
    ((5, 5), 1, 2): (7.0, 4.0),
    ((1, 3), 1, 2): (7.0, 5.0),
    ((1, 3), 1, 4): (10.0, 7.0),
    ((3, 1), 1, 2): (7.0, 5.0),
    ((3, 1), 1, 4): (10.0, 7.0),
    ((3, 3), 2, 2): (4.5, 3.5),
    ((3, 3), 2, 4): (18.0, 12.0),
}
"""Variants of Winograd's algorithm, by the kernel's taps, the stride, and a tile's outputs along an
axis.

Each has the nanoseconds per tile and block of 16 channels that the transforms of input and output
take on AVX-512. They are limited by additions, loads and stores. On one axis, the work that each
tile repeats is the limit.
"""

LARGE_TILE, LARGE_TILE_SIZE, LARGE_TILE_GAIN = 6, 24, 1.1
"""F(6x6, 3x3) is four times as far off as F(4x4, 3x3), and gains 3 % of VGG-16 (96.4 ms instead of
98.9 on a Zen 4). So it is used on request alone. `tune` takes it for images of that many pixels
along each axis, if everything else takes that much longer."""

ALGORITHMS = ("auto", "im2col", *(f"winograd{n}" for n in sorted({tile for *_, tile in WINOGRAD})))
"""Algorithms of a convolution with 3 taps on an axis that can be requested."""


@lru_cache(64)
def tiles_of_kernel(kernel: tuple[int, int], stride: int) -> tuple[int, ...]:
    """Outputs along an axis of the tiles with which a kernel's convolution can be done."""
    return tuple(tile for taps, step, tile in WINOGRAD if (taps, step) == (kernel, stride))


def tile_of(algorithm: str) -> int | None:
    """Outputs along an axis of a tile of an algorithm; None: it is none of Winograd's."""
    return int(algorithm.removeprefix("winograd")) if algorithm.startswith("winograd") else None


def handicap(tile: int | None, out_h: int, out_w: int) -> float:
    """The factor that the time of an algorithm is multiplied by in comparisons with others.

    Args:
        tile: outputs along an axis of a tile of Winograd's algorithm; None for others.
        out_h, out_w: the outputs of the convolution.
    """
    if tile != LARGE_TILE:
        return 1.0
    return LARGE_TILE_GAIN if min(out_h, out_w) >= LARGE_TILE_SIZE else math.inf


class Algorithms:
    """The algorithm that is requested for each convolution, by its node's name."""

    def __init__(self, requested: str | Mapping[str, str]) -> None:
        """
        Args:
            requested: one algorithm for all, or a dict of algorithms by name; nodes that it does
                not name have "auto".

        Raises:
            ValueError: an algorithm is unknown.
        """
        self._default = requested if isinstance(requested, str) else "auto"
        self._named = {} if isinstance(requested, str) else dict(requested)
        for name in (self._default, *self._named.values()):
            if name not in ALGORITHMS:
                raise ValueError(f"algorithm {name!r}; expected one of {', '.join(ALGORITHMS)}")

    def of(self, name: str) -> str:
        """The algorithm requested for a convolution."""
        return self._named.get(name, self._default)

    def update(self, named: Mapping[str, str]) -> None:
        """Requests other algorithms by name."""
        self._named.update(named)

    @property
    def requested(self) -> str | dict[str, str]:
        """The argument that reproduces this object."""
        return dict(self._named) or self._default

    def __str__(self) -> str:
        return f"{self._default} {sorted(self._named.items())}"


@dataclass(frozen=True, eq=False)
class Machine:
    """The throughput of one core, per nanosecond."""

    isa: str
    macs: Mapping[DType, float]
    """Multiply-adds of a full register tile, by the element type."""
    tile_rows: int
    """Rows (pixels) of that tile."""
    cold: float = 40.0
    """Bytes of weights read from DRAM: in a network, later layers have evicted them."""
    warm: float = 100.0
    """Bytes read from L3, if a network's weights are few enough to stay there."""
    activations: float = 60.0
    """Bytes of activations moved by a memory-bound kernel."""
    functions: float = 8.0
    """Values of an exponential function, or of one that takes as long."""

    @property
    def macs_of_doubles(self) -> float:
        """Multiply-adds of float64: half of the lanes, and a tile that reaches two thirds."""
        return self.macs[FLOAT32] / 3

    def time_of(self, activation: Sequence[Any] | None, elements: int) -> float:
        """Nanoseconds of computing an `Activation`; 0 for one of few instructions."""
        costly = activation is not None and ACTIVATIONS[activation[0]].costly
        return elements / self.functions if costly else 0.0

    def time_overlapped(self, compute: float, traffic: float) -> float:
        """Nanoseconds of compute and weight traffic together: the longer, and a third of the
        shorter. This was measured for layers from 64 to 512 channels with the next panel
        prefetched."""
        return call(_overlapped, compute, traffic)


MACHINES = {
    "avx512": Machine("avx512", {FLOAT32: 126.0, UINT8: 480.0}, 14),
    "avx2": Machine(
        "avx2",
        {FLOAT32: 50.0, UINT8: 58.0},
        6,
        cold=15.0,
        warm=50.0,
        activations=30.0,
        functions=1.6,
    ),
    "neon": Machine(
        "neon",
        {FLOAT32: 30.0, UINT8: 60.0},
        6,
        cold=15.0,
        warm=40.0,
        activations=20.0,
        functions=1.0,
    ),
    "portable": Machine("portable", {FLOAT32: 10.0, UINT8: 10.0}, 2, functions=0.5),
}


def machine(isa: str) -> Machine:
    """The constants of an instruction-set tier, with or without its overlays (`avx512+novnni`)."""
    return MACHINES[isa.partition("+")[0]]


class ConvShape(NamedTuple):
    """A convolution as the cost model sees it: one image."""

    c: int
    m: int
    taps: int
    out_h: int
    out_w: int
    out_d: int = 1
    kernel: tuple[int, int, int] = (1, 3, 3)
    dtype: DType = FLOAT32
    dilation: tuple[int, int] = (1, 1)
    """The dilation of the last two axes. A tile of Winograd's algorithm has outputs of one phase:
    those with the same remainders by the dilation."""
    stride: int = 1
    """The stride of the last axis, and of the one before if Winograd's algorithm fits."""
    stride_d: int = 1

    def tile(self, outputs: int) -> tuple[int, int]:
        """Winograd's tile, down and across: 1 on an axis on which the kernel has one tap."""
        _, h, w = self.kernel
        return (1 if h == 1 else outputs), (1 if w == 1 else outputs)

    def tiles(self, outputs: int) -> int:
        """The number of tiles in the image, in all phases of it."""
        (down, across), (by_row, by_column) = self.tile(outputs), self.dilation
        if by_row == by_column == 1:
            return -(-self.out_h // down) * -(-self.out_w // across)
        tiles: int = call(_tiles_of_phases, self.out_h, by_row, down)
        return tiles * call(_tiles_of_phases, self.out_w, by_column, across)

    @property
    def phases(self) -> int:
        """The number of phases of the image."""
        return min(self.out_h, self.dilation[0]) * min(self.out_w, self.dilation[1])

    def positions(self, outputs: int) -> int:
        """The number of pixels that a tile reads, each a matrix product of its own."""
        down, across = self.tile(outputs)
        _, h, w = self.kernel
        return ((down - 1) * self.stride + h) * ((across - 1) * self.stride + w)


def _tiles_of_phases(out: int, dilation: int, tile: int) -> int:
    of_phase = -(-out // dilation)
    return min(out, dilation) * -(-of_phase // tile)


def tile_use(rows: int, tile_rows: int) -> float:
    """The fraction of a tile's throughput that `rows` rows at a time reach.

    Tiles of 7 rows and more run at full speed; below about 5 the chains of dependent additions
    are too few to fill the pipeline.
    """
    return call(_tile_use, rows, tile_rows)


def _tile_use(rows: int, tile_rows: int) -> float:
    height = rows / -(-rows // tile_rows)
    full = min(7, tile_rows)
    return 1.0 if height >= full else 0.25 + 0.75 * height / full


def _overlapped(longer: float, shorter: float) -> float:
    if longer < shorter:
        longer, shorter = shorter, longer
    return longer + 0.3 * shorter


def im2col_time(machine: Machine, s: ConvShape, weight_bandwidth: float) -> float:
    """Nanoseconds of a convolution by implicit im2col."""
    c, m, taps, out_w, dtype = s.c, s.m, s.taps, s.out_w, s.dtype
    pixels = s.out_d * s.out_h * out_w
    macs = -(-m // 16) * 16 * c * taps * pixels
    width = out_w if out_w != 7 or machine.tile_rows != 14 else 14
    rows = width if taps > 1 else pixels
    compute = macs / machine.macs[dtype] / tile_use(rows, machine.tile_rows)
    return machine.time_overlapped(compute, m * c * taps * dtype.itemsize / weight_bandwidth)


def winograd_time(machine: Machine, s: ConvShape, tile: int, weight_bandwidth: float) -> float:
    """Nanoseconds of a convolution by F(tile x tile, r x r) or F(tile, r)."""
    c, m, out_d, (kernel_d, kernel_h, kernel_w), dtype = s.c, s.m, s.out_d, s.kernel, s.dtype
    positions, tiles, rate = s.positions(tile), s.tiles(tile), machine.macs[dtype]
    blocks = -(-m // 16)
    weights = positions * c * kernel_d * blocks * 16
    rows = winograd_batch(machine, s, tile) * out_d
    compute = weights * tiles * out_d / rate / tile_use(rows, machine.tile_rows)
    read, write = WINOGRAD[(kernel_h, kernel_w), s.stride, tile]
    planes = out_d * s.stride_d  # those of the input, but for its ends
    transforms = tiles * (read * planes * -(-c // 16) + write * out_d * blocks)
    if machine is not MACHINES["avx512"]:
        transforms *= MACHINES["avx512"].macs[dtype] / rate
    traffic = weights * dtype.itemsize / weight_bandwidth
    return machine.time_overlapped(compute, traffic) + transforms


def winograd_batch(machine: Machine, s: ConvShape, tile: int) -> int:
    """Tiles (each at all depths) that are multiplied together.

    14 rows, or whole register tiles of about as many, keep the transformed input in L2. If the
    transformed weights do not stay in cache either, one pass over them serves all tiles. With
    depth, there are about 32 rows. There are never more than 64 (kMaxBatch in
    cpp/kernels/winograd.cpp).
    """
    tiles = s.tiles(tile)
    weights = s.positions(tile) * s.c * s.kernel[0] * s.m * s.dtype.itemsize
    if weights > 16 << 20:
        return call(_at_most, tiles, 49 if s.out_d == 1 else 16)
    if s.out_d > 1:
        return call(_at_most, tiles, call(_at_least_one, 32 // s.out_d))
    rows = -(-14 // machine.tile_rows) * machine.tile_rows
    return call(_all_or, tiles, rows)


def _at_most(tiles: int, most: int) -> int:
    return min(tiles, most)


def _at_least_one(tiles: int) -> int:
    return max(1, tiles)


def _all_or(tiles: int, rows: int) -> int:
    return tiles if tiles <= rows + 2 else rows
