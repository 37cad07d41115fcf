"""Sequences reversed as far as they are long, for every element size and order of axes."""

from __future__ import annotations

import numpy as np
import pytest

from cnnrt.graph import Array
from networks import by_kernels, operator


def reversed_by_hand(x: Array, lengths: Array, time: int, batch: int) -> Array:
    """Element by element."""
    y = x.copy()
    for place in np.ndindex(*x.shape):
        n = int(np.clip(lengths[place[batch]], 0, x.shape[time]))
        if place[time] < n:
            source = list(place)
            source[time] = n - 1 - place[time]
            y[place] = x[tuple(source)]
    return y


SHAPES = [(5, 3), (3, 17), (6, 4, 1), (4, 5, 16), (3, 2, 4, 5)]


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_order_of_axes(shape: tuple[int, ...], dtype: str, isa: str, threads: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, shape).astype(dtype)
    for time in range(len(shape)):
        for batch in range(len(shape)):
            if time == batch:
                continue
            lengths = rng.integers(-1, shape[time] + 2, shape[batch])
            for index in (np.int64, np.int32):
                graph, inputs = operator(
                    "reverse_sequence",
                    x,
                    lengths.astype(index),
                    computed=[1],
                    time_axis=time,
                    batch_axis=batch,
                )
                (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
                np.testing.assert_array_equal(got, reversed_by_hand(x, lengths, time, batch))


def test_tasks_of_several_rows(isa: str, threads: int) -> None:
    """More than the bytes of a task, in both orders."""
    x = np.random.default_rng(1).standard_normal((70, 9, 130)).astype(np.float32)
    for time, batch in ((0, 1), (1, 0)):
        lengths = np.arange(x.shape[batch]) % (x.shape[time] + 1)
        graph, inputs = operator(
            "reverse_sequence", x, lengths, computed=[1], time_axis=time, batch_axis=batch
        )
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        np.testing.assert_array_equal(got, reversed_by_hand(x, lengths, time, batch))
