"""Activations over their whole range, residual addition with broadcasting, softmax."""

from __future__ import annotations

import numpy as np
import pytest

from checks import Random, activation, assert_close, reference
from cnnrt import kernels
from networks import by_kernels, by_reference, network

PARAMETERS = {
    "clip": (-0.5, 1.5),
    "leaky_relu": (0.1, 0.0),
    "hard_sigmoid": (0.2, 0.5),
    "elu": (1.0, 0.0),
    "selu": (1.6732632, 1.050701),
    "celu": (0.7, 0.0),
    "affine": (1.5, -0.25),
    "thresholded_relu": (0.75, 0.0),
}
FAR = [-1e30, -1e3, -100, -90, -88, -87, -86.5, 80]
POSITIVE = {"log", "sqrt", "reciprocal"}
WITHIN_ONE = {"asin", "acos"}


@pytest.mark.parametrize("name", kernels.ACTIVATIONS)
def test_activation(name: str, isa: str, threads: int) -> None:
    x = np.concatenate([np.linspace(-12, 12, 4001), np.linspace(-1e-3, 1e-3, 101), FAR])
    if name in POSITIVE:
        x = np.abs(x) + 1e-3
    if name in WITHIN_ONE:
        x = np.concatenate([np.clip(x / 12, -1, 1), 1 - np.logspace(-7, -1, 101)])
    x = x.astype(np.float32)
    act = (name, *PARAMETERS.get(name, (0.0, 0.0)))
    want = reference("activate", x, activation=activation(act))
    got = kernels.activate(x, act, threads=threads, isa=isa)
    # Four units in the last place of the value, or of 1 where the function is near zero.
    error = np.abs(got - want) / np.maximum(np.abs(want), 1)
    assert error.max() <= 4 * 2.0**-23, (name, x[error.argmax()], error.max())


@pytest.mark.parametrize("name", sorted(set(kernels.ACTIVATIONS) - {"softsign", "none"}))
def test_nan_and_infinity_pass_as_in_the_reference(name: str, isa: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)
    act = (name, *PARAMETERS.get(name, (0.0, 0.0)))
    want = reference("activate", x, activation=activation(act))
    got = kernels.activate(x, act, isa=isa)
    assert np.array_equal(got, want.astype(np.float32), equal_nan=True), (got, want)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 20, 9, 9), (2, 20, 9, 9)),
        ((2, 20, 9, 9), (1, 20, 1, 1)),
        ((2, 20, 9, 9), (2, 20, 1, 1)),
        ((2, 20, 9, 9), (9,)),
        ((2, 1, 9, 9), (2, 20, 1, 9)),
        ((7,), (1,)),
        ((3, 1), (1, 5)),
        ((100_003,), (100_003,)),
    ],
)
def test_add(
    a: tuple[int, ...], b: tuple[int, ...], isa: str, threads: int, random: Random
) -> None:
    x, y = random(*a), random(*b)
    got = kernels.add(x, y, threads=threads, isa=isa)
    assert np.array_equal(got, x + y)
    got = kernels.add(y, x, "relu", threads=threads, isa=isa)
    assert np.array_equal(got, np.maximum(x + y, 0))


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4), (40, 33)])
def test_one_column_of_a_tensor(shape: tuple[int, ...], isa: str, random: Random) -> None:
    """A view whose last axis has one element: what lies before it is not contiguous."""
    x, other = random(*shape), random(*shape[:-1], 1)
    part = {"starts": [1], "ends": [2], "axes": [len(shape) - 1]}
    for second in ("column", "other", "x"):
        graph = network(
            {"x": x, "other": other},
            part,
            ("column", "slice", "x starts ends axes"),
            ("y", "add", f"column {second}"),
        )
        inputs = {"x": x, "other": other}
        (got,) = by_kernels(graph, inputs, isa=isa)
        assert_close(got, by_reference(graph, inputs)[0], 1e-6, second)


@pytest.mark.parametrize("shape", [(1, 1), (3, 10), (2, 1000), (2, 17, 5), (1, 33, 4, 4)])
def test_softmax(shape: tuple[int, ...], isa: str, threads: int, random: Random) -> None:
    x = 10 * random(*shape)
    for axis in range(len(shape)):
        want = reference("softmax", x, axis=axis)
        got = kernels.softmax(x, axis, threads=threads, isa=isa)
        assert_close(got, want, 1e-6, axis)


def test_softmax_of_extremes(isa: str) -> None:
    x = np.array([[1e4, 0, -1e4], [-np.inf, 0, 0], [np.nan, 1, 2]], np.float32)
    got = kernels.softmax(x, isa=isa)
    assert np.array_equal(got[:2], np.float32([[1, 0, 0], [0, 0.5, 0.5]]))
    assert np.isnan(got[2]).all()
