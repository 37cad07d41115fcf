"""Winograd's algorithm along the rows of a plain image: seven columns of taps at stride 2."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import cnnrt
from checks import THREADS, Random, assert_close, assert_deterministic
from checks import reference as by_definition
from cnnrt import kernels
from cnnrt.graph import Array, TensorSpec
from networks import network, operator

TOLERANCE = 3e-6
NOTE = "F(4, 7) along rows"


def check(x: Array, weight: Array, isa: str, threads: int, **attributes: Any) -> None:
    graph, inputs = operator("conv", x, weight, **attributes)
    model = cnnrt.Model(graph, isa=isa, threads=threads)
    # If an image is lower than the kernel, rows that meet nothing but padding are cut off.
    assert x.shape[-2] < weight.shape[-2] or NOTE in model.describe()
    want = by_definition("conv", x, weight, **attributes)
    assert_close(model.run(inputs), want, TOLERANCE, (x.shape, weight.shape, attributes))


@pytest.mark.parametrize(
    "width", [63, 64, 65, 66, 71, 79, 80, 81, 95, 111, 112, 113, 127, 130, 145, 224]
)
def test_width(width: int, isa: str, threads: int, random: Random) -> None:
    """Around tiles of four outputs, vectors of 16 tiles, and register tiles of six and 14."""
    for pads in ([3, 3, 3, 3], [0, 0, 0, 0], [0, 5, 1, 2]):
        if width + pads[1] + pads[3] < 69:
            continue
        x, weight = random(1, 3, 9, width), random(20, 3, 7, 7)
        check(x, weight, isa, threads, strides=[2, 2], pads=pads)


@pytest.mark.parametrize("height", [1, 2, 6, 7, 8, 15])
def test_height(height: int, isa: str, threads: int, random: Random) -> None:
    for c, rows, stride, pad in ((3, 7, 2, 3), (15, 2, 1, 0), (6, 3, 3, 1), (4, 4, 1, 2)):
        if height + 2 * pad >= rows:
            x, weight = random(2, c, height, 70), random(16, c, rows, 7)
            check(x, weight, isa, threads, strides=[stride, 2], pads=[pad, 3] * 2)


@pytest.mark.parametrize("outputs", [16, 17, 31, 32, 33, 48, 65])
def test_channels(outputs: int, isa: str, threads: int, random: Random) -> None:
    for channels, rows in ((1, 17), (4, 7), (15, 7)):
        x, weight = random(1, channels, 20, 67), random(outputs, channels, rows, 7)
        check(x, weight, isa, threads, strides=[2, 2], pads=[3] * 4)


def test_one_and_three_axes(isa: str, threads: int, random: Random) -> None:
    if isa == "avx512":
        check(random(2, 7, 101), random(20, 7, 7), isa, threads, strides=[2], pads=[3, 3])
    for stride_d, dilation_d in ((1, 1), (2, 1), (1, 2)):
        attributes = {"strides": [stride_d, 2, 2], "dilations": [dilation_d, 1, 1]}
        x, weight = random(2, 3, 6, 12, 64), random(20, 3, 3, 7, 7)
        check(x, weight, isa, threads, pads=[1, 3, 3] * 2, **attributes)


@pytest.mark.parametrize("act", [None, "relu", "silu"])
def test_epilogue(act: str | None, isa: str, threads: int, random: Random) -> None:
    x, weight, bias = random(2, 3, 17, 65), random(40, 3, 7, 7), random(40)
    residual = random(2, 40, 9, 33)
    options: dict[str, Any] = {"residual": residual, "activation": act}
    got = kernels.conv2d(x, weight, bias, 2, 3, **options, isa=isa, threads=threads)
    want = by_definition("conv", x, weight, strides=[2, 2], pads=[3] * 4)
    want = want + bias[:, None, None] + residual
    if act == "relu":
        want = np.maximum(want, 0)
    elif act == "silu":
        want = want / (1 + np.exp(-want))
    assert_close(got, want, TOLERANCE, act)


def test_bits(isa: str, random: Random) -> None:
    """The same for each number of threads and place in a batch."""
    graph = network(
        {"x": random(1, 3, 31, 69)},
        {"w": random(40, 3, 7, 7)},
        ("y", "conv", "x w", {"strides": [2, 2], "pads": [3] * 4}),
    )
    graph.inputs = [TensorSpec("x", ("n", 3, 31, 69))]
    models = [cnnrt.Model(graph, threads=n, isa=isa) for n in THREADS]
    assert_deterministic(models, random(8, 3, 31, 69), "rows")


def test_values_that_are_not_finite(isa: str, threads: int, random: Random) -> None:
    """They reach the outputs whose windows hold them, and no other."""
    weight = random(24, 3, 7, 7)
    for value in (np.float32("inf"), np.float32("nan")):
        x = random(2, 3, 33, 81)
        for row, column in ((0, 0), (5, 5), (9, 12), (32, 80), (20, 33), (20, 34)):
            x[1, 1, row, column] = value
        residual = random(2, 24, 17, 41)
        got = kernels.conv2d(
            x, weight, stride=2, padding=3, residual=residual, isa=isa, threads=threads
        )
        want = F.conv2d(torch.from_numpy(x), torch.from_numpy(weight), stride=2, padding=3).numpy()
        want = want + residual
        finite = np.isfinite(want)
        assert np.array_equal(np.isnan(got), np.isnan(want))
        assert np.array_equal(got[np.isinf(want)], want[np.isinf(want)])
        assert_close(got[finite], want[finite], 1e-5, value)


def test_other_tiles_keep_their_bits(isa: str, random: Random) -> None:
    x, weight = random(1, 3, 33, 130), random(40, 3, 7, 7)
    options: dict[str, Any] = {"stride": 2, "padding": 3, "isa": isa, "threads": 1}
    options["activation"] = "relu"
    clean = kernels.conv2d(x, weight, **options)
    x[0, 1, 12, 80] = np.nan  # meets columns 39 to 41, in tiles of the columns 36 to 43
    got = kernels.conv2d(x, weight, **options)
    assert np.isnan(got[:, :, 5, 40]).all()
    columns = [*range(36), *range(44, 65)]
    assert np.array_equal(got[..., columns], clean[..., columns])


def test_left_out(isa: str, random: Random) -> None:
    """On request, for other strides and dilations, and for few outputs and kernel rows."""
    x, weight = random(1, 3, 40, 80), random(16, 3, 7, 7)
    for weights, options, attributes in (
        (weight, {"algorithm": "im2col"}, {"strides": [2, 2]}),
        (weight, {}, {"strides": [2, 1]}),
        (weight, {}, {"strides": [2, 2], "dilations": [1, 2]}),
        (weight, {}, {"strides": [2, 2], "dilations": [2, 1]}),
        (weight[:15], {}, {"strides": [2, 2]}),
        (weight[..., :5], {}, {"strides": [2, 2]}),
        (weight[:, :, :1], {}, {"strides": [2, 2]}),
    ):
        graph, inputs = operator("conv", x, weights, **attributes)
        model = cnnrt.Model(graph, isa=isa, threads=1, **options)
        assert "read in place" in model.describe()
        assert NOTE not in model.describe()
        assert_close(model.run(inputs), by_definition("conv", x, weights, **attributes), 1e-5)


def test_free_sizes(isa: str, random: Random) -> None:
    weight = random(32, 3, 7, 7)
    graph = network(
        {"x": random(1, 3, 32, 32)},
        {"w": weight},
        ("y", "conv", "x w", {"strides": [2, 2], "pads": [3] * 4}),
    )
    graph.inputs = [TensorSpec("x", ("n", 3, "h", "w"))]
    model = cnnrt.Model(graph, isa=isa, threads=2)
    for n, h, w in ((1, 32, 32), (2, 40, 63), (1, 9, 9), (3, 20, 100), (1, 64, 96), (1, 50, 77)):
        x = random(n, 3, h, w)
        want = by_definition("conv", x, weight, strides=[2, 2], pads=[3] * 4)
        assert_close(model.run({"x": x}), want, TOLERANCE, (n, h, w))
