"""Inputs that have a default, and inputs whose rank nobody states."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt import cli
from cnnrt.errors import FormatError, ShapeError
from cnnrt.formats import write_model
from cnnrt.formats.graph_json import graph_from_json, graph_to_json

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

X = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)


def proto(
    nodes: list[Any], shape: Any, constants: dict[str, Any], listed: list[str], ir: int = 8
) -> Any:
    """A model from x to y; the constants `listed` are inputs too."""
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    for name in listed:
        kind = helper.np_dtype_to_tensor_dtype(arrays[name].dtype)
        inputs.append(helper.make_tensor_value_info(name, kind, arrays[name].shape))
    graph = helper.make_graph(
        nodes,
        "g",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=ir)


def convolution(ir: int = 8) -> Any:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    constants = {"w": WEIGHT, "b": np.zeros(2, np.float32)}
    return proto(nodes, ["n", 3, 2, 2], constants, ["w", "b"], ir)


def expected(w: Any, b: Any) -> Any:
    return np.maximum(np.einsum("nchw,mc->nmhw", X, w[..., 0, 0]) + b[:, None, None], 0)


def test_defaults_and_other_values() -> None:
    model = cnnrt.load(convolution())
    assert [spec.name for spec in model.inputs] == ["x"]
    assert [(s.name, s.shape) for s in model.optional_inputs] == [("w", (2, 3, 1, 1)), ("b", (2,))]
    w, b, zero = -WEIGHT + 2, np.float32([5, -900]), np.zeros(2)
    np.testing.assert_allclose(model(X), expected(WEIGHT, zero))
    for _ in range(2):  # plans are kept
        np.testing.assert_allclose(model({"x": X, "w": w}), expected(w, zero))
        np.testing.assert_allclose(model({"x": X, "b": b}), expected(WEIGHT, b))
        np.testing.assert_allclose(model({"x": X, "b": b, "w": w}), expected(w, b))
        np.testing.assert_allclose(model({"x": X}), expected(WEIGHT, zero))
    inner = model.run({"x": X, "b": b}, outputs=["c"])
    np.testing.assert_allclose(np.maximum(inner, 0), expected(WEIGHT, b))


def test_their_shapes_are_checked() -> None:
    model = cnnrt.load(convolution())
    with pytest.raises(ShapeError, match=r"input 'b' takes shape \(2,\), not \(3,\)"):
        model({"x": X, "b": np.zeros(3, np.float32)})
    with pytest.raises(ShapeError, match="unknown"):
        model({"x": X, "c": X})
    with pytest.raises(ShapeError, match="missing"):
        model({"b": np.zeros(2, np.float32)})


def test_initialisers_of_early_files_are_constants() -> None:
    model = cnnrt.load(convolution(ir=3))
    assert not model.optional_inputs
    np.testing.assert_allclose(model(X), expected(WEIGHT, np.zeros(2)))
    with pytest.raises(ShapeError, match="unknown"):
        model({"x": X, "w": WEIGHT})


def test_they_are_kept_in_files(tmp_path: Path) -> None:
    model = cnnrt.load(convolution())
    b = np.float32([5, -900])
    path = tmp_path / "model.bin"
    write_model(path, model.graph)
    written = tmp_path / "model.onnx"
    assert cli.main(["convert", str(path), str(written)]) == 0
    for other in (cnnrt.load(path), cnnrt.load(written), pickle.loads(pickle.dumps(model))):
        assert [spec.name for spec in other.optional_inputs] == ["w", "b"]
        np.testing.assert_allclose(other({"x": X, "b": b}), expected(WEIGHT, b))
    document = graph_to_json(model.graph)
    for names in (["q", "b"], ["w", "w"]):
        for entry, name in zip(document["optional_inputs"], names, strict=True):
            entry["name"] = name
        with pytest.raises(FormatError, match="optional_inputs are no constants"):
            graph_from_json(document, "model")


def test_values_that_reading_the_file_has_used_up_are_constants() -> None:
    nodes = [
        helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=1),
    ]
    model = proto(nodes, [2, 3, 2, 2], {"s": np.ones(1, "f"), "b": np.ones(1, "f")}, ["s", "b"])
    model.opset_import[0].version = 18
    loaded = cnnrt.load(model)
    with pytest.raises(ShapeError, match="unknown"):
        loaded({"x": X, "s": np.ones(1, np.float32)})


# Any rank ----------------------------------------------------------------------------------------


def test_inputs_without_a_shape() -> None:
    relu = cnnrt.load(proto([helper.make_node("Relu", ["x"], ["y"])], None, {}, []))
    for shape in ((), (3,), (2, 0), (2, 3, 4, 5), (1, 2, 3, 4, 5, 6)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        np.testing.assert_array_equal(relu(x), np.maximum(x, 0))
    conv = cnnrt.load(proto([helper.make_node("Conv", ["x", "w"], ["y"])], None, {"w": WEIGHT}, []))
    for images in (X, X[:1, :, :1], X[:0]):
        want = np.einsum("nchw,mc->nmhw", images, WEIGHT[..., 0, 0])
        np.testing.assert_allclose(conv(images), want)
    with pytest.raises(ShapeError, match="same rank"):
        conv(X[0])


def test_what_is_said_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = cnnrt.load(proto([helper.make_node("Relu", ["x"], ["y"])], None, {}, []))
    (spec,) = model.inputs
    assert spec.shape == ("...",)
    for ask in (model.describe, model.summary):
        with pytest.raises(ShapeError, match="give it"):
            ask()
    assert "elementwise" in model.describe(X)
    assert model.summary((2, 3)).inputs == {"x": (2, 3)}
    path = tmp_path / "model.bin"
    write_model(path, model.graph)
    assert cnnrt.load(path).inputs == [spec]
    assert cli.main(["check", str(path)]) == 0
    assert cli.main(["check", str(path), "--input", "1x3x8x8"]) == 0
    assert cli.main(["convert", str(path), str(tmp_path / "model.onnx")]) == 1
    assert "takes any rank" in capsys.readouterr().err
