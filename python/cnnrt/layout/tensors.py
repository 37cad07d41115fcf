"""Where tensors lie while a plan runs: buffers, and the plain and blocked tensors inside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..dtypes import FLOAT32, DType
from ..graph import TensorType

BLOCK = 16
"""Channels in a block, on every instruction set (see cpp/kernels/args.h)."""


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a contiguous array, in elements."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


@dataclass(eq=False, slots=True)
class Buffer:
    """A piece of memory that lives from the first to the last step that touches it."""

    nbytes: int
    external: int | None = None
    """Number of the caller's array that this buffer is; None for a piece of the arena or a
    constant."""
    memory: Any = None
    """The memory of a constant."""
    first: int = -1
    last: int = -1
    offset: int = 0
    """Position in the arena in bytes, once that is laid out."""

    @property
    def in_arena(self) -> bool:
        """True if it is neither a constant nor one of the caller's arrays."""
        return self.external is None and self.memory is None

    def touch(self, step: int) -> None:
        """Notes that a step reads or writes it."""
        if self.first < 0:
            self.first = step
        self.last = step


class At(NamedTuple):
    """A byte position in a buffer: becomes a Ref of args.h."""

    buffer: Buffer
    offset: int


class ViewAt(NamedTuple):
    """A blocked tensor in a buffer: becomes a View of args.h."""

    at: At
    image: int
    block: int
    plane: int
    row: int
    dtype: DType = FLOAT32


class Plain(NamedTuple):
    """A row-major array."""

    buffer: Buffer
    type: TensorType
    offset: int = 0

    @property
    def at(self) -> At:
        """Where it begins."""
        return At(self.buffer, self.offset)

    def reshaped(self, shape: tuple[int, ...]) -> Plain:
        """The same elements in another shape."""
        return Plain(self.buffer, TensorType(shape, self.type.dtype), self.offset)

    def strides(self) -> tuple[int, ...]:
        """The stride of each axis, in elements."""
        return row_major(self.type.shape)


class Border(NamedTuple):
    """Widths of the zeros around a blocked tensor, before and after it along each axis.

    The zeros after a row are those before the next one too, and so for planes and blocks.
    """

    d: int = 0
    h: int = 0
    w: int = 0

    def union(self, other: Border) -> Border:
        """The border as wide as the wider one along each axis."""
        return Border(*map(max, self, other))


NO_BORDER = Border()


class Blocked:
    """[N][C / 16][D][H][W][16] with a border; strides count elements.

    A tensor of 1 or 2 spatial axes has D (and H) of 1. Not changed once it is made.
    """

    __slots__ = (
        *("buffer", "type", "itemsize", "border", "first_block", "parent_blocks"),
        *("n", "c", "blocks", "spatial", "row", "plane", "block", "image", "first"),
    )

    def __init__(
        self,
        buffer: Buffer,
        type_: TensorType,
        border: Border = NO_BORDER,
        first_block: int = 0,
        parent_blocks: int = 0,
    ) -> None:
        """
        Args:
            first_block: the tensor's first block within each image of the buffer.
            parent_blocks: blocks per image of the tensor that this one is a slice of; 0: it is
                none.
        """
        self.buffer = buffer
        self.type = type_
        self.itemsize = type_.dtype.itemsize
        self.border = border
        self.first_block = first_block
        self.parent_blocks = parent_blocks
        shape = type_.shape
        self.n = shape[0]
        self.c = shape[1]
        self.blocks = -(-self.c // BLOCK)
        rank = len(shape)
        if rank == 4:
            d, (_, _, h, w) = 1, shape
        else:
            d, h, w = shape[2:] if rank == 5 else (1, 1, *shape[2:])[-3:]
        self.spatial = (d, h, w)
        self.row = (w + border.w) * BLOCK
        self.plane = (h + border.h) * self.row
        self.block = (d + border.d) * self.plane
        self.image = (parent_blocks or self.blocks) * self.block
        self.first = (
            first_block * self.block
            + border.d * self.plane
            + border.h * self.row
            + border.w * BLOCK
        )
        """The first pixel of the interior, in elements from the beginning of the buffer."""

    @property
    def contiguous(self) -> bool:
        """True if the pixels of a block follow each other without gaps."""
        return self.border == NO_BORDER

    def part(self, type_: TensorType, first_block: int) -> Blocked:
        """The channels of a tensor of this type from a block on, in the same memory."""
        first = self.first_block + first_block
        return Blocked(self.buffer, type_, self.border, first, self.parent_blocks or self.blocks)

    def retyped(self, type_: TensorType) -> Blocked:
        """A tensor of another type that begins at the same place."""
        return Blocked(self.buffer, type_, self.border, self.first_block, self.parent_blocks)

    @property
    def at(self) -> At:
        """The position of the first pixel of the interior."""
        return At(self.buffer, self.first * self.itemsize)

    def view(self, d: int = 0, h: int = 0, w: int = 0) -> ViewAt:
        """The tensor seen from pixel (d, h, w); negative positions lie in the border."""
        first = self.first
        if d or h or w:
            first += d * self.plane + h * self.row + w * BLOCK
        at = At(self.buffer, first * self.itemsize)
        return ViewAt(at, self.image, self.block, self.plane, self.row, self.type.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of a buffer for this tensor alone, with its border."""
        return (self.first + self.n * self.image) * self.itemsize


NOWHERE = Buffer(0)
"""The buffer of a tensor that has none yet."""


@dataclass(slots=True)
class Step:
    """One kernel call of a plan."""

    kernel: str
    fields: dict[str, Any]
    node: str
    note: str = ""
    """Which algorithm it runs and why, for `describe`."""
    cost_ns: float = 0.0
    """Estimated nanoseconds on one thread."""
    independent: bool = False
    """True if it needs nothing of the step before it."""
