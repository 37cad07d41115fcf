"""Dilated convolutions on the phases of the image, each of which is an image without dilation.

At a dilation of d, an output reads only pixels whose rows and columns are d apart. Those with the
same remainders are a phase. The phases are copied to be images of a batch, on which Winograd's
algorithm works, and the results are copied back. (TensorFlow has the copies as space_to_batch.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..dtypes import FLOAT32
from ..graph import TensorType
from ..layout.tensors import BLOCK, NOWHERE, At, Blocked, ceil_div
from ..ops.windows import Windows
from ..symbolic import call, memo
from .builder import PlanBuilder

Strides = tuple[int, ...]

SMALLEST_PHASE, MOST_OF_PHASES = 4, 512
"""Outputs of a phase along an axis, and input channels, for which phases are chosen unasked. On one
thread of a Zen 4, 512 channels of 60 x 60 pixels at a dilation of 4 take 82 ms, and 210 directly.
512 > 256 channels of 68 x 120 take 143 instead of 291 at 12. At 24, with phases of 3 x 5, they take
239 instead of 230, and with 960 channels 1300 instead of 350."""

COPIES_PER_NS = 10.0
"""Bytes of pixels that are copied, both ways counted, in lines of 64 bytes."""


@memo(1024)
def windows_of_phase(w: Windows) -> Windows | None:
    """The convolution on one phase. None if there is but one, or if an output and the pixels that
    it reads have other remainders."""
    if max(w.dilation) == 1 or len(w.kernel) != 2 or max(w.stride) > 1:
        return None
    if any(begin % d for begin, d in zip(w.begin, w.dilation, strict=True)):
        return None
    begin = tuple(n // d for n, d in zip(w.begin, w.dilation, strict=True))
    size = tuple(ceil_div(n, d) for n, d in zip(w.size, w.dilation, strict=True))
    out = tuple(ceil_div(n, d) for n, d in zip(w.out, w.dilation, strict=True))
    end = tuple(o + k - 1 - n - b for o, k, n, b in zip(out, w.kernel, size, begin, strict=True))
    return Windows(w.kernel, (1, 1), (1, 1), begin, end, size, out)


def copy_time(w: Windows, c: int, m: int) -> float:
    """Nanoseconds of copying c channels to phases, and m channels from them."""
    return 8 * (c * math.prod(w.size) + m * math.prod(w.out)) / COPIES_PER_NS


def live_share(w: Windows) -> float:
    """The fraction of all taps that meet the image: the others cost no product."""
    axes = zip(w.kernel, w.dilation, w.begin, w.size, w.out, strict=True)
    shares: list[float] = [call(_live_share, *axis) for axis in axes]
    return math.prod(shares)


def _live_share(kernel: int, dilation: int, begin: int, size: int, out: int) -> float:
    first = [begin - k * dilation for k in range(kernel)]  # outputs whose tap meets the image
    live = sum(max(0, min(out, n + size) - max(0, n)) for n in first)
    return live / max(1, kernel * out)


def phases_of_input(
    x: Blocked, w: Windows, phase: Windows, weight_name: str, builder: PlanBuilder
) -> Blocked:
    """Appends the copies of a tensor's phases into a batch of images, zero beyond a phase."""
    y = new_phases(x, w, phase.size, builder)
    zeros = builder.constant_memory(weight_name, "zeros of phases", np.zeros(BLOCK, np.float32))
    (down, across), (height, width) = w.dilation, phase.size
    images = (down * across * y.image, y.block, across * y.image, y.image)
    # Phases from these on have no last row, and no last column.
    row, column = w.size[0] % down, w.size[1] % across
    beyond: list[tuple[int, Strides, int]] = []
    if row:
        shape = (x.n, x.blocks, down - row, across, width, BLOCK)
        beyond.append((row * across * y.image + (height - 1) * y.row, shape, BLOCK))
    if column:
        shape = (x.n, x.blocks, down, across - column, height, BLOCK)
        beyond.append((column * y.image + (width - 1) * BLOCK, shape, y.row))
    steps = (0, 0, 0, 0, 0, 1)
    for first, short, step in beyond:
        to, note = _moved(y, first), "zeros beyond a phase"
        builder.copy_strided(zeros, to, short, steps, (*images, step, 1), y.itemsize, note)
    for whole, phased, all_, whole_steps, phased_steps in _parts(x, y, w.dilation, w.size):
        builder.copy_strided(
            whole, phased, all_, whole_steps, phased_steps, x.itemsize, "to phases"
        )
    return y


def phases_to_output(phased: Blocked, y: Blocked, w: Windows, builder: PlanBuilder) -> None:
    """Appends the copies of the results of all phases to where they belong."""
    for whole, at, shape, whole_steps, phased_steps in _parts(y, phased, w.dilation, w.out):
        builder.copy_strided(at, whole, shape, phased_steps, whole_steps, y.itemsize, "from phases")


def new_phases(like: Blocked, w: Windows, size: tuple[int, ...], builder: PlanBuilder) -> Blocked:
    """Room for the phases of a tensor as images of this size."""
    n = like.n * math.prod(w.dilation)
    type_ = TensorType((n, like.c, *size), FLOAT32)
    room = Blocked(NOWHERE, type_)
    room.buffer = builder.new_buffer(room.nbytes)
    return room


def _parts(
    whole: Blocked, phased: Blocked, dilation: tuple[int, ...], size: tuple[int, ...]
) -> Iterator[tuple[At, At, Strides, Strides, Strides]]:
    """The copies between a tensor and its phases: where they begin, shape and strides of both.

    Phases differ by a row and a column at most, so there are up to four.
    """
    down, across = dilation
    for first_row, rows, height in _runs(size[0], down):
        for first_column, columns, width in _runs(size[1], across):
            yield (
                whole.view(0, first_row, first_column).at,
                _moved(phased, (first_row * across + first_column) * phased.image),
                (whole.n, whole.blocks, rows, columns, height, width, BLOCK),
                (
                    *(whole.image, whole.block, whole.row, BLOCK),
                    *(down * whole.row, across * BLOCK, 1),
                ),
                (
                    *(down * across * phased.image, phased.block, across * phased.image),
                    *(phased.image, phased.row, BLOCK, 1),
                ),
            )


def _runs(size: int, dilation: int) -> Iterator[tuple[int, int, int]]:
    """Phases of one length along an axis: the first of them, their number, and that length."""
    length, longer = size // dilation, size % dilation
    if longer:
        yield 0, longer, length + 1
    if length:
        yield longer, dilation - longer, length


def _moved(x: Blocked, elements: int) -> At:
    at = x.view().at
    return At(at.buffer, at.offset + elements * x.itemsize)
