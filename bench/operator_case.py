"""One operator as an ONNX model: a row of operators.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from engines import Array

OPSET = 21
RECENT = 24
"""Opset of the operators that came after OPSET."""


@dataclass(frozen=True)
class Case:
    """One operator: its first input is the model's, and "x" among the others is that input
    again."""

    op: str
    x: Array
    others: tuple[Array | str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    opset: int = OPSET
    outputs: int = 1
    """Number of the node's outputs; the model's is the first."""

    @property
    def name(self) -> str:
        """The operator, and what sets it apart from the other rows of its kind."""
        return f"{self.op} {self.note}".strip()

    def model(self) -> onnx.ModelProto:
        """An ONNX model with the operator's first output."""
        from onnx import helper, numpy_helper  # noqa: PLC0415

        names, weights = ["x"], []
        for i, other in enumerate(self.others):
            if isinstance(other, str):
                names.append(other)
                continue
            names.append(f"w{i}")
            weights.append(numpy_helper.from_array(other, f"w{i}"))
        results = ["y", "z"][: self.outputs]
        node = helper.make_node(self.op, names, results, name=self.op, **self.attributes)
        return model_of([node], weights, self.x, self.opset)


def model_of(
    nodes: Sequence[onnx.NodeProto], weights: Sequence[onnx.TensorProto], x: Array, opset: int
) -> onnx.ModelProto:
    """A model from "x", as this array, to "y"."""
    from onnx import helper  # noqa: PLC0415

    element = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        nodes,
        "operator",
        [helper.make_tensor_value_info("x", element, x.shape)],
        [onnx.ValueInfoProto(name="y")],
        weights,
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return onnx.shape_inference.infer_shapes(model, check_type=True, data_prop=True)


Value = Any
"""An operand of a formula: the name of a tensor, a number, or an array."""


@dataclass(frozen=True)
class Formula(Case):
    """Several operators on x, written as a function of a `Writer`."""

    write: Callable[[Writer], str] = lambda w: w("Identity", "x")

    def model(self) -> onnx.ModelProto:
        """An ONNX model whose output is that of the last operator."""
        writer = Writer(self.x.dtype)
        writer("Identity", self.write(writer))
        writer.nodes[-1].output[0] = "y"
        return model_of(writer.nodes, writer.weights, self.x, self.opset)


class Writer:
    """Collects the nodes and constants of a formula."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        """The type that numbers get."""
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def __call__(self, op: str, *operands: Value, **attributes: Any) -> str:
        """Adds an operator; returns the name of its result."""
        from onnx import helper, numpy_helper  # noqa: PLC0415

        names = []
        for operand in operands:
            if isinstance(operand, str):
                names.append(operand)
                continue
            value = operand if isinstance(operand, np.ndarray) else np.array(operand, self.dtype)
            names.append(f"w{len(self.weights)}")
            self.weights.append(numpy_helper.from_array(value, names[-1]))
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [name], **attributes))
        return name


rng = np.random.default_rng(0)


def f(*shape: int) -> Array:
    """Random numbers."""
    return rng.standard_normal(shape, np.float32)


def i(*values: int) -> Array:
    """Whole numbers, such as a shape."""
    return np.array(values, np.int64)
