"""Infinity, NaN and denormals: they come out of each kernel as they do out of PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt import kernels
from networks import operator

torch = pytest.importorskip("torch", reason="PyTorch's wheel is declared for Python 3.11 only")
F = torch.nn.functional

INF, NAN = np.inf, np.nan


def assert_alike(got: np.ndarray, want: Any, case: object = "", tolerance: float = 2e-5) -> None:
    """NaN and each infinity at the same places, the rest close."""
    want = want.numpy()
    assert got.shape == want.shape
    for kind in (np.isnan, np.isposinf, np.isneginf):
        odd = np.argwhere(kind(got) != kind(want))
        assert not len(odd), (
            f"{case}: {kind.__name__} differs at {len(odd)} places, first {odd[0]}: got "
            f"{got[tuple(odd[0])]}, PyTorch has {want[tuple(odd[0])]}"
        )
    finite = np.isfinite(want)
    scale = np.abs(want[finite]).max(initial=0.0) or 1.0
    assert np.abs(got[finite] - want[finite]).max(initial=0.0) <= tolerance * scale, case


def spoilt(x: np.ndarray) -> np.ndarray:
    """A copy with an infinity of each sign and a NaN at places apart, in two channels and images.
    In addition, two infinities meet in one window."""
    x = x.copy()
    flat = x.reshape(*x.shape[:2], -1)
    n, c, size = flat.shape
    flat[0, 1, size // 3] = INF
    flat[0, c - 1, 0] = -INF
    flat[n - 1, c // 2, size - 1] = NAN
    flat[0, 0, size // 2] = INF
    flat[0, 0, size // 2 + 1] = -INF
    return x


def t(x: np.ndarray) -> Any:
    return torch.from_numpy(x)


CONVOLUTIONS = {
    "planar": (3, 40, 1, 5, {"stride": 2, "padding": 2}),
    "1x1": (24, 40, 1, 1, {}),
    "3x3 stride 2": (24, 40, 1, 3, {"stride": 2, "padding": 1}),
    "dilated": (24, 40, 1, 3, {"dilation": 6, "padding": 6}),
    "depthwise": (24, 24, 24, 3, {"padding": 1}),
    "channel multiplier": (24, 48, 24, 3, {"padding": 1}),
    "groups of 2": (24, 24, 12, 3, {"padding": 1}),
    "groups of 8": (24, 24, 3, 3, {"padding": 1}),
    "groups of 6": (24, 24, 4, 3, {"padding": 1}),
    "groups of 24": (48, 48, 2, 3, {"padding": 1}),
    "groups, fewer outputs": (40, 20, 5, 3, {"padding": 1}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(case: str, random: Any, isa: str) -> None:
    c, m, groups, size, options = CONVOLUTIONS[case]
    x, w = spoilt(random(2, c, 17, 19)), random(m, c // groups, size, size)
    want = F.conv2d(t(x), t(w), groups=groups, **options)
    for activation in (None, "relu", "silu"):
        got = kernels.conv2d(x, w, groups=groups, activation=activation, isa=isa, **options)
        expected = want if activation is None else getattr(F, activation)(want)
        assert_alike(got, expected, (case, activation))


@pytest.mark.parametrize(
    ("algorithm", "k"),
    [("winograd2", 3), ("winograd4", 3), ("winograd6", 3), ("winograd2", 5)],
)
def test_winograd(algorithm: str, k: int, random: Any, isa: str, threads: int) -> None:
    x, w, bias = random(2, 24, 17, 19), random(40, 24, k, k), random(40)
    pad = k // 2
    residual = random(2, 40, 17, 19)
    spoil = spoilt(x)
    for row, column in ((2, 2), (3, 4), (16, 18), (9, 0)):  # each place in a tile, and its edges
        spoil[1, 3, row, column] = INF
    for activation in (None, "relu", "silu"):
        got = kernels.conv2d(
            spoil,
            w,
            bias,
            padding=pad,
            residual=residual,
            activation=activation,
            algorithm=algorithm,
            isa=isa,
            threads=threads,
        )
        want = F.conv2d(t(spoil), t(w), t(bias), padding=pad) + t(residual)
        assert_alike(got, want if activation is None else getattr(F, activation)(want), algorithm)
    # Finite inputs that overflow on the way only.
    large = x * np.float32(3e37)
    small = w * np.float32(1e-3)
    got = kernels.conv2d(large, small, padding=pad, algorithm=algorithm, isa=isa)
    assert_alike(got, F.conv2d(t(large), t(small), padding=pad), "overflow")


def test_winograd_in_three_dimensions(random: Any, isa: str) -> None:
    x, w = spoilt(random(1, 16, 5, 9, 11)), random(24, 16, 3, 3, 3)
    for algorithm in ("winograd2", "winograd4", "winograd6"):
        graph, _ = operator("conv", x, w, pads=[1] * 6)
        got = cnnrt.Model(graph, algorithm=algorithm, isa=isa, threads=1)(x)
        assert_alike(got, F.conv3d(t(x), t(w), padding=1), algorithm)


@pytest.mark.parametrize("kernel", [(3,), (1, 3), (3, 1)], ids=str)
def test_winograd_on_one_axis(kernel: tuple[int, ...], random: Any, isa: str, threads: int) -> None:
    shape = [17 if taps == 3 else 5 for taps in kernel]
    x, w, bias = spoilt(random(2, 24, *shape)), random(40, 24, *kernel), random(40)
    along = x.reshape(2, 24, 17, -1) if kernel[0] == 3 else x.reshape(2, 24, -1, 17).swapaxes(2, 3)
    for place in (3, 6, 9, 12, 16):  # each in a tile of 4, and the image's end
        along[1, 3, place, 0] = INF
    conv = F.conv1d if len(kernel) == 1 else F.conv2d
    padding = [taps // 2 for taps in kernel]
    for algorithm in ("winograd2", "winograd4"):
        options = {"padding": padding, "algorithm": algorithm, "isa": isa, "threads": threads}
        for activation in (None, "relu", "silu"):
            got = kernels.conv2d(x, w, bias, activation=activation, **options)
            want = conv(t(x), t(w), t(bias), padding=padding)
            want = want if activation is None else getattr(F, activation)(want)
            assert_alike(got, want, (algorithm, activation))
        # Finite inputs that overflow on the way only.
        large, small = random(2, 24, *shape) * np.float32(3e37), w * np.float32(1e-3)
        got = kernels.conv2d(large, small, **options)
        assert_alike(got, conv(t(large), t(small), padding=padding), "overflow")


def test_lanes_of_no_channel_reach_none(random: Any, isa: str) -> None:
    # 20 channels are a block and a quarter; the content of the other lanes does not matter.
    x = random(1, 20, 9, 9)
    x[0, 3] = INF
    first, second = random(20, 20, 1, 1), random(17, 20, 3, 3)
    middle = kernels.conv2d(x, first, isa=isa)
    want = F.conv2d(F.conv2d(t(x), t(first)), t(second), padding=1)
    for algorithm in ("im2col", "winograd4"):
        got = kernels.conv2d(middle, second, padding=1, algorithm=algorithm, isa=isa)
        assert_alike(got, want, algorithm)


@pytest.mark.parametrize("size", [2, 3, 5, 7])
def test_pools(size: int, random: Any, isa: str) -> None:
    x = spoilt(random(2, 20, 17, 19))
    for stride in (1, 2):
        options = {"stride": stride, "padding": size // 2}
        got = kernels.max_pool2d(x, size, isa=isa, **options)
        assert_alike(got, F.max_pool2d(t(x), size, **options), ("max", size, stride))
        got = kernels.avg_pool2d(x, size, isa=isa, **options)
        assert_alike(got, F.avg_pool2d(t(x), size, **options), ("average", size, stride))


ACTIVATIONS = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.01),
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x * 0.5**0.5)),  # F.gelu has NaN at infinity
    "elu": F.elu,
    "selu": F.selu,
    "softplus": F.softplus,
    "mish": F.mish,
    "softsign": F.softsign,
    "abs": torch.abs,
    "neg": torch.neg,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "reciprocal": torch.reciprocal,
    "erf": torch.erf,
    "floor": torch.floor,
    "round": torch.round,
}
# Not the largest: PyTorch's hard_swish overflows on the way.
SPECIAL = np.float32([INF, -INF, NAN, 0, -0.0, 1, -1, 1e30, -1e30, 100, -100, 88, -88])
PARAMETERS = {
    "relu6": ("clip", 0.0, 6.0),
    "leaky_relu": ("leaky_relu", 0.01, 0.0),
    "hard_sigmoid": ("hard_sigmoid", 1 / 6, 0.5),
    "elu": ("elu", 1.0, 0.0),
    "selu": ("selu", 1.6732632, 1.0507010),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, isa: str) -> None:
    x = np.tile(SPECIAL, (1, 16, 2, 1))
    identity = np.eye(16, dtype=np.float32)[:, :1, None, None].copy()
    identity[:] = 1
    got = kernels.conv2d(
        x, identity, groups=16, activation=PARAMETERS.get(name, name), isa=isa, threads=1
    )
    assert_alike(got, ACTIVATIONS[name](t(x) + 0.0), name)  # a convolution makes -0 to 0


def test_elementwise(isa: str) -> None:
    a, b = (g.copy() for g in np.meshgrid(SPECIAL, SPECIAL))
    functions = {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "div": torch.div,
        "max": torch.maximum,
        "min": torch.minimum,
        "pow": torch.pow,
    }
    for name, function in functions.items():
        graph, inputs = operator(name, a, b, computed=[1])
        got = cnnrt.Model(graph, isa=isa, threads=1)(inputs)
        assert_alike(got, function(t(a), t(b)), name)


def rows() -> np.ndarray:
    """Rows without, and with each kind of value that is not finite."""
    x = np.random.default_rng(0).standard_normal((9, 37), dtype=np.float32)
    x[1, 5], x[2, 36], x[3, 0], x[4] = INF, -INF, NAN, -INF
    x[5, :2], x[6, 3:5], x[7] = INF, (INF, -INF), 1e30
    return x


def test_rows(isa: str) -> None:
    x, ones = rows(), np.ones(37, np.float32)
    weight = np.random.default_rng(1).standard_normal((20, 37), dtype=np.float32)
    cases = {
        "softmax": (operator("softmax", x, axis=-1), F.softmax(t(x), -1)),
        "log_softmax": (operator("log_softmax", x, axis=-1), F.log_softmax(t(x), -1)),
        "linear": (operator("linear", x, weight), F.linear(t(x), t(weight))),
        "matmul": (operator("matmul", x, weight.T.copy()), t(x) @ t(weight.T)),
        "sum": (operator("reduce_sum", x, axes=[1]), t(x).sum(1, keepdim=True)),
        "mean": (operator("reduce_mean", x, axes=[1]), t(x).mean(1, keepdim=True)),
        "max": (operator("reduce_max", x, axes=[1]), t(x).amax(1, keepdim=True)),
        "min": (operator("reduce_min", x, axes=[1]), t(x).amin(1, keepdim=True)),
    }
    for name, ((graph, inputs), want) in cases.items():
        got = cnnrt.Model(graph, isa=isa, threads=1)(inputs)
        assert_alike(got, want, name)
    graph, inputs = operator("layer_normalization", x[:7], ones, axis=-1)
    got = cnnrt.Model(graph, isa=isa, threads=1)(inputs)
    assert_alike(got, F.layer_norm(t(x[:7]), (37,)), "layer norm")


def test_norms_of_images(random: Any, isa: str) -> None:
    x, scale, bias = spoilt(random(2, 24, 7, 9)), random(24), random(24)
    mean, var = random(24), np.abs(random(24)) + np.float32(0.1)
    cases = {
        "batch": (
            operator("batch_normalization", x, scale, bias, mean, var),
            F.batch_norm(t(x), t(mean), t(var), t(scale), t(bias)),
        ),
        "instance": (
            operator("instance_normalization", x, scale, bias),
            F.instance_norm(t(x), weight=t(scale), bias=t(bias)),
        ),
        "group": (
            operator("group_normalization", x, scale, bias, num_groups=4),
            F.group_norm(t(x), 4, t(scale), t(bias)),
        ),
    }
    for name, ((graph, inputs), want) in cases.items():
        assert_alike(cnnrt.Model(graph, isa=isa, threads=1)(inputs), want, name)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize(mode: str, random: Any, isa: str) -> None:
    x = spoilt(random(2, 20, 8, 10))
    graph, inputs = operator(
        "resize",
        x,
        None,
        np.float32([1, 1, 2, 2]),
        mode=mode,
        coordinate_transformation_mode="asymmetric" if mode == "nearest" else "half_pixel",
        nearest_mode="floor",
    )
    got = cnnrt.Model(graph, isa=isa, threads=1)(inputs)
    options = {} if mode == "nearest" else {"align_corners": False}
    torch_mode = {"nearest": "nearest", "linear": "bilinear"}[mode]
    want = F.interpolate(t(x), scale_factor=2, mode=torch_mode, **options)
    # At the edges PyTorch multiplies the pixel beyond the nearest one by 0; it is not read here.
    assert_alike(got[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1], mode)


def test_attention(random: Any, isa: str) -> None:
    q, k, v = random(1, 2, 5, 16), random(1, 2, 7, 16), random(1, 2, 7, 16)
    q[0, 0, 1, 3], k[0, 1, 2, 0], v[0, 1, 6, 9] = NAN, INF, -INF
    mask = np.zeros((5, 7), np.float32)
    mask[1, 3:] = -INF
    graph, inputs = operator("attention", q, k, v, mask, computed=[1, 2])
    got = cnnrt.Model(graph, isa=isa, threads=1)(inputs)
    assert_alike(got, F.scaled_dot_product_attention(t(q), t(k), t(v), t(mask)), "attention")


# Denormals ----------------------------------------------------------------------------------------


def test_denormals_count_as_zero_whatever_the_thread(random: Any, threads: int) -> None:
    # The caller's own state: test_threads.py.
    import platform

    if platform.machine() not in ("x86_64", "AMD64", "aarch64", "arm64"):
        pytest.skip("only these processors are told to flush")
    x = np.full((8, 32, 24, 24), 1e-39, np.float32)
    weight = np.abs(random(32, 32, 3, 3)) + np.float32(0.5)
    for algorithm in ("im2col", "winograd2", "winograd4"):
        assert not kernels.conv2d(x, weight, algorithm=algorithm, threads=threads).any()
    tiny = weight * np.float32(1e-39)
    ones = np.ones((8, 32, 24, 24), np.float32)
    assert not kernels.conv2d(ones, tiny, algorithm="im2col", threads=threads).any()
