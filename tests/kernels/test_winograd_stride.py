"""Winograd's algorithm at stride 2: kernels of 3x3, around every edge of a tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import cnnrt
from checks import (
    THREADS,
    WINOGRAD_TOLERANCE,
    Random,
    assert_close,
    assert_deterministic,
    by_algorithm,
)
from checks import reference as by_definition
from cnnrt import kernels
from cnnrt.graph import Array, TensorSpec
from networks import network, operator

TILES = ("winograd2", "winograd4")


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def run(
    x: Array, weight: Array, algorithm: str, isa: str, threads: int, **attributes: Any
) -> Array:
    cut = min(x.shape[2:]) < 4
    return by_algorithm(x, weight, algorithm, isa, threads, cut=cut, **attributes)


@pytest.mark.parametrize("algorithm", TILES)
@pytest.mark.parametrize("height", [1, 2, 3, 5, 6, 8, 9, 15, 16, 17, 18, 31, 56])
def test_size(height: int, algorithm: str, isa: str, threads: int, random: Random) -> None:
    for width in (height, height + 1, 28, 33):
        x, weight = random(1, 16, height, width), random(20, 16, 3, 3)
        for pads in ([1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1], [2, 1, 0, 2]):
            if height + pads[0] + pads[2] < 3 or width + pads[1] + pads[3] < 3:
                continue
            if height > 9 and pads[0] != pads[2]:
                continue
            attributes = {"strides": [2, 2], "pads": pads}
            got = run(x, weight, algorithm, isa, threads, **attributes)
            want = by_definition("conv", x, weight, **attributes)
            assert_close(got, want, WINOGRAD_TOLERANCE[algorithm], (height, width, pads))


@pytest.mark.parametrize("algorithm", TILES)
@pytest.mark.parametrize("channels", [1, 15, 16, 17, 31, 32, 33, 48, 65])
def test_channels(channels: int, algorithm: str, isa: str, threads: int, random: Random) -> None:
    attributes = {"strides": [2, 2], "pads": [1] * 4}
    for c, m in ((32, channels), (channels, 33)):
        if c < 16:  # fewer are read in place
            continue
        x, weight = random(2, c, 11, 18), random(m, c, 3, 3)
        got = run(x, weight, algorithm, isa, threads, **attributes)
        want = by_definition("conv", x, weight, **attributes)
        assert_close(got, want, WINOGRAD_TOLERANCE[algorithm], (c, m))


@pytest.mark.parametrize("algorithm", TILES)
@pytest.mark.parametrize("act", [None, "relu", "silu"])
def test_epilogue(act: str | None, algorithm: str, isa: str, threads: int, random: Random) -> None:
    x, weight, bias = random(2, 32, 13, 19), random(40, 32, 3, 3), random(40)
    for residual in (None, random(2, 40, 7, 10)):
        got = kernels.conv2d(
            *(x, weight, bias, 2, 1),
            residual=residual,
            activation=act,
            algorithm=algorithm,
            isa=isa,
            threads=threads,
        )
        want = by_definition("conv", x, weight, strides=[2, 2], pads=[1] * 4)
        want = want + bias[:, None, None] + (0 if residual is None else residual)
        functions = {None: lambda v: v, "relu": lambda v: np.maximum(v, 0), "silu": silu}
        want = functions[act](want)
        assert_close(got, want, WINOGRAD_TOLERANCE[algorithm], act)


@pytest.mark.parametrize("algorithm", TILES)
def test_halves(algorithm: str, isa: str, random: Random) -> None:
    """Threads share the transformed input if the weights are many."""
    x, weight = random(2, 256, 14, 18), random(272, 256, 3, 3)
    attributes = {"strides": [2, 2], "pads": [1] * 4}
    got = run(x, weight, algorithm, isa, 2, **attributes)
    want = by_definition("conv", x, weight, **attributes)
    assert_close(got, want, WINOGRAD_TOLERANCE[algorithm])
    assert np.array_equal(got, run(x, weight, algorithm, isa, 1, **attributes))


@pytest.mark.parametrize("algorithm", TILES)
@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 2, 2), (3, 2, 2)], ids=str)
def test_depth(
    stride: tuple[int, ...], algorithm: str, isa: str, threads: int, random: Random
) -> None:
    for depth, kernel_d, pad in ((1, 1, 0), (2, 3, 1), (5, 3, 1), (8, 3, 0), (9, 2, 1)):
        x, weight = random(2, 16, depth, 9, 13), random(20, 16, kernel_d, 3, 3)
        attributes = {"strides": list(stride), "pads": [pad, 1, 1] * 2}
        got = run(x, weight, algorithm, isa, threads, **attributes)
        want = by_definition("conv", x, weight, **attributes)
        assert_close(got, want, WINOGRAD_TOLERANCE[algorithm], (depth, kernel_d))


@pytest.mark.parametrize("algorithm", TILES)
def test_bits(algorithm: str, isa: str, random: Random) -> None:
    """The same for each number of threads and place in a batch."""
    graph = network(
        {"x": random(1, 48, 17, 23)},
        {"w": random(40, 48, 3, 3)},
        ("y", "conv", "x w", {"strides": [2, 2], "pads": [1] * 4}),
    )
    graph.inputs = [TensorSpec("x", ("n", 48, 17, 23))]
    models = [cnnrt.Model(graph, threads=n, algorithm=algorithm, isa=isa) for n in THREADS]
    assert_deterministic(models, random(8, 48, 17, 23), algorithm)


@pytest.mark.parametrize("algorithm", TILES)
def test_values_that_are_not_finite(algorithm: str, isa: str, threads: int, random: Random) -> None:
    """They reach the outputs whose windows hold them, from each place in a tile, and no other."""
    weight = random(40, 24, 3, 3)
    clean = kernels.conv2d(*(random(1, 24, 19, 21), weight), stride=2, padding=1)
    assert np.isfinite(clean).all()
    for value in (np.float32("inf"), np.float32("nan")):
        x = random(2, 24, 19, 21)
        for row, column in ((0, 0), (4, 5), (9, 12), (18, 20), (7, 17)):
            x[1, 3, row, column] = value
        got = kernels.conv2d(
            *(x, weight), stride=2, padding=1, algorithm=algorithm, isa=isa, threads=threads
        )
        want = F.conv2d(torch.from_numpy(x), torch.from_numpy(weight), stride=2, padding=1).numpy()
        finite = np.isfinite(want)
        assert np.array_equal(np.isnan(got), np.isnan(want))
        assert np.array_equal(got[np.isinf(want)], want[np.isinf(want)])
        assert_close(got[finite], want[finite], 1e-5, value)
    # Finite inputs that overflow on the way only.
    large, small = random(2, 24, 19, 21) * np.float32(3e37), weight * np.float32(1e-3)
    got = kernels.conv2d(large, small, stride=2, padding=1, algorithm=algorithm, isa=isa)
    want = by_definition("conv", large, small, strides=[2, 2], pads=[1] * 4)
    assert_close(got, want, 1e-5, "overflow")


@pytest.mark.parametrize("algorithm", TILES)
def test_max_pool_in_the_tile(algorithm: str, isa: str, threads: int, random: Random) -> None:
    x, weight = random(2, 32, 29, 33), random(40, 32, 3, 3)
    graph = network(
        {"x": x},
        {"w": weight},
        ("c", "conv", "x w", {"strides": [2, 2], "pads": [1] * 4}),
        ("y", "max_pool", "c", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    )
    model = cnnrt.Model(graph, algorithm=algorithm, isa=isa, threads=threads)
    assert "2x2 max pool" in model.describe()
    got = model.run({"x": x})
    want = model.run({"x": x}, outputs=["c"])
    whole = want[:, :, :14, :16].reshape(2, 40, 7, 2, 8, 2).max((3, 5))
    assert np.array_equal(got, whole)


@pytest.mark.parametrize("algorithm", TILES)
def test_weights_of_two_strides(algorithm: str, isa: str, random: Random) -> None:
    """One constant is packed once for each of them."""
    x, weight = random(1, 32, 17, 23), random(32, 32, 3, 3)
    graph = network(
        {"x": x},
        {"w": weight},
        ("a", "conv", "x w", {"pads": [1] * 4}),
        ("b", "conv", "x w", {"pads": [1] * 4, "strides": [2, 2]}),
        outputs=("a", "b"),
    )
    y = cnnrt.Model(graph, algorithm=algorithm, isa=isa, threads=1).run({"x": x})
    for name, stride in (("a", 1), ("b", 2)):
        want = by_definition("conv", x, weight, pads=[1] * 4, strides=[stride] * 2)
        assert_close(y[name], want, WINOGRAD_TOLERANCE[algorithm], stride)


def test_chosen_by_cost(isa: str) -> None:
    """The products that it saves must outweigh the weights that it adds."""
    rng = np.random.default_rng(0)
    for c, m, size, kind in ((64, 128, 56, "winograd4"), (512, 512, 4, "im2col")):
        graph, _ = operator(
            "conv",
            rng.standard_normal((1, c, size, size), dtype=np.float32),
            rng.standard_normal((m, c, 3, 3), dtype=np.float32),
            strides=[2, 2],
            pads=[1] * 4,
        )
        assert f"{kind}: im2col" in cnnrt.Model(graph, isa=isa, threads=1).describe()
