"""Laying out buffers: none that live together overlap, and the space is used again."""

from __future__ import annotations

import numpy as np
import pytest

from cnnrt.layout.arena import ALIGNMENT, lay_out
from cnnrt.layout.tensors import Buffer


def buffer(nbytes: int, first: int, last: int) -> Buffer:
    made = Buffer(nbytes)
    made.first, made.last = first, last
    return made


def overlapping(a: Buffer, b: Buffer) -> bool:
    together = a.first <= b.last and b.first <= a.last
    return together and a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes


def test_a_chain_needs_two_places() -> None:
    chain = [buffer(1000, i, i + 1) for i in range(10)]
    assert lay_out(chain).nbytes == 2 * 1024


def test_the_place_freed_last_is_taken_first() -> None:
    old, kept, new = buffer(64, 0, 1), buffer(64, 0, 9), buffer(64, 0, 2)
    taken = buffer(64, 3, 4)
    lay_out([old, kept, new, taken])
    assert taken.offset == new.offset


@pytest.mark.parametrize("largest", [5000, 5 << 20])
def test_random_lifetimes_never_overlap(largest: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        firsts = rng.integers(0, 40, 60)
        buffers = [
            buffer(int(rng.integers(1, largest)), int(f), int(f + rng.integers(0, 12)))
            for f in firsts
        ]
        size = lay_out(buffers).nbytes
        for i, a in enumerate(buffers):
            assert a.offset % ALIGNMENT == 0
            assert a.offset + a.nbytes <= size
            assert not any(overlapping(a, b) for b in buffers[:i])
        most = max(sum(b.nbytes for b in buffers if b.first <= t <= b.last) for t in range(60))
        assert size <= 2 * most, "the arena is twice as large as what is alive at once"


@pytest.mark.parametrize(("unit", "units"), [(1 << 10, 12), (4 << 20, 10)])
def test_a_large_arena_has_no_holes(unit: int, units: int) -> None:
    """The place freed last is the one that a larger buffer needs. Only beyond the caches is the
    room worth another place."""
    lives = [(4, 0, 1), (4, 0, 9), (2, 0, 0), (2, 2, 9), (4, 2, 9)]
    buffers = [buffer(size * unit, first, last) for size, first, last in lives]
    assert lay_out(buffers) == (units * unit, 10 * unit)


def test_a_buffer_that_no_step_touches_takes_no_room() -> None:
    assert lay_out([Buffer(1 << 30)]) == (0, 0)
