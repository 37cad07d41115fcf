"""model.bin -> ONNX: valid, the same result in onnxruntime, and nothing lost on the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnrt
from checks import Random
from cnnrt import cli
from cnnrt.errors import GraphError, UnsupportedOperator
from cnnrt.formats import read, write_model
from cnnrt.formats.graph_json import graph_to_json
from cnnrt.graph import Graph, Node, TensorSpec
from cnnrt.ops.activation import Activation
from networks import by_reference, network, operator

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from cnnrt.formats.onnx.writer import write_onnx  # noqa: E402

EXAMPLES = Path(__file__).parent.parent / "examples"


def in_onnxruntime(data: bytes, inputs: dict[str, Any]) -> list[Any]:
    onnx.checker.check_model(data, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def check(graph: Graph, inputs: dict[str, Any]) -> bytes:
    """The same in onnxruntime as by the operators' references; returns the file."""
    data = write_onnx(None, graph)
    assert data is not None
    for y, wanted in zip(in_onnxruntime(data, inputs), by_reference(graph, inputs), strict=True):
        assert y.shape == wanted.shape
        scale = np.abs(wanted).max(initial=1)
        np.testing.assert_allclose(y, wanted, atol=1e-5 * scale, rtol=1e-5)
    return data


def same(a: Graph, b: Graph) -> None:
    """Equal, constants bit by bit."""
    assert graph_to_json(a) == graph_to_json(b)
    for name, value in a.constants.items():
        assert np.array_equal(value, b.constants[name], equal_nan=value.dtype.kind == "f")


def network_of(
    inputs: dict[str, Any], constants: dict[str, Any], *nodes: tuple[Any, ...]
) -> tuple[Graph, dict[str, Any]]:
    return network(inputs, constants, *nodes), inputs


def small(random: Random) -> dict[str, tuple[Graph, dict[str, Any]]]:
    """Networks of operators of many families."""
    x, image = random(2, 4, 9, 8), random(1, 3, 12, 12)
    w = random(6, 2, 3, 3)
    norm = [random(4) for _ in range(3)] + [np.abs(random(4)) + 0.5]
    return {
        "conv": operator("conv", x, w, random(6), group=2, pads=[1, 0, 1, 2], strides=[2, 1]),
        "conv_same": operator("conv", x, random(6, 4, 3, 3), auto_pad="SAME_UPPER"),
        "transposed": operator("conv_transpose", x, random(4, 3, 3, 3), strides=[2, 2]),
        "norm": operator("batch_normalization", x, *norm, epsilon=1e-3),
        "layer": operator("layer_normalization", x, random(8), random(8)),
        "max_pool": operator("max_pool", x, kernel_shape=[3, 2], ceil_mode=1, strides=[2, 2]),
        "average_pool": operator("average_pool", x, kernel_shape=[2, 2], pads=[1, 1, 1, 1]),
        "global": operator("global_average_pool", x),
        "clip": operator("clip", x, np.float32(-0.5), np.float32(0.75)),
        "absent": operator("clip", x, None, np.float32(0.75)),
        "gelu": operator("gelu", x, approximate="tanh"),
        "leaky": operator("leaky_relu", x, alpha=0.2),
        "mean": operator("reduce_mean", x, np.array([2, 3]), keepdims=0),
        "sum": operator("reduce_sum", x, axes=[1]),
        "cast": operator("cast", x, to="int32"),
        "resize": operator(
            "resize", image, None, np.array([1, 1, 2, 2], np.float32), mode="linear"
        ),
        "split": operator("split", x, np.array([1, 3]), outputs=2, axis=1),
        "gemm": operator("gemm", random(3, 5), random(4, 5), random(4), transB=1),
        "topk": operator("topk", random(3, 9), np.array([4]), outputs=2),
        "shape": network_of(
            {"x": x},
            {"one": np.array([1])},
            ("s", "shape", "x", {"start": 1, "end": 2}),
            ("d", "concat", "s one", {"axis": 0}),
            ("y", "constant_of_shape", "d", {"value": 2.5, "dtype": "float32"}),
        ),
        "where": network_of(
            {"x": x},
            {"zero": np.float32(0)},
            ("g", "greater", "x zero"),
            ("y", "where", "g x zero"),
        ),
        "lstm": operator(
            "lstm", random(4, 2, 3), random(1, 20, 3), random(1, 20, 5), outputs=1, hidden_size=5
        ),
    }


@pytest.mark.parametrize("name", small(lambda *s: np.zeros(s, np.float32)))
def test_as_in_onnxruntime_and_back(random: Random, name: str) -> None:
    graph, inputs = small(random)[name]
    data = check(graph, inputs)
    again = read(data).graph
    assert [spec.name for spec in again.outputs] == [spec.name for spec in graph.outputs]
    again.outputs = graph.outputs  # whose shapes the test did not state
    if name != "sum":  # axes as an attribute are an input in ONNX
        same(again, graph)


OWN: dict[str, tuple[Any, ...]] = {
    "silu": ("silu", {}),
    "activate": ("activate", {"activation": Activation("elu", 0.5)}),
    "affine": ("activate", {"activation": Activation("affine", 2.0, -1.0)}),
    "adaptive": ("adaptive_average_pool", {"output_size": [2, 3]}),
    "largest": ("adaptive_max_pool", {"output_size": [1, 1]}),
}


@pytest.mark.parametrize("name", OWN)
def test_own_operators_become_those_of_onnx(random: Random, name: str) -> None:
    op, attributes = OWN[name]
    check(*operator(op, random(1, 2, 4, 6), **attributes))


@pytest.mark.parametrize("activation", ["relu", "silu", "clip", "leaky_relu", "gelu_tanh", "selu"])
def test_what_passes_fuse_is_taken_apart(random: Random, activation: str) -> None:
    a = Activation(activation, 0.1, 1.5)
    x, w, r = random(1, 3, 5, 5), random(4, 3, 3, 3), random(1, 4, 3, 3)
    check(*operator("conv", x, w, random(4), r, computed=[3], activation=a))
    scale = random(1, 3, 1, 1)
    check(*operator("conv", x, w, random(4), r, scale, computed=[3, 4], activation=a))
    check(*operator("conv", x, w, None, None, scale, computed=[4], activation=a))
    x, w, r = random(2, 3, 5), random(4, 5), random(2, 3, 4)
    check(*operator("linear", x, w, random(4), r, computed=[3], activation=a))
    check(*operator("linear", x, w, activation=a))


def test_what_onnx_cannot_say(random: Random) -> None:
    x = random(1, 2, 5, 6)
    for graph, _ in (
        operator("adaptive_max_pool", x, output_size=[2, 3]),
        operator("channel_normalization", x, random(2), random(2)),
    ):
        with pytest.raises(UnsupportedOperator, match="ONNX has no such operator"):
            write_onnx(None, graph)
    graph, _ = operator("relu", x)
    graph.nodes.append(Node("relu", "again", ["x0"], ["y0"], {}))
    with pytest.raises(GraphError, match="no valid ONNX model"):
        write_onnx(None, graph)


def test_names_that_are_taken_are_not_made_again(random: Random) -> None:
    graph = network(
        {"x": random(1, 4)},
        {},
        ("y.sigmoid", "relu", "x"),
        ("y", "silu", "y.sigmoid"),
    )
    check(graph, {"x": random(1, 4)})


def test_free_sizes_stay_free(random: Random) -> None:
    graph = network({"x": random(1, 3, 8, 8)}, {"w": random(2, 3, 3, 3)}, ("y", "conv", "x w"))
    graph.inputs = [TensorSpec("x", ("batch", 3, "height", "width"))]
    graph.outputs = [TensorSpec("y", ("batch", 2, "h", "w"))]
    data = write_onnx(None, graph)
    assert data is not None
    x = random(3, 3, 10, 7)
    (y,) = in_onnxruntime(data, {"x": x})
    np.testing.assert_allclose(y, by_reference(graph, {"x": x})[0], rtol=1e-4, atol=1e-5)
    same(read(data).graph, graph)


@pytest.mark.parametrize("name", ["lenet5", "efficientnet_lite0"])
def test_examples(tmp_path: Path, capsys: Any, random: Random, name: str) -> None:
    source = EXAMPLES / f"{name}.bin"
    there, back = tmp_path / "other.onnx", tmp_path / "back.bin"
    assert cli.main(["convert", str(source), str(there)]) == 0
    half = ["--float16"] if name == "efficientnet_lite0" else []  # as its weights are stored
    assert cli.main(["convert", str(there), str(back), *half]) == 0
    assert "wrote" in capsys.readouterr().out
    model = cnnrt.load(source, threads=1)
    shape = [d if isinstance(d, int) else 2 for d in model.inputs[0].shape]
    x = random(*shape)
    (y,) = in_onnxruntime(there.read_bytes(), {model.inputs[0].name: x})
    wanted = model(x)
    np.testing.assert_allclose(y, wanted, atol=1e-5 * np.abs(wanted).max())
    first, last = read(source), read(back)
    same(first.graph, last.graph)
    assert (first.preprocessing, first.labels) == (last.preprocessing, last.labels)
    assert first.metadata.get("notice") == last.metadata.get("notice")
    assert back.read_bytes() == _rewritten(source)


def _rewritten(path: Path) -> bytes:
    document = read(path)
    data = write_model(
        None,
        document.graph,
        preprocessing=document.preprocessing,
        labels=document.labels,
        notice=document.metadata.get("notice"),
    )
    assert data is not None
    return data


def test_metadata_of_others_and_damaged_metadata(random: Random) -> None:
    graph, _ = operator("relu", random(1, 2))
    proto = onnx.ModelProto.FromString(write_onnx(None, graph, labels=["a", "b"]))
    proto.metadata_props.add(key="author", value="somebody")
    document = read(proto.SerializeToString())
    assert document.labels == ["a", "b"]
    assert document.metadata["author"] == "somebody"
    proto.metadata_props[0].value = "{"
    with pytest.raises(cnnrt.FormatError, match="labels"):
        read(proto.SerializeToString())
