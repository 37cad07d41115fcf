"""Activations and normalisations as exporters spell them become the operators they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnrt import Model
from cnnrt.graph import Graph
from test_passes import Builder, by_reference, fused

WIDTH = 6
Spelling = Callable[[Builder], str]


def number(b: Builder, value: float) -> str:
    return b.constant(np.float32(value))


def erf_of(b: Builder) -> str:
    return b("erf", b("div", "x", number(b, 2**0.5)))


def inner(b: Builder, cube: str) -> str:
    """The argument of the tanh of a gelu."""
    scaled = b("mul", cube, number(b, 0.044715))
    return b("tanh", b("mul", b("add", "x", scaled), number(b, 0.7978845608)))


def cube(b: Builder) -> str:
    return b("mul", "x", b("mul", "x", "x"))


def relu6(b: Builder) -> str:
    return b("clip", b("add", "x", number(b, 3)), number(b, 0), number(b, 6))


def exp_minus(b: Builder) -> str:
    return b("exp", b("neg", "x"))


ACTIVATIONS: dict[str, list[Spelling]] = {
    "gelu": [
        lambda b: b("mul", b("mul", "x", b("add", erf_of(b), number(b, 1))), number(b, 0.5)),
        lambda b: b("mul", "x", b("mul", number(b, 0.5), b("add", number(b, 1), erf_of(b)))),
        lambda b: b("mul", b("div", "x", number(b, 2)), b("add", number(b, 1), erf_of(b))),
        lambda b: b("add", b("mul", "x", number(b, 0.5)),
                    b("mul", b("mul", "x", number(b, 0.5)), erf_of(b))),
        lambda b: b("mul", "x", b("sub", number(b, 1), b("mul", number(b, 0.5), b(
            "sub", number(b, 1), b("erf", b("mul", "x", number(b, 0.70710678))))))),
        lambda b: b("mul", b("mul", number(b, 0.5), "x"),
                    b("add", number(b, 1), inner(b, b("pow", "x", number(b, 3))))),
        lambda b: b("mul", "x", b("mul", number(b, 0.5), b(
            "add", number(b, 1), inner(b, cube(b))))),
    ],
    "hard_swish": [
        lambda b: b("mul", "x", b("div", relu6(b), number(b, 6))),
        lambda b: b("div", b("mul", "x", relu6(b)), number(b, 6)),
        lambda b: b("mul", b("mul", "x", number(b, 1 / 6)), relu6(b)),
        lambda b: b("mul", "x", b("hard_sigmoid", "x", alpha=1 / 6, beta=0.5)),
        lambda b: b("mul", "x", b("min", b("relu", b("add", b("mul", "x", number(b, 0.16666667)),
                                                     number(b, 0.5))), number(b, 1))),
    ],
    "silu": [
        lambda b: b("mul", "x", b("sigmoid", "x")),
        lambda b: b("mul", b("sigmoid", "x"), "x"),
        lambda b: b("div", "x", b("add", number(b, 1), exp_minus(b))),
        lambda b: b("mul", "x", b("reciprocal", b("add", exp_minus(b), number(b, 1)))),
        lambda b: b("mul", b("mul", "x", number(b, 0.5)), b("add", number(b, 1), b(
            "tanh", b("mul", "x", number(b, 0.5))))),
    ],
    "mish": [
        lambda b: b("mul", "x", b("tanh", b("softplus", "x"))),
        lambda b: b("mul", "x", b("tanh", b("log", b("add", b("exp", "x"), number(b, 1))))),
    ],
}  # fmt: skip


def row(b: Builder, low: float = 1) -> str:
    return b.constant(np.arange(low, low + WIDTH, dtype=np.float32))


def centred(b: Builder) -> str:
    return b("sub", "x", b("reduce_mean", "x", axes=[-1]))


def pytorch(b: Builder) -> str:
    """As `torch.onnx` writes it below opset 17."""
    d = centred(b)
    variance = b("reduce_mean", b("pow", d, number(b, 2)), axes=[-1])
    unit = b("div", d, b("sqrt", b("add", variance, number(b, 1e-5))))
    return b("add", b("mul", unit, row(b)), row(b, -2))


def keras(b: Builder) -> str:
    """As batch normalisation of moments, which TensorFlow writes."""
    d = centred(b)
    variance = b("reduce_mean", b("mul", d, d), axes=[2])
    factor = b("mul", b("reciprocal", b("sqrt", b("add", variance, number(b, 1e-3)))), row(b))
    mean = b("reduce_mean", "x", axes=[2])
    return b("add", b("mul", "x", factor), b("sub", row(b, -2), b("mul", mean, factor)))


def flax(b: Builder) -> str:
    """As JAX writes it: the mean of squares less the square of the mean, by sums."""
    axes = b.constant(np.array([2]))
    shape = b.constant(np.array([1, 8, 1]))

    def mean(x: str) -> str:
        total = b("mul", b("reduce_sum", x, axes, keepdims=0), number(b, 1 / WIDTH))
        return b("reshape", total, shape)

    first = mean("x")
    spread = b("max", number(b, 0), b("sub", mean(b("mul", "x", "x")), b("mul", first, first)))
    factor = b("mul", b("reciprocal", b("sqrt", b("add", spread, number(b, 1e-6)))), row(b))
    return b("add", b("mul", b("sub", "x", first), factor), row(b, -2))


def paddle(b: Builder) -> str:
    """Squares as products, and a power instead of the root."""
    d = centred(b)
    variance = b("reduce_mean", b("mul", d, d), axes=[-1])
    unit = b("mul", d, b("pow", b("add", variance, number(b, 1e-5)), number(b, -0.5)))
    return b("add", row(b, -2), b("mul", row(b), unit))


def without_weights(b: Builder) -> str:
    d = centred(b)
    variance = b("reduce_mean", b("mul", d, d), axes=[-1])
    return b("div", d, b("sqrt", b("add", variance, number(b, 1e-5))))


def softmax(b: Builder) -> str:
    e = b("exp", b("sub", "x", b("reduce_max", "x", axes=[-1])))
    return b("div", e, b("reduce_sum", e, b.constant(np.array([-1]))))


def softmax_by_product(b: Builder) -> str:
    e = b("exp", "x")
    return b("mul", e, b("reciprocal", b("reduce_sum", e, b.constant(np.array([2])))))


def log_softmax(b: Builder) -> str:
    d = b("sub", "x", b("reduce_max", "x", axes=[-1]))
    return b("sub", d, b("log", b("reduce_sum", b("exp", d), b.constant(np.array([-1])))))


def rms(b: Builder) -> str:
    mean = b("reduce_mean", b("mul", "x", "x"), axes=[-1])
    root = b("sqrt", b("add", mean, number(b, 1e-6)))
    return b("mul", b("mul", "x", b("reciprocal", root)), row(b))


ROWS: dict[str, list[Spelling]] = {
    "layer_normalization": [pytorch, keras, flax, paddle, without_weights],
    "softmax": [softmax, softmax_by_product],
    "log_softmax": [log_softmax],
    "rms_normalization": [rms],
}
CASES = [(op, f) for table in (ACTIVATIONS, ROWS) for op, fs in table.items() for f in fs]


def graph_of(spelling: Spelling) -> Graph:
    b = Builder(1, 8, WIDTH)
    return b.graph(spelling(b))


def check(graph: Graph, tolerance: float) -> None:
    """The result is that of the operators as they are spelt, in float64."""
    x = np.random.default_rng(0).standard_normal((1, 8, WIDTH)).astype(np.float32) * 3
    y = by_reference(graph, x)[graph.outputs[0].name]
    got = Model(graph)(x)
    assert np.abs(got - y).max() <= tolerance * max(1, np.abs(y).max())


@pytest.mark.parametrize(
    ("op", "spelling"), CASES, ids=[f"{op}{i}" for i, (op, _) in enumerate(CASES)]
)
def test_a_spelling_is_recognised(op: str, spelling: Spelling) -> None:
    graph = graph_of(spelling)
    assert fused(graph) == [op]
    check(graph, 1e-5)


def misaligned(b: Builder) -> str:
    """A mean without its axis lies along another one of the same length."""
    return b("sub", "x", b("reduce_mean", "x", axes=[-1], keepdims=0))


def another_axis(b: Builder) -> str:
    mean = b("reduce_mean", "x", axes=[1])
    d = b("sub", "x", mean)
    variance = b("reduce_mean", b("mul", d, d), axes=[1])
    return b("div", d, b("sqrt", b("add", variance, number(b, 1e-5))))


OTHERS: list[tuple[Spelling, tuple[int, ...]]] = [
    (lambda b: b("mul", "x", b("sigmoid", b("mul", "x", number(b, 1.702)))), (1, 8, WIDTH)),
    (lambda b: b("mul", "x", b("mul", number(b, 0.51), b("add", number(b, 1), erf_of(b)))),
     (1, 8, WIDTH)),
    (lambda b: b("div", b("mul", "x", relu6(b)), number(b, 5)), (1, 8, WIDTH)),
    (lambda b: b("mul", b("add", "x", number(b, 1)), b("sigmoid", "x")), (1, 8, WIDTH)),
    (misaligned, (WIDTH, WIDTH, WIDTH)),
    (another_axis, (1, 8, WIDTH)),
    (lambda b: b("div", centred(b), b("add", b("sqrt", b("reduce_mean", b(
        "pow", centred(b), number(b, 2)), axes=[-1])), number(b, 1e-3))), (1, 8, WIDTH)),
]  # fmt: skip


@pytest.mark.parametrize(("spelling", "shape"), OTHERS)
def test_what_is_only_similar_stays(spelling: Spelling, shape: tuple[int, ...]) -> None:
    b = Builder(*shape)
    graph = b.graph(spelling(b))
    known = {*ACTIVATIONS, *ROWS}
    assert known.isdisjoint(fused(graph))
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    want: Any = by_reference(graph, x)[graph.outputs[0].name]
    assert np.abs(Model(graph)(x) - want).max() <= 1e-5 * max(1, np.abs(want).max())
