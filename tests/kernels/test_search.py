"""Selection of the largest and smallest: values, places, ties, NaN, every axis and type; running
totals."""

from __future__ import annotations

import numpy as np
import pytest

from checks import Random
from cnnrt.graph import Array
from networks import by_kernels, by_reference, operator

INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
TYPES = (*INTEGERS, "float64")


def numbers(dtype: str, *shape: int, seed: int = 0) -> Array:
    """Numbers over all that a type can hold, its ends among them."""
    generator = np.random.default_rng(seed)
    if dtype == "float64":  # which differ in bits that float32 does not have
        return 1 + generator.standard_normal(shape) * 1e-9
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    x = generator.integers(low, high, shape, dtype, endpoint=True)
    flat = x.reshape(-1)
    flat[generator.permutation(flat.size)[: flat.size // 4]] = low
    flat[generator.permutation(flat.size)[: flat.size // 8]] = high
    return x


def check(x: Array, k: int, isa: str, threads: int = 1, axis: int = -1) -> None:
    for largest in (1, 0):
        graph, inputs = operator("topk", x, np.array([k]), outputs=2, axis=axis, largest=largest)
        values, places = by_kernels(graph, inputs, isa=isa, threads=threads)
        want_values, want_places = by_reference(graph, inputs)
        assert values.dtype == x.dtype
        assert places.dtype == np.int64
        assert np.array_equal(places, want_places), (k, largest, axis)
        assert np.array_equal(values, want_values.astype(x.dtype), equal_nan=True)


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 130, 1000])
def test_sizes(size: int, isa: str, threads: int, random: Random) -> None:
    x = random(3, size)
    for k in sorted({1, 2, 5, 64, size // 2, size - 1, size}):
        if 1 <= k <= size:
            check(x, k, isa, threads)


def test_axes(isa: str, threads: int, random: Random) -> None:
    x = random(5, 70, 9)
    for axis, k in ((0, 3), (1, 10), (2, 9), (-2, 70)):
        check(x, k, isa, threads, axis)


def test_ties_zeros_and_infinities(isa: str) -> None:
    generator = np.random.default_rng(0)
    values = np.float32([0.0, -0.0, 1, -1, np.inf, -np.inf, 2])
    for k in (1, 7, 100, 200):
        check(generator.choice(values, (4, 200)), k, isa)
    check(np.zeros((2, 300), np.float32), 150, isa)


def test_sorted_either_way(isa: str) -> None:
    x = np.arange(1000, dtype=np.float32)
    for k in (1, 20, 900):
        check(np.stack([x, x[::-1]]), k, isa)


def test_nan_is_the_largest(isa: str, random: Random) -> None:
    x = random(3, 200)
    x[0, 150:153] = np.nan
    x[1, 0] = x[1, 199] = -np.nan
    x[2] = np.nan
    for k in (1, 2, 10, 199):
        check(x, k, isa)


def test_one_of_two_outputs(isa: str, random: Random) -> None:
    x = random(2, 50)
    for left, want in ((0, -np.sort(-x)[:, :4]), (1, np.argsort(-x)[:, :4])):
        graph, inputs = operator("topk", x, np.array([4]), outputs=2)
        graph.nodes[0].outputs[1 - left] = ""
        graph.outputs = [graph.outputs[left]]
        assert np.array_equal(by_kernels(graph, inputs, isa=isa)[0], want)


@pytest.mark.parametrize("dtype", [*TYPES, "bool"])
def test_every_type(dtype: str, isa: str, threads: int) -> None:
    for size in (1, 63, 64, 65, 200, 1000):
        x = np.ones((2, size), bool) if dtype == "bool" else numbers(dtype, 2, size)
        for k in sorted({1, size // 2, size} - {0}):
            check(x, k, isa, threads)
    x = np.eye(70, 9) > 0 if dtype == "bool" else numbers(dtype, 70, 9)
    check(x, 5, isa, threads, axis=0)


def test_nan_and_zeros_of_float64(isa: str) -> None:
    generator = np.random.default_rng(0)
    values = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, -np.nan])
    for k in (1, 7, 150, 200):
        check(generator.choice(values, (4, 200)), k, isa)
    check_place(generator.choice(values, (20, 90)), isa)
    check_place(generator.choice(values[:6], (3, 130)), isa)
    check_place(np.full((3, 70), np.nan), isa)


@pytest.mark.parametrize("dtype", [*TYPES, "bool"])
@pytest.mark.parametrize("shape", [(1,), (64,), (3, 65), (130, 17), (2, 33, 64), (70, 65)])
def test_place_of_the_extreme_of_every_type(
    shape: tuple[int, ...], dtype: str, isa: str, threads: int
) -> None:
    x = numbers("int8", *shape) > 0 if dtype == "bool" else numbers(dtype, *shape)
    check_place(x, isa, threads)


TOTALS = {"cumsum": np.add, "cumprod": np.multiply}


@pytest.mark.parametrize("dtype", ["float32", *TYPES])
@pytest.mark.parametrize("shape", [(1,), (100,), (3, 17), (5, 1025), (4, 3, 2)])
def test_running_totals(
    shape: tuple[int, ...], dtype: str, isa: str, threads: int, random: Random
) -> None:
    """Integers wrap; floats are added in order, so that the bits are those of NumPy."""
    near_one = 1 + random(*shape) / 100  # so that no product is subnormal, which kernels flush
    x = near_one if dtype == "float32" else numbers(dtype, *shape)
    for axis in range(x.ndim):
        for op, function in TOTALS.items():
            for reverse in (0, 1):
                lanes = np.flip(x, axis) if reverse else x
                want = function.accumulate(lanes, axis=axis, dtype=x.dtype)
                for exclusive in (0, 1):
                    if exclusive:
                        first = np.full_like(want.take([0], axis), function.identity)
                        want = np.concatenate([first, want], axis).take(range(x.shape[axis]), axis)
                    graph, inputs = operator(
                        op, x, np.array(axis), reverse=reverse, exclusive=exclusive
                    )
                    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
                    assert got.dtype == x.dtype
                    expected = np.flip(want, axis) if reverse else want
                    assert np.array_equal(got, expected), (op, axis, reverse, exclusive)


def check_place(x: Array, isa: str, threads: int = 1) -> None:
    for axis in range(x.ndim):
        for op in ("argmax", "argmin"):
            for last in (0, 1):
                graph, inputs = operator(op, x, axis=axis, select_last_index=last, keepdims=last)
                (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
                assert got.dtype == np.int64
                assert np.array_equal(got, by_reference(graph, inputs)[0]), (op, axis, last)


@pytest.mark.parametrize("shape", [(1,), (16,), (3, 65), (21, 130), (2, 33, 17), (1, 5, 4, 70)])
def test_place_of_the_extreme(
    shape: tuple[int, ...], isa: str, threads: int, random: Random
) -> None:
    check_place(random(*shape), isa, threads)


def test_place_among_ties_and_nan(isa: str) -> None:
    generator = np.random.default_rng(0)
    values = np.float32([0.0, -0.0, 1, -1, np.inf, -np.inf])
    check_place(generator.choice(values, (20, 90)), isa)
    check_place(generator.choice(np.float32([*values, np.nan]), (20, 90)), isa)
    check_place(np.full((3, 40), -np.inf, np.float32), isa)
