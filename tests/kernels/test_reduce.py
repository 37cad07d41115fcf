"""Reductions over inner, middle and several axes."""

from __future__ import annotations

import numpy as np
import pytest

from checks import Random, assert_close, exact_tolerance
from networks import by_kernels, by_reference, operator

KINDS = ["sum", "mean", "max", "min", "l1", "l2", "sum_square"]


def tolerance(kind: str, count: int) -> float:
    """Tolerance relative to the largest result. The terms of a sum may cancel: then it is small
    beside its error."""
    return exact_tolerance(count) * (count**0.5 if kind in ("sum", "mean") else 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "shape", [(5,), (3, 64), (37, 56), (16, 256), (2, 1000), (4, 7, 17), (2, 33, 16), (2, 3, 1100)]
)
def test_one_axis(
    kind: str, shape: tuple[int, ...], isa: str, threads: int, random: Random
) -> None:
    x = random(*shape)
    for axis in range(len(shape)):
        for keepdims in (0, 1):
            graph, inputs = operator(f"reduce_{kind}", x, axes=[axis], keepdims=keepdims)
            (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
            want = by_reference(graph, inputs)[0]
            assert_close(got, want, tolerance(kind, shape[axis]), (axis, keepdims))


@pytest.mark.parametrize("kind", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("axes", [[0, 1], [1, 2], [0, 2], [1, 3], [0, 1, 3], [0, 1, 2, 3], None])
def test_several_axes(
    kind: str, axes: list[int] | None, isa: str, threads: int, random: Random
) -> None:
    x = random(3, 4, 5, 18)
    given = None if axes is None else np.array(axes, np.int64)
    graph, inputs = operator(f"reduce_{kind}", x, given)
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    assert_close(got, by_reference(graph, inputs)[0], tolerance(kind, x.size), axes)


@pytest.mark.parametrize("kind", ["max", "min"])
def test_nan_wins(kind: str, isa: str, random: Random) -> None:
    for place in (0, 3, 16, 69):
        x = random(2, 70)
        x[1, place] = np.nan
        for axis in (0, 1):
            graph, inputs = operator(f"reduce_{kind}", x, axes=[axis])
            (got,) = by_kernels(graph, inputs, isa=isa)
            assert np.array_equal(got, by_reference(graph, inputs)[0], equal_nan=True)


def test_threads_and_batch_do_not_matter(isa: str, random: Random) -> None:
    x = random(6, 500, 40)
    for axis in (1, 2):
        graph, inputs = operator("reduce_sum", x, axes=[axis])
        (whole,) = by_kernels(graph, inputs, isa=isa)
        assert np.array_equal(whole, by_kernels(graph, inputs, isa=isa, threads=2)[0])
        alone, inputs = operator("reduce_sum", x[4:5], axes=[axis])
        assert np.array_equal(whole[4:5], by_kernels(alone, inputs, isa=isa)[0])
