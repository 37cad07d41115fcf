"""ONNX's own backend tests, unchanged: none fails, what must pass passes, the report is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

from cnnrt import onnx_backend  # noqa: E402
from cnnrt.errors import CnnrtError, FormatError, ShapeError, UnsupportedOperator  # noqa: E402
from cnnrt.formats.onnx.importer import read_onnx  # noqa: E402

REPORT = Path(__file__).parent.parent / "docs" / "onnx-coverage.md"

COMPLETE = (
    *("Conv", "ConvTranspose", "DeformConv", "Gemm", "MatMul", "Resize", "Upsample"),
    *("AveragePool", "MaxPool", "LpPool", "MaxUnpool", "GlobalAveragePool", "GlobalMaxPool"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization"),
    *("RMSNormalization", "LRN", "LpNormalization", "MeanVarianceNormalization"),
    *("Softmax", "LogSoftmax", "Hardmax", "Attention", "RotaryEmbedding", "Einsum", "GridSample"),
    *("Pad", "Concat", "Slice", "Reshape", "Transpose", "Split", "Gather", "Expand", "Flatten"),
    *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid"),
    *("Tanh", "Softplus", "Softsign", "Mish", "Swish", "HardSwish", "ThresholdedRelu", "Shrink"),
    *("Clip", "SwiGLU", "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Sum", "Mean"),
    *("Abs", "Neg", "Exp", "Log", "Sqrt", "Reciprocal", "Erf", "Floor", "Ceil", "Round", "Sign"),
    *("Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"),
    *("Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Where", "IsNaN", "IsInf", "Not"),
    *("LSTM", "GRU", "RNN", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
)
"""Operators of which every test must pass."""

Results = dict[str, dict[str, tuple[str, str]]]


@pytest.fixture(scope="module")
def results() -> Results:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the code that makes the tests' data
        return onnx_backend.run_tests()


@pytest.mark.parametrize("kind", onnx_backend.KINDS)
def test_none_fails(results: Results, kind: str) -> None:
    failed = {name: why for name, (outcome, why) in results[kind].items() if outcome == "failed"}
    assert not failed
    assert sum(outcome == "passed" for outcome, _ in results[kind].values()) >= 7


def test_share_of_node_tests(results: Results) -> None:
    outcomes = [outcome for outcome, _ in results["node"].values()]
    assert outcomes.count("passed") / len(outcomes) >= 0.94


def test_simple_tests_pass_but_those_of_strings_and_of_training(results: Results) -> None:
    outcomes = {name: outcome for name, (outcome, _) in results["simple"].items()}
    refused = {name for name, outcome in outcomes.items() if outcome != "passed"}
    assert all(name.startswith(("test_strnorm", "test_gradient")) for name in refused), refused
    assert sum("sequence" in name for name in outcomes) == 8


@pytest.mark.parametrize("subject", ("sequence", "optional", "if", "loop", "scan"))
def test_control_flow_and_values_that_are_no_tensors(results: Results, subject: str) -> None:
    found = {n: r for n, r in results["node"].items() if n.startswith(f"test_{subject}")}
    assert len(found) >= 2
    refused = {name for name, (outcome, _) in found.items() if outcome != "passed"}
    assert refused <= set(onnx_backend.INCOMPARABLE)


def test_operators_that_must_be_complete(results: Results) -> None:
    subjects = onnx_backend.operators_of_tests()
    incomplete = {
        name: why
        for name, (outcome, why) in results["node"].items()
        if subjects[name] in COMPLETE and outcome != "passed"
    }
    assert not incomplete
    assert set(COMPLETE) <= set(subjects.values())


def test_not_supported_because_the_importer_or_an_operator_says_so(results: Results) -> None:
    from onnx.backend.test.loader import load_model_tests

    models = {test.name: test.model for test in load_model_tests(kind="node")}
    for name, (outcome, reason) in results["node"].items():
        if outcome != "not supported":
            continue
        assert reason
        try:
            read_onnx(models[name])
        except UnsupportedOperator as error:
            assert str(error) == reason
        else:
            # An input given at run time asks for training, results are of chance, or the test's
            # data do not fit its model.
            told = ("training is not supported", "other random numbers", "exclude pattern")
            assert any(text in reason for text in told)


def test_report(results: Results) -> None:
    text = onnx_backend.report(results)
    assert "| Conv | 6 |  |  |" in text
    if f"of onnx {onnx.__version__} " in REPORT.read_text(encoding="utf-8"):
        assert text == REPORT.read_text(encoding="utf-8"), "write docs/onnx-coverage.md anew"


# The interface ----------------------------------------------------------------------------------


def relu(shape: Any = ("n", 3)) -> Any:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def test_run_model() -> None:
    x = np.float32([[-1, 0, 2]])
    for inputs in (x, [x], {"x": x}):
        outputs = onnx_backend.run_model(relu(), inputs, threads=1)
        np.testing.assert_array_equal(outputs[0], [[0, 0, 2]])
        assert outputs["y"] is outputs[0]


def test_run_node() -> None:
    a, b = np.float32([[1, 2], [3, 4]]), np.float32([[1], [1]])
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    (y,) = onnx_backend.run_node(node, [a, b])
    np.testing.assert_array_equal(y, [[3], [7]])
    (y,) = onnx_backend.run_node(node, [a, b], outputs_info=[(np.float32, (2, 1))])
    np.testing.assert_array_equal(y, [[3], [7]])


def test_devices() -> None:
    assert onnx_backend.supports_device("CPU") and onnx_backend.supports_device("CPU:0")
    assert not onnx_backend.supports_device("CUDA")
    with pytest.raises(onnx_backend.NotSupported, match="CUDA"):
        onnx_backend.prepare(relu(), "CUDA")


def test_what_is_not_supported_is_skipped_by_unittest_and_an_error_of_cnnrt() -> None:
    import unittest

    proto = relu()
    assert onnx_backend.is_compatible(relu())
    assert issubclass(onnx_backend.NotSupported, unittest.SkipTest)
    assert issubclass(onnx_backend.NotSupported, CnnrtError)
    proto.graph.node[0].op_type = "StringNormalizer"
    assert not onnx_backend.is_compatible(proto)
    with pytest.raises(onnx_backend.NotSupported, match="StringNormalizer"):
        onnx_backend.prepare(proto)


def test_what_is_no_model() -> None:
    proto = relu()
    proto.graph.node[0].input[0] = "absent"
    with pytest.raises(FormatError, match="checker"):
        onnx_backend.prepare(proto)


def test_wrong_input() -> None:
    with pytest.raises(ShapeError, match=r"input 'x' takes shape \(n, 3\), not \(1, 4\)"):
        onnx_backend.run_model(relu(), [np.zeros((1, 4), np.float32)])


def test_command(
    tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    some = {kind: dict(list(outcomes.items())[:9]) for kind, outcomes in results.items()}
    monkeypatch.setattr(onnx_backend, "run_tests", lambda: some)
    path = tmp_path / "report.md"
    assert onnx_backend.main(["--report", str(path)]) == 0
    assert path.read_text(encoding="utf-8") == onnx_backend.report(some)
    assert " 0 failed" in capsys.readouterr().out
    some["node"]["test_abs"] = ("failed", "wrong\nnumbers")
    assert onnx_backend.main(["--report", str(path), "--reasons"]) == 1
    assert "failed: node: test_abs: wrong numbers" in capsys.readouterr().out
