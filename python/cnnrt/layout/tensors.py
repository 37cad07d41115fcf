"""Where tensors lie while a plan runs: buffers, and the plain and blocked tensors inside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..graph import TensorType
from ..process.locks import cached_property

BLOCK = 16
"""Channels in a block, on every instruction set (see cpp/kernels/args.h)."""


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


@dataclass(eq=False)
class Buffer:
    """A piece of memory that lives from the first to the last step that touches it."""

    nbytes: int
    external: int | None = None
    """Which of the caller's arrays it is; None: a piece of the arena, or a constant."""
    memory: Any = None
    """The memory of a constant."""
    first: int = -1
    last: int = -1
    offset: int = 0
    """In the arena, once that is laid out."""

    @property
    def in_arena(self) -> bool:
        return self.external is None and self.memory is None

    def touch(self, step: int) -> None:
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


@dataclass(frozen=True)
class Plain:
    """A row-major array."""

    buffer: Buffer
    type: TensorType
    offset: int = 0

    @property
    def at(self) -> At:
        return At(self.buffer, self.offset)

    def reshaped(self, shape: tuple[int, ...]) -> Plain:
        return replace(self, type=TensorType(shape, self.type.dtype))

    def strides(self) -> tuple[int, ...]:
        """In elements."""
        shape = self.type.shape
        return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


class Border(NamedTuple):
    """Widths of the zeros around a blocked tensor, before and after it along each axis.

    The zeros after a row are those before the next one too, and so for planes and blocks.
    """

    d: int = 0
    h: int = 0
    w: int = 0

    def union(self, other: Border) -> Border:
        return Border(*map(max, self, other))


@dataclass(frozen=True)
class Blocked:
    """[N][C / 16][D][H][W][16] with a border; strides and offsets count floats.

    A tensor of 1 or 2 spatial axes has D (and H) of 1. `parent_blocks` is the number of blocks
    per image of the tensor that this one is a slice of.
    """

    buffer: Buffer
    type: TensorType
    border: Border = field(default_factory=Border)
    first_block: int = 0
    parent_blocks: int = 0

    @property
    def n(self) -> int:
        return self.type.shape[0]

    @property
    def c(self) -> int:
        return self.type.shape[1]

    @cached_property
    def blocks(self) -> int:
        return ceil_div(self.c, BLOCK)

    @cached_property
    def spatial(self) -> tuple[int, int, int]:
        d, h, w = (1, 1, *self.type.shape[2:])[-3:]
        return d, h, w

    @cached_property
    def row(self) -> int:
        return (self.spatial[2] + self.border.w) * BLOCK

    @cached_property
    def plane(self) -> int:
        return (self.spatial[1] + self.border.h) * self.row

    @cached_property
    def block(self) -> int:
        return (self.spatial[0] + self.border.d) * self.plane

    @property
    def image(self) -> int:
        return (self.parent_blocks or self.blocks) * self.block

    @property
    def contiguous(self) -> bool:
        """Whether the pixels of a block follow each other without gaps."""
        return self.border == Border()

    def part(self, type_: TensorType, first_block: int) -> Blocked:
        """The channels of a tensor of this type from a block on, in the same memory."""
        first = self.first_block + first_block
        return Blocked(self.buffer, type_, self.border, first, self.parent_blocks or self.blocks)

    def view(self, d: int = 0, h: int = 0, w: int = 0) -> ViewAt:
        """The tensor seen from pixel (d, h, w); negative positions lie in the border."""
        b = self.border
        start = (
            self.first_block * self.block
            + (b.d + d) * self.plane
            + (b.h + h) * self.row
            + (b.w + w) * BLOCK
        )
        return ViewAt(At(self.buffer, start * 4), self.image, self.block, self.plane, self.row)

    @staticmethod
    def nbytes(type_: TensorType, border: Border) -> int:
        tensor = Blocked(Buffer(0), type_, border)
        before = tensor.view().at.offset
        return before + tensor.n * tensor.image * 4


@dataclass
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


def dtype_bytes(type_: TensorType) -> int:
    return type_.nbytes
