"""Convolution, all algorithms, at shapes on and around every edge of a tile."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import pytest

from checks import (
    WINOGRAD_TOLERANCE,
    Random,
    activation,
    assert_close,
    exact_tolerance,
    reference,
)
from cnnrt import Model, kernels
from cnnrt.model import plan_for
from networks import by_kernels, by_reference, network, operator

Ints = tuple[int, ...]


class Case(NamedTuple):
    """x (n, c, h, w), weight (m, c / group, k, k)."""

    n: int
    c: int
    h: int
    w: int
    m: int
    k: int
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    group: int = 1


@functools.cache
def arrays(case: Case) -> tuple[np.ndarray, ...]:
    """x, weight, bias, residual and the convolution without the last two, in float64."""
    rng = np.random.default_rng(abs(hash(case)))
    x = rng.standard_normal((case.n, case.c, case.h, case.w), dtype=np.float32)
    shape = (case.m, case.c // case.group, case.k, case.k)
    weight = rng.standard_normal(shape, dtype=np.float32)
    bias = rng.standard_normal(case.m, dtype=np.float32)
    y = reference(
        "conv",
        x,
        weight,
        strides=[case.stride] * 2,
        pads=[case.pad] * 4,
        dilations=[case.dilation] * 2,
        group=case.group,
    )
    residual = rng.standard_normal(y.shape, dtype=np.float32)
    return x, weight, bias, residual, y


def winograd_tolerance(algorithm: str, k: int) -> float:
    """Tolerance of a Winograd variant. F(2x2, 5x5) has that of F(4x4, 3x3), whose points it has."""
    return WINOGRAD_TOLERANCE["winograd4" if k == 5 else algorithm]


def check(case: Case, algorithm: str, isa: str, threads: int, act: Any = None) -> None:
    x, weight, bias, residual, want = arrays(case)
    want = want + bias.reshape(-1, 1, 1).astype(np.float64)
    if act is not None:
        want = want + residual
    scale = float(np.abs(want).max())
    if act is not None:
        want = reference("activate", want, activation=activation(act))
    got = kernels.conv2d(
        x,
        weight,
        bias,
        case.stride,
        case.pad,
        case.dilation,
        case.group,
        residual=residual if act is not None else None,
        activation=act,
        algorithm=algorithm,
        threads=threads,
        isa=isa,
    )
    depth = case.c // case.group * case.k**2
    tolerance = exact_tolerance(depth)
    if algorithm != "im2col":
        tolerance = winograd_tolerance("winograd4" if algorithm == "auto" else algorithm, case.k)
    assert_close(got, want, tolerance, (case, algorithm, isa, threads, act), scale)


# Rows of a tile: 14 (AVX-512), 6 (AVX2, NEON), 2 (portable); blocks of 16 channels, one or two.
EDGES = [1, 2, 5, 6, 7, 8, 13, 14, 15, 27, 28, 29]
CHANNELS = [1, 3, 15, 16, 17, 31, 32, 33, 48, 64]


@pytest.mark.parametrize("width", EDGES)
def test_width(width: int, isa: str, threads: int) -> None:
    for k, pad in ((1, 0), (3, 1)):
        check(Case(1, 32, 3, width, 32, k, pad=pad), "im2col", isa, threads)


@pytest.mark.parametrize("channels", CHANNELS)
def test_channels(channels: int, isa: str, threads: int) -> None:
    for c, m in ((channels, 16), (32, channels), (channels, channels)):
        check(Case(1, c, 7, 9, m, 3, pad=1), "im2col", isa, threads)
        check(Case(2, c, 5, 5, m, 1), "im2col", isa, threads)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_stride_and_dilation(stride: int, dilation: int, isa: str, threads: int) -> None:
    for c, m in ((1, 1), (3, 20), (20, 20)):  # read in place, and blocked
        for k, pad in ((1, 0), (2, 1), (3, 0), (3, 2), (5, 2)):
            check(Case(1, c, 21, 19, m, k, stride, pad, dilation), "im2col", isa, threads)


@pytest.mark.parametrize(("channels", "way"), [(1, "planar"), (2, "depthwise")])
def test_one_channel_is_read_in_place(channels: int, way: str) -> None:
    """Not blocked, 16 lanes for one, to be done as a depthwise convolution."""
    x, weight = np.ones((1, channels, 8, 8), np.float32), np.ones((channels, 1, 3, 3), np.float32)
    node = ("y", "conv", "x w", {"group": channels, "pads": [1] * 4})
    text = Model(network({"x": x}, {"w": weight}, node)).describe()
    assert f"{way}: " in text


@pytest.mark.parametrize("height", [1, 2, 6, 7, 8])
def test_rows_of_seven_pixels_go_in_pairs(height: int, isa: str, threads: int) -> None:
    for stride, w in ((1, 7), (2, 14), (2, 13)):
        check(Case(2, 32, height * stride, w, 48, 3, stride, 1), "im2col", isa, threads)


@pytest.mark.parametrize("outputs", [1, 8, 9, 17, 24, 25, 33, 40, 56, 72])
def test_a_last_block_of_few_outputs(outputs: int, isa: str, threads: int, random: Random) -> None:
    """Has the bits of a whole one: half a block takes other instructions."""
    weight, bias = random(80, 35, 3, 3), random(80)
    for k, stride, size in ((1, 1, 1), (1, 1, 7), (1, 2, 9), (3, 1, 6), (3, 1, 14), (3, 2, 13)):
        x, kernel = random(2, 35, 3, size), weight[:, :, :k, :k].copy()
        options: dict[str, Any] = {"padding": k // 2, "stride": stride, "algorithm": "im2col"}
        options |= {"isa": isa, "threads": threads}
        residual = random(*kernels.conv2d(x, kernel, **options).shape)
        for act in ("relu", "tanh"):
            whole = kernels.conv2d(x, kernel, bias, residual=residual, activation=act, **options)
            part = residual[:, :outputs].copy()
            got = kernels.conv2d(
                x, kernel[:outputs], bias[:outputs], residual=part, activation=act, **options
            )
            assert np.array_equal(got, whole[:, :outputs]), (k, stride, size, act)


# Outputs of a tile and taps of the kernel, on both axes.
WINOGRAD = pytest.mark.parametrize(
    ("algorithm", "k"),
    [("winograd2", 3), ("winograd4", 3), ("winograd6", 3), ("winograd2", 5)],
)


@WINOGRAD
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 17, 30])
def test_winograd_size(algorithm: str, k: int, size: int, isa: str, threads: int) -> None:
    for pad in (0, 1, 2):
        if size + 2 * pad >= k:
            check(Case(1, 32, size, size + 1, 32, k, pad=pad), algorithm, isa, threads)


@WINOGRAD
@pytest.mark.parametrize("channels", CHANNELS[1:])
def test_winograd_channels(algorithm: str, k: int, channels: int, isa: str, threads: int) -> None:
    check(Case(2, 32, 6, 9, channels, k, pad=1), algorithm, isa, threads)
    if channels >= 16:  # fewer are read in place
        check(Case(1, channels, 9, 6, 33, k, pad=1), algorithm, isa, threads)


@WINOGRAD
def test_winograd_shares_the_transformed_input_where_weights_are_many(
    algorithm: str, k: int, isa: str
) -> None:
    check(Case(2, 256, 9, 9, 272, k, pad=1), algorithm, isa, 2)


def test_winograd_is_chosen_for_large_kernels_of_five_taps() -> None:
    rng = np.random.default_rng(0)
    graph, _ = operator(
        "conv",
        rng.standard_normal((1, 64, 27, 27), dtype=np.float32),
        rng.standard_normal((192, 64, 5, 5), dtype=np.float32),
        pads=[2] * 4,
    )
    assert "winograd2: " in Model(graph, threads=1).describe()


def test_the_largest_tile_is_chosen_on_request_alone(isa: str) -> None:
    """F(6x6, 3x3) is four times as far off as F(4x4, 3x3). Inception v3 with random weights would
    be beyond the bound of 1e-4."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 64, 3, 3), dtype=np.float32)
    for size in (18, 48, 112):
        x = rng.standard_normal((1, 64, size, size), dtype=np.float32)
        graph, _ = operator("conv", x, weight, pads=[1] * 4)
        for algorithm in ("auto", "winograd6"):
            text = Model(graph, isa=isa, algorithm=algorithm).describe()
            assert ("winograd6: " in text) == (algorithm == "winograd6"), (size, text)


@pytest.mark.parametrize(
    ("c", "m", "group"),
    [(8, 8, 2), (16, 16, 4), (32, 64, 8), (48, 48, 2), (40, 80, 5), (18, 36, 3), (64, 64, 2),
     (24, 48, 24), (66, 33, 3), (96, 96, 4), (40, 40, 5), (64, 64, 8), (20, 20, 10), (36, 36, 9)],
)  # fmt: skip
def test_groups(c: int, m: int, group: int, isa: str, threads: int) -> None:
    for k, pad, stride in ((3, 1, 1), (1, 0, 1), (3, 1, 2)):
        check(Case(2, c, 9, 8, m, k, stride, pad, 1, group), "auto", isa, threads)
    if m == c:  # around the tile of eight pixels, and a stride without a tile of its own
        for width in (1, 7, 9, 17, 30):
            check(Case(1, c, 3, width, m, 3, 1, 1, 1, group), "auto", isa, threads, "relu")
        check(Case(1, c, 10, 31, m, 3, 3, 1, 2, group), "auto", isa, threads)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 7, 11])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_depthwise(k: int, stride: int, isa: str, threads: int) -> None:
    for c, size in ((16, 15), (33, 8), (24, 29)):
        case = Case(2, c, size, size + 1, c, k, stride, k // 2, 1, c)
        check(case, "auto", isa, threads)
    check(Case(1, 20, 23, 25, 20, k, stride, k - 1, 2, 20), "auto", isa, threads)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads", "dilation"),
    [
        ((2, 3), (5, 5), (1, 1), (2, 2, 2, 2), (1, 1)),  # windows larger than the image
        ((4, 9), (3, 3), (1, 2), (7, 6, 5, 8), (1, 1)),  # windows that miss it
        ((9, 8), (3, 3), (2, 1), (0, 3, 2, 0), (4, 5)),
        ((5, 31), (1, 5), (1, 1), (0, 2, 0, 2), (1, 1)),
        ((31, 5), (5, 1), (1, 1), (4, 0, 0, 0), (1, 1)),
        ((1, 1), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
        ((40,), (9,), (1,), (4, 4), (1,)),
        ((40,), (3,), (3,), (8, 0), (8,)),
        ((5, 4, 9), (3, 3, 3), (1, 1, 1), (1, 1, 1, 1, 1, 1), (1, 1, 1)),
        ((3, 7, 8), (3, 5, 3), (2, 1, 2), (3, 2, 0, 1, 4, 3), (2, 1, 1)),
    ],
)
def test_depthwise_at_edges(
    size: Ints, kernel: Ints, stride: Ints, pads: Ints, dilation: Ints, isa: str, random: Random
) -> None:
    for c in (16, 19):
        x, weight, bias = random(2, c, *size), random(c, 1, *kernel), random(c)
        attributes = {"strides": stride, "pads": pads, "dilations": dilation, "group": c}
        graph, inputs = operator("conv", x, weight, bias, **attributes)
        want = by_reference(graph, inputs)[0]
        for threads in (1, 2):
            (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
            assert_close(got, want, exact_tolerance(weight[0].size), (c, threads))


@pytest.mark.parametrize("act", ["relu", ("clip", -0.5, 0.75), "silu", ("leaky_relu", 0.1)])
@pytest.mark.parametrize(
    "case",
    [
        Case(1, 32, 9, 17, 40, 3, 1, 1),
        Case(1, 3, 9, 17, 24, 3, 2, 1),
        Case(2, 32, 7, 7, 32, 3, 1, 1),
        Case(1, 32, 9, 9, 32, 3, 1, 1, 1, 32),
        Case(1, 48, 1, 1, 20, 1),
        Case(3, 20, 1, 1, 33, 1),
    ],
)
def test_residual_and_activation(case: Case, act: Any, isa: str, threads: int) -> None:
    algorithms = ["auto", "im2col"]
    if case.group == 1 and case.k == 3 and case.stride == 1:
        algorithms += ["winograd2", "winograd4", "winograd6"]
    for algorithm in algorithms:
        check(case, algorithm, isa, threads, act)


@pytest.mark.parametrize("group", [1, 2])
def test_rows_whose_taps_meet_padding_go_in_bands(group: int, isa: str, threads: int) -> None:
    for h, dilation, stride, k in ((16, 12, 1, 3), (8, 6, 1, 3), (9, 5, 2, 3), (10, 4, 1, 5)):
        pad = dilation * (k // 2)
        for act in (None, "relu"):
            check(Case(2, 20, h, 7, 34, k, stride, pad, dilation, group), "auto", isa, threads, act)


@pytest.mark.parametrize("width", [1, 2, 3, 15])
@pytest.mark.parametrize("act", [None, "relu"])
def test_narrow_planes_are_one_row(width: int, act: Any, isa: str, threads: int) -> None:
    rng = np.random.default_rng(width)
    for c, stride, pad, columns in ((20, 1, 2, 1), (32, 1, 0, 1), (16, 2, 1, 1), (16, 1, 1, width)):
        for height in (13, 14, 15, 29):
            x = rng.standard_normal((2, c, height, width), dtype=np.float32)
            weight = rng.standard_normal((34, c, 5, columns), dtype=np.float32)
            given = {"strides": [stride] * 2, "pads": [pad, 0] * 2}
            want = reference("conv", x, weight, **given)
            residual = rng.standard_normal(want.shape, dtype=np.float32) if act else None
            if residual is not None:
                want = np.maximum(want + residual, 0)
            got = kernels.conv2d(
                *(x, weight, None, stride, (pad, 0)),
                residual=residual,
                activation=act,
                algorithm="im2col",
                threads=threads,
                isa=isa,
            )
            assert_close(got, want, exact_tolerance(c * 5 * columns), (c, stride, height))


def test_a_column_is_as_fast_as_a_row() -> None:
    """Both are planned as one row of a plane."""
    x = np.zeros((1, 64, 60, 1), np.float32)
    weight = np.zeros((64, 64, 5, 1), np.float32)
    costs = []
    for axes in ((0, 1, 2, 3), (0, 1, 3, 2)):
        graph, inputs = operator("conv", x.transpose(axes), weight.transpose(axes))
        plan = plan_for(Model(graph, threads=1), tuple(inputs.values()))
        costs += [step.cost_ns for step in plan.describe() if step.kernel == "conv"]
    assert costs[0] == costs[1]


@pytest.mark.parametrize("n", [1, 2, 7])
def test_batch(n: int, isa: str, threads: int) -> None:
    for c in (3, 16):
        check(Case(n, c, 6, 15, 20, 3, 1, 1), "im2col", isa, threads)


def test_same_padding() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 4, 9, 10), dtype=np.float32)
    weight = rng.standard_normal((6, 4, 3, 3), dtype=np.float32)
    want = reference("conv", x, weight, auto_pad="SAME_UPPER", strides=[2, 2])
    got = kernels.conv2d(x, weight, padding="same", stride=2)
    assert_close(got, want, 1e-6)
    valid = kernels.conv2d(x, weight, padding="valid")
    assert_close(valid, reference("conv", x, weight), 1e-6)


@pytest.mark.parametrize("rank", [1, 3])
def test_one_and_three_dimensions(rank: int, isa: str, threads: int) -> None:
    rng = np.random.default_rng(rank)
    for c, stride, pad, dilation in ((3, 1, 1, 1), (20, 2, 1, 1), (17, 1, 2, 2)):
        x = rng.standard_normal((2, c, *(11, 9, 8)[:rank]), dtype=np.float32)
        weight = rng.standard_normal((24, c, *[3] * rank), dtype=np.float32)
        want = reference(
            "conv",
            x,
            weight,
            strides=[stride] * rank,
            pads=[pad] * (2 * rank),
            dilations=[dilation] * rank,
        )
        got = kernels.conv2d(x, weight, None, stride, pad, dilation, threads=threads, isa=isa)
        assert_close(got, want, exact_tolerance(c * 3**rank), (rank, c, stride))


@WINOGRAD
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7, 16])
def test_winograd_over_the_last_two_of_three_axes(
    algorithm: str, k: int, depth: int, isa: str, threads: int
) -> None:
    rng = np.random.default_rng(depth)
    for c, m, h, w, kernel_d in ((16, 20, 9, 10, 3), (32, 32, 4, 5, 1), (16, 16, 6, 6, 2)):
        x = rng.standard_normal((2, c, depth, h, w), dtype=np.float32)
        weight = rng.standard_normal((m, c, kernel_d, k, k), dtype=np.float32)
        bias = rng.standard_normal(m, dtype=np.float32)
        pad = kernel_d // 2
        if depth + 2 * pad < kernel_d:
            continue
        want = reference("conv", x, weight, bias, pads=[pad, 1, 1] * 2)
        got = kernels.conv2d(
            x, weight, bias, padding=[pad, 1, 1], algorithm=algorithm, threads=threads, isa=isa
        )
        assert_close(got, want, winograd_tolerance(algorithm, k), (c, m, kernel_d))


def test_the_result_does_not_depend_on_threads_or_batch(isa: str) -> None:
    rng = np.random.default_rng(1)
    cases = Case(5, 20, 13, 13, 40, 3, 1, 1), Case(5, 33, 1, 1, 50, 1), Case(5, 3, 9, 9, 8, 3)
    for case in cases:
        x = rng.standard_normal((case.n, case.c, case.h, case.w), dtype=np.float32)
        weight = rng.standard_normal((case.m, case.c, case.k, case.k), dtype=np.float32)
        for algorithm in ("im2col", "winograd4") if case.k == 3 else ("auto",):
            options = {"padding": case.pad, "algorithm": algorithm, "isa": isa}
            whole = kernels.conv2d(x, weight, threads=1, **options)
            assert np.array_equal(whole, kernels.conv2d(x, weight, threads=2, **options))
            assert np.array_equal(whole, kernels.conv2d(x, weight, threads=3, **options))
            for i in range(case.n):
                one = kernels.conv2d(x[i : i + 1], weight, threads=2, **options)
                assert np.array_equal(whole[i : i + 1], one), (case, algorithm, i)


@pytest.mark.parametrize("shape", [(2, 5, 9), (1, 33, 4, 5), (2, 3, 2, 3, 4)])
def test_batch_normalisation_of_a_plain_tensor(
    shape: tuple[int, ...], isa: str, threads: int, random: Random
) -> None:
    c = shape[1]
    x = random(*shape)
    statistics = [random(c), random(c), random(c), np.abs(random(c)) + 0.5]
    graph, inputs = operator("batch_normalization", x, *statistics)
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    assert_close(got, by_reference(graph, inputs)[0], 1e-6)


@pytest.mark.parametrize("times", [2, 3, 4, 5])
@pytest.mark.parametrize("channels", [2, 5, 16, 24])
def test_several_outputs_of_each_channel(
    channels: int, times: int, isa: str, threads: int, random: Random
) -> None:
    """A few are depthwise on repeated channels, with bias, residual, stride and in three ranks."""
    m = channels * times
    for size, stride in (((9,), 1), ((7, 10), 2), ((3, 5, 4), 1)):
        rank = len(size)
        x, w, b = random(2, channels, *size), random(m, 1, *(3,) * rank), random(m)
        attributes = {"group": channels, "pads": [1] * 2 * rank, "strides": [stride] * rank}
        graph, inputs = operator("conv", x, w, b, **attributes)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        want = by_reference(graph, inputs)[0]
        assert_close(got, want, exact_tolerance(3**rank), (size, stride))
        steps = Model(graph, isa=isa).describe()
        assert ("depthwise" in steps) == (times <= 4), steps
        residual = random(*want.shape)
        graph, inputs = operator("conv", x, w, b, residual, computed=[3], **attributes)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert_close(got, by_reference(graph, inputs)[0], exact_tolerance(3**rank), size)
