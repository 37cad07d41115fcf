"""Fully connected layers, from one row (a dot product per output) to many (register tiles)."""

from __future__ import annotations

import numpy as np
import pytest

from checks import Random, assert_close, exact_tolerance, reference
from cnnrt import kernels


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 14, 27, 28, 29, 57])
def test_rows(rows: int, isa: str, threads: int, random: Random) -> None:
    for depth, columns in ((1, 1), (16, 16), (17, 33), (40, 100), (64, 64), (100, 10)):
        x, weight, bias = random(rows, depth), random(columns, depth), random(columns)
        want = reference("linear", x, weight, bias)
        got = kernels.linear(x, weight, bias, threads=threads, isa=isa)
        assert_close(got, want, exact_tolerance(depth), (rows, depth, columns))


def test_leading_axes_and_activation(isa: str, threads: int, random: Random) -> None:
    x, weight = random(2, 3, 20), random(70, 20)
    for activation in ("relu", "gelu", "sigmoid"):
        got = kernels.linear(x, weight, activation=activation, threads=threads, isa=isa)
        want = reference("linear", x, weight)
        want = reference("activate", want, activation=(activation, 0.0, 0.0))
        assert_close(got, want, 2e-6, activation)


def test_depth_beyond_one_part(isa: str, threads: int, random: Random) -> None:
    """Long sums are cut into parts, alike for few rows and for many."""
    x, weight, bias = random(30, 4100), random(40, 4100), random(40)
    want = reference("linear", x, weight, bias)
    want = reference("activate", want, activation=("relu", 0.0, 0.0))
    whole = kernels.linear(x, weight, bias, activation="relu", threads=threads, isa=isa)
    assert_close(whole, want, exact_tolerance(4100))
    for rows in (slice(0, 1), slice(11, 14)):
        some = kernels.linear(x[rows], weight, bias, activation="relu", threads=threads, isa=isa)
        assert np.array_equal(whole[rows], some)


def test_a_row_does_not_depend_on_the_others(isa: str, random: Random) -> None:
    x, weight = random(30, 50), random(40, 50)
    whole = kernels.linear(x, weight, threads=1, isa=isa)
    for i in (0, 13, 29):
        assert np.array_equal(whole[i : i + 1], kernels.linear(x[i : i + 1], weight, isa=isa))
    assert np.array_equal(whole, kernels.linear(x, weight, threads=2, isa=isa))
