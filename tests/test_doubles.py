"""Networks of float64: every product has a kernel, and the results are those of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt import Model, lowering
from cnnrt.graph import Array
from networks import by_kernels, by_reference, operator

RNG = np.random.default_rng(0)


def doubles(*shape: int) -> Array:
    return RNG.standard_normal(shape)


CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 9, 11), (8, 3, 3, 3), {"pads": [1] * 4}),
    ((1, 5, 9, 11), (7, 5, 3, 3), {"strides": [2, 1], "pads": [0, 1, 2, 1]}),
    ((1, 4, 9, 9), (6, 4, 1, 1), {}),
    ((1, 4, 9, 9), (6, 4, 1, 1), {"strides": [2, 2]}),
    ((2, 6, 9, 9), (9, 2, 3, 3), {"group": 3, "dilations": [2, 2]}),
    ((1, 6, 9, 9), (6, 1, 3, 3), {"group": 6, "pads": [1] * 4}),
    ((2, 3, 17), (4, 3, 5), {"pads": [2, 2]}),
    ((1, 2, 5, 6, 7), (3, 2, 3, 3, 3), {"pads": [1] * 6}),
]


@pytest.mark.parametrize(("x", "weight", "attributes"), CONVOLUTIONS)
def test_convolution(
    x: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any], isa: str, threads: int
) -> None:
    for bias in (None, doubles(weight[0])):
        for activation in (None, ("relu", 0.0, 0.0), ("silu", 0.0, 0.0)):
            graph, inputs = operator(
                "conv", doubles(*x), doubles(*weight), bias, activation=activation, **attributes
            )
            (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
            (want,) = by_reference(graph, inputs)
            assert got.dtype == np.float64
            assert np.abs(got - want).max() <= 1e-12 * np.abs(want).max()


@pytest.mark.parametrize("columns", [1, 15, 16, 17, 33])
@pytest.mark.parametrize("rows", [1, 3, 8, 17])
def test_product(rows: int, columns: int, isa: str, threads: int) -> None:
    a, b = doubles(2, rows, 7), doubles(2, 7, columns)
    graph, inputs = operator("matmul", a, b, computed=[1])
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    assert np.abs(got - a @ b).max() <= 1e-14 * 7 * np.abs(a).max() * np.abs(b).max()


@pytest.mark.parametrize(
    "attributes", [{}, {"transB": 1}, {"alpha": 0.1, "beta": 3}, {"transA": 1}]
)
def test_gemm(attributes: dict[str, Any], isa: str, threads: int) -> None:
    x = doubles(7, 5) if "transA" in attributes else doubles(5, 7)
    weight = doubles(9, 7) if "transB" in attributes else doubles(7, 9)
    graph, inputs = operator("gemm", x, weight, doubles(9), **attributes)
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    (want,) = by_reference(graph, inputs)
    assert got.dtype == np.float64
    assert np.abs(got - want).max() <= 1e-14 * 7 * np.abs(want).max()


@pytest.mark.parametrize("shape", [(4, 5), (2, 5, 7), (2, 5, 7, 3), (1, 5, 2, 3, 4)])
def test_batch_normalisation(shape: tuple[int, ...], isa: str, threads: int) -> None:
    variance = np.abs(doubles(5)) + 0.1
    graph, inputs = operator(
        "batch_normalization", doubles(*shape), doubles(5), doubles(5), doubles(5), variance
    )
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    (want,) = by_reference(graph, inputs)
    assert got.dtype == np.float64
    assert np.abs(got - want).max() <= 1e-14 * np.abs(want).max()


def test_layer(isa: str, threads: int) -> None:
    residual = doubles(5, 9)
    graph, inputs = operator("linear", doubles(5, 7), doubles(9, 7), doubles(9), residual,
                             computed=[3], activation=("tanh", 0.0, 0.0))  # fmt: skip
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    (want,) = by_reference(graph, inputs)
    assert np.abs(got - want).max() <= 1e-14


def test_the_bits_are_the_same_for_any_number_of_threads() -> None:
    graph, inputs = operator("conv", doubles(3, 16, 20, 20), doubles(32, 16, 3, 3))
    one, two = (Model(graph, threads=n)(next(iter(inputs.values()))) for n in (1, 2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize(("x", "weight", "attributes"), CONVOLUTIONS)
@pytest.mark.parametrize("rows", [1, 2])
def test_bands_of_rows_have_the_same_bits(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    attributes: dict[str, Any],
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, inputs = operator(
        "conv", doubles(*x), doubles(*weight), doubles(weight[0]), **attributes
    )
    (whole,) = by_kernels(graph, inputs)
    monkeypatch.setattr(lowering.doubles, "BAND", 1)
    monkeypatch.setattr(lowering.doubles, "MAX_BANDS", -(-whole.shape[2] // rows))
    (bands,) = by_kernels(graph, inputs)
    np.testing.assert_array_equal(bands, whole)
    plan = Model(graph).describe()
    assert ("rows of the result" in plan) == (np.prod(weight[2:]) > 1 or "strides" in attributes)


def test_patches_of_a_large_image_are_gathered_in_bands() -> None:
    graph, inputs = operator("conv", doubles(1, 64, 130, 130), doubles(4, 64, 3, 3))
    x = next(iter(inputs.values()))
    model = Model(graph)
    assert "no kernel" not in model.describe()
    assert model.memory().arena < 16 << 20  # all patches are 75 MB
    (want,) = by_reference(graph, inputs)
    assert np.abs(model(x) - want).max() <= 1e-10


def test_patches_that_are_too_many_go_by_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, inputs = operator("conv", doubles(1, 8, 30, 30), doubles(4, 8, 3, 3))
    x = next(iter(inputs.values()))
    monkeypatch.setattr(lowering.doubles, "MAX_PATCHES", 8 * 9 * 28 * 8 - 1)
    model = Model(graph)
    assert "no kernel" in model.describe()
    (want,) = by_reference(graph, inputs)
    assert np.abs(model(x) - want).max() <= 1e-12


@pytest.mark.parametrize("op", ["exp", "sigmoid", "tanh", "elu", "celu"])
def test_functions_to_the_last_bits(op: str, isa: str, threads: int) -> None:
    """Within 4 units in the last place of NumPy's extended precision, tiny arguments too."""
    generator = np.random.default_rng(1)
    x = np.concatenate([generator.uniform(-c, c, 1001) for c in (700.0, 30.0, 1.0, 1e-3, 1e-15)])
    wide = x.astype(np.longdouble)
    below = np.expm1(np.minimum(wide, 0))
    want = {
        "exp": np.exp(wide),
        "sigmoid": 1 / (1 + np.exp(-wide)),
        "tanh": np.tanh(wide),
        "elu": np.where(wide < 0, below, wide),
        "celu": np.where(wide < 0, below, wide),
    }[op]
    graph, inputs = operator(op, x)
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    error = np.abs(got - want) / np.abs(want)
    assert error.max() < 4 * 2.0**-52, x[error.argmax()]


@pytest.mark.parametrize("op", ["exp", "sigmoid", "tanh", "elu"])
def test_ends_of_functions(op: str, isa: str) -> None:
    ends = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e300, -1e300, 709.7, 709.79, -800.0, -708.0]
    x = np.array(ends * 3)
    with np.errstate(over="ignore"):
        want = {
            "exp": np.exp(x),
            "sigmoid": 1 / (1 + np.exp(-x)),
            "tanh": np.tanh(x),
            "elu": np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
        }[op]
    graph, inputs = operator(op, x)
    (got,) = by_kernels(graph, inputs, isa=isa)
    np.testing.assert_allclose(got, want, rtol=1e-15, atol=0)
    assert np.array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_quotients_of_integers(dtype: str, isa: str, threads: int) -> None:
    """Numbers around the limit up to which doubles divide, and around each multiple."""
    generator = np.random.default_rng(2)
    b = generator.integers(1, 1 << 20, 3000).astype(dtype)
    b[::3] *= -1
    limit = np.iinfo(dtype).max
    for high in (min(limit, 1 << 31), min(limit, (1 << 52) - 1), min(limit, 1 << 52), limit):
        a = generator.integers(high // 2, high, 3000, endpoint=True).astype(dtype)
        a -= a % np.abs(b) + generator.integers(-1, 2, 3000).astype(dtype)
        a[::2] *= -1
        a[0] = high
        graph, inputs = operator("div", a, b, computed=[1])
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        want = [
            abs(int(p)) // abs(int(q)) * (1 if (p < 0) == (q < 0) else -1)
            for p, q in zip(a, b, strict=True)
        ]
        assert got.tolist() == want
