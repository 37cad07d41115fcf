"""`cnnrt.kernels`: each function against PyTorch's of the same name, and what mistakes are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt import kernels
from cnnrt.errors import ShapeError


def random(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


SPATIAL = {1: (9,), 2: (7, 9), 3: (5, 6, 7)}


@pytest.fixture(scope="module")
def functional() -> Any:
    return pytest.importorskip("torch").nn.functional


def compare(functional: Any, name: str, x: Any, *arrays: Any, **options: Any) -> None:
    import torch

    def tensor(value: Any) -> Any:
        return torch.from_numpy(value).double() if isinstance(value, np.ndarray) else value

    expected = getattr(functional, name)(
        tensor(x), *map(tensor, arrays), **{k: tensor(v) for k, v in options.items()}
    )
    got = getattr(kernels, name)(x, *arrays, **options)
    np.testing.assert_allclose(got, expected.numpy(), 2e-5, 2e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions(rank: int, functional: Any) -> None:
    x, weight, bias = random(2, 4, *SPATIAL[rank]), random(6, 2, *(3,) * rank), random(6)
    compare(functional, f"conv{rank}d", x, weight, bias, groups=2, padding=1, stride=2)
    compare(functional, f"conv{rank}d", x, random(3, 4, *(1, 2, 3)[:rank]), dilation=2)
    compare(functional, f"conv{rank}d", x, random(3, 4, *(3,) * rank), padding="same")
    weight = random(4, 3, *(3,) * rank)
    transposed = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "dilation": 2}
    compare(functional, f"conv_transpose{rank}d", x, weight, random(6), **transposed)
    compare(functional, f"conv_transpose{rank}d", x, weight)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pools(rank: int, functional: Any) -> None:
    x = random(2, 3, *SPATIAL[rank])
    for kind in ("max", "avg"):
        compare(functional, f"{kind}_pool{rank}d", x, 2)
        compare(functional, f"{kind}_pool{rank}d", x, 3, stride=2, padding=1, ceil_mode=True)
        for size in (1, 2, 4):
            compare(functional, f"adaptive_{kind}_pool{rank}d", x, (size,) * rank)
    compare(functional, f"max_pool{rank}d", x, 2, dilation=2, stride=1)


ACTIVATIONS = "relu relu6 leaky_relu elu selu silu mish softplus hardsigmoid hardswish gelu"


@pytest.mark.parametrize("name", ACTIVATIONS.split())
def test_activations(name: str, functional: Any) -> None:
    compare(functional, name, 4 * random(3, 5, 7))


def test_other_layers(functional: Any) -> None:
    import torch

    x = random(2, 3, 5, 4)
    compare(functional, "batch_norm", x, random(3), random(3) ** 2)
    compare(functional, "batch_norm", x, random(3), random(3) ** 2, random(3), random(3), eps=0.1)
    compare(functional, "linear", random(4, 6), random(5, 6), random(5))
    compare(functional, "softmax", x, dim=1)
    compare(functional, "log_softmax", x, dim=1)
    compare(functional, "gelu", x, approximate="tanh")
    compare(functional, "leaky_relu", x, 0.3)
    compare(functional, "elu", x, 0.5)
    for name in ("sigmoid", "tanh"):
        expected = getattr(torch, name)(torch.from_numpy(x))
        np.testing.assert_allclose(getattr(kernels, name)(x), expected, 1e-5, 1e-6)
    weight, bias = random(4), random(4) + 1
    expected = functional.layer_norm(*map(torch.from_numpy, (x,)), (4,)).numpy() * weight + bias
    np.testing.assert_allclose(kernels.layer_norm(x, weight, bias), expected, 1e-4, 1e-5)


def test_lists_and_whole_numbers_are_taken() -> None:
    y = kernels.conv2d([[[[1, 2], [3, 4]]]], [[[[1, 0], [0, 1]]]])
    assert y.tolist() == [[[[5.0]]]]
    assert kernels.relu([-1, 2]).tolist() == [0.0, 2.0]


X, F = np.zeros((5, 5)), np.zeros((3, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernels.conv2d(X, F), ShapeError, r"conv2d: x has shape \(5, 5\); expected \(N, C,"
         r" H, W\): for one image of one channel give x\[None, None\]"),
        (lambda: kernels.conv2d(X[None, None], F), ShapeError,
         r"weight has shape \(3, 3\).*give weight\[None, None\]"),
        (lambda: kernels.conv1d(np.zeros(5), F), ShapeError,
         r"expected \(N, C, L\).*x\[None, None"),
        (lambda: kernels.conv1d(np.zeros((2, 5)), F), ShapeError, r"for one image give x\[None\]"),
        (lambda: kernels.conv3d(X[None, None], F), ShapeError, r"expected \(N, C, D, H, W\)"),
        (lambda: kernels.conv2d(np.zeros((1, 3, 5, 5)), np.zeros((4, 1, 3, 3))), ShapeError,
         r"x has 3 channels; weight, of shape \(4, 1, 3, 3\), takes 1 for each of 1 groups"),
        (lambda: kernels.conv2d(X[None, None], F[None, None], padding="full"), ValueError,
         "padding 'full'; expected a number, one for each axis, 'same' or 'valid'"),
        (lambda: kernels.conv2d(X[None, None], F[None, None], stride="two"), ValueError,
         "stride 'two'; expected a number"),
        (lambda: kernels.conv2d(X[None, None], F[None, None], stride=(1, 2, 3)), ValueError,
         "or 2, one for each axis"),
        (lambda: kernels.conv_transpose2d(np.zeros((1, 3, 5, 5)), F[None, None]), ShapeError,
         "C = 3, the channels of x"),
        (lambda: kernels.max_pool2d(X, 2), ShapeError, r"max_pool2d: x has shape.*x\[None, None\]"),
        (lambda: kernels.adaptive_max_pool2d(X, 2), ShapeError, "adaptive_max_pool2d: x has shape"),
        (lambda: kernels.batch_norm(X[0], X[0], X[0]), ShapeError, r"expected \(N, C, \.\.\.\)"),
        (lambda: kernels.batch_norm(X[None, None], X[0], X[0]), ShapeError, r"expected \(1,\)"),
        (lambda: kernels.gelu(X, approximate="erf"), ValueError, "'none' or 'tanh'"),
        (lambda: kernels.activate(X, "swoosh"), ValueError, "expected one of none, relu"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_the_words_of_the_call(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_every_function_is_public() -> None:
    assert sorted(kernels.__all__) == kernels.__all__
    assert all(hasattr(kernels, name) for name in kernels.__all__)
