"""ONNX -> Graph: names, attributes, constants, older opsets, damaged files, PyTorch."""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnrt import ops
from cnnrt.errors import CnnrtError, FormatError, UnsupportedOperator
from cnnrt.formats import read
from cnnrt.graph import Graph, TensorSpec

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import cnnrt  # noqa: E402
from cnnrt.formats.onnx.importer import read_onnx  # noqa: E402
from cnnrt.formats.onnx.names import SCOPES_KEY  # noqa: E402
from cnnrt.formats.onnx.operator_names import snake_case  # noqa: E402
from cnnrt.formats.onnx.tensors import DTYPES  # noqa: E402

FLOAT = TensorProto.FLOAT


def model(
    nodes: list[Any],
    x: tuple[Any, ...] = (1, 4),
    opset: int = 24,
    constants: dict[str, Any] | None = None,
    outputs: tuple[str, ...] = ("y",),
) -> Any:
    """A ModelProto of nodes from x to the outputs, which are of unknown shape."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", FLOAT, x)],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(
    op: str, inputs: str, outputs: str = "y", scopes: list[str] | None = None, **rest: Any
) -> Any:
    """A node; names of inputs and outputs are separated by spaces, "-" is an absent one."""
    names = [[n if n != "-" else "" for n in text.split()] for text in (inputs, outputs)]
    made = helper.make_node(op, *names, **rest)
    if scopes:
        made.metadata_props.add(key=SCOPES_KEY, value=repr(scopes))
    return made


def evaluate(graph: Graph, **values: Any) -> list[Any]:
    """The outputs of a graph, by the operators' references."""
    known = {**graph.constants, **values}
    for one in graph.nodes:
        found = ops.op(one).reference(one, *(known[n] if n else None for n in one.inputs))
        known.update(zip(one.outputs, found, strict=False))
    return [known[spec.name] for spec in graph.outputs]


def assert_like_runtime(proto: Any, x: Any) -> Graph:
    """Checks a graph's result against ONNX Runtime's; returns the graph."""
    runtime = pytest.importorskip("onnxruntime")
    graph = read_onnx(proto)
    (found,) = evaluate(graph, x=x)
    session = runtime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (expected,) = session.run(None, {"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    return graph


# Names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("onnx_name", "name"),
    [
        ("Conv", "conv"),
        ("BatchNormalization", "batch_normalization"),
        ("LRN", "lrn"),
        ("LSTM", "lstm"),
        ("ReduceL1", "reduce_l1"),
        ("ReduceLogSumExp", "reduce_log_sum_exp"),
        ("PRelu", "prelu"),
        ("MatMul", "matmul"),
        ("MatMulInteger", "matmul_integer"),
        ("TopK", "topk"),
        ("ArgMax", "argmax"),
        ("GatherND", "gather_nd"),
        ("IsNaN", "is_nan"),
        ("RMSNormalization", "rms_normalization"),
        ("SpaceToDepth", "space_to_depth"),
    ],
)
def test_snake_case(onnx_name: str, name: str) -> None:
    assert snake_case(onnx_name) == name


def test_every_operator_is_named_as_in_onnx() -> None:
    known = {snake_case(s.name) for s in onnx.defs.get_all_schemas() if s.domain == ""}
    own = {"activate", "linear", "silu", "adaptive_average_pool", "adaptive_max_pool"}
    own |= {"channel_normalization", "interleave", "inverse", "qlinear_add", "qlinear_mul"}
    own |= {"pointwise", "qlinear_average_pool", "qlinear_global_average_pool", "qlinear_softmax"}
    own |= {"qadd", "qaverage_pool", "qconv", "qglobal_average_pool", "qlinear", "qmul", "table"}
    strangers = set(ops.OPS) - known - own
    assert not strangers, f"neither ONNX's nor listed as cnnrt's own: {strangers}"


def names_of(graph: Graph) -> list[str]:
    return [one.name for one in graph.nodes]


def test_names_of_modules() -> None:
    graph = read_onnx(
        model(
            [
                node("Relu", "x", "relu", ["", "block", "block.relu", "relu"]),
                node("Relu", "relu", "relu_1", ["", "block", "block.relu", "relu_1"]),
                node("Sigmoid", "relu_1", "val_7", ["", "block", "block.act", "silu"]),
                node("Mul", "relu_1 val_7", "silu", ["", "block", "block.act", "silu"]),
                node("Add", "silu x", "add", ["", "block", "add"]),
                node("Add", "add x", "add_1", ["", "block", "add_1"]),
                node("Exp", "add_1", "e", ["", "mish", "softplus"]),
                node("Tanh", "e", "t", ["", "mish", "tanh"]),
                node("Relu", "t", "relu_2", ["", "block", "block.relu", "relu_2"]),
                node("Neg", "relu_2", "plain"),
                node("Flatten", "plain", "y", ["", "flatten"]),
            ]
        )
    )
    assert names_of(graph) == [
        "block.relu",
        "block.relu_1",
        "block.act.sigmoid",
        "block.act",
        "block.add",
        "block.add_1",
        "mish.exp",
        "mish",
        "block.relu_2",
        "plain",
        "flatten",
        "y",  # an identity: the graph's output keeps its name
    ]
    assert graph.nodes[-1].op == "identity"
    assert [one.outputs[0] for one in graph.nodes] == names_of(graph)
    assert [spec.name for spec in graph.outputs] == ["y"]


def test_an_output_that_has_its_modules_name() -> None:
    graph = read_onnx(model([node("Relu", "x", "fc", ["", "fc", "relu"])], outputs=("fc",)))
    assert [str(one) for one in graph.nodes] == ["fc = relu(x)"]


def test_names_that_are_taken() -> None:
    graph = read_onnx(
        model(
            [
                node("Relu", "x", "a", ["", "x", "relu"]),  # as the input
                node("Relu", "a", "b", ["", "y", "relu_1"]),  # as the output
                node("Add", "b w", "c", ["", "w", "add"]),  # as a constant
                node("Relu", "c", "w_1"),  # not from a module: stays
                node("Relu", "w_1", "y", ["", "last", "relu_2"]),
            ],
            constants={"w": np.ones(4, np.float32)},
        )
    )
    assert names_of(graph) == ["x_1", "y_1", "w_2", "w_1", "last", "y"]
    np.testing.assert_array_equal(evaluate(graph, x=np.float32([[0, 1, 2, -1]])), [[[1, 2, 3, 1]]])


def test_several_outputs_of_a_module() -> None:
    split = node("Split", "x", "a b", ["", "chunk", "split"], num_outputs=2)
    graph = read_onnx(model([split, node("Concat", "b a", axis=1)]))
    assert graph.nodes[0].outputs == ["chunk", "chunk.1"]
    assert graph.nodes[1].inputs == ["chunk.1", "chunk"]


@pytest.mark.parametrize("scopes", ["[", "7", "['']", "[1, 2]", "['', '']", "(" * 300, "['', x]"])
def test_scopes_that_are_none(scopes: str) -> None:
    relu = node("Relu", "x")
    relu.metadata_props.add(key=SCOPES_KEY, value=scopes)
    relu.name = "own"
    assert names_of(read_onnx(model([relu]))) == ["own"]


def test_names_of_other_exporters() -> None:
    relu = node("Relu", "x", "/features/relu_output")
    relu.name = "/features/relu"
    graph = read_onnx(model([relu, node("Relu", "/features/relu_output")]))
    assert names_of(graph) == ["/features/relu", "y"]
    assert graph.nodes[0].outputs == ["/features/relu_output"]


# Inputs, outputs, constants, attributes ---------------------------------------------------------


def test_free_sizes() -> None:
    graph = read_onnx(model([node("Relu", "x")], x=("batch", 3, None, 0)))
    assert graph.inputs == [TensorSpec("x", ("batch", 3, "x_2", "x_3"))]
    assert graph.outputs[0].shape[:2] == ("batch", 3)  # inferred, for want of a note


def test_initialisers_among_the_inputs() -> None:
    proto = model([node("Add", "x w")], constants={"w": np.float32([1])})
    proto.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [1]))
    assert [spec.name for spec in read_onnx(proto).inputs] == ["x"]


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ({"value": numpy_helper.from_array(np.array([[1, 2]]))}, np.array([[1, 2]])),
        ({"value_float": 0.5}, np.array(0.5, np.float32)),
        ({"value_floats": [0.5, 1]}, np.array([0.5, 1], np.float32)),
        ({"value_int": 7}, np.array(7)),
        ({"value_ints": [7]}, np.array([7])),
    ],
    ids=str,
)
def test_constants(attribute: dict[str, Any], expected: Any) -> None:
    graph = read_onnx(model([node("Constant", "", "c", **attribute), node("Cast", "c", to=1)]))
    np.testing.assert_array_equal(graph.constants["c"], expected, strict=True)
    assert [one.op for one in graph.nodes] == ["cast"]


def test_attributes() -> None:
    value = numpy_helper.from_array(np.array([3], np.int64))
    graph = read_onnx(
        model(
            [
                node("ConstantOfShape", "shape", "fill", value=value),
                node("Cast", "fill", "cast", to=TensorProto.FLOAT16),
                node("LeakyRelu", "x", "leaky", alpha=0.1),
                node("Cast", "cast", to=FLOAT),
            ],
            constants={"shape": np.array([2])},
        )
    )
    fill, cast, leaky, _ = graph.nodes
    assert (fill["value"], fill["dtype"]) == (3, "int64")
    assert cast["to"] == "float16"
    assert leaky["alpha"] == 0.1


def test_every_dtype_of_tensors() -> None:
    arrays = {dtype: np.array([0, 1], dtype) for dtype in DTYPES.values()}
    proto = model([node("Relu", "x")], constants=arrays)
    typed = helper.make_tensor("typed", TensorProto.FLOAT16, [2], np.float16([1, 2]))
    proto.graph.initializer.append(typed)  # in a typed field, not as raw bytes
    constants = read_onnx(proto).constants
    for dtype, array in arrays.items():
        np.testing.assert_array_equal(constants[dtype], array, strict=True)
    np.testing.assert_array_equal(constants["typed"], np.float16([1, 2]), strict=True)


# External data ----------------------------------------------------------------------------------


def external(folder: Path, location: str, **more: str) -> Path:
    """A model in `folder` whose weight of 4 floats is said to be at `location`."""
    proto = model([node("Add", "x w")], constants={"w": np.float32([1, 2, 3, 4])})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w").write_bytes(b"1234" + np.float32([1, 2, 3, 4]).tobytes() + b"5")
    path = external(tmp_path, "data/w", offset="4", length="16")
    np.testing.assert_array_equal(read(path).graph.constants["w"], [1, 2, 3, 4])
    with pytest.raises(FormatError, match="by its path"):
        read(path.read_bytes())


@pytest.mark.parametrize(
    "location",
    [
        "/etc/hostname",
        "../secret",
        "data/../../secret",
        "..\\secret",
        "C:\\secret",
        "",
        "link",
        "\0",
    ],
)
def test_external_data_elsewhere(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(bytes(16))
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(FormatError, match=r"outside of the model's folder|cannot be read"):
        read(external(folder, location))


@pytest.mark.parametrize(
    "fields",
    [
        {"offset": "8"},
        {"offset": "-1"},
        {"length": "8"},
        {"length": "x"},
        {"offset": str(2**80)},
        {"offset": "1" * 5000},
    ],
)
def test_external_data_of_another_size(fields: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(bytes(16))
    with pytest.raises(FormatError, match=r"external data|cannot be read"):
        read(external(tmp_path, "w", **fields))


def test_links_into_a_store(tmp_path: Path) -> None:
    """Links as in Hugging Face's cache, which links models and data into one store."""
    store, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    store.mkdir()
    snapshot.mkdir(parents=True)
    (store / "2222").write_bytes(np.float32([1, 2, 3, 4]).tobytes())
    external(store, "model.onnx_data").rename(store / "1111")
    (snapshot / "model.onnx").symlink_to("../../blobs/1111")
    (snapshot / "model.onnx_data").symlink_to("../../blobs/2222")
    found = read(snapshot / "model.onnx").graph.constants["w"]
    np.testing.assert_array_equal(found, [1, 2, 3, 4])
    (tmp_path / "secret").write_bytes(bytes(16))
    (snapshot / "model.onnx_data").unlink()
    (snapshot / "model.onnx_data").symlink_to(tmp_path / "secret")
    with pytest.raises(FormatError, match="outside of the model's folder"):
        read(snapshot / "model.onnx")


# Older opsets -----------------------------------------------------------------------------------

IMAGE = (1, 2, 4, 4)
X = np.random.default_rng(0).standard_normal(IMAGE).astype(np.float32)
PART = {"l": np.array([3, 1])}

OLDER: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    ("clip", 7, [node("Clip", "x", min=-0.5, max=0.25)], {}),
    ("clip_above", 10, [node("Clip", "x", max=0.25)], {}),
    ("dropout", 7, [node("Dropout", "x", ratio=0.3)], {}),
    ("hardmax", 11, [node("Hardmax", "x", axis=2)], {}),
    ("softmax", 11, [node("Softmax", "x")], {}),
    ("softmax_last", 11, [node("Softmax", "x", axis=3)], {}),
    ("log_softmax", 12, [node("LogSoftmax", "x", axis=-2)], {}),
    ("pad", 10, [node("Pad", "x", pads=[0, 0, 1, 2, 0, 0, 0, 1], value=3.0)], {}),
    ("reduce_mean", 13, [node("ReduceMean", "x", axes=[2, 3])], {}),
    ("reduce_sum", 11, [node("ReduceSum", "x", axes=[1], keepdims=0)], {}),
    ("reduce_l2", 17, [node("ReduceL2", "x")], {}),
    ("slice", 9, [node("Slice", "x", starts=[1, 0], ends=[3, 9], axes=[2, 3])], {}),
    ("slice_all", 9, [node("Slice", "x", starts=[0, 1], ends=[1, 2])], {}),
    ("split", 11, [node("Split", "x", "a b", axis=2, split=[1, 3]), node("Relu", "b")], {}),
    ("split_equal", 13, [node("Split", "x", "a b", axis=2), node("Sub", "a b")], {}),
    ("split_input", 13, [node("Split", "x l", "y b", axis=2)], PART),
    ("squeeze", 11, [node("Squeeze", "x", axes=[0])], {}),
    ("unsqueeze", 12, [node("Unsqueeze", "x", axes=[0, 5])], {}),
    ("topk", 9, [node("TopK", "x", "y i", axis=3, k=2)], {}),
]


@pytest.mark.parametrize(
    ("opset", "nodes", "constants"), [c[1:] for c in OLDER], ids=[c[0] for c in OLDER]
)
def test_older_opsets(opset: int, nodes: list[Any], constants: dict[str, Any]) -> None:
    assert_like_runtime(model(nodes, IMAGE, opset, constants), X)


def test_softmax_of_unknown_rank() -> None:
    proto = model(
        [node("Reshape", "x s", "r"), node("Softmax", "r", axis=1)],
        (24,),
        11,
        {"s": np.array([2, 3, 4])},
    )
    proto.graph.initializer.pop()
    proto.graph.input.append(helper.make_tensor_value_info("s", TensorProto.INT64, ["n"]))
    graph = read_onnx(proto)
    assert [one.op for one in graph.nodes] == ["reshape", "flatten", "softmax", "shape", "reshape"]
    x = np.arange(24, dtype=np.float32)
    (y,) = evaluate(graph, x=x, s=np.array([2, 3, 4]))
    np.testing.assert_allclose(y.reshape(2, 12).sum(1), 1, rtol=1e-6)
    assert y.shape == (2, 3, 4)


def scales() -> dict[str, Any]:
    return {"s": np.float32([1, 1, 2, 2])}


@pytest.mark.parametrize(
    ("opset", "nodes", "constants"),
    [
        (7, [node("Upsample", "x", scales=[1.0, 1.0, 2.0, 2.0])], {}),
        (9, [node("Upsample", "x s", mode="linear")], scales()),
        (10, [node("Resize", "x s")], scales()),
    ],
    ids=["upsample7", "upsample9", "resize10"],
)
def test_resize_before_opset_11(opset: int, nodes: list[Any], constants: dict[str, Any]) -> None:
    (resize,) = read_onnx(model(nodes, IMAGE, opset, constants)).nodes
    assert resize.op == "resize"
    assert resize.inputs[:2] == ["x", ""]
    assert resize["coordinate_transformation_mode"] == "asymmetric"
    assert resize["nearest_mode"] == "floor"


def test_resize_with_empty_inputs() -> None:
    empty = {"roi": np.float32([]), "s": np.float32([]), "sizes": np.array([1, 2, 8, 8])}
    (resize,) = read_onnx(model([node("Resize", "x roi s sizes")], IMAGE, 11, empty)).nodes
    assert resize.inputs == ["x", "", "", "sizes"]


def test_batch_normalization() -> None:
    constants = {n: np.float32([1, 2]) for n in ("scale", "bias", "mean", "var")}
    for opset, more in ((7, {}), (9, {"momentum": 0.5}), (15, {"training_mode": 0})):
        batch_norm = node("BatchNormalization", "x scale bias mean var", epsilon=1e-3, **more)
        assert_like_runtime(model([batch_norm], IMAGE, max(opset, 9), constants), X)
    before = helper.make_node(
        "BatchNormalization", ["x", "scale", "bias", "mean", "var"], list("yz")
    )
    with pytest.raises(UnsupportedOperator, match="evaluation mode"):
        read_onnx(model([before], IMAGE, 9, constants))


def test_group_normalization_per_group() -> None:
    constants = {"scale": np.float32([2]), "bias": np.float32([1])}
    proto = model([node("GroupNormalization", "x scale bias", num_groups=1)], IMAGE, 18, constants)
    (normalization,) = read_onnx(proto).nodes
    graph = read_onnx(proto)
    assert [graph.constants[n].tolist() for n in normalization.inputs[1:]] == [[2, 2], [1, 1]]


@pytest.mark.parametrize(
    ("nodes", "constant", "expected"),
    [
        (node("Add", "x c", broadcast=1, axis=1), [1, 2], X + np.float32([[[1]], [[2]]])),
        (node("Mul", "x c", broadcast=1), [1, 2, 3, 4], X * np.float32([1, 2, 3, 4])),
        (node("PRelu", "x c"), [1, 2], np.where(X < 0, X * np.float32([[[1]], [[2]]]), X)),
        (node("Reshape", "x", shape=[2, 16]), [], X.reshape(2, 16)),
        (node("Dropout", "x", is_test=1, consumed_inputs=[0]), [], X),
        (node("Concat", "x x"), [], np.concatenate([X, X], axis=1)),
    ],
    ids=lambda value: getattr(value, "op_type", ""),
)
def test_opsets_before_7(nodes: Any, constant: list[float], expected: Any) -> None:
    opset = {"Reshape": 4, "Dropout": 5, "Concat": 3}.get(nodes.op_type, 6)
    graph = read_onnx(model([nodes], IMAGE, opset, {"c": np.float32(constant)}))
    (y,) = evaluate(graph, x=X)
    np.testing.assert_array_equal(y, expected)


def test_old_batch_normalization_is_that_of_inference() -> None:
    constants = {n: np.float32([1, 2]) for n in "abcd"}
    for is_test in (0, 1):
        proto = model(
            [node("BatchNormalization", "x a b c d", is_test=is_test)], IMAGE, 6, constants
        )
        if is_test:
            assert [one.op for one in read_onnx(proto).nodes] == ["batch_normalization"]
        else:
            with pytest.raises(UnsupportedOperator, match="evaluation mode"):
                read_onnx(proto)


# What cnnrt does not run, and what is no model --------------------------------------------------


def test_all_unsupported_nodes_are_listed() -> None:
    proto = model(
        [
            node("Relu", "x", "a", ["", "fine", "relu"]),
            node("RegexFullMatch", "a", "b", ["", "head", "head.text", "text"]),
            node("Odd", "b x", "c", domain="com.example"),
            node("StringSplit", "c", "y z"),
        ],
        x=(4, 4),
    )
    proto.opset_import.add(domain="com.example", version=1)
    with pytest.raises(UnsupportedOperator) as raised:
        read_onnx(proto)
    lines = str(raised.value).splitlines()
    assert lines[0].endswith("does not run 3 of its 4 nodes:")
    layer = "node 'b' of layer 'head.text'"
    assert lines[1].strip() == f"RegexFullMatch ({layer}; inputs a: [4, 4])"
    assert lines[2].strip().startswith("com.example.Odd (node 'c'; inputs b: ")
    assert lines[3].strip().startswith("StringSplit (node 'y'")


def test_unsupported_attributes() -> None:
    with pytest.raises(UnsupportedOperator, match="does not have the attribute 'speed'"):
        read_onnx(model([node("Relu", "x", speed=9)]))
    with pytest.raises(UnsupportedOperator, match=r"data type 14 \(complex64\)"):
        read_onnx(model([node("Cast", "x", to=TensorProto.COMPLEX64)]))


def test_bfloat16_is_read_as_float32(tmp_path: Path) -> None:
    values = np.float32([1, -2.5, 2**100, 1 + 2**-7])
    tensor = helper.make_tensor("w", TensorProto.BFLOAT16, [4], values)
    proto = model([node("Add", "x w", "a"), node("Cast", "a", to=TensorProto.BFLOAT16)])
    proto.graph.initializer.append(tensor)
    graph = read_onnx(proto)
    np.testing.assert_array_equal(graph.constants["w"], values)
    x = np.float32([[0, 2**-9, np.nan, 2**-8]])
    # Rounded to even: 1 + 2^-7 + 2^-8 lies between two numbers of bfloat16.
    (y,) = evaluate(graph, x=x)
    np.testing.assert_array_equal(y, np.float32([[1, -2.5, np.nan, 1 + 2**-6]]))
    assert y.dtype == np.float32
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, size_threshold=0)
    np.testing.assert_array_equal(read_onnx(path).constants["w"], graph.constants["w"])


def test_bfloat16_weights_stay_small(tmp_path: Path) -> None:
    """bfloat16 weights of a file are mapped, and widened while they are packed."""
    bits = np.random.default_rng(0).integers(0x3D00, 0x3F00, (64, 64, 3, 3)).astype(np.uint16)
    weight = TensorProto(name="w", data_type=TensorProto.BFLOAT16, dims=bits.shape)
    weight.raw_data = bits.tobytes()
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Conv", ["x", "wide"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64, 7, 7])],
        [weight],
    )
    opsets = [helper.make_opsetid("", 17)]
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets), file)
    model = cnnrt.load(file)
    assert model.memory().stored == model.memory().stored_mapped == bits.nbytes
    wide = (bits.astype(np.uint32) << 16).view(np.float32)
    x = np.random.default_rng(1).standard_normal((1, 64, 9, 9)).astype(np.float32)
    expected = cnnrt.kernels.conv2d(x, wide)
    assert np.allclose(model(x), expected, rtol=1e-4, atol=1e-4)


# Functions and branches -------------------------------------------------------------------------


def with_function(body: list[Any], calls: list[Any]) -> Any:
    proto = model(calls)
    proto.functions.append(
        helper.make_function("own", "F", ["a"], ["b"], body, [helper.make_opsetid("", 24)])
    )
    proto.functions[0].opset_import.add(domain="own", version=1)
    proto.opset_import.add(domain="own", version=1)
    return proto


def test_functions_are_replaced_by_their_nodes() -> None:
    body = [node("Relu", "a", "c"), node("Neg", "c", "b")]
    calls = [node("F", "x", "m", domain="own"), node("F", "m", domain="own")]
    graph = read_onnx(with_function(body, calls))
    assert [one.op for one in graph.nodes] == ["relu", "neg", "relu", "neg"]
    (y,) = evaluate(graph, x=np.float32([[-1, 2, 3, 4]]))
    np.testing.assert_array_equal(y, [[0, 0, 0, 0]])


def test_functions_that_never_end_or_are_too_many() -> None:
    itself = [node("F", "a", "b", domain="own")]
    with pytest.raises(FormatError, match="calls itself"):
        read_onnx(with_function(itself, [node("F", "x", domain="own")]))
    proto = with_function([node("Relu", "a", "b")], [node("F40", "x", domain="own")])
    for i in range(1, 41):
        before = f"F{i - 1}" if i > 1 else "F"
        twice = [node(before, "a", "c", domain="own"), node(before, "c", "b", domain="own")]
        proto.functions.append(
            helper.make_function("own", f"F{i}", ["a"], ["b"], twice, proto.opset_import)
        )
    with pytest.raises(FormatError, match=r"'F1[0-9]' makes [0-9]* nodes; expected at most"):
        read_onnx(proto)


def tower(levels: int, width: int, overloads: bool) -> Any:
    """A model of functions that call functions: width^levels nodes."""
    proto = model([node("F0", "x", domain="own")])
    own = [helper.make_opsetid("", 24), helper.make_opsetid("own", 1)]
    proto.opset_import.add(domain="own", version=1)
    for i in range(levels + 1):
        body = [node("Relu", "a", "b")]
        if i < levels:
            ends = ["a", *(f"t{k}" for k in range(1, width)), "b"]
            body = [node(f"F{i + 1}", *pair, domain="own") for pair in itertools.pairwise(ends)]
        proto.functions.append(helper.make_function("own", f"F{i}", ["a"], ["b"], body, own))
    if overloads:  # one name for all, told apart by their overload; the last one is a trap
        for function in proto.functions:
            function.overload, function.name = function.name, "F"
        for one in (*proto.graph.node, *(n for f in proto.functions for n in f.node)):
            if one.domain == "own":
                one.overload, one.op_type = one.op_type, "F"
        proto.functions.append(
            helper.make_function("own", "F", ["a"], ["b"], [node("Relu", "a", "b")], own)
        )
    return proto


@pytest.mark.parametrize("overloads", [False, True], ids=["names", "overloads"])
def test_what_functions_make_is_in_proportion_to_the_file(overloads: bool) -> None:
    few = tower(3, 2, overloads)
    assert [one.op for one in read_onnx(few).nodes] == ["relu"] * 8
    for levels, width in ((9, 8), (4, 8), (60, 2), (1, 3)):
        proto = tower(levels, width, overloads)
        made = width**levels
        if made <= 3:
            assert len(read_onnx(proto).nodes) == made
            continue
        with pytest.raises(FormatError, match=r"makes? [0-9]+ nodes; expected at most"):
            read_onnx(proto)


def test_the_bytes_that_functions_make_are_limited() -> None:
    proto = tower(2, 25, False)
    proto.functions[-1].node[0].doc_string = "a" * 500_000
    with pytest.raises(FormatError, match=r"makes 31[0-9]+ bytes; expected at most"):
        read_onnx(proto)


def test_many_nodes_of_onnxs_definitions_are_refused() -> None:
    losses = [node("SoftmaxCrossEntropyLoss", "x x", f"y{i}") for i in range(300)]
    with pytest.raises(UnsupportedOperator, match="300 nodes that cnnrt runs by ONNX's definition"):
        read_onnx(model([*losses, node("Relu", "x")]))


def test_operators_that_onnx_defines_by_others() -> None:
    graph = read_onnx(
        model([node("Constant", "", "n", value_int=5), node("HannWindow", "n")], (1,), 17)
    )
    (y,) = evaluate(graph, x=np.float32([0]))
    np.testing.assert_allclose(y, np.sin(np.pi * np.arange(5) / 5) ** 2, atol=1e-6)


def branch(name: str, op: str, inner: str = "t") -> Any:
    out = helper.make_tensor_value_info(f"{name}_y", FLOAT, None)
    return helper.make_graph(
        [node(op, "x", inner), node("Neg", inner, f"{name}_y")], name, [], [out]
    )


def choice(condition: str, output: str = "y") -> Any:
    return node(
        "If", condition, output, then_branch=branch("a", "Relu"), else_branch=branch("b", "Exp")
    )


@pytest.mark.parametrize("rank", [2, 3])
def test_if_with_a_constant_condition_folds_away(rank: int) -> None:
    """The condition is computed from a shape; both Ifs name an inner tensor alike."""
    nodes = [
        node("Shape", "x", "s"),
        node("Size", "s", "n"),
        node("Constant", "", "two", value_int=2),
        node("Equal", "n two", "c"),
        choice("c", "m"),
        choice("c", "k"),
        node("Add", "m k"),
    ]
    graph = read_onnx(model(nodes, (1, 4, 1)[:rank]))
    ops = {one.op for one in graph.nodes}
    assert ("relu" in ops, "exp" in ops) == (rank == 2, rank == 3)
    x = np.float32([-1, 0, 1, 2]).reshape((1, 4, 1)[:rank])
    (y,) = evaluate(graph, x=x)
    np.testing.assert_allclose(y, -2 * (np.maximum(x, 0) if rank == 2 else np.exp(x)), rtol=1e-6)


def test_if_within_if_reads_the_outer_branch() -> None:
    inner = helper.make_graph(
        [node("Add", "x t", "u")], "i", [], [helper.make_tensor_value_info("u", FLOAT, None)]
    )
    outer = helper.make_graph(
        [node("Relu", "x", "t"), node("If", "c", "v", then_branch=inner, else_branch=inner)],
        "o",
        [],
        [helper.make_tensor_value_info("v", FLOAT, None)],
    )
    proto = model([node("If", "c", then_branch=outer, else_branch=outer)], constants={"c": True})
    (y,) = evaluate(read_onnx(proto), x=np.float32([[-1, 2, 0, 1]]))
    np.testing.assert_array_equal(y, [[-1, 4, 0, 2]])


def test_if_that_is_refused() -> None:
    lacking = node("If", "c", then_branch=branch("a", "Relu"))
    with pytest.raises(FormatError, match="an else_branch"):
        read_onnx(model([lacking], constants={"c": True}))


def test_tensors_and_nodes_that_are_refused_are_listed_together() -> None:
    proto = model([node("RegexFullMatch", "x", "d"), node("StringSplit", "a", "b c")])
    proto.graph.input.append(helper.make_tensor_value_info("text", TensorProto.STRING, [1]))
    proto.graph.initializer.append(helper.make_tensor("four", TensorProto.COMPLEX64, [1], [1 + 0j]))
    with pytest.raises(UnsupportedOperator) as raised:
        read_onnx(proto)
    lines = str(raised.value).splitlines()
    assert lines[0].endswith("does not run 2 of its 2 nodes and does not read 2 of its tensors:")
    assert lines[1].strip().startswith("initialiser 'four': has ONNX data type 14 (complex64)")
    assert lines[2].strip().startswith("input 'text': has ONNX data type 8 (string)")
    assert lines[3].strip().startswith("RegexFullMatch (node 'd'; inputs x: [1, 4])")
    assert lines[4].strip().startswith("StringSplit (node 'b'")
    proto = model([node("Constant", "", "c", value_string="text"), node("RegexFullMatch", "x")])
    with pytest.raises(UnsupportedOperator) as raised:
        read_onnx(proto)
    lines = str(raised.value).splitlines()
    assert lines[1].strip().startswith("Constant (node 'c'; inputs none): constants of the kind")
    assert lines[2].strip().startswith("RegexFullMatch (node 'y'")


def edited(edit: Callable[[Any], Any]) -> Any:
    proto = model([node("Add", "x w")], constants={"w": np.float32([1, 2, 3, 4])})
    edit(proto)
    return proto


DAMAGE: list[tuple[str, Callable[[Any], Any]]] = [
    ("has no outputs", lambda p: p.graph.ClearField("output")),
    ("opset 99", lambda p: p.opset_import[0].__setattr__("version", 99)),
    ("has the shape [-1]", lambda p: p.graph.initializer[0].dims.__setitem__(0, -1)),
    ("does not fit its data", lambda p: p.graph.initializer[0].dims.__setitem__(0, 2**40)),
    ("does not fit its data", lambda p: p.graph.initializer[0].ClearField("raw_data")),
    ("occurs twice", lambda p: p.graph.initializer.append(p.graph.initializer[0])),
    ("expected a name", lambda p: p.graph.initializer[0].__setattr__("name", "")),
    ("is made twice", lambda p: p.graph.node.append(p.graph.node[0])),
    ("which nothing makes", lambda p: p.graph.node[0].input.__setitem__(0, "absent")),
    ("nothing makes the output", lambda p: p.graph.node[0].output.__setitem__(0, "z")),
    ("cycle", lambda p: p.graph.node[0].input.__setitem__(0, "y")),
    ("expected 2 to 2", lambda p: p.graph.node[0].input.append("x")),
    ("has no outputs", lambda p: p.graph.node[0].ClearField("output")),
    ("control code", lambda p: p.graph.node[0].output.__setitem__(0, "\x1b")),
    (
        "at most 32 axes",
        lambda p: p.graph.input[0].type.tensor_type.shape.dim.add(dim_value=2**62),
    ),
]


@pytest.mark.parametrize(("message", "edit"), DAMAGE, ids=[m for m, _ in DAMAGE])
def test_damaged_models(message: str, edit: Callable[[Any], Any]) -> None:
    with pytest.raises(FormatError, match=re.escape(message)):
        read_onnx(edited(edit))


def test_other_things_that_cannot_be_read() -> None:
    cases: list[tuple[str, Callable[[Any], Any]]] = [
        ("data type 8", lambda p: p.graph.initializer[0].__setattr__("data_type", 8)),
        ("sparse", lambda p: p.graph.sparse_initializer.add()),
        ("no tensor", lambda p: p.graph.input[0].type.map_type.SetInParent()),
    ]
    for message, edit in cases:
        with pytest.raises(UnsupportedOperator, match=message):
            read_onnx(edited(edit))


def damaged(data: bytes) -> Iterator[bytes]:
    """The file cut off at every length, and with bytes changed."""
    yield from (data[:n] for n in range(len(data)))
    generator = np.random.default_rng(0)
    for i in range(len(data)):
        flipped, other = data[i] ^ 1 << generator.integers(8), generator.integers(256)
        for value in (flipped, other):
            yield data[:i] + bytes([int(value)]) + data[i + 1 :]


def test_any_damage_gives_an_error_or_a_graph() -> None:
    proto = model(
        [
            node("Conv", "x w", "c", ["", "conv", "conv2d"], pads=[1, 1, 1, 1]),
            node("Clip", "c", "d", min=0.0),
            node("Softmax", "d", axis=1),
        ],
        IMAGE,
        10,
        {"w": np.ones((2, 2, 3, 3), np.float32)},
    )
    good = 0
    with tempfile.TemporaryDirectory() as folder:
        for i, data in enumerate(damaged(proto.SerializeToString())):
            source: Any = data
            if i % 50 == 0:
                source = Path(folder) / "model.onnx"
                source.write_bytes(data)
            try:
                assert isinstance(read(source).graph, Graph)
                good += 1
            except CnnrtError:
                pass
    assert good


# PyTorch's exporter -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch() -> Any:
    pytest.importorskip("onnxscript")
    return pytest.importorskip("torch")


def exported(network: Any, *inputs: Any, **options: Any) -> Graph:
    from cnnrt.formats.pytorch import export

    data = export(network, inputs, None, **options)
    assert data is not None
    return read(data).graph


def test_resnet18_is_named_by_its_modules(torch: Any) -> None:
    from torchvision_cpu import torchvision

    network = torchvision.models.resnet18(weights=None)
    graph = exported(network, torch.zeros(1, 3, 64, 64))
    modules = {name for name, module in network.named_modules() if not list(module.children())}
    # A convolution is folded with its normalisation, by the exporter, and has that one's name.
    expected = {m for m in modules if "conv" not in m and not m.endswith("downsample.0")}
    names = set(graph.tensors())
    assert expected <= names
    assert {"layer3.1.relu_1", "layer3.1.add", "view"} <= names
    assert graph.inputs == [TensorSpec("x", ("batch", 3, 64, 64))]
    assert graph.outputs[0].shape == ("batch", 1000)
    assert "layer4.1.conv2.weight" in graph.constants


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0"])
def test_names_of_other_networks(torch: Any, name: str) -> None:
    from torchvision_cpu import torchvision

    network = getattr(torchvision.models, name)(weights=None)
    graph = exported(network, torch.zeros(1, 3, 64, 64))
    modules = dict(network.named_modules())
    for one in graph.nodes:
        base = re.sub(r"_\d+$", "", one.name)
        parent = base.rpartition(".")[0]
        assert base in modules or parent in modules or one.op == "identity", one.name
    kinds = ("Hardswish", "Hardsigmoid", "SiLU", "ReLU")
    activations = {n for n, module in modules.items() if type(module).__name__ in kinds}
    assert activations <= set(graph.tensors())


def test_export_leaves_the_module_as_it_was(torch: Any) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(), torch.nn.ReLU())
    network.train()
    network[2].eval()
    graph = exported(network, torch.zeros(3, 4), input_names=["features"], output_names=["score"])
    assert [m.training for m in network] == [True, True, False]
    assert graph.inputs == [TensorSpec("features", ("batch", 4))]
    assert [spec.name for spec in graph.outputs] == ["score"]
    assert [one.op for one in graph.nodes] == ["gemm", "relu", "identity"]


def test_export_of_a_fixed_batch(torch: Any) -> None:
    class Fixed(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x.reshape(2, 2, 2)

    with pytest.warns(UserWarning, match="only at the batch size of the example, 2"):
        assert exported(Fixed(), torch.zeros(2, 4)).inputs[0].shape == (2, 4)
    linear = torch.nn.Linear(4, 4)
    assert exported(linear, torch.zeros(2, 4), dynamic_shapes=()).inputs[0].shape == (2, 4)
    free = ({1: "length"},)
    assert exported(torch.nn.ReLU(), torch.zeros(2, 4), dynamic_shapes=free).inputs[0].shape == (
        2,
        "length",
    )


def test_export_takes_over_what_timm_and_torchvision_know(torch: Any) -> None:
    from cnnrt.formats.pytorch import export
    from torchvision_cpu import torchvision

    timm = pytest.importorskip("timm")
    network = timm.create_model("resnet10t", pretrained=False)
    data = export(network, torch.zeros(1, 3, 64, 64), None)
    assert data is not None
    document = read(data)
    assert document.preprocessing is not None
    assert document.preprocessing.size == (
        64,
        64,
    )  # the example's; timm keeps the share of the crop
    assert document.preprocessing.resize == int(64 / network.pretrained_cfg["crop_pct"])
    assert document.labels is not None
    assert document.labels[0].startswith("tench")

    weights = torchvision.models.MobileNet_V3_Small_Weights.DEFAULT
    data = export(torch.nn.AvgPool2d(224), torch.zeros(1, 3, 224, 224), None, weights=weights)
    assert data is not None
    document = read(data)
    assert document.labels is None  # a thousand, for three outputs
    assert document.preprocessing is not None
    assert document.preprocessing.resize == 256
