"""Kinds, types and shapes of the values of an ONNX model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import UnsupportedOperator
from ...graph import Dim, Kind
from ...storage import validate

if TYPE_CHECKING:
    from onnx import ModelProto, TypeProto, ValueInfoProto

Shape = tuple[Dim, ...]


def kind_of(value: ValueInfoProto, at: str) -> tuple[Kind, TypeProto]:
    """The kind of a value, and the type of the tensors in it.

    Raises:
        UnsupportedOperator: it is a map, a sparse tensor, or another kind that cnnrt does not have.
    """
    kind: Kind = "tensor"
    type_ = value.type
    if type_.HasField("optional_type"):
        kind, type_ = "optional", type_.optional_type.elem_type
    if type_.HasField("sequence_type"):
        kind = "sequence" if kind == "tensor" else kind
        type_ = type_.sequence_type.elem_type
    if type_.WhichOneof("value") not in (None, "tensor_type"):
        raise UnsupportedOperator(f"{at}: is no tensor, sequence or optional of tensors")
    return kind, type_


def shapes_noted(proto: ModelProto) -> dict[str, Shape | None]:
    """The shapes that the file notes, by name; None for those that it leaves out."""
    graph = proto.graph
    return {
        value.name: shape_of(value) for value in (*graph.input, *graph.value_info, *graph.output)
    }


def shape_of(value: ValueInfoProto) -> Shape | None:
    """The shape of a tensor; sizes that are not known get a name from the tensor's."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims: list[Dim] = []
    for i, dim in enumerate(value.type.tensor_type.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value > 0:
            dims.append(dim.dim_value)
        else:  # 0 and -1 are how some exporters say that a size is free
            free = dim.dim_param
            known = isinstance(free, str) and 0 < len(free) <= validate.MAX_NAME
            dims.append(free if known and validate.is_text(free) else f"{value.name}_{i}")
    return tuple(dims)


def shape_text(shape: Shape | None) -> str:
    return "of unknown shape" if shape is None else f"[{', '.join(map(str, shape))}]"
