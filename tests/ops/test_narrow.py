"""Dtypes that NumPy does not have, against the package ml_dtypes and by definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt.formats.onnx.importer import read_onnx
from cnnrt.ops.narrow import NARROW

ml_dtypes = pytest.importorskip("ml_dtypes")
onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

CODES = {
    "float8_e4m3fn": TensorProto.FLOAT8E4M3FN,
    "float8_e4m3fnuz": TensorProto.FLOAT8E4M3FNUZ,
    "float8_e5m2": TensorProto.FLOAT8E5M2,
    "float8_e5m2fnuz": TensorProto.FLOAT8E5M2FNUZ,
    "float8_e8m0fnu": TensorProto.FLOAT8E8M0,
    "float4_e2m1fn": TensorProto.FLOAT4E2M1,
    "int4": TensorProto.INT4,
    "uint4": TensorProto.UINT4,
    "int2": TensorProto.INT2,
    "uint2": TensorProto.UINT2,
}
FLOATS = [name for name in CODES if name.startswith("float") and "e8m0" not in name]
INTEGERS = [name for name in CODES if "int" in name]


def values() -> Any:
    """Every float16, which holds all small floats and what is between any two of them."""
    found = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    return np.concatenate([found, np.float32([1e30, -1e30, 5e-30])])


@pytest.mark.parametrize("name", FLOATS)
def test_floats_without_saturation(name: str) -> None:
    x = values() if name != "float4_e2m1fn" else values()[np.isfinite(values())]
    with np.errstate(all="ignore"):
        want = x.astype(getattr(ml_dtypes, name)).astype(np.float32)
    got = NARROW[name].cast(x, saturate=False)
    np.testing.assert_array_equal(got, want)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(np.signbit(got[finite]), np.signbit(want[finite]))


@pytest.mark.parametrize("name", FLOATS)
def test_floats_with_saturation(name: str) -> None:
    x = values()[~np.isnan(values())]
    limit = float(ml_dtypes.finfo(getattr(ml_dtypes, name)).max)
    want = np.clip(x, -limit, limit).astype(getattr(ml_dtypes, name)).astype(np.float32)
    np.testing.assert_array_equal(NARROW[name].cast(x), want)
    if name != "float4_e2m1fn":
        assert np.isnan(NARROW[name].cast(np.float32([np.nan]))).all()


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
def test_powers_of_two(mode: str) -> None:
    x = np.float32([1, 1.25, 1.5, 1.75, 2, 3, 5, 6, 7, 1e38, 0.3])
    got = NARROW["float8_e8m0fnu"].cast(x, round_mode=mode)
    low = 2.0 ** np.floor(np.log2(x.astype(np.float64)))
    ratio = x / low
    up = {"up": ratio > 1, "down": ratio < 0, "nearest": ratio >= 1.5}[mode]
    np.testing.assert_array_equal(got, np.where(up, 2 * low, low))
    assert np.isnan(NARROW["float8_e8m0fnu"].cast(np.float32([np.nan, np.inf]))).all()


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name: str) -> None:
    x = np.concatenate([np.arange(-40, 40), [3.7, -3.7, 1.5]]).astype(np.float32)
    want = x.astype(np.int64).astype(getattr(ml_dtypes, name)).astype(np.int64)
    np.testing.assert_array_equal(NARROW[name].cast(x), want)
    info = ml_dtypes.iinfo(getattr(ml_dtypes, name))
    rounded = np.clip(np.rint(x), int(info.min), int(info.max))
    np.testing.assert_array_equal(NARROW[name].quantize(x), rounded)


# In files ----------------------------------------------------------------------------------------


def model(nodes: list[Any], constants: list[Any], x: tuple[int, ...]) -> Any:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    opsets = [helper.make_opsetid("", 25)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=12)


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("size", [(3, 5), (40, 301)])
@pytest.mark.parametrize("external", [False, True])
def test_weights(name: str, size: tuple[int, int], external: bool, tmp_path: Any) -> None:
    """Packed in all ways, and multiplied by blocks of scales."""
    wide = np.random.default_rng(0).uniform(-3, 3, size).astype(np.float32)
    weight = wide.astype(getattr(ml_dtypes, name))
    tensor = onnx.numpy_helper.from_array(weight, "w")
    assert tensor.data_type == CODES[name]
    scales = np.linspace(0.5, 2, size[0] * -(-size[1] // 2), dtype=np.float32)
    scale = onnx.numpy_helper.from_array(scales.reshape(size[0], -1), "s")
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=1, block_size=2),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    proto = model(nodes, [tensor, scale], (2, size[0]))
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=external, size_threshold=0, location="data")
    x = np.random.default_rng(1).standard_normal((2, size[0]), dtype=np.float32)
    spread = np.repeat(scales.reshape(size[0], -1), 2, axis=1)[:, : size[1]]
    want = x @ (weight.astype(np.float32) * spread)
    for source in (path, *([] if external else [path.read_bytes()])):
        np.testing.assert_allclose(cnnrt.load(source)(x), want, rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize("name", [*FLOATS, *INTEGERS])
def test_quantised_there_and_back(name: str) -> None:
    zero = 0 if name in FLOATS else 1
    constants = [
        onnx.numpy_helper.from_array(np.array(zero).astype(getattr(ml_dtypes, name)), "z"),
        onnx.numpy_helper.from_array(np.float32(0.5), "s"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    x = np.linspace(-9, 9, 200, dtype=np.float32)
    want = (NARROW[name].quantize(x / np.float32(0.5) + zero).astype(np.float32) - zero) * 0.5
    if name in INTEGERS:
        rounded = np.rint(x / np.float32(0.5)) + zero
        want = (NARROW[name].quantize(rounded).astype(np.float32) - zero) * 0.5
    np.testing.assert_array_equal(cnnrt.load(model(nodes, constants, (200,)))(x), want)


@pytest.mark.parametrize("name", ["bfloat16", *CODES])
def test_casts_are_not_left_out(name: str) -> None:
    """Casts count even if carrier and float32 are one dtype."""
    code = {"bfloat16": TensorProto.BFLOAT16, **CODES}[name]
    nodes = [
        helper.make_node("Cast", ["x"], ["n"], to=code),
        helper.make_node("Cast", ["n"], ["y"], to=TensorProto.FLOAT),
    ]
    x = np.random.default_rng(0).uniform(0.6, 3.9, 64).astype(np.float32)
    want = NARROW[name].cast(x).astype(np.float32)
    assert not np.array_equal(want, x)
    proto = model(nodes, [], (64,))
    assert read_onnx(proto).nodes[0].attributes["to"] == name
    np.testing.assert_array_equal(cnnrt.load(proto)(x), want)
