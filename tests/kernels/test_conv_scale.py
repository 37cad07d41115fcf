"""The input of a 1x1 convolution multiplied by a factor per image and channel, as in
squeeze-and-excite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checks import THREADS, Random, assert_close, assert_deterministic, exact_tolerance
from cnnrt import Model
from cnnrt.graph import TensorSpec
from networks import by_kernels, by_reference, network, operator


def check(
    random: Random, n: int, c: int, m: int, *size: int, isa: str, threads: int, **attributes: Any
) -> None:
    strides = attributes.get("strides", [1] * len(size))
    out = [(k - 1) // s + 1 for k, s in zip(size, strides, strict=True)]
    scale = random(n, c, *[1] * len(size))
    graph, inputs = operator(
        "conv",
        random(n, c, *size),
        random(m, c, *[1] * len(size)),
        random(m),
        random(n, m, *out) if attributes.get("activation") else None,
        scale,
        computed=[3, 4],
        **attributes,
    )
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    (want,) = by_reference(graph, inputs)
    assert_close(got, want, exact_tolerance(c), (n, c, m, size, isa, threads))


# Rows of a tile: 14 (AVX-512), 6 (AVX2, NEON), 2 (portable); blocks of 16 channels, one or two.
@pytest.mark.parametrize("pixels", [1, 2, 5, 6, 7, 13, 14, 15, 29])
def test_tile_edges(pixels: int, isa: str, threads: int, random: Random) -> None:
    for c, m in ((16, 16), (20, 33), (33, 17), (1, 48), (64, 1)):
        check(random, 2, c, m, 1, pixels, isa=isa, threads=threads)


def test_bands_prefetch_and_strides(isa: str, threads: int, random: Random) -> None:
    check(random, 3, 32, 40, 61, 60, isa=isa, threads=threads)  # an image beyond one band
    check(random, 2, 448, 260, 5, 6, isa=isa, threads=threads)  # weights beyond 400 KB
    check(random, 2, 20, 40, 14, 14, isa=isa, threads=threads, strides=[2, 2])  # rows in pairs
    check(random, 2, 20, 24, 13, 9, isa=isa, threads=threads, strides=[3, 3])


@pytest.mark.parametrize("activation", [("relu", 0.0, 0.0), ("silu", 0.0, 0.0)])
def test_residual_and_activation(
    activation: tuple[str, float, float], isa: str, threads: int, random: Random
) -> None:
    check(random, 2, 33, 40, 7, 9, isa=isa, threads=threads, activation=activation)


def test_one_and_three_dimensions(isa: str, threads: int, random: Random) -> None:
    check(random, 2, 20, 33, 31, isa=isa, threads=threads)
    check(random, 2, 20, 33, 3, 4, 5, isa=isa, threads=threads)


def test_other_convolutions_run_by_the_reference(random: Random) -> None:
    x, scale = random(2, 6, 5, 5), random(2, 6, 1, 1)
    for weight, attributes in (
        (random(4, 6, 3, 3), {}),
        (random(4, 6, 1, 1), {"pads": [1] * 4}),
        (random(6, 1, 1, 1), {"group": 6}),
    ):
        graph, inputs = operator("conv", x, weight, None, None, scale, computed=[4], **attributes)
        model = Model(graph)
        assert "no kernel" in model.describe()
        assert_close(model.run(inputs), by_reference(graph, inputs)[0], 1e-6)


def test_infinity_and_nan(isa: str, random: Random) -> None:
    x, scale = random(2, 20, 6, 7), np.abs(random(2, 20, 1, 1))
    x[0, 1, 2, 3], x[0, 4, 0, 0], x[1, 9, 5, 6] = np.inf, -np.inf, np.nan
    x[1, 3, 0, 1], scale[1, 3] = np.inf, 0  # their product is NaN
    scale[0, 19] = np.nan
    graph, inputs = operator("conv", x, random(24, 20, 1, 1), None, None, scale, computed=[4])
    (got,) = by_kernels(graph, inputs, isa=isa)
    with np.errstate(invalid="ignore"):
        (want,) = by_reference(graph, inputs)
    for kind in (np.isnan, np.isposinf, np.isneginf):
        assert np.array_equal(kind(got), kind(want)), kind
    finite = np.isfinite(want)
    assert_close(got[finite], want[finite], 1e-6)


@pytest.mark.parametrize("channels", [32, 20])
def test_the_same_bits_for_any_threads_and_batch(channels: int, isa: str, random: Random) -> None:
    c, size = channels, (12, 13)
    graph = network(
        {"x": random(1, c, *size)},
        {"v": random(8, c, 1, 1), "u": random(c, 8, 1, 1), "w": random(24, c, 1, 1)},
        ("p", "global_average_pool", "x"),
        ("q", "conv", "p v"),
        ("r", "conv", "q u"),
        ("s", "sigmoid", "r"),
        ("z", "mul", "x s"),
        ("y", "conv", "z w"),
    )
    graph.inputs[0] = TensorSpec("x", ("n", c, *size))
    models = [Model(graph, isa=isa, threads=n) for n in THREADS]
    assert "scaled" in models[0].describe(random(1, c, *size))
    assert_deterministic(models, random(8, c, *size), "scaled")
