"""Networks that ONNX Runtime quantised: its bits, on every tier, and no operator left in floats."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt.graph import Array

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnxruntime.quantization import (  # noqa: E402
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

SHAPE = (1, 3, 34, 30)


class Network:
    """Convolutions of all kinds, residuals, SiLU, gates, pools, a concatenation, a last layer.

    Always the same: ONNX Runtime fuses some pools of int8 and not others, and a mean that ends in
    a half is rounded in two ways. These weights meet none.
    """

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.count = 0

    def constant(self, value: Array) -> str:
        self.count += 1
        self.constants.append(numpy_helper.from_array(value, f"k{self.count}"))
        return f"k{self.count}"

    def add(self, op: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        self.count += 1
        name = to or f"t{self.count}"
        self.nodes.append(
            helper.make_node(op, list(inputs), [name], f"n{self.count}", **attributes)
        )
        return name

    def conv(self, x: str, c: int, m: int, k: int, stride: int = 1, group: int = 1) -> str:
        weight = self.rng.standard_normal((m, c // group, k, k)) / np.sqrt(c // group * k * k)
        names = (self.constant(v.astype("f")) for v in (weight, self.rng.standard_normal(m) * 0.1))
        strides = {"pads": [k // 2] * 4, "strides": [stride] * 2, "group": group}
        return self.add("Conv", x, *names, **strides)

    def silu(self, x: str) -> str:
        return self.add("Mul", x, self.add("Sigmoid", x))

    def model(self) -> Any:
        x = self.add("Relu", self.conv("x", 3, 16, 3, 2))
        y = self.conv(self.add("Relu", self.conv(x, 16, 24, 3)), 24, 16, 1)
        x = self.add("Relu", self.add("Add", y, x))
        x = self.silu(self.conv(x, 16, 32, 1))
        x = self.silu(self.conv(x, 32, 32, 5, 2, 32))
        gate = self.add("GlobalAveragePool", x)
        gate = self.conv(self.silu(self.conv(gate, 32, 8, 1)), 8, 32, 1)
        x = self.add("Mul", x, self.add("Sigmoid", gate))
        low, high = (self.constant(np.float32(v)) for v in (0, 6))
        a = self.add("Clip", self.conv(x, 32, 16, 3, 1, 4), low, high)
        b = self.add("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4)
        x = self.add("Concat", a, b, axis=1)
        x = self.add("AveragePool", self.conv(x, 48, 20, 3), kernel_shape=[2, 2], strides=[2, 2])
        x = self.add("Flatten", self.add("GlobalAveragePool", x))
        weight = self.constant(self.rng.standard_normal((10, 20)).astype("f"))
        x = self.add("Gemm", x, weight, self.constant(np.ones(10, "f")), transB=1, to="y")
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return model


class Photos(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = iter([{"x": image(seed)} for seed in range(4)])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.left, None)


def image(seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


@functools.cache
def quantized(folder: Path, activations: str, per_channel: bool, operators: bool) -> bytes:
    floats, result = folder / "f.onnx", folder / "q.onnx"
    onnx.save(Network().model(), floats)
    quantize_static(
        floats,
        result,
        Photos(),
        quant_format=QuantFormat.QOperator if operators else QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=getattr(QuantType, activations),
        weight_type=QuantType.QInt8,
    )
    return result.read_bytes()


def by_runtime(model: bytes, x: Array) -> Array:
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    result: Array = runtime.InferenceSession(model, options).run(None, {"x": x})[0]
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quantised")


@pytest.mark.parametrize("activations", ["QUInt8", "QInt8"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("operators", [False, True])
def test_static(
    folder: Path,
    activations: str,
    per_channel: bool,
    operators: bool,
    isa_and_overlays: str,
    threads: int,
) -> None:
    model = quantized(folder, activations, per_channel, operators)
    x = image(9)
    graph = cnnrt.load(model).graph
    loaded = cnnrt.Model(graph, isa=isa_and_overlays, threads=threads)
    np.testing.assert_array_equal(loaded(x), by_runtime(model, x))


def test_no_operator_is_left_in_floats(folder: Path) -> None:
    loaded = cnnrt.load(quantized(folder, "QUInt8", True, False))
    steps = [line.split()[1] for line in str(loaded.describe()).splitlines()[1:]]
    assert "reference" not in steps
    assert {"conv_u8", "depthwise_u8", "linear_u8", "byte_pair", "pool_u8"} <= set(steps)
    assert not {"conv", "depthwise", "elementwise", "pointwise", "linear", "pool"} & set(steps)


def test_inner_tensors_keep_their_types(folder: Path) -> None:
    """A tensor that the file has as int8 is int8 to who asks for it."""
    model = quantized(folder, "QInt8", True, False)
    names = [n.output[0] for n in onnx.ModelProto.FromString(model).graph.node
             if n.op_type == "QuantizeLinear"]  # fmt: skip
    loaded, x = cnnrt.load(model), image(3)
    proto = onnx.ModelProto.FromString(model)
    for name in names[2:6]:
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT8, None))
    session = runtime.InferenceSession(proto.SerializeToString(), runtime.SessionOptions())
    for name, want in zip(names[2:6], session.run(names[2:6], {"x": x}), strict=True):
        got = loaded.run(x, outputs=[name])
        assert got.dtype == np.int8
        assert np.abs(got.astype(int) - want.astype(int)).max() <= 1, name


def test_dynamic(folder: Path, isa_and_overlays: str) -> None:
    """Scales and zero points that are computed: integers are exact, floats as in floats."""
    floats, result = folder / "d.onnx", folder / "dq.onnx"
    onnx.save(Network().model(), floats)
    for weights in (QuantType.QUInt8, QuantType.QInt8):
        quantize_dynamic(floats, result, weight_type=weights)
        loaded = cnnrt.Model(cnnrt.load(result).graph, isa=isa_and_overlays)
        want = by_runtime(result.read_bytes(), image(9))
        np.testing.assert_allclose(loaded(image(9)), want, rtol=0, atol=2e-2 * np.abs(want).max())
        assert "reference" not in str(loaded.describe())


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_residual_that_is_added_before_rounding(dtype: Any) -> None:
    """No Q between convolution and addition: one step, equal to floats but for their rounding."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((1, 16, 9, 9)), rng.integers(-127, 128, (16, 16, 3, 3))
    zero = np.array(7, dtype)
    values = {"s": np.float32(0.02), "z": zero, "w": weight.astype(np.int8), "t": np.float32(0.002)}
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "t"], ["v"]),
        helper.make_node("Conv", ["d", "v"], ["c"], pads=[1] * 4),
        helper.make_node("Add", ["c", "d"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    elem = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", elem, x.shape)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    message = model.SerializeToString()
    loaded, image_of = cnnrt.load(message), x.astype(np.float32)
    steps = [line.split()[1] for line in str(loaded.describe()).splitlines()[1:]]
    assert steps.count("conv_u8") == 1
    assert not {"byte_pair", "pointwise", "elementwise"} & set(steps)
    got, want = loaded(image_of).astype(int), by_runtime(message, image_of).astype(int)
    assert np.abs(got - want).max() <= 1
    assert (got != want).mean() < 0.001
