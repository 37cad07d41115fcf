"""The attributes of ONNX nodes as Python values, checked by ONNX's own schemas."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FormatError, UnsupportedOperator
from ...graph import Array
from .legacy import UNLISTED
from .tensors import NARROW_NAMES, dtype_name

if TYPE_CHECKING:
    from onnx import AttributeProto, NodeProto, TensorProto
    from onnx.defs import OpSchema

    ArrayOf = Callable[[TensorProto, str], Array]

DTYPE_ATTRIBUTES = ("to", "dtype", "output_datatype", "output_dtype", "softmax_precision")
"""Attributes whose value is a dtype's number; 0 stands for none."""


def schema_of(proto: NodeProto, opset: int, at: str) -> OpSchema | None:
    """ONNX's schema of an operator, by which the numbers of inputs and outputs were checked."""
    from onnx import defs  # noqa: PLC0415  (an optional dependency)

    try:
        schema = defs.get_schema(proto.op_type, opset, "")
    except defs.SchemaError:
        if proto.op_type in UNLISTED:
            return None
        raise UnsupportedOperator(f"opset {opset} of ONNX has no such operator") from None
    inputs, outputs = len(proto.input), len(proto.output)
    if not schema.min_input <= inputs <= schema.max_input or outputs > schema.max_output:
        raise FormatError(
            f"{at}: has {inputs} inputs and {outputs} outputs; expected {schema.min_input} to "
            f"{schema.max_input} and up to {schema.max_output}"
        )
    return schema


def attributes_of(
    proto: NodeProto, schema: OpSchema | None, at: str, array_of: ArrayOf
) -> dict[str, Any]:
    """Attributes as Python values: tensors as numbers, numbers of dtypes as names.

    Without a schema they are checked where the node is adapted.

    Args:
        array_of: makes a tensor's array; its second argument names it in errors.
    """
    attributes: dict[str, Any] = {}
    for attribute in proto.attribute:
        name = attribute.name
        if name in attributes:
            raise FormatError(f"{at}: has the attribute {name!r} twice")
        if schema is not None and name not in schema.attributes:
            raise UnsupportedOperator(f"ONNX does not have the attribute {name!r}")
        if attribute.type in (attribute.GRAPH, attribute.TYPE_PROTO):
            continue  # subgraphs are read apart; types of optionals show in their values
        kind: Any = schema.attributes[name].type if schema is not None else None
        if schema is not None and attribute.type != kind.value:
            raise FormatError(f"{at}: the attribute {name!r} is of another type than in ONNX")
        if proto.op_type == "ConstantOfShape" and name == "value":
            array = array_of(attribute.t, f"node {proto.name!r}: value")
            if array.size != 1:
                raise FormatError(f"{at}: its value has {array.size} elements; expected 1")
            attributes |= {"value": array.item(), "dtype": array.dtype.name}
        elif name in DTYPE_ATTRIBUTES and attribute.type == attribute.INT:
            if name in ("to", "output_dtype") and attribute.i in NARROW_NAMES:
                attributes[name] = NARROW_NAMES[attribute.i]
            elif attribute.i or name == "to":
                attributes[name] = dtype_name(attribute.i, f"attribute {name!r}")
        else:
            attributes[name] = attribute_value(attribute)
    return attributes


def attribute_value(attribute: AttributeProto) -> Any:
    """The value of an attribute that is no tensor and no graph.

    Raises:
        UnsupportedOperator: it is a tensor or a graph.
    """
    kinds = attribute.AttributeType
    if attribute.type == kinds.FLOAT:
        return _decimal(attribute.f)
    if attribute.type == kinds.INT:
        return attribute.i
    if attribute.type == kinds.STRING:
        return attribute.s.decode("utf-8", "replace")
    if attribute.type == kinds.FLOATS:
        return [_decimal(value) for value in attribute.floats]
    if attribute.type == kinds.INTS:
        return list(attribute.ints)
    if attribute.type == kinds.STRINGS:
        return [value.decode("utf-8", "replace") for value in attribute.strings]
    raise UnsupportedOperator(f"attribute {attribute.name!r} is no number and no text")


def _decimal(value: float) -> float:
    """The shortest decimal number that is this float32: 0.1 rather than 0.10000000149."""
    return float(str(np.float32(value)))
