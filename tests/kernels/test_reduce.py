"""Reductions over inner, middle and several axes."""

from __future__ import annotations

import numpy as np
import pytest

from checks import Random, assert_close, exact_tolerance
from cnnrt import Model
from networks import by_kernels, by_reference, network, operator

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


PERMUTED = [
    ((3, 70, 129), (0, 2, 1), [2]),  # the middle axis of the memory
    ((3, 70, 129), (2, 0, 1), [1, 2]),  # two that are neighbours there
    ((3, 70, 65), (1, 2, 0), [2]),  # the first axis
    ((3, 7, 64), (0, 2, 1), [1]),  # the last one
    ((3, 5, 1, 66), (0, 3, 2, 1), [3]),
    ((3, 7, 63), (2, 1, 0), [2]),  # the others change their order: these two are copied
    ((3, 70, 129), (2, 0, 1), [2]),
]


@pytest.mark.parametrize("op", ["reduce_max", "reduce_sum", "argmax", "argmin"])
@pytest.mark.parametrize("last", [0, 1])
def test_permuted_tensors_are_reduced_as_they_lie(
    op: str, last: int, isa: str, threads: int
) -> None:
    rng = np.random.default_rng(1)
    for i, (shape, perm, axes) in enumerate(PERMUTED):
        x = rng.integers(-9, 9, shape).astype("f")  # sums are exact, and there are ties
        more: dict[str, object] = {"axes": axes, "keepdims": last}
        if op.startswith("arg"):
            if len(axes) > 1:
                continue
            more = {"axis": axes[-1], "keepdims": 0, "select_last_index": last}
        graph = network(
            {"x": x}, {}, ("t", "transpose", "x", {"perm": list(perm)}), ("y", op, "t", more)
        )
        model = Model(graph, isa=isa, threads=threads)
        (want,) = by_reference(graph, {"x": x})
        assert np.array_equal(model(x), want), (shape, perm)
        assert ("copy" in model.describe()) == (i >= len(PERMUTED) - 2), (shape, perm)
