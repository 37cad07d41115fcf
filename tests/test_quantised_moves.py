"""Q and DQ around means and moves of elements: ONNX Runtime's bytes, and nothing left in floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnrt

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

Step = tuple[str, list[Any], dict[str, Any]]
"""An operator, its inputs after the first, and its attributes."""

RNG = np.random.default_rng(7)


def _between(shape: tuple[int, ...], steps: list[Step], dtype: Any, opset: int = 18) -> bytes:
    """Q, DQ, the steps in floats, Q, of an input x."""
    constants = {"s": np.float32(0.02), "t": np.float32(0.013), "z": np.asarray(5, dtype)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    ]
    last = "d"
    for index, (op, others, attributes) in enumerate(steps):
        names = []
        for value in others:
            names.append(f"k{len(constants)}")
            if value.dtype == np.int8:  # a weight
                constants[names[-1]] = value
                names[-1] += "/d"
                nodes.append(
                    helper.make_node("DequantizeLinear", [names[-1][:-2], "t"], names[-1:])
                )
            else:
                constants[names[-1]] = value
        nodes.append(helper.make_node(op, [last, *names], [f"y{index}"], **attributes))
        last = f"y{index}"
    nodes.append(helper.make_node("QuantizeLinear", [last, "t", "z"], ["y"]))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    content: bytes = model.SerializeToString()
    return content


def _ints(*values: int) -> Any:
    return np.array(values, np.int64)


WEIGHT = RNG.integers(-127, 128, (12, 6, 1, 1)).astype(np.int8)
CONV: Step = ("Conv", [WEIGHT], {})

CASES: dict[str, list[Step]] = {
    "mean": [("ReduceMean", [_ints(2, 3)], {})],
    "mean, negative axes": [("ReduceMean", [_ints(-1, -2)], {})],
    "mean without its axes": [("ReduceMean", [_ints(2, 3)], {"keepdims": 0})],
    "mean, flat": [("ReduceMean", [_ints(2, 3)], {}), ("Flatten", [], {})],
    "pool, reshaped": [("GlobalAveragePool", [], {}), ("Reshape", [_ints(2, 6)], {})],
    "convolution, reshaped": [CONV, ("Reshape", [_ints(2, 12, 35)], {})],
    "convolution, transposed": [CONV, ("Relu", [], {}), ("Transpose", [], {"perm": [0, 2, 3, 1]})],
    "moved, then clipped": [CONV, ("Reshape", [_ints(2, -1)], {}), ("Relu", [], {})],
    "twice": [CONV, ("Reshape", [_ints(2, 12, 35)], {}), ("Transpose", [], {"perm": [0, 2, 1]})],
    "sliced": [CONV, ("Slice", [_ints(2), _ints(9), _ints(1)], {})],
}


def by_runtime(model: bytes, x: Any) -> tuple[Any, Any]:
    """The bytes, and the numbers of which they are the nearest."""
    proto = onnx.ModelProto.FromString(model)
    last = proto.graph.node[-1].input[0]
    proto.graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, None))
    alone = runtime.InferenceSession(model, runtime.SessionOptions()).run(None, {"x": x})[0]
    both = runtime.InferenceSession(proto.SerializeToString(), runtime.SessionOptions())
    return alone, both.run([last], {"x": x})[0] / np.float64(np.float32(0.013))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("case", list(CASES))
def test_moves_of_what_is_not_rounded_yet(case: str, dtype: Any, isa_and_overlays: str) -> None:
    model = _between((2, 6, 5, 7), CASES[case], dtype)
    x = RNG.standard_normal((2, 6, 5, 7)).astype(np.float32)
    want, exact = by_runtime(model, x)
    loaded = cnnrt.Model(cnnrt.load(model).graph, isa=isa_and_overlays)
    # A convolution in floats, as there, may round a half the other way.
    off = loaded(x).astype(int) - want
    assert np.abs(off).max() <= 1
    np.testing.assert_allclose(exact[off != 0] % 1, 0.5, atol=1e-4)
    steps = [line.split()[1] for line in str(loaded.describe()).splitlines()[1:]]
    assert not {"reference", "conv", "reduce", "pool", "pointwise", "elementwise"} & set(steps)
    assert steps.count("convert") == 1  # of x


@pytest.mark.parametrize("axes", [(1,), (3,), (1, 2, 3), (0, 2, 3)])
def test_other_means_stay_in_floats(axes: tuple[int, ...]) -> None:
    model = _between((2, 6, 5, 7), [("ReduceMean", [_ints(*axes)], {})], np.uint8)
    x = RNG.standard_normal((2, 6, 5, 7)).astype(np.float32)
    want = runtime.InferenceSession(model, runtime.SessionOptions()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(cnnrt.load(model)(x), want)
