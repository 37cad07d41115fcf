"""The pools, against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError

torch = pytest.importorskip("torch")
F = torch.nn.functional

WINDOWS = [
    # size, kernel, stride, pad, dilation, ceil_mode
    ((7,), 2, 2, 0, 1, 0),
    ((8,), 3, 2, 1, 2, 1),
    ((6, 7), 2, 2, 0, 1, 0),
    ((6, 7), 3, 2, 1, 1, 0),
    ((6, 7), 3, 2, 1, 1, 1),
    ((5, 5), 2, 2, 1, 1, 1),
    ((6, 6), 2, 3, 0, 1, 1),
    ((9, 8), 3, 1, 1, 2, 0),
    ((1, 1), 3, 2, 1, 1, 1),
    ((4, 5, 6), 2, 2, 1, 1, 1),
    ((4, 5, 6), 3, 1, 1, 1, 0),
]
MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def attributes(rank: int, kernel: int, stride: int, pad: int) -> dict[str, Any]:
    return {"kernel_shape": [kernel] * rank, "strides": [stride] * rank, "pads": [pad] * 2 * rank}


@pytest.mark.parametrize(("size", "kernel", "stride", "pad", "dilation", "ceil"), WINDOWS)
def test_max_pool(
    run: Any,
    rng: np.random.Generator,
    size: tuple[int, ...],
    kernel: int,
    stride: int,
    pad: int,
    dilation: int,
    ceil: int,
) -> None:
    x, rank = rng.normal(size=(2, 3, *size)), len(size)
    at = attributes(rank, kernel, stride, pad) | {"ceil_mode": ceil, "dilations": [dilation] * rank}
    y, index = run("max_pool", x, outputs=2, **at)
    want, place = MAX[rank](
        torch.tensor(x), kernel, stride, pad, dilation, bool(ceil), return_indices=True
    )
    np.testing.assert_array_equal(y, want.numpy())
    planes = np.arange(6).reshape(2, 3, *[1] * rank) * np.prod(size)
    np.testing.assert_array_equal(index, place.numpy() + planes)
    np.testing.assert_array_equal(x.reshape(-1)[index], y)


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize(("size", "kernel", "stride", "pad", "dilation", "ceil"), WINDOWS)
def test_average_pool(
    run: Any,
    rng: np.random.Generator,
    size: tuple[int, ...],
    kernel: int,
    stride: int,
    pad: int,
    dilation: int,
    ceil: int,
    include: int,
) -> None:
    x, rank = rng.normal(size=(2, 3, *size)), len(size)
    at = attributes(rank, kernel, stride, pad) | {"ceil_mode": ceil, "count_include_pad": include}
    if dilation > 1:
        pytest.skip("PyTorch has no dilation here; ONNX's cases do")
    want = AVERAGE[rank](torch.tensor(x), kernel, stride, pad, bool(ceil), bool(include)).numpy()
    np.testing.assert_allclose(run("average_pool", x, **at)[0], want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(run: Any, rng: np.random.Generator, p: int) -> None:
    x = np.abs(rng.normal(size=(2, 3, 6, 7)))
    want = F.lp_pool2d(torch.tensor(x), p, 3, 2).numpy()
    (y,) = run("lp_pool", x, kernel_shape=[3, 3], strides=[2, 2], p=p)
    np.testing.assert_allclose(y, want, rtol=1e-12)
    (whole,) = run("global_lp_pool", x, p=p)
    np.testing.assert_allclose(whole, F.lp_pool2d(torch.tensor(x), p, (6, 7)).numpy(), rtol=1e-12)


@pytest.mark.parametrize("out", [1, 2, 3, 5, 7, 9])
def test_adaptive(run: Any, rng: np.random.Generator, out: int) -> None:
    x = rng.normal(size=(2, 3, 7, 5))
    mean = F.adaptive_avg_pool2d(torch.tensor(x), (out, 3)).numpy()
    (y,) = run("adaptive_average_pool", x, output_size=[out, 3])
    np.testing.assert_allclose(y, mean, rtol=1e-12, atol=1e-12)
    high = F.adaptive_max_pool2d(torch.tensor(x), (out, 3)).numpy()
    np.testing.assert_array_equal(run("adaptive_max_pool", x, output_size=[out, 3])[0], high)


@pytest.mark.parametrize("shape", [(2, 3, 7), (1, 4, 5, 6), (1, 2, 3, 4, 5)])
def test_global(run: Any, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x, axes = rng.normal(size=shape), tuple(range(2, len(shape)))
    np.testing.assert_allclose(
        run("global_average_pool", x)[0], x.mean(axis=axes, keepdims=True), rtol=1e-12
    )
    np.testing.assert_array_equal(run("global_max_pool", x)[0], x.max(axis=axes, keepdims=True))


def test_max_unpool(run: Any, rng: np.random.Generator) -> None:
    x = torch.tensor(rng.normal(size=(1, 1, 6, 8)))
    y, index = F.max_pool2d(x, 2, 2, return_indices=True)
    (back,) = run("max_unpool", y.numpy(), index.numpy(), kernel_shape=[2, 2], strides=[2, 2])
    np.testing.assert_array_equal(back, F.max_unpool2d(y, index, 2, 2).numpy())


@pytest.mark.parametrize(
    ("op", "shape", "bad"),
    [
        ("max_pool", (1, 2, 4, 4), {"kernel_shape": [5, 5]}),
        ("max_pool", (1, 2, 4, 4), {"kernel_shape": [2]}),
        ("max_pool", (1, 2, 4, 4), {"kernel_shape": [2, 2], "strides": [0, 1]}),
        ("max_pool", (1, 2), {"kernel_shape": []}),
        ("average_pool", (1, 2, 4, 4), {"kernel_shape": [2, 2], "pads": [0, 0, 0]}),
        ("average_pool", (1, 2, 4, 4), {"kernel_shape": [2, 2], "pads": [0, 0, -1, 0]}),
        ("adaptive_max_pool", (1, 2, 4, 4), {"output_size": [2]}),
        ("adaptive_max_pool", (1, 2, 4, 4), {"output_size": [0, 2]}),
        ("global_max_pool", (1, 2, 0, 4), {}),
    ],
)
def test_errors(run: Any, op: str, shape: tuple[int, ...], bad: dict[str, Any]) -> None:
    with pytest.raises(CnnrtError, match=f"the_{op}"):
        run(op, np.zeros(shape), **bad)
