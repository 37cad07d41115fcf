"""Requests and answers of the Open Inference Protocol as arrays."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..dtypes import BFLOAT16, DTYPES, DType
from ..graph import Array, TensorSpec
from .errors import RequestError

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bfloat16": "BF16",
}
"""The protocol's names of element types."""

_BY_DATATYPE: dict[str, DType] = {
    datatype: DTYPES[name] for name, datatype in DATATYPES.items() if name in DTYPES
}

Bytes = bytes | memoryview
"""The body of a request."""

LENGTH_HEADER = "Inference-Header-Content-Length"
"""The header with the bytes of JSON in a body, before binary tensors."""

MAX_RANK = 8
MAX_BYTES = 1 << 62
"""Bytes of a tensor, with its empty axes taken for one; beyond them NumPy makes no array."""


@dataclass
class InferRequest:
    """The inputs of a request, and the form in which it wants its outputs."""

    inputs: dict[str, Array]
    outputs: list[str]
    """The names of the requested outputs, in order; none: all."""
    binary: dict[str, bool] = field(default_factory=dict)
    """True for outputs requested as bytes; others follow `binary_default`."""
    binary_default: bool = False
    id: str = ""


def datatype(dtype: DType) -> str:
    """The protocol's name of an element type."""
    return DATATYPES[dtype.name]


def whole_number(text: str) -> int | None:
    """The number that ASCII digits write; None for other texts, and above 10**18."""
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        return None
    return int(text)


def tensor_metadata(spec: TensorSpec) -> dict[str, Any]:
    """An input or output as model metadata has it: free sizes are -1."""
    shape = [size if isinstance(size, int) else -1 for size in spec.shape]
    return {"name": spec.name, "datatype": datatype(spec.dtype), "shape": shape}


def parse_infer(
    body: Bytes, header_length: str | None, specs: Sequence[TensorSpec]
) -> InferRequest:
    """The arrays of an inference request.

    Args:
        body: JSON, then the bytes of binary tensors in the order of the inputs.
        header_length: bytes of the JSON as `LENGTH_HEADER` states them; None: all.
        specs: the inputs of the model.

    Raises:
        RequestError: the body is not such a request, or does not fit the model.
    """
    length = len(body)
    if header_length is not None:
        stated = whole_number(header_length)
        if stated is None or stated > len(body):
            raise RequestError(
                400, f"{LENGTH_HEADER} is {header_length!r}; the body has {len(body)} bytes"
            )
        length = stated
    document = _document(bytes(body[:length]))
    known = {spec.name: spec for spec in specs}
    data, at = memoryview(body), length
    arrays: dict[str, Array] = {}
    for item in _objects(document, "inputs", required=True):
        name = _text(item, "name", "an input")
        if name not in known:
            raise RequestError(
                400, f"the model has no input {name!r}; it takes {', '.join(known) or 'none'}"
            )
        if name in arrays:
            raise RequestError(400, f"input {name!r} is given twice")
        dtype, shape = _type_and_shape(item, name)
        if dtype != known[name].dtype:
            expected = datatype(known[name].dtype)
            raise RequestError(400, f"input {name!r} is {datatype(dtype)}; expected {expected}")
        parameters = _object(item, "parameters", name)
        _refuse_shared_memory(parameters, name)
        if "binary_data_size" in parameters:
            size = parameters["binary_data_size"]
            if not _is_int(size) or not 0 <= size <= len(data) - at:
                raise RequestError(400, f"input {name!r}: binary_data_size {size!r} does not fit")
            arrays[name] = _from_bytes(data[at : at + size], dtype, shape, name)
            at += size
        else:
            arrays[name] = _from_json(item.get("data"), dtype, shape, name)
    if at != len(data):
        raise RequestError(400, f"{len(data) - at} bytes follow the last binary tensor")
    parameters = _object(document, "parameters", "the request")
    request = InferRequest(arrays, [], id=_id(document))
    request.binary_default = bool(parameters.get("binary_data_output", False))
    for item in _objects(document, "outputs", required=False):
        name = _text(item, "name", "an output")
        options = _object(item, "parameters", name)
        _refuse_shared_memory(options, name)
        if options.get("classification"):
            raise RequestError(
                400, f"output {name!r}: classification is not supported; POST an image to classify"
            )
        request.outputs.append(name)
        if "binary_data" in options:
            request.binary[name] = bool(options["binary_data"])
    return request


def format_infer(
    model: str, version: str, request: InferRequest, outputs: Mapping[str, tuple[DType, Array]]
) -> tuple[bytes, int | None]:
    """The body of an answer; the bytes of its JSON if binary tensors follow, else None."""
    described: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, (dtype, array) in outputs.items():
        item: dict[str, Any] = {
            "name": name,
            "datatype": datatype(dtype),
            "shape": list(array.shape),
        }
        if request.binary.get(name, request.binary_default):
            data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
            item["parameters"] = {"binary_data_size": len(data)}
            tail.append(data)
        else:
            item["data"] = _to_json(dtype, array)
        described.append(item)
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id:
        document["id"] = request.id
    document["outputs"] = described
    text = json.dumps(document, separators=(",", ":")).encode()
    return (text + b"".join(tail), len(text)) if tail else (text, None)


def from_raw(data: bytes, name: str, code: str, shape: Sequence[int], spec: TensorSpec) -> Array:
    """The array of a raw gRPC tensor.

    Raises:
        RequestError: type or size do not fit.
    """
    dtype, checked = _type_and_shape({"datatype": code, "shape": list(shape)}, name)
    if dtype != spec.dtype:
        raise RequestError(400, f"input {name!r} is {code}; expected {datatype(spec.dtype)}")
    return _from_bytes(memoryview(data), dtype, checked, name)


def from_values(values: Any, name: str, code: str, shape: Sequence[int], spec: TensorSpec) -> Array:
    """The array of a gRPC tensor whose elements are a list.

    Raises:
        RequestError: type or number of elements do not fit.
    """
    dtype, checked = _type_and_shape({"datatype": code, "shape": list(shape)}, name)
    if dtype != spec.dtype:
        raise RequestError(400, f"input {name!r} is {code}; expected {datatype(spec.dtype)}")
    return _from_json(list(values), dtype, checked, name)


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text, parse_constant=_not_a_number)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the request is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise RequestError(400, "the request is JSON, but no object")
    return document


def _not_a_number(text: str) -> float:
    return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}[text]


def _objects(document: dict[str, Any], key: str, *, required: bool) -> list[dict[str, Any]]:
    found = document.get(key)
    if found is None and not required:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise RequestError(400, f"{key!r} must be a list of objects")
    return found


def _object(item: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    found = item.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise RequestError(400, f"{where}: {key!r} must be an object")
    return found


def _text(item: dict[str, Any], key: str, where: str) -> str:
    found = item.get(key)
    if not isinstance(found, str):
        raise RequestError(400, f"{where} has no {key!r}, or one that is no text")
    return found


def _id(document: dict[str, Any]) -> str:
    found = document.get("id", "")
    if not isinstance(found, str):
        raise RequestError(400, "'id' must be a text")
    return found


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _type_and_shape(item: dict[str, Any], name: str) -> tuple[DType, tuple[int, ...]]:
    code = item.get("datatype")
    if not isinstance(code, str) or code not in _BY_DATATYPE:
        known = ", ".join(_BY_DATATYPE)
        raise RequestError(400, f"input {name!r}: datatype {code!r} is none of {known}")
    shape = item.get("shape")
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_RANK
        or not all(_is_int(size) and 0 <= size < 1 << 40 for size in shape)
    ):
        raise RequestError(400, f"input {name!r}: its shape must be a list of sizes, not {shape!r}")
    dtype = _BY_DATATYPE[code]
    if math.prod(max(size, 1) for size in shape) * dtype.itemsize > MAX_BYTES:
        raise RequestError(400, f"input {name!r}: no tensor has the shape {shape!r}")
    return dtype, tuple(shape)


def _refuse_shared_memory(parameters: dict[str, Any], name: str) -> None:
    if "shared_memory_region" in parameters:
        raise RequestError(400, f"{name!r}: shared memory regions are not supported")


def _from_bytes(data: memoryview, dtype: DType, shape: tuple[int, ...], name: str) -> Array:
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise RequestError(
            400,
            f"input {name!r} has {len(data)} bytes; {datatype(dtype)}{list(shape)} has {expected}",
        )
    array = np.frombuffer(data, dtype.numpy.newbyteorder("<")).reshape(shape)
    return array.astype(dtype.numpy, copy=False)


def _from_json(data: Any, dtype: DType, shape: tuple[int, ...], name: str) -> Array:
    if not isinstance(data, list):
        raise RequestError(400, f"input {name!r} has neither 'data' nor binary data")
    flat = _flat(data, name)
    if len(flat) != math.prod(shape):
        raise RequestError(
            400, f"input {name!r} has {len(flat)} elements; {list(shape)} has {math.prod(shape)}"
        )
    whole = dtype.kind in "iu"
    kinds: tuple[type, ...] = (bool,) if dtype.kind == "b" else (int,) if whole else (int, float)
    for value in flat:
        if not isinstance(value, kinds) or (isinstance(value, bool) and dtype.kind != "b"):
            raise RequestError(400, f"input {name!r}: {value!r} is no element of {datatype(dtype)}")
    try:
        if dtype == BFLOAT16:
            bits = np.array(flat, np.float32).view(np.uint32)
            return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).reshape(shape)
        return np.array(flat, dtype.numpy).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise RequestError(400, f"input {name!r}: {error}") from None


def _flat(data: list[Any], name: str) -> list[Any]:
    """The elements of nested lists, row by row."""
    for _ in range(MAX_RANK):
        if not any(isinstance(item, list) for item in data):
            return data
        if not all(isinstance(item, list) for item in data):
            raise RequestError(400, f"input {name!r}: lists and numbers stand side by side")
        data = [value for item in data for value in item]
    raise RequestError(400, f"input {name!r}: lists are nested deeper than {MAX_RANK}")


def _to_json(dtype: DType, array: Array) -> list[Any]:
    """The elements in order; a float is written so that it reads back as the same number."""
    if dtype == BFLOAT16:
        array = (array.astype(np.uint32) << 16).view(np.float32)
    flat = array.reshape(-1)
    if flat.dtype.kind == "f":
        return [float(value) for value in flat.astype(np.float64)]
    found: list[Any] = flat.tolist()
    return found
