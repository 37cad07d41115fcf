"""Stages that overlap: order, bounds, errors, and an early end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cnnrt.process.pipeline import DEPTH, ahead, mapped


def stages() -> int:
    return sum(t.name == "cnnrt-stage" for t in threading.enumerate())


def test_everything_comes_in_order() -> None:
    assert list(ahead(range(100))) == list(range(100))
    assert list(mapped(lambda i: i * i, range(100), 3)) == [i * i for i in range(100)]
    assert list(ahead([])) == list(mapped(abs, [], 2)) == []
    assert stages() == 0


def test_no_stage_runs_far_ahead() -> None:
    made = []

    def source() -> Iterator[int]:
        for i in range(1000):
            made.append(i)
            yield i

    chain = ahead(mapped(abs, ahead(source()), 2))
    assert next(chain) == 0
    time.sleep(0.3)
    # Each queue has DEPTH items, each stage one in its hand, and two workers have three.
    assert len(made) <= 2 * (DEPTH + 1) + 3 + 1
    chain.close()
    assert stages() == 0


def test_an_error_comes_after_what_was_made_before() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("three")

    seen = []
    with pytest.raises(ValueError, match="three"):
        for item in ahead(mapped(abs, ahead(source()), 2)):
            seen.append(item)
    assert seen == [1, 2]
    with pytest.raises(ZeroDivisionError):
        list(ahead(mapped(lambda i: 1 // i, [1, 0, 1], 1)))
    assert stages() == 0


def test_stages_before_are_closed() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    for item in (chain := ahead(ahead(source()))):
        if item == 3:
            break
    chain.close()
    assert closed.is_set() and stages() == 0
