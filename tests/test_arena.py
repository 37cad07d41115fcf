"""Laying out buffers: none that live together overlap, and the space is used again."""

from __future__ import annotations

import numpy as np

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


def test_random_lifetimes_never_overlap() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        firsts = rng.integers(0, 40, 60)
        buffers = [
            buffer(int(rng.integers(1, 5000)), int(f), int(f + rng.integers(0, 12))) for f in firsts
        ]
        size = lay_out(buffers).nbytes
        for i, a in enumerate(buffers):
            assert a.offset % ALIGNMENT == 0
            assert a.offset + a.nbytes <= size
            assert not any(overlapping(a, b) for b in buffers[:i])
        most = max(sum(b.nbytes for b in buffers if b.first <= t <= b.last) for t in range(60))
        assert size <= 2 * most, "the arena is twice as large as what is alive at once"


def test_a_buffer_that_no_step_touches_takes_no_room() -> None:
    assert lay_out([Buffer(1 << 30)]) == (0, 0)
