"""The test cases of the ONNX standard that are one node each, for the tests of the operators.

A case is taken if cnnrt has its operator, NumPy its dtypes, and shape inference tells its results'
types. Random numbers are not compared: those of the cases come from another generator. The other
operators are tested in whole networks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cnnrt.graph import DTYPES, Node
from cnnrt.ops import OPS
from cnnrt.ops.common import ByValue, RuntimeTyped

onnx = pytest.importorskip("onnx")

DTYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "softmax_precision")
NAMES = {name.replace("_", ""): name for name in OPS}

REFUSED = ("training_dropout", "training_default", "test_dropout_random_old", "opset19")
"""Cases with these in their names are not supported: dropout in training, and attributes of older
opsets, which the importer takes away."""


def attribute_value(value: Any) -> Any:
    """An attribute of ONNX as the graph has it: dtypes by name, bytes as text."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, tuple)) or type(value).__module__.startswith("google"):
        return [attribute_value(v) for v in value]
    return value


def convert(proto: Any) -> Node | None:
    """The node of an ONNX model, or None if cnnrt cannot have it."""
    op = NAMES.get(proto.op_type.lower())
    if op is None:
        return None
    attributes = {}
    for attribute in proto.attribute:
        value = attribute_value(onnx.helper.get_attribute_value(attribute))
        if attribute.name in DTYPE_ATTRIBUTES:
            name = onnx.TensorProto.DataType.Name(value).lower() if value else "none"
            value = {"float": "float32", "double": "float64", "none": None}.get(name, name)
            if value not in (*DTYPES, None):
                return None
        if isinstance(value, onnx.TensorProto):
            array = onnx.numpy_helper.to_array(value)
            attributes["dtype"] = str(array.dtype)
            value = array.item()
        attributes[attribute.name] = value
    return Node(op, proto.name or op, list(proto.input), list(proto.output), attributes)


def not_inferred(node: Node) -> bool:
    """True if only a run tells the types of the results, such as sequences and branches."""
    return isinstance(OPS[node.op], RuntimeTyped) and not isinstance(OPS[node.op], ByValue)


def scalar_array(value: Any) -> Any:
    """NumPy's scalars as arrays; anything else as it is."""
    return np.asarray(value) if isinstance(value, np.generic) else value


def cases() -> Iterator[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    for case in found:
        graph = case.model.graph if case.model else None
        if graph is None or len(graph.node) != 1 or graph.initializer:
            continue
        node = convert(graph.node[0])
        if node is None or not_inferred(node) or not OPS[node.op].pure:
            continue
        for data in case.data_sets:
            feeds, results = ([scalar_array(a) for a in part] for part in data)
            arrays = [*feeds, *results]
            if all(isinstance(a, np.ndarray) and a.dtype.name in DTYPES for a in arrays):
                names = [i.name for i in graph.input]
                yield pytest.param(
                    node,
                    dict(zip(names, feeds, strict=False)),
                    dict(zip([o.name for o in graph.output], results, strict=True)),
                    case.rtol,
                    case.atol,
                    id=case.name,
                )


CASES = list(cases())
