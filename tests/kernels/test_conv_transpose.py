"""Transposed convolution, as convolutions by phase whose pixels are interleaved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checks import Random, assert_close, exact_tolerance
from networks import by_kernels, by_reference, network, operator

CASES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    # x, (M / group, *kernel), attributes
    ((2, 5, 7), (4, 3), {"strides": [2]}),
    ((1, 16, 9), (16, 4), {"strides": [3], "pads": [1, 2], "output_padding": [1]}),
    ((1, 3, 6), (2, 2), {"strides": [4], "output_padding": [3]}),
    ((2, 17, 5, 6), (16, 2, 2), {"strides": [2, 2]}),
    (
        (2, 32, 4, 5),
        (33, 3, 3),
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    ),
    ((1, 20, 4, 4), (32, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 20, 1, 1), (32, 4, 4), {}),
    ((1, 8, 5, 7), (16, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((1, 8, 9, 9), (5, 2, 3), {"pads": [2, 0, 1, 0], "dilations": [1, 2]}),
    ((1, 6, 5, 6), (4, 3, 2), {"strides": [2, 1], "dilations": [1, 3], "pads": [0, 1, 1, 2]}),
    ((1, 6, 5, 6), (16, 3, 3), {"strides": [2, 3], "dilations": [2, 2], "output_padding": [1, 0]}),
    ((2, 32, 3, 4), (16, 3, 3), {"group": 2, "strides": [2, 2], "pads": [1, 0, 0, 1]}),
    ((1, 12, 3, 4), (1, 4, 4), {"group": 12, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 6, 4, 4), (3, 3, 3), {"group": 3}),
    ((1, 16, 3, 4, 2), (16, 2, 2, 2), {"strides": [2, 2, 2]}),
    ((1, 4, 2, 3, 4), (3, 3, 2, 3), {"strides": [2, 1, 2], "pads": [1, 0, 1, 1, 0, 0]}),
]


@pytest.mark.parametrize("shape, filters, attributes", CASES)
def test_agrees_with_the_reference(
    shape: tuple[int, ...],
    filters: tuple[int, ...],
    attributes: dict[str, Any],
    isa: str,
    threads: int,
    random: Random,
) -> None:
    x, weight = random(*shape), random(shape[1], *filters)
    bias = random(filters[0] * attributes.get("group", 1))
    for given in (None, bias):
        graph, inputs = operator("conv_transpose", x, weight, given, **attributes)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        want = by_reference(graph, inputs)[0]
        assert_close(got, want, 3 * exact_tolerance(shape[1] * int(np.prod(filters[1:]))))


@pytest.mark.parametrize("channels", [5, 16])
def test_between_other_layers(channels: int, isa: str, random: Random) -> None:
    """Normalised, activated, joined with a skip and convolved, with borders, as in a U-Net."""
    c, m = channels, 2 * channels
    x, skip = random(1, m, 4, 5), random(1, c, 8, 10)
    constants = {
        "w0": random(m, m, 3, 3),
        "w1": random(m, c, 2, 2),
        "w2": random(c, m, 3, 3),
        "scale": 1 + 0.1 * random(c),
        "shift": random(c),
        "mean": random(c),
        "var": 1 + random(c) ** 2,
    }
    graph = network(
        {"x": x, "skip": skip},
        constants,
        ("a", "conv", "x w0", {"pads": [1] * 4}),
        ("b", "conv_transpose", "a w1", {"strides": [2, 2]}),
        ("c", "batch_normalization", "b scale shift mean var"),
        ("d", "relu", "c"),
        ("e", "concat", "skip d", {"axis": 1}),
        ("y", "conv", "e w2", {"pads": [1] * 4}),
    )
    inputs = {"x": x, "skip": skip}
    assert_close(by_kernels(graph, inputs, isa=isa)[0], by_reference(graph, inputs)[0], 1e-5)
