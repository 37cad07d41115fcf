"""Pools against the float64 reference."""

from __future__ import annotations

import numpy as np
import pytest

from checks import Random, assert_close, reference
from cnnrt import kernels
from networks import by_kernels, by_reference, operator


@pytest.mark.parametrize("size", [(7, 7), (8, 15), (14, 29), (5, 3)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (1, 1, 0), (5, 3, 2)]
)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_max_and_average(
    size: tuple[int, int], kernel: int, stride: int, padding: int, ceil_mode: bool,
    isa: str, threads: int, random: Random,
) -> None:  # fmt: skip
    for channels in (1, 16, 33):
        x = random(2, channels, *size)
        common = {
            "kernel_shape": [kernel] * 2,
            "strides": [stride] * 2,
            "pads": [padding] * 4,
            "ceil_mode": int(ceil_mode),
        }
        place = {"threads": threads, "isa": isa}
        got = kernels.max_pool2d(x, kernel, stride, padding, 1, ceil_mode, **place)
        assert np.array_equal(got, reference("max_pool", x, **common).astype(np.float32))
        for include_pad in (False, True):
            got = kernels.avg_pool2d(x, kernel, stride, padding, ceil_mode, include_pad, **place)
            want = reference("average_pool", x, count_include_pad=int(include_pad), **common)
            assert_close(got, want, 1e-6, (channels, include_pad))


@pytest.mark.parametrize("channels", [3, 20])
def test_dilated_maximum(channels: int, isa: str, threads: int, random: Random) -> None:
    x = random(1, channels, 15, 14)
    for kernel, stride, padding, dilation in ((3, 1, 1, 2), (2, 2, 1, 3), (3, 2, 0, 2)):
        want = reference(
            "max_pool",
            x,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[padding] * 4,
            dilations=[dilation] * 2,
        )
        got = kernels.max_pool2d(x, kernel, stride, padding, dilation, threads=threads, isa=isa)
        assert np.array_equal(got, want.astype(np.float32))


@pytest.mark.parametrize("op", ["max_pool", "average_pool"])
@pytest.mark.parametrize(("kernel", "padding"), [(2, 0), (3, 1), (5, 2)])
def test_dilated_windows_share_columns(
    op: str, kernel: int, padding: int, isa: str, threads: int, random: Random
) -> None:
    for dilation in (1, 2, 3, 5):
        for width in (21, 27, 40):  # strips of 4 outputs a dilation apart, and what is left
            attributes = {
                "kernel_shape": [kernel] * 2,
                "pads": [padding * dilation] * 4,
                "dilations": [dilation] * 2,
            }
            x = random(2, 20, 21, width)
            graph, inputs = operator(op, x, **attributes)
            (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
            want = reference(op, x, **attributes)
            assert_close(got, want, 1e-6, (op, kernel, dilation, width))


@pytest.mark.parametrize("out", [1, 2, 4, 7, (3, 5)])
def test_adaptive(out: int | tuple[int, int], isa: str, threads: int, random: Random) -> None:
    for size in ((7, 7), (8, 9), (16, 13)):
        x = random(2, 40 if out != 4 else 5, *size)
        pair = [out, out] if isinstance(out, int) else list(out)
        want = reference("adaptive_average_pool", x, output_size=pair)
        got = kernels.adaptive_avg_pool2d(x, out, threads=threads, isa=isa)
        assert_close(got, want, 1e-6, size)


@pytest.mark.parametrize("channels", [2, 17])
def test_a_nan_in_the_window_is_the_maximum(channels: int, isa: str, random: Random) -> None:
    x = random(1, channels, 8, 8)
    for place in ((0, 0, 0, 0), (0, -1, 3, 4), (0, 1, 7, 7)):
        x[place] = np.nan
    got = kernels.max_pool2d(x, 3, 2, 1, isa=isa)
    want = reference("max_pool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    assert np.array_equal(got, want.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("shape", [(3, 37), (2, 6, 7, 9)])
@pytest.mark.parametrize("op", ["max_pool", "average_pool"])
def test_few_channels_of_one_and_three_axes(
    op: str, shape: tuple[int, ...], isa: str, threads: int, random: Random
) -> None:
    x, rank = random(2, *shape), len(shape) - 1
    for kernel, stride in ((2, 2), (3, 1), (4, 3)):
        attributes = {"kernel_shape": [kernel] * rank, "strides": [stride] * rank}
        graph, inputs = operator(op, x, pads=[1] * 2 * rank, **attributes)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert_close(got, by_reference(graph, inputs)[0], 1e-6, (kernel, stride))
