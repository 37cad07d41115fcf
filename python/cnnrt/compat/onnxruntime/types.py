"""Element types in the notation of ONNX Runtime, and what it says of a model's values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...dtypes import BY_CODE, DType, as_dtype
from ...graph import ANY_SHAPE, TensorSpec
from .errors import InvalidArgument, status

if TYPE_CHECKING:
    from onnx import TypeProto, ValueInfoProto

NAMES = {"float32": "float", "float64": "double"}
"""Element types that ONNX Runtime names otherwise than NumPy."""
_CODE_NAMES = {
    8: "string",
    14: "complex64",
    15: "complex128",
    17: "float8e4m3fn",
    18: "float8e4m3fnuz",
    19: "float8e5m2",
    20: "float8e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4e2m1",
}


@dataclass(frozen=True)
class NodeArg:
    """Name, shape and type of an input or output."""

    name: str
    shape: list[Any]
    """A number for a fixed size, a text for a named one, None for one without a name."""
    type: str
    """Such as "tensor(float)", "seq(tensor(int64))" or "optional(tensor(float))"."""

    def __str__(self) -> str:
        return f"NodeArg(name='{self.name}', type='{self.type}', shape={self.shape})"


def element_name(dtype: DType) -> str:
    """The name of an element type: "float" for float32."""
    return NAMES.get(dtype.name, dtype.name)


def element_type(value: Any) -> DType:
    """The type that a client means by a dtype, by a name of either notation, or by ONNX's number.

    Raises:
        InvalidArgument: no tensor of cnnrt has such elements.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if value not in BY_CODE:
            raise status(InvalidArgument, f"tensors of ONNX's type {value} are not supported")
        return BY_CODE[value]
    if isinstance(value, str):
        named = value.removeprefix("tensor(").removesuffix(")")
        value = {short: long for long, short in NAMES.items()}.get(named, named)
    try:
        return as_dtype(value)
    except TypeError as error:
        raise status(InvalidArgument, str(error)) from None


def of_spec(spec: TensorSpec) -> NodeArg:
    """An input or output as cnnrt knows it."""
    inner = f"tensor({element_name(spec.dtype)})"
    wrapped = {"tensor": "{}", "sequence": "seq({})", "optional": "optional({})"}[spec.kind]
    shape = [] if spec.shape == ANY_SHAPE else list(spec.shape)
    return NodeArg(spec.name, shape, wrapped.format(inner))


def of_value(value: ValueInfoProto) -> NodeArg:
    """An input or output as an ONNX file states it."""
    return NodeArg(value.name, _dims(value.type), _text(value.type))


def _text(type_: TypeProto) -> str:
    if type_.HasField("sequence_type"):
        return f"seq({_text(type_.sequence_type.elem_type)})"
    if type_.HasField("optional_type"):
        return f"optional({_text(type_.optional_type.elem_type)})"
    code = type_.tensor_type.elem_type
    name = element_name(BY_CODE[code]) if code in BY_CODE else _CODE_NAMES.get(code, "undefined")
    return f"tensor({name})"


def _dims(type_: TypeProto) -> list[Any]:
    sizes: list[Any] = []
    for dim in type_.tensor_type.shape.dim:
        if dim.HasField("dim_value"):
            sizes.append(dim.dim_value if dim.dim_value >= 0 else None)
        else:
            sizes.append(dim.dim_param or None)
    return sizes
