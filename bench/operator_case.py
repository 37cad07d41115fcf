"""One operator as an ONNX model: a row of operators.py."""

from __future__ import annotations

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
        element = helper.np_dtype_to_tensor_dtype(self.x.dtype)
        results = ["y", "z"][: self.outputs]
        node = helper.make_node(self.op, names, results, name=self.op, **self.attributes)
        graph = helper.make_graph(
            [node],
            "operator",
            [helper.make_tensor_value_info("x", element, self.x.shape)],
            [onnx.ValueInfoProto(name="y")],
            weights,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return onnx.shape_inference.infer_shapes(model, check_type=True, data_prop=True)


rng = np.random.default_rng(0)


def f(*shape: int) -> Array:
    """Random numbers."""
    return rng.standard_normal(shape, np.float32)


def i(*values: int) -> Array:
    """Whole numbers, such as a shape."""
    return np.array(values, np.int64)
