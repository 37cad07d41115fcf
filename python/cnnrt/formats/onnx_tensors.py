"""ONNX TensorProto -> array, with data inside the file or beside it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FormatError, UnsupportedOperator
from ..graph import Array
from ..limits import MAX_RANK

if TYPE_CHECKING:
    from onnx import TensorProto

DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
"""TensorProto.DataType -> NumPy's name, of those that cnnrt has."""

BFLOAT16 = 16
"""Read as float32, of which it is the upper half: NumPy does not have it."""


def dtype_name(code: int, at: str) -> str:
    """The name of a dtype by its number in ONNX.

    Raises:
        UnsupportedOperator: cnnrt does not have it.
    """
    if code == BFLOAT16:
        return "float32"
    if code not in DTYPES:
        from onnx import TensorProto  # noqa: PLC0415  (an optional dependency)

        known = code in TensorProto.DataType.values()
        name = f" ({TensorProto.DataType.Name(code).lower()})" if known else ""
        raise UnsupportedOperator(
            f"{at}: has ONNX data type {code}{name}; supported: {', '.join(DTYPES.values())}"
        )
    return DTYPES[code]


def to_array(tensor: TensorProto, at: str, folder: Path | None) -> Array:
    """The value of a tensor.

    Args:
        tensor: the tensor, with raw, typed or external data.
        at: where it is, for errors.
        folder: that of the model's file, which external data must not leave; None: there is none.

    Raises:
        FormatError: its data are missing, too short or too long, or lie elsewhere.
        UnsupportedOperator: its dtype is none of NumPy's.
    """
    from onnx import TensorProto, numpy_helper  # noqa: PLC0415  (an optional dependency)

    dtype = np.dtype(dtype_name(tensor.data_type, at))
    shape = tuple(tensor.dims)
    if len(shape) > MAX_RANK or min(shape, default=0) < 0:
        raise FormatError(f"{at}: has the shape {list(shape)}")
    if tensor.data_location == TensorProto.EXTERNAL:
        stored = np.dtype(np.uint16) if tensor.data_type == BFLOAT16 else dtype
        data = _external(tensor, math.prod(shape) * stored.itemsize, at, folder)
        little = np.frombuffer(data, stored.newbyteorder("<")).reshape(shape)
        if stored != dtype:
            little = (little.astype(np.uint32) << 16).view(np.float32)
        return little.astype(dtype, copy=False)
    try:
        array: Array = numpy_helper.to_array(tensor)
        if tensor.data_type == BFLOAT16:
            array = array.astype(dtype)
    except Exception as error:  # the helper raises whatever NumPy did
        raise FormatError(f"{at}: shape {list(shape)} does not fit its data: {error}") from None
    if array.dtype != dtype or array.shape != shape:
        raise FormatError(
            f"{at}: expected {dtype}{list(shape)}, got {array.dtype}{list(array.shape)}"
        )
    return array


def _external(tensor: TensorProto, size: int, at: str, folder: Path | None) -> bytes:
    """The bytes of a tensor that lie in another file.

    Raises:
        FormatError: the file is outside of `folder`, absent, or too short.
    """
    fields = {entry.key: entry.value for entry in tensor.external_data}
    location = str(fields.get("location", ""))  # bytes where it is not UTF-8
    if folder is None:
        raise FormatError(
            f"{at}: its data are in {location!r}; load the model by its path, not from bytes"
        )
    # Both kinds of separators and drives, whatever the system: a file means the same everywhere.
    parts = location.replace("\\", "/").split("/")
    inside = bool(location) and parts[0] and ".." not in parts and ":" not in parts[0]
    base = folder.resolve()
    try:
        path = (base / location).resolve()
        if not inside or not path.is_relative_to(base):
            raise FormatError(f"{at}: its data are in {location!r}, outside of the model's folder")
        offset = int(fields.get("offset", "0"))
        length = int(fields.get("length", size))
        if offset < 0 or length != size:
            raise FormatError(
                f"{at}: expected {size} bytes of external data, got {length} at {offset}"
            )
        if not path.is_file() or path.stat().st_size < offset + size:
            raise FormatError(
                f"{at}: expected {size} bytes at {offset} of {path}; the file is absent or shorter"
            )
        with path.open("rb") as file:
            file.seek(offset)
            data: bytes = file.read(size)
            return data
    except (OSError, ValueError, OverflowError) as error:
        raise FormatError(f"{at}: its data in {location!r} cannot be read: {error}") from None
