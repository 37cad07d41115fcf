"""Operators on bytes, equal to their references to the last bit: every tier, overlay and thread."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

from cnnrt import ops
from cnnrt.graph import Array, Graph
from cnnrt.ops.requantised import Addition
from networks import by_kernels, network

RNG = np.random.default_rng(0)
ZEROS = (0, 1, 128, 255)


def exactly(graph: Graph, inputs: Mapping[str, Array]) -> list[Array]:
    """The outputs operator by operator, in the types of the graph."""
    values = {**graph.constants, **inputs}
    for node in graph.nodes:
        arrays = [values[name] if name else None for name in node.inputs]
        values.update(zip(node.outputs, ops.op(node).reference(node, *arrays), strict=False))
    return [values[spec.name] for spec in graph.outputs]


def assert_exact(graph: Graph, inputs: Mapping[str, Array], isa: str, threads: int) -> None:
    wanted = exactly(graph, inputs)
    for got, want in zip(by_kernels(graph, inputs, isa=isa, threads=threads), wanted, strict=True):
        np.testing.assert_array_equal(got, want, strict=True)


def bytes_of(*shape: int) -> Array:
    """Bytes of which a tenth are 0 and a tenth 255."""
    x = RNG.integers(0, 256, shape, dtype=np.uint8)
    extremes = RNG.random(shape)
    return np.where(extremes < 0.1, 0, np.where(extremes > 0.9, 255, x)).astype(np.uint8)


def weights_of(*shape: int, low: int = -128, high: int = 127) -> Array:
    w = RNG.integers(low, high + 1, shape)
    extremes = RNG.random(shape)
    whole = np.where(extremes < 0.1, low, np.where(extremes > 0.9, high, w))
    return whole.astype(np.int8 if low >= -128 and high <= 127 else np.int16)


class Case(NamedTuple):
    """x (n, c, *size), weight (m, c / group, *kernel)."""

    c: int
    m: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    group: int = 1
    n: int = 1
    high: int = 127
    """Largest value of the weights."""


def conv(
    case: Case,
    *,
    zero: int = 128,
    residual: bool = False,
    table: bool = False,
    floats: int = 0,
    **attributes: Any,
) -> tuple[Graph, dict[str, Array]]:
    c, m, size, kernel, stride, pad, dilation, group, n, high = case
    rank = len(kernel)
    x = bytes_of(n, c, *size)
    weight = weights_of(m, c // group, *kernel, high=high)
    windows = {
        "strides": [stride] * rank,
        "pads": [pad] * (2 * rank),
        "dilations": [dilation] * rank,
        "group": group,
    }
    depth = c // group * int(np.prod(kernel))
    scale = (RNG.uniform(0.3, 1.7, m) / (60 * np.sqrt(depth))).astype(np.float32)
    values = {
        "w": weight,
        "b": RNG.integers(-3000, 3000, m, dtype=np.int32),
        "s": scale,
        "t": RNG.permutation(256).astype(np.uint8),
    }
    inputs = {"x": x}
    if residual:
        out = [(s + 2 * pad - dilation * (k - 1) - 1) // stride + 1
               for s, k in zip(size, kernel, strict=True)]  # fmt: skip
        inputs["r"] = bytes_of(n, m, *out)
    names = f"x w b s {'r' if residual else ''} {'t' if table else ''}".rstrip()
    given = {"x_zero": zero, "zero": 97, **windows, "floats": floats, **attributes}
    return network(inputs, values, ("y", "qconv", names, given)), inputs


CASES = [
    Case(16, 16, (5, 14), (1, 1)),
    Case(64, 48, (7, 7), (1, 1)),
    Case(3, 16, (9, 15), (3, 3), 2, 1),
    Case(24, 40, (6, 29), (3, 3), 1, 1),
    Case(32, 64, (7, 7), (3, 3), 1, 1),
    Case(35, 33, (9, 13), (3, 3), 3, 2, 2),
    Case(17, 16, (4, 4), (5, 3), 1, 2),
    Case(32, 32, (8, 8), (2, 2), 2, 0, 1, 4),
    Case(24, 12, (6, 9), (3, 3), 1, 1, 1, 3),
    Case(16, 32, (10,), (3,), 1, 1),
    Case(16, 20, (3, 4, 15), (3, 3, 3), 1, 1),
    Case(20, 16, (5, 5), (3, 3), 1, 1, 1, 1, 3),
    Case(16, 24, (6, 7), (3, 3), 1, 1, high=128),  # weights of 9 bits
    Case(5, 24, (6, 7), (1, 1), high=255),
    Case(32, 32, (6, 7), (3, 3), 1, 1, 1, 4, high=128),
    Case(21, 14, (6, 9), (3, 3), 2, 1, 1, 7, high=255),
    Case(18, 18, (4, 5, 6), (3, 3, 3), 1, 1, 1, 18, high=200),
    # Rows, planes and columns that leave out taps; tiles of two rows of 7 beside them.
    Case(16, 40, (7, 7), (5, 5), 1, 2),
    Case(35, 33, (2, 7), (3, 3), 1, 1, n=2),
    Case(16, 16, (3, 7), (3, 3), 1, 1),
    Case(32, 48, (14, 14), (3, 3), 2, 1),
    Case(35, 20, (2, 6, 7), (3, 3, 3), 1, 1),
    Case(35, 20, (16, 16), (3, 3), 1, 12, 12),
    Case(20, 16, (5, 20), (3, 3), 1, 24, 24),
    Case(16, 16, (30,), (3,), 1, 14, 14),
    Case(16, 36, (4, 40), (1, 5), 1, 8, 4),  # rows of padding alone
    Case(24, 12, (7, 9), (3, 3), 1, 4, 4, 3, high=200),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("zero", ZEROS)
def test_convolution(case: Case, zero: int, isa_and_overlays: str, threads: int) -> None:
    assert_exact(*conv(case, zero=zero), isa_and_overlays, threads)


HOW = Addition(0.7, 1.3, -20.5)
ADDITIONS = [
    HOW,
    HOW._replace(first=True),
    HOW._replace(middle=(90, 60, 200)),
    HOW._replace(middle=(90, 0, 255), first=True, shift=128),
]


@pytest.mark.parametrize("how", ADDITIONS)
@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[4], CASES[11]])
def test_residuals(
    case: Case, table: bool, how: Addition, isa_and_overlays: str, threads: int
) -> None:
    made = conv(case, residual=True, table=table, addition=how, low=5, high=240)
    assert_exact(*made, isa_and_overlays, threads)


@pytest.mark.parametrize("case", CASES)
def test_floats(case: Case, isa_and_overlays: str, threads: int) -> None:
    assert_exact(*conv(case, floats=1), isa_and_overlays, threads)


@functools.cache
def depthwise_cases() -> list[Case]:
    made = []
    for width in (1, 2, 3, 4, 5, 7, 14, 33):
        made += [Case(20, 20, (6, width), (3, 3), 1, 1, group=20)]
        made += [Case(16, 16, (9, width), (5, 5), 1, 2, group=16)]
    made += [
        Case(32, 32, (9, 9), (3, 3), 2, 1, group=32, n=2),
        Case(32, 32, (15, 14), (7, 7), 2, 3, group=32),
        Case(16, 16, (12, 12), (3, 3), 1, 2, 2, group=16),
        Case(16, 16, (12, 13), (3, 3), 2, 2, 2, group=16),
        Case(20, 20, (9, 11), (5, 5), 1, 4, 2, group=20),
        Case(16, 16, (11, 9), (2, 4), 3, 1, group=16),
        Case(18, 18, (13,), (5,), 1, 2, group=18),
        Case(16, 16, (4, 5, 6), (3, 3, 3), 1, 1, group=16),
        Case(20, 20, (9, 13), (3, 3), 1, 1, group=20, n=2, high=128),  # weights of 9 bits
        Case(16, 16, (9, 13), (5, 5), 2, 2, group=16, high=255),
        Case(18, 18, (13,), (5,), 1, 2, group=18, high=200),
    ]
    return made


@pytest.mark.parametrize("case", depthwise_cases())
def test_depthwise(case: Case, isa_and_overlays: str, threads: int) -> None:
    for zero in ZEROS:
        assert_exact(*conv(case, zero=zero, low=3, high=250), isa_and_overlays, threads)
    assert_exact(*conv(case, table=True), isa_and_overlays, threads)


def linear(
    rows: int, depth: int, columns: int, high: int = 127, **attributes: Any
) -> tuple[Graph, dict[str, Array]]:
    values = {
        "w": weights_of(columns, depth, high=high),
        "b": RNG.integers(-3000, 3000, columns, dtype=np.int32),
        "s": (RNG.uniform(0.3, 1.7, columns) / (60 * np.sqrt(depth))).astype(np.float32),
    }
    inputs = {"x": bytes_of(rows, depth)}
    return network(inputs, values, ("y", "qlinear", "x w b s", attributes)), inputs


@pytest.mark.parametrize("rows", [1, 3, 6, 7, 13])
@pytest.mark.parametrize("depth", [4, 5, 64, 131])
@pytest.mark.parametrize("columns", [1, 16, 17, 64, 70])
def test_linear(rows: int, depth: int, columns: int, isa_and_overlays: str) -> None:
    for floats in (0, 1):
        for high in (127, 130, 255):  # the others are of 9 bits
            made = linear(rows, depth, columns, high, x_zero=77, zero=13, floats=floats)
            assert_exact(*made, isa_and_overlays, 2)


@pytest.mark.parametrize("weight", [-128, 127])
def test_sums_of_extremes(weight: int, isa_and_overlays: str) -> None:
    """Every product is 255 x -128 or 255 x 127, and the sum just fits."""
    depth = 65_000
    values = {
        "w": np.full((16, depth), weight, np.int8),
        "b": np.zeros(16, np.int32),
        "s": np.full(16, 1 / (255 * depth), np.float32),
    }
    inputs = {"x": np.full((2, depth), 255, np.uint8)}
    for floats in (0, 1):
        graph = network(
            inputs, values, ("y", "qlinear", "x w b s", {"zero": 200, "floats": floats})
        )
        assert_exact(graph, inputs, isa_and_overlays, 1)


SHAPES = [(1, 16, 5, 5), (2, 20, 3, 7), (1, 33, 9), (1, 5, 2, 3, 4), (3, 64), (7, 33), (4111,)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", ["qadd", "qmul"])
@pytest.mark.parametrize("shift", [0, 128])
def test_pairs(
    shape: tuple[int, ...], op: str, shift: int, isa_and_overlays: str, threads: int
) -> None:
    given: dict[str, Any] = {"low": 9, "high": 240, "shift": shift}
    if op == "qadd":
        given |= {"a_ratio": 0.37, "b_ratio": 0.81, "a_zero": 99, "b_zero": 3, "zero": 40}
    else:
        given |= {"a_zero": 100, "b_zero": 7, "ratio": 0.0131, "zero": 130}
    ones = [1] * (len(shape) - 2)
    for other in {shape, (*shape[:2], *ones), (*shape[1:2], *ones), shape[-1:], ()}:
        for shapes in ((shape, other), (other, shape)):
            inputs = {name: bytes_of(*s) for name, s in zip("ab", shapes, strict=True)}
            graph = network(inputs, {}, ("y", op, "a b", given))
            assert_exact(graph, inputs, isa_and_overlays, threads)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (1, 16, 7, 7), (2, 65, 64)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_tables(shape: tuple[int, ...], dtype: Any, isa_and_overlays: str, threads: int) -> None:
    inputs = {"x": bytes_of(*shape)}
    table = RNG.permutation(256).astype(np.uint8).view(dtype)
    graph = network(inputs, {"t": table}, ("y", "table", "x t"))
    assert_exact(graph, inputs, isa_and_overlays, threads)


AVERAGE = {"x_zero": 100, "x_scale": 0.013, "y_scale": 0.0171, "zero": 50, "low": 3, "high": 250}


@pytest.mark.parametrize("size", [(1, 16, 7, 7), (2, 35, 9, 6), (1, 20, 11)])
@pytest.mark.parametrize("shift", [0, 128])
def test_pools(size: tuple[int, ...], shift: int, isa_and_overlays: str, threads: int) -> None:
    rank, inputs = len(size) - 2, {"x": bytes_of(*size)}
    windows = {"kernel_shape": [3] * rank, "strides": [2] * rank, "pads": [1] * (2 * rank)}
    means = {**AVERAGE, "shift": shift}
    for op, given in (
        ("max_pool", windows),
        ("global_max_pool", {}),
        ("qaverage_pool", {**windows, **means}),
        ("qaverage_pool", {**windows, **means, "count_include_pad": 1}),
        ("qglobal_average_pool", means),
    ):
        graph = network(inputs, {}, ("y", op, "x", given))
        assert_exact(graph, inputs, isa_and_overlays, threads)
