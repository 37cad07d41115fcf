"""Lays the buffers of a plan out in one arena; those alive at the same time never overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .. import _core
from .tensors import Buffer

ALIGNMENT = 64
"""Bytes (kAlignment in cpp/arena.cpp)."""


class Arena(NamedTuple):
    """The memory of a plan's activations; bytes."""

    nbytes: int
    """All buffers as they are laid out."""
    live: int
    """The largest total of buffers alive in one step: no arena can be smaller."""


def lay_out(buffers: Sequence[Buffer]) -> Arena:
    """Sets the offset of every buffer that a step touches.

    Each buffer takes the hole that was freed last among those it fits into. An arena beyond the
    caches is laid out by size instead, if it then is smaller.
    """
    used = sorted([b for b in buffers if b.first >= 0], key=_first)
    nbytes, live, offsets = _core.lay_out([(b.nbytes, b.first, b.last) for b in used])
    for buffer, offset in zip(used, offsets, strict=True):
        buffer.offset = offset
    return Arena(nbytes, live)


def _first(buffer: Buffer) -> int:
    return buffer.first
