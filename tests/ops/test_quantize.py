"""Quantisation and the operators on integers, by definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_there_and_back(run: Any, rng: np.random.Generator, dtype: str, axis: int) -> None:
    x = rng.normal(size=(3, 4, 5)).astype(np.float32)
    scale = rng.uniform(0.01, 0.05, x.shape[axis]).astype(np.float32)
    zero = rng.integers(0, 20, x.shape[axis]).astype(dtype)
    (q,) = run("quantize_linear", x, scale, zero, axis=axis)
    lanes = (-1, *[1] * (2 - axis % 3))
    s, z = scale.reshape(lanes), zero.reshape(lanes).astype(np.float32)
    info = np.iinfo(dtype)
    np.testing.assert_array_equal(q, np.clip(np.rint(x / s) + z, info.min, info.max))
    (back,) = run("dequantize_linear", q, scale, zero, axis=axis)
    np.testing.assert_allclose(back, (q - z) * s, rtol=1e-6)


def test_blocks(run: Any) -> None:
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    scale = np.array([[1, 2, 4], [1, 2, 4]], np.float32)
    (q,) = run("quantize_linear", x, scale, axis=1, block_size=2)
    assert q.tolist() == [[0, 1, 1, 2, 1], [5, 6, 4, 4, 2]]
    (back,) = run("dequantize_linear", q, scale, axis=1, block_size=2)
    assert back.tolist() == [[0, 1, 2, 4, 4], [5, 6, 8, 8, 8]]


def test_a_block_of_any_size(run: Any) -> None:
    x = np.float32([[1, -2], [3, 4]])
    scale = np.float32([[0.5, 0.25]])
    (q,) = run("quantize_linear", x, scale, np.zeros((1, 2), np.int8), axis=0, block_size=2**30)
    np.testing.assert_array_equal(q, np.rint(x / scale))


def test_integer_and_quantised_convolution(run: Any, rng: np.random.Generator) -> None:
    x = rng.integers(0, 255, (1, 4, 6, 6)).astype(np.uint8)
    weight = rng.integers(-127, 127, (6, 2, 3, 3)).astype(np.int8)
    bias = rng.integers(-999, 999, 6).astype(np.int32)
    attributes = {"group": 2, "pads": [1] * 4}
    (y,) = run("conv_integer", x, weight, np.array(7, np.uint8), **attributes)
    real = (torch.tensor(a.astype(np.float64)) for a in (x - 7.0, weight))
    exact = torch.nn.functional.conv2d(*real, padding=1, groups=2).numpy()
    np.testing.assert_array_equal(y, exact)
    w_scale = rng.uniform(0.01, 0.02, 6).astype(np.float32)
    scalars = np.float32(0.1), np.uint8(7)
    (q,) = run(
        "qlinear_conv",
        x,
        *scalars,
        weight,
        w_scale,
        np.zeros(6, np.int8),
        np.float32(0.5),
        np.uint8(100),
        bias,
        **attributes,
    )
    total = (exact + bias[:, None, None]) * (0.1 * w_scale[:, None, None] / 0.5)
    assert np.abs(q - np.clip(np.rint(total) + 100, 0, 255)).max() <= 1


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("quantize_linear", [np.zeros((2, 3)), np.ones(2)], {}),
        ("quantize_linear", [np.zeros((2, 3)), np.ones(3)], {"axis": 2}),
        ("quantize_linear", [np.zeros((2, 3)), np.ones((2, 2))], {"block_size": 1}),
        ("quantize_linear", [np.zeros((2, 3)), np.ones(())], {"output_dtype": "float32"}),
        ("dequantize_linear", [np.zeros((2, 3), np.int8), np.ones(3), np.ones(2)], {}),
        ("conv_integer", [np.zeros((1, 2, 3, 3), np.int8), np.zeros((1, 3, 1, 1), np.int8)], {}),
        ("matmul_integer", [np.zeros((2, 3), np.int8), np.zeros((2, 3), np.int8)], {}),
    ],
)
def test_errors(run: Any, op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    with pytest.raises(CnnrtError, match=f"the_{op}"):
        run(op, *inputs, **attributes)


@pytest.mark.parametrize("shapes", [((), (1,)), ((1,), ()), ((1,), (1,)), ((), ())])
@pytest.mark.parametrize("op", ["quantize_linear", "dequantize_linear"])
def test_one_scale_and_one_zero_point_of_any_shapes(run: Any, op: str, shapes: Any) -> None:
    """Shapes as ONNX Runtime's quantize_static writes them for biases."""
    x = np.arange(-4, 4, dtype=np.int32 if op == "dequantize_linear" else np.float32)
    zero = np.full(shapes[1], 3, x.dtype if op == "dequantize_linear" else np.uint8)
    (y,) = run(op, x, np.full(shapes[0], 0.5, np.float32), zero, axis=0)
    want = (x - 3) * 0.5 if op == "dequantize_linear" else np.maximum(x / 0.5 + 3, 0)
    np.testing.assert_array_equal(y, want)
