"""Normalisation of rows: plain ones of any length, and the channels of blocked pixels."""

from __future__ import annotations

import numpy as np
import pytest

from checks import Random, assert_close
from networks import by_kernels, by_reference, network, operator

# Each element is a difference, two products and a sum of values near 1; the statistics are sums
# whose rounding errors mostly cancel.
TOLERANCE = 1e-6


@pytest.mark.parametrize("axis", [1, 2, 15, 16, 17, 31, 33, 64, 96, 100, 127, 768, 1000])
def test_layer_norm(axis: int, isa: str, threads: int, random: Random) -> None:
    for rows in (1, 3, 50):
        x, scale, bias = random(rows, axis), random(axis), random(axis)
        graph, inputs = operator("layer_normalization", x, scale, bias, epsilon=1e-3)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert_close(got, by_reference(graph, inputs)[0], TOLERANCE, (rows, axis))


def test_several_axes_and_broadcast_weights(isa: str, threads: int, random: Random) -> None:
    x = random(3, 4, 5, 6)
    for axis, scale, bias in ((1, (4, 5, 6), (6,)), (2, (5, 1), None), (-1, (1,), (6,))):
        graph, inputs = operator(
            "layer_normalization",
            x,
            random(*scale),
            None if bias is None else random(*bias),
            axis=axis,
        )
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert_close(got, by_reference(graph, inputs)[0], TOLERANCE, axis)


def test_rows_far_from_zero(isa: str, random: Random) -> None:
    """The centred sum keeps the digits that E[x^2] - E[x]^2 would lose."""
    x = random(5, 300) + np.float32(1000)
    graph, inputs = operator("layer_normalization", x, np.ones(300, np.float32))
    (got,) = by_kernels(graph, inputs, isa=isa)
    # The mean is off by a unit in the last place of 1000 at most.
    assert_close(got, by_reference(graph, inputs)[0], 1000 * 2.0**-23, "far from zero")


@pytest.mark.parametrize("axis", [1, 16, 37, 768])
def test_rms_norm(axis: int, isa: str, threads: int, random: Random) -> None:
    graph, inputs = operator("rms_normalization", random(2, 7, axis), random(axis))
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    assert_close(got, by_reference(graph, inputs)[0], TOLERANCE, axis)


@pytest.mark.parametrize("channels", [1, 16, 20, 48, 96, 100])
def test_channels_of_pixels(channels: int, isa: str, threads: int, random: Random) -> None:
    for spatial in ((5, 7), (9,), (2, 3, 4), (1, 1)):
        x, scale, bias = random(2, channels, *spatial), random(channels), random(channels)
        graph, inputs = operator("channel_normalization", x, scale, bias)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert_close(got, by_reference(graph, inputs)[0], TOLERANCE, (channels, spatial))


def test_channels_between_borders(isa: str, random: Random) -> None:
    """Its input and its output lie with a border, as convolutions read both."""
    x, w = random(2, 24, 6, 5), random(24, 1, 3, 3)
    graph = network(
        {"x": x},
        {"w": w, "s": random(24), "b": random(24)},
        ("a", "conv", "x w", {"group": 24, "pads": [1, 1, 1, 1]}),
        ("n", "channel_normalization", "a s b"),
        ("c", "conv", "n w", {"group": 24, "pads": [1, 1, 1, 1]}),
        ("y", "add", "c n"),
    )
    (got,) = by_kernels(graph, {"x": x}, isa=isa)
    assert_close(got, by_reference(graph, {"x": x})[0], 5e-6)


@pytest.mark.parametrize("groups", [1, 3, 12])
@pytest.mark.parametrize("spatial", [(5, 7), (16,), (2, 3, 4), (40, 41)])
def test_groups(
    groups: int, spatial: tuple[int, ...], isa: str, threads: int, random: Random
) -> None:
    x, scale, bias = random(2, 12, *spatial), random(12), random(12)
    graph, inputs = operator("group_normalization", x, scale, bias, num_groups=groups)
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    assert_close(got, by_reference(graph, inputs)[0], TOLERANCE, (groups, spatial))
    if groups == 12:
        graph, inputs = operator("instance_normalization", x, scale, bias)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert_close(got, by_reference(graph, inputs)[0], TOLERANCE, spatial)


def test_a_row_does_not_depend_on_the_others(isa: str, random: Random) -> None:
    x, scale = random(40, 100), random(100)
    graph, inputs = operator("layer_normalization", x, scale)
    (whole,) = by_kernels(graph, inputs, isa=isa)
    assert np.array_equal(whole, by_kernels(graph, inputs, isa=isa, threads=2)[0])
    for i in (0, 17, 39):
        alone, inputs = operator("layer_normalization", x[i : i + 1], scale)
        assert np.array_equal(whole[i : i + 1], by_kernels(alone, inputs, isa=isa)[0])


def test_nan_stays_in_its_row(isa: str, random: Random) -> None:
    x = random(3, 40)
    x[1, 38] = np.nan
    graph, inputs = operator("layer_normalization", x, random(40))
    (got,) = by_kernels(graph, inputs, isa=isa)
    assert np.array_equal(np.isnan(got).all(axis=1), [False, True, False])
    assert not np.isnan(got[[0, 2]]).any()


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((3, 40), [1]), ((1, 5, 6, 7), [0, 2, 3]), ((4, 5, 6), [-1, -2]), ((2, 33), [0, 1])],
)
def test_mean_variance_normalisation(
    shape: tuple[int, ...], axes: list[int], isa: str, threads: int, random: Random
) -> None:
    x = random(*shape)
    x[0] = 1.5 if len(shape) == 2 else x[0]  # no deviation at all
    graph, inputs = operator("mean_variance_normalization", x, axes=axes)
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    assert_close(got, by_reference(graph, inputs)[0], 2e-6)
