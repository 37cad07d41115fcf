"""cnnrt as a backend of ONNX: `onnx.backend.base.Backend`, and the scoreboard of ONNX's tests.

ONNX's backend tests run against this module unchanged:

    import onnx.backend.test
    import cnnrt.onnx_backend

    globals().update(onnx.backend.test.BackendTest(cnnrt.onnx_backend, __name__).test_cases)

A model goes the way of every other: importer, passes, plan. A model that the importer refuses
raises `NotSupported`, which unittest and pytest count as skipped. `python -m cnnrt.onnx_backend
--report FILE` writes the results per operator.

Interface: https://onnx.ai/onnx/api/backend.html
"""

from __future__ import annotations

import argparse
import sys
import unittest
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, namedtupledict

from . import ops
from .errors import FormatError, UnsupportedOperator
from .formats.onnx.importer import read_onnx
from .formats.onnx.operator_names import snake_case
from .model import Model
from .storage.files import atomic_write


class NotSupported(UnsupportedOperator, unittest.SkipTest):
    """The model needs something that cnnrt does not have; ONNX's tests skip it."""


class CnnrtRep(BackendRep):  # type: ignore[misc,unused-ignore]
    """A model that is ready to run."""

    def __init__(self, model: Model, dtypes: Sequence[np.dtype[Any] | None]) -> None:
        """Takes the `dtypes` of the outputs, None for one that is no tensor. (cnnrt returns float32
        in place of bfloat16.)"""
        self.model = model
        self.dtypes = dtypes

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs in the model's order, as a tuple that also takes their names.

        Args:
            inputs: arrays in the order of the model's inputs, a dict by name, or one array.

        Raises:
            ShapeError: an input has another shape or dtype than the model takes.
            NotSupported: an input requests something (a training mode) that is not supported.
        """
        del kwargs
        names = [spec.name for spec in self.model.outputs]
        if isinstance(inputs, Mapping):
            feeds = dict(inputs)
        else:
            given = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
            feeds = dict(zip((s.name for s in self.model.inputs), given, strict=True))
        try:
            results = self.model.run(feeds)
        except UnsupportedOperator as error:
            raise NotSupported(str(error)) from error
        values = [results] if len(names) == 1 else [results[name] for name in names]
        values = [
            y if dtype is None else y.astype(dtype, copy=False)
            for y, dtype in zip(values, self.dtypes, strict=True)
        ]
        outputs: tuple[Any, ...] = namedtupledict("Outputs", names)(*values)
        return outputs


class CnnrtBackend(Backend):  # type: ignore[misc,unused-ignore]
    """Runs ONNX models with cnnrt, on the CPU."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """True if the importer takes the model."""
        del kwargs
        try:
            read_onnx(model)
        except UnsupportedOperator:
            return False
        return cls.supports_device(device)

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> CnnrtRep:
        """Imports the model; `kwargs` are arguments of `cnnrt.load`.

        Raises:
            NotSupported: it needs operators or attributes that cnnrt does not have.
            FormatError: it is malformed.
        """
        if not cls.supports_device(device):
            raise NotSupported(f"device {device!r}; cnnrt runs on the CPU")
        try:
            super().prepare(model, device)
        except (onnx.checker.ValidationError, ValueError) as error:  # ValueError: of 2 GB and more
            raise FormatError(f"onnx.checker refuses the model: {error}") from error
        options = {k: v for k, v in kwargs.items() if k in ("threads", "algorithm")}
        try:
            graph = read_onnx(model)
            if chance := [node.op for node in graph.nodes if not ops.op(node).pure]:
                raise NotSupported(f"{chance[0]}: other random numbers than those of the tests")
            loaded = Model(graph, **options)
        except UnsupportedOperator as error:
            raise NotSupported(str(error)) from error
        types = [value.type.tensor_type.elem_type for value in model.graph.output]
        return CnnrtRep(
            loaded, [onnx.helper.tensor_dtype_to_np_dtype(c) if c else None for c in types]
        )

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Runs one operator.

        Args:
            node: the operator.
            inputs: an array for each of its inputs that is not absent.
            device: "CPU".
            outputs_info: dtypes and shapes of its outputs; None: onnx infers them.
            kwargs: `opset_version`, and the arguments of `prepare`.
        """
        super().run_node(node, inputs, device, outputs_info, **kwargs)
        opset = kwargs.pop("opset_version", onnx.defs.onnx_opset_version())
        arrays = [np.asarray(x) for x in inputs]
        present = list(dict.fromkeys(name for name in node.input if name))
        types = [
            onnx.helper.make_tensor_value_info(name, _element_type(x.dtype), x.shape)
            for name, x in zip(present, arrays, strict=True)
        ]
        graph = onnx.helper.make_graph([node], "node", types, [])
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid(node.domain, opset)]
        )
        if outputs_info is None:
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.value_info
            known = {value.name: value for value in inferred}
            model.graph.output.extend(known[name] for name in node.output if name)
        else:
            model.graph.output.extend(
                onnx.helper.make_tensor_value_info(name, _element_type(np.dtype(dtype)), shape)
                for name, (dtype, shape) in zip(node.output, outputs_info, strict=True)
            )
        return cls.prepare(model, device, **kwargs).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only "CPU", with or without a number."""
        return device.partition(":")[0] == "CPU"


def _element_type(dtype: np.dtype[Any]) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype))


is_compatible = CnnrtBackend.is_compatible
prepare = CnnrtBackend.prepare
run_model = CnnrtBackend.run_model
run_node = CnnrtBackend.run_node
supports_device = CnnrtBackend.supports_device


# The scoreboard ---------------------------------------------------------------------------------

OUTCOMES = ("passed", "failed", "not supported")
INCOMPARABLE = ("test_loop16_seq_none",)
"""Tests whose results onnx's own runner cannot compare, as it takes the length of a scalar in a
sequence. tests/test_control_flow.py runs them."""
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")


class _Outcomes(unittest.TestResult):
    """The outcome of each test, and the reason if it failed or was skipped, by the test's name."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, tuple[str, str]] = {}

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self._put(test, "passed", "")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        self._put(test, "not supported", reason)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        self._put(test, "failed", str(err[1]))

    addError = addFailure  # noqa: N815

    def _put(self, test: unittest.TestCase, outcome: str, reason: str) -> None:
        self.outcomes[test.id().rpartition(".")[2].removesuffix("_cpu")] = (outcome, reason)


def run_tests() -> dict[str, dict[str, tuple[str, str]]]:
    """Runs ONNX's tests; returns outcome and reason of each, by kind and name."""
    import onnx.backend.test  # noqa: PLC0415  (makes the data of all tests, which takes seconds)
    from onnx.backend.test.loader import load_model_tests  # noqa: PLC0415

    backend: Any = sys.modules[__name__]
    runner = onnx.backend.test.BackendTest(backend, __name__)
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for name in INCOMPARABLE:
        runner.exclude(f"^{name}_")
    for kind in KINDS:
        case = runner.test_cases[f"OnnxBackend{_camel_case(kind)}ModelTest"]
        result = _Outcomes()
        names = [f"{test.name}_cpu" for test in load_model_tests(kind=kind)]
        unittest.TestSuite(case(name) for name in sorted(set(names))).run(result)
        found[kind] = result.outcomes
    return found


def _camel_case(kind: str) -> str:
    return kind.title().replace("-", "").replace("Pytorch", "PyTorch")


def operators_of_tests() -> dict[str, str]:
    """The operator of each node test; for a test expanded into other operators, the one
    expanded."""
    from onnx.backend.test.loader import load_model_tests  # noqa: PLC0415

    tests = [(test.name, test.model) for test in load_model_tests(kind="node")]
    nodes = {name: model.graph.node for name, model in tests if model is not None}
    table = {}
    for name, found in nodes.items():
        first = nodes.get(name.partition("_expanded")[0], found)
        subject = found[0] if len(found) == 1 else first[0]
        table[name] = f"{subject.domain}.{subject.op_type}".lstrip(".")
    return table


def report(results: Mapping[str, Mapping[str, tuple[str, str]]]) -> str:
    """The scoreboard, in Markdown."""
    lines = [
        "# ONNX operators",
        "",
        f"ONNX's own backend tests, of onnx {onnx.__version__} (opset "
        f"{onnx.defs.onnx_opset_version()}), run by cnnrt from the model to the result.",
        "Written by `python -m cnnrt.onnx_backend --report docs/onnx-coverage.md`.",
        "*Not supported* is what the importer refuses, with an error that says so.",
        "",
        "| tests | passed | failed | not supported | all |",
        "|---|--:|--:|--:|--:|",
    ]
    for kind in KINDS:
        counts = Counter(outcome for outcome, _ in results[kind].values())
        cells = [counts[o] for o in OUTCOMES] + [counts.total()]
        share = f" ({counts['passed'] / counts.total():.1%})"
        lines.append(f"| {kind} | {cells[0]}{share} | " + " | ".join(map(str, cells[1:])) + " |")
    lines += [
        "",
        "## Node tests by operator",
        "",
        "Of an operator that ONNX also defines by others, the tests of both forms.",
        "",
        "| operator | passed | failed | not supported |",
        "|---|--:|--:|--:|",
    ]
    table: dict[str, Counter[str]] = {}
    subjects = operators_of_tests()
    for name, (outcome, _) in results["node"].items():
        table.setdefault(subjects[name], Counter())[outcome] += 1
    for op in sorted(table, key=lambda op: ("." in op, op)):
        lines.append(f"| {op} | " + " | ".join(str(table[op][o] or "") for o in OUTCOMES) + " |")
    schemas = {s.name for s in onnx.defs.get_all_schemas() if not s.domain and not s.deprecated}
    runs = {op for op, counts in table.items() if counts["passed"]}
    without = sorted(op for op in schemas - runs if not _has(op))
    lines += [
        "",
        "## Not supported",
        "",
        f"Operators of ONNX that cnnrt does not have: {', '.join(without)}.",
        "",
    ]
    return "\n".join(lines)


def _has(op_type: str) -> bool:
    return op_type == "Constant" or snake_case(op_type) in ops.OPS


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the tests and writes the report; returns 1 if any test failed."""
    parser = argparse.ArgumentParser(
        prog="python -m cnnrt.onnx_backend",
        description="Runs ONNX's backend tests with cnnrt and writes the results by operator.",
    )
    parser.add_argument("--report", metavar="FILE.md", required=True, help="the file to write")
    parser.add_argument("--reasons", action="store_true", help="print why each did not pass")
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, from making the tests' data
        results = run_tests()
    atomic_write(options.report, [report(results).encode()])
    counts: Counter[str] = Counter()
    for kind, outcomes in results.items():
        for name, (outcome, reason) in outcomes.items():
            counts[outcome] += 1
            if outcome == "failed" or (options.reasons and outcome != "passed"):
                print(f"{outcome}: {kind}: {name}: {' '.join(reason.split())[:300]}")
    print(", ".join(f"{counts[o]} {o}" for o in OUTCOMES))
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
