"""Reductions of doubles and integers, against NumPy in the same types and in wider ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt import Model
from cnnrt.graph import Array
from cnnrt.ops.reduce import REDUCTIONS
from networks import by_kernels, operator

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
SHAPES = (
    (5,),
    (3, 31),
    (2, 32),
    (7, 33),
    (3, 7),
    (4, 15),
    (5, 16),
    (2, 17),
    (3, 256),
    (2, 257),
    (2, 1000),
    (4, 7, 17),
    (3, 5, 511),
    (2, 3, 513),
    (5, 1, 2),
)
"""Rows around the four vectors of doubles that are summed at once, and around the shortest and the
longest of which extrema of bytes go by overlapping vectors; strips around their end."""


def values(dtype: str, shape: tuple[int, ...]) -> Array:
    rng = np.random.default_rng(len(shape))
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype == "float64":
        return rng.standard_normal(shape) * 3
    ends = np.iinfo(dtype)
    return rng.integers(ends.min, ends.max, shape, dtype, endpoint=True)


def reduced(kind: str, x: Array, axes: Any, isa: str, threads: int = 1, **more: int) -> Array:
    given = None if axes is None else np.array(axes, np.int64)
    graph, inputs = operator(f"reduce_{kind}", x, given, **more)
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    return got


@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min", "l1", "sum_square"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(kind: str, dtype: str, isa: str, threads: int) -> None:
    """Every bit: sums and products wrap."""
    for shape in SHAPES:
        x = values(dtype, shape)
        whole = x.astype(object)  # Python's integers, which do not end
        for axis in range(len(shape)):
            got = reduced(kind, x, [axis], isa, threads, keepdims=0)
            if kind in ("max", "min"):
                want = getattr(x, kind)(axis)
            else:
                terms = {"l1": abs(whole), "sum_square": whole * whole}.get(kind, whole)
                exact = terms.prod(axis) if kind == "prod" else terms.sum(axis)
                bits = 8 * x.itemsize
                unsigned = np.asarray(exact % (1 << bits), object).astype(f"u{x.itemsize}")
                want = unsigned.view(dtype)
            assert got.dtype == x.dtype
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_the_mean_of_integers_is_rounded_towards_zero(dtype: str, isa: str) -> None:
    for shape in SHAPES:
        x = values(dtype, shape)
        for axis in range(len(shape)):
            got = reduced("mean", x, [axis], isa, keepdims=0)
            exact = x.astype(object).sum(axis)
            want = np.trunc(np.asarray(exact / shape[axis], np.float64))
            # Numbers of 64 bits, each of their sums and the quotients are rounded as doubles are.
            terms = np.asarray(abs(x.astype(object)).max(axis), np.float64)
            most = 1.2e-16 * (shape[axis] + 3) * terms if "64" in dtype else 0
            assert np.all(abs(got.astype(np.float64) - want) <= most), (shape, axis)
    ends = np.iinfo(dtype)
    for end in (ends.min, ends.max):
        got = reduced("mean", np.full((2, 40), end, dtype), [1], isa, keepdims=0)
        assert np.all(got == end)


@pytest.mark.parametrize("kind", ["sum", "mean", "prod", "max", "min", "l1", "l2", "sum_square"])
def test_doubles(kind: str, isa: str, threads: int) -> None:
    """Against sums in long double."""
    for shape in SHAPES:
        x = values("float64", shape)
        x = 1 + x / 100 if kind == "prod" else x
        wide = x.astype(np.longdouble)
        for axis in range(len(shape)):
            got = reduced(kind, x, [axis], isa, threads, keepdims=0)
            want = REDUCTIONS[f"reduce_{kind}"](wide, (axis,)).reshape(got.shape)
            scale = abs(wide).sum(axis) if kind in ("sum", "mean") else abs(want)
            assert got.dtype == np.float64
            assert np.all(abs(got - want) <= 1e-16 * (4 + shape[axis]) * scale), (shape, axis)


def test_truth_values_have_extrema(isa: str) -> None:
    x = values("bool", (6, 70))
    np.testing.assert_array_equal(reduced("max", x, [1], isa, keepdims=0), x.any(1))
    np.testing.assert_array_equal(reduced("min", x, [0], isa, keepdims=0), x.all(0))


@pytest.mark.parametrize("axes", [[0, 1], [0, 2], [1, 3], [0, 1, 2, 3], None])
def test_several_axes(axes: list[int] | None, isa: str) -> None:
    for dtype in ("int32", "float64"):
        x = values(dtype, (3, 4, 5, 18))
        which = tuple(range(4)) if axes is None else tuple(axes)
        for kind in ("sum", "max", "prod"):
            got = reduced(kind, x, axes, isa)
            want = REDUCTIONS[f"reduce_{kind}"](x, which).astype(dtype)
            np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind", ["max", "min"])
def test_nan_wins(kind: str, isa: str) -> None:
    for place in (0, 3, 16, 31, 32, 69):
        x = values("float64", (2, 70))
        x[1, place] = np.nan
        for axis in (0, 1):
            got = reduced(kind, x, [axis], isa, keepdims=0)
            np.testing.assert_array_equal(got, getattr(x, kind)(axis))
        assert not np.isnan(reduced(kind, x, [1], isa)[0])


@pytest.mark.parametrize("dtype", ["float64", "int16"])
def test_threads_and_batch_do_not_matter(dtype: str, isa: str) -> None:
    x = values(dtype, (6, 500, 40))
    for axis in (1, 2):
        whole = reduced("sum", x, [axis], isa)
        np.testing.assert_array_equal(whole, reduced("sum", x, [axis], isa, threads=2))
        np.testing.assert_array_equal(whole[4:5], reduced("sum", x[4:5], [axis], isa))


@pytest.mark.parametrize("shape", [(5,), (3, 64), (37, 56), (2, 1000), (4, 7, 17), (2, 33, 16)])
def test_products_of_floats(shape: tuple[int, ...], isa: str, threads: int) -> None:
    x = (1 + values("float64", shape) / 30).astype(np.float32)
    for axis in range(len(shape)):
        got = reduced("prod", x, [axis], isa, threads, keepdims=0)
        np.testing.assert_allclose(got, x.astype("d").prod(axis), rtol=2e-7 * shape[axis] + 1e-6)


@pytest.mark.parametrize("op", ["global_average_pool", "global_max_pool"])
@pytest.mark.parametrize("spatial", [(9,), (7, 8), (3, 4, 5)])
def test_global_pools_of_doubles(op: str, spatial: tuple[int, ...], isa: str) -> None:
    x = values("float64", (2, 20, *spatial))
    graph, inputs = operator(op, x)
    (got,) = by_kernels(graph, inputs, isa=isa)
    axes = tuple(range(2, x.ndim))
    want = x.mean(axes, keepdims=True) if "average" in op else x.max(axes, keepdims=True)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-14)


def test_what_no_kernel_reduces_is_left_to_the_reference() -> None:
    x = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    for kind, axes in (("l2", [1]), ("mean", [0, 2])):
        graph, inputs = operator(f"reduce_{kind}", x, np.array(axes), keepdims=0)
        want = REDUCTIONS[f"reduce_{kind}"](x, tuple(axes)).astype(np.int32).reshape(-1)
        np.testing.assert_array_equal(Model(graph).run(inputs).reshape(-1), want)
