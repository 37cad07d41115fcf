"""Branches, loops, sequences and optionals of ONNX: against ONNX Runtime and by hand."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.backend.test.loader import load_model_tests  # noqa: E402

import cnnrt  # noqa: E402
from cnnrt.formats import read, write_model  # noqa: E402
from cnnrt.formats.onnx.writer import write_onnx  # noqa: E402
from cnnrt.onnx_backend import INCOMPARABLE, prepare  # noqa: E402

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node = helper.make_node
rng = np.random.default_rng(0)


def value(name: str, dtype: int = FLOAT, shape: Sequence[Any] | None = None) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def graph(nodes: list[Any], inputs: list[Any], outputs: list[Any], **constants: Any) -> Any:
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    return helper.make_graph(nodes, "g", inputs, outputs, tensors)


def model(proto: Any, opset: int = 17) -> bytes:
    made = helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return made.SerializeToString()  # type: ignore[no-any-return]


def check(data: bytes, *feeds: Mapping[str, Any]) -> cnnrt.Model:
    """Runs a model on each feed; the results are ONNX Runtime's, also after round trips."""
    session = ort.InferenceSession(data)
    names = [o.name for o in session.get_outputs()]
    ours = cnnrt.load(data, threads=1)
    written, onnx = write_model(None, ours.graph), write_onnx(None, ours.graph)
    assert written is not None
    assert onnx is not None
    again = [cnnrt.load(written, threads=2), cnnrt.load(onnx)]
    for feed in feeds:
        wanted = dict(zip(names, session.run(None, dict(feed)), strict=True))
        for loaded in (ours, *again):
            got = loaded.run(dict(feed), outputs=names)
            got = {names[0]: got} if len(names) == 1 else got
            for name, want in wanted.items():
                same(got[name], want)
    return ours


def same(got: Any, want: Any) -> None:
    if isinstance(want, list):
        assert isinstance(got, list)
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            same(a, b)
        return
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


WEIGHT = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
IMAGE = rng.standard_normal((2, 3, 9, 9)).astype(np.float32)


def branches(then: list[Any], other: list[Any]) -> dict[str, Any]:
    return {
        "then_branch": graph(then, [], [value("t")]),
        "else_branch": graph(other, [], [value("e")]),
    }


def test_if_on_a_computed_condition_with_branches_of_other_ranks() -> None:
    nodes = [
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Greater", ["m", "limit"], ["c"]),
        node(
            "If",
            ["c"],
            ["y"],
            **branches(
                [node("Conv", ["x", "w"], ["a"]), node("Relu", ["a"], ["t"])],
                [node("ReduceMean", ["x"], ["e"], axes=[2, 3], keepdims=0)],
            ),
        ),
        node("Abs", ["y"], ["z"]),
    ]
    proto = graph(
        nodes, [value("x", FLOAT, ["n", 3, 9, 9])], [value("z")], w=WEIGHT, limit=np.float32(0)
    )
    ours = check(model(proto), {"x": IMAGE}, {"x": -np.abs(IMAGE)}, {"x": IMAGE[:1]})
    text = ours.describe(IMAGE)
    assert "on values" in text
    assert [row.operator for row in ours.summary(IMAGE).layers][:2] == ["reduce_max", "greater"]
    profile = ours.profile(IMAGE, seconds=0.02)
    assert profile.layers[-1].name == "later stages"
    assert sum(layer.nanoseconds for layer in profile.layers) > 0
    assert ours.memory().plans[-1].arena > 0


def test_if_on_an_input_is_planned_as_its_branch() -> None:
    """The plan is made for the value of a small integer input: one plan, all of it in kernels."""
    nodes = [
        node("Equal", ["rate", "high"], ["c"]),
        node(
            "If",
            ["c"],
            ["y"],
            **branches(
                [node("Conv", ["x", "w"], ["a"]), node("Relu", ["a"], ["t"])],
                [node("Neg", ["x"], ["e"])],
            ),
        ),
    ]
    inputs = [value("x", FLOAT, ["n", 3, 9, 9]), value("rate", INT64, [])]
    proto = graph(nodes, inputs, [value("y")], w=WEIGHT, high=np.array(16000))
    feed = {"x": IMAGE, "rate": np.array(16000)}
    ours = check(model(proto), feed, {"x": IMAGE, "rate": np.array(8000)}, feed)
    assert "on values" not in ours.describe(feed)


def test_nested_ifs_capture_outer_tensors() -> None:
    inner = branches([node("Add", ["x", "r"], ["t"])], [node("Sub", ["x", "r"], ["e"])])
    outer = graph(
        [node("Relu", ["x"], ["r"]), node("If", ["c2"], ["v"], **inner)], [], [value("v")]
    )
    other = graph([node("Identity", ["x"], ["o"])], [], [value("o")])
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["c1"]),
        node("Greater", ["s", "ten"], ["c2"]),
        node("If", ["c1"], ["y"], then_branch=outer, else_branch=other),
    ]
    proto = graph(
        nodes, [value("x", FLOAT, ["n"])], [value("y")], zero=np.float32(0), ten=np.float32(10)
    )
    feeds = [{"x": np.float32(v)} for v in ([1, 2], [20, -1], [-1, -2], [3])]
    check(model(proto), *feeds)


def body(nodes: list[Any], outputs: list[Any], *carried: Any) -> Any:
    return graph(nodes, [value("i", INT64, []), value("go", BOOL, []), *carried], outputs)


def test_loop_with_a_condition_captures_and_stacked_outputs() -> None:
    step = body(
        [
            node("Mul", ["v", "factor"], ["v2"]),
            node("ReduceMax", ["v2"], ["m"], keepdims=0),
            node("Less", ["m", "limit"], ["go2"]),
            node("Identity", ["v2"], ["out"]),
        ],
        [value("go2", BOOL, []), value("v2"), value("out", FLOAT, [3])],
        value("v"),
    )
    nodes = [node("Loop", ["count", "", "x"], ["last", "all"], body=step)]
    proto = graph(
        nodes,
        [value("x", FLOAT, [3]), value("count", INT64, [])],
        [value("last"), value("all")],
        factor=np.float32(2),
        limit=np.float32(100),
    )
    x = np.float32([1, 2, 3])
    feeds = [{"x": x, "count": np.array(n)} for n in (0, 1, 3, 50)]
    check(model(proto), *feeds)


def test_loop_whose_carried_value_grows() -> None:
    step = body(
        [node("Concat", ["v", "v"], ["v2"], axis=0), node("Identity", ["go"], ["go2"])],
        [value("go2", BOOL, []), value("v2")],
        value("v"),
    )
    nodes = [node("Loop", ["count", "yes", "x"], ["y"], body=step)]
    proto = graph(
        nodes,
        [value("x", FLOAT, ["n"]), value("count", INT64, [])],
        [value("y")],
        yes=np.array(True),
    )
    check(model(proto), *({"x": np.float32([1, 2]), "count": np.array(n)} for n in range(6)))


def test_loop_without_end_stops_at_the_memory_limit() -> None:
    step = body(
        [node("Concat", ["v", "v"], ["v2"], axis=0), node("Identity", ["go"], ["go2"])],
        [value("go2", BOOL, []), value("v2")],
        value("v"),
    )
    nodes = [node("Loop", ["", "yes", "x"], ["y"], body=step)]
    proto = graph(nodes, [value("x", FLOAT, ["n"])], [value("y")], yes=np.array(True))
    cnnrt.set_memory_limit(1 << 20)
    try:
        with pytest.raises(cnnrt.MemoryLimitError):
            cnnrt.load(model(proto))(np.ones(2, np.float32))
    finally:
        cnnrt.set_memory_limit(None)


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_scan_along_each_axis_in_both_directions(axis: int, direction: int) -> None:
    step = graph(
        [node("Add", ["s", "r"], ["s2"]), node("Mul", ["s2", "k"], ["o"])],
        [value("s", FLOAT, [3]), value("r", FLOAT, [3])],
        [value("s2", FLOAT, [3]), value("o", FLOAT, [3])],
    )
    nodes = [
        node(
            "Scan",
            ["zero", "x"],
            ["last", "y"],
            body=step,
            num_scan_inputs=1,
            scan_input_axes=[axis],
            scan_input_directions=[direction],
            scan_output_axes=[axis],
            scan_output_directions=[direction],
        )
    ]
    shape = [3, 3]
    shape[axis] = 5
    proto = graph(
        nodes,
        [value("x", FLOAT, ["a", "b"])],
        [value("last"), value("y")],
        zero=np.zeros(3, np.float32),
        k=np.float32(2),
    )
    check(model(proto), {"x": rng.standard_normal(shape).astype(np.float32)})


def test_sequences_from_end_to_end() -> None:
    nodes = [
        node("SplitToSequence", ["x", "two"], ["parts"], axis=1),
        node("SequenceLength", ["parts"], ["n"]),
        node("SequenceAt", ["parts", "last"], ["tail"]),
        node("SequenceInsert", ["parts", "tail", "zero"], ["more"]),
        node("SequenceErase", ["more", "last"], ["less"]),
        node("ConcatFromSequence", ["less"], ["y"], axis=1),
        node("SequenceConstruct", ["tail", "x"], ["made"]),
        node("SequenceAt", ["made", "zero"], ["first"]),
    ]
    proto = graph(
        nodes,
        [value("x", FLOAT, ["n", "w"])],
        [value("y"), value("n", INT64, []), value("first")],
        two=np.array(2),
        last=np.array(-1),
        zero=np.array(0),
    )
    feeds = [{"x": rng.standard_normal((2, w)).astype(np.float32)} for w in (4, 5, 7)]
    check(model(proto), *feeds)


def test_a_sequence_as_input_and_output() -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    inputs = [helper.make_value_info("s", kind)]
    outputs = [helper.make_value_info("more", kind), value("y")]
    nodes = [
        node("SequenceAt", ["s", "zero"], ["first"]),
        node("Relu", ["first"], ["y"]),
        node("SequenceInsert", ["s", "y"], ["more"]),
    ]
    data = model(graph(nodes, inputs, outputs, zero=np.array(0)))
    check(data, {"s": [np.float32([-1, 1]), np.float32([[2, 3]])]})
    ours = cnnrt.load(data)
    with pytest.raises(cnnrt.ShapeError, match="takes a list of arrays"):
        ours({"s": np.float32([1])})
    with pytest.raises(cnnrt.ShapeError, match="position 0 of a sequence of 0"):
        ours({"s": []})


def test_the_tests_that_onnx_cannot_compare() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the code that makes the tests' data
        found = [t for t in load_model_tests(kind="node") if t.name in INCOMPARABLE]
    assert len(found) == len(INCOMPARABLE)
    for case in found:
        for inputs, outputs in case.data_sets:
            for got, want in zip(prepare(case.model).run(inputs), outputs, strict=True):
                same(got, list(want))


def test_a_condition_of_several_elements_is_an_error() -> None:
    nodes = [
        node("Greater", ["x", "x"], ["c"]),
        node(
            "If",
            ["c"],
            ["y"],
            **branches([node("Relu", ["x"], ["t"])], [node("Neg", ["x"], ["e"])]),
        ),
    ]
    ours = cnnrt.load(model(graph(nodes, [value("x", FLOAT, ["n"])], [value("y")])))
    with pytest.raises(cnnrt.ShapeError, match=r"condition of one element, got shape \(3,\)"):
        ours(np.ones(3, np.float32))


def test_files_with_subgraphs_that_are_damaged(tmp_path: Path) -> None:
    nodes = [
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Greater", ["m", "m"], ["c"]),
        node(
            "If",
            ["c"],
            ["y"],
            **branches([node("Relu", ["x"], ["t"])], [node("Neg", ["x"], ["e"])]),
        ),
    ]
    ours = cnnrt.load(model(graph(nodes, [value("x", FLOAT, ["n"])], [value("y")])))
    path = tmp_path / "if.bin"
    write_model(path, ours.graph)
    data = path.read_bytes()
    assert read(path).graph.nodes[-1].subgraphs().keys() == {"then_branch", "else_branch"}
    for old, new in (
        (b'\\"captured\\":1', b'\\"captured\\":9'),
        (b'\\"captured\\":1', b'\\"captured\\":0'),
        (b'{\\"graph\\":', b'{\\"grapf\\":'),
    ):
        assert old in data
        with pytest.raises(cnnrt.FormatError):
            cnnrt.load(data.replace(old, new))
