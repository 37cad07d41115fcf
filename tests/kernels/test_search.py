"""Selection of the largest and smallest: values, places, ties, NaN, every axis."""

from __future__ import annotations

import numpy as np
import pytest

from checks import Random
from cnnrt.graph import Array
from networks import by_kernels, by_reference, operator


def check(x: Array, k: int, isa: str, threads: int = 1, axis: int = -1) -> None:
    for largest in (1, 0):
        graph, inputs = operator("topk", x, np.array([k]), outputs=2, axis=axis, largest=largest)
        values, places = by_kernels(graph, inputs, isa=isa, threads=threads)
        want_values, want_places = by_reference(graph, inputs)
        assert values.dtype == np.float32
        assert places.dtype == np.int64
        assert np.array_equal(places, want_places), (k, largest, axis)
        assert np.array_equal(values, want_values.astype(np.float32), equal_nan=True)


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
