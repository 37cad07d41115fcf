"""ONNX TensorProto -> array, with data inside the file or beside it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ... import dtypes
from ...errors import FormatError, UnsupportedOperator
from ...graph import Array
from ...ops.narrow import NARROW
from ...process.limits import MAX_RANK
from ...storage.files import map_file
from ...weights.lazy import lazy
from ...weights.widen import from_bfloat16

if TYPE_CHECKING:
    from onnx import TensorProto

BFLOAT16 = dtypes.BFLOAT16.code
DTYPES = {code: str(dtype) for code, dtype in dtypes.BY_CODE.items() if code != BFLOAT16}
"""TensorProto.DataType to the name of the dtype, for dtypes that tensors of a graph have."""

NARROW_NAMES = {
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4_e2m1fn",
    24: "float8_e8m0fnu",
    25: "uint2",
    26: "int2",
}
"""Dtypes that NumPy does not have: `ops.narrow` says how they are read."""
BITS = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2, 16: 16}
"""Bits of an element in a file, if it is not 8."""
STORED = {BFLOAT16: "uint16", dtypes.BOOL.code: "uint8"}
"""Storage dtypes of those that NumPy lacks, or whose values NumPy does not expect: as a bool any
byte but 0 is true."""

MAX_MAPPED = 64
"""Maximum number of mapped files beside the model. Each takes a file handle; further ones are read.
(Exporters write one file, or one for each tensor.)"""


def dtype_name(code: int, at: str) -> str:
    """The name of a dtype by its number in ONNX.

    Raises:
        UnsupportedOperator: cnnrt does not have it.
    """
    if code in NARROW_NAMES:
        return str(NARROW[NARROW_NAMES[code]].carrier)
    if code not in DTYPES:
        from onnx import TensorProto  # noqa: PLC0415  (an optional dependency)

        known = code in TensorProto.DataType.values()
        name = f" ({TensorProto.DataType.Name(code).lower()})" if known else ""
        raise UnsupportedOperator(
            f"{at}: has ONNX data type {code}{name}; supported: {', '.join(DTYPES.values())}"
        )
    return DTYPES[code]


class Storage:
    """The bytes outside of the message that hold tensors, mapped if they are files."""

    def __init__(self, own: memoryview | None = None, path: Path | None = None) -> None:
        """
        Args:
            own: the bytes that the message was read from.
            path: path of the model's file. External data must not leave its folder, or that of the
                file that it is a link to: Hugging Face's cache links models and data into one
                store. None: there is no file, and no external data.
        """
        self.own = own
        self.folder = None if path is None else path.parent
        self.more = [] if path is None else [path.resolve().parent]
        self.location = os.urandom(16).hex()
        """The location given to tensors in `own`; no file can know it."""
        self._files: dict[str, memoryview] = {}

    def add(self, files: Mapping[str, bytes]) -> None:
        """Takes files by their locations from memory; those on disk are not looked at."""
        self._files.update({location: memoryview(data) for location, data in files.items()})

    def find(self, tensor: TensorProto, size: int, at: str) -> memoryview:
        """The bytes of a tensor with external data.

        Raises:
            FormatError: their file is outside of the model's folder, absent, or too short.
        """
        fields = {entry.key: entry.value for entry in tensor.external_data}
        location = str(fields.get("location", ""))  # bytes where it is not UTF-8
        kind = "raw" if location == self.location else "external"
        try:
            offset = int(fields.get("offset", "0"))
            length = int(fields.get("length", size))
            if offset < 0 or length != size:
                raise FormatError(
                    f"{at}: expected {size} bytes of {kind} data, got {length} at {offset}"
                )
            if kind == "raw" and self.own is not None:
                return self.own[offset : offset + size]
            part = self._part(location, offset, size, at)
        except (OSError, ValueError, OverflowError) as error:
            raise FormatError(f"{at}: its data in {location!r} cannot be read: {error}") from None
        if len(part) < size:
            raise FormatError(
                f"{at}: expected {size} bytes of external data at {offset} of {location!r}, "
                "which is shorter"
            )
        return part

    def _part(self, location: str, offset: int, size: int, at: str) -> memoryview:
        """Bytes of a file beside the model, cut off at its end."""
        if location not in self._files:
            path = self._path(location, at)
            if len(self._files) >= MAX_MAPPED:
                with path.open("rb") as file:
                    there = max(0, path.stat().st_size - offset)
                    file.seek(offset)
                    return memoryview(file.read(min(size, there)))
            self._files[location] = map_file(path)
        return self._files[location][offset : offset + size]

    def _path(self, location: str, at: str) -> Path:
        """A file beside the model."""
        if self.folder is None:
            raise FormatError(
                f"{at}: its data are in {location!r}; load the model by its path, not from bytes"
            )
        # Both separators, and drives, on every system: a file means the same everywhere.
        parts = location.replace("\\", "/").split("/")
        inside = bool(location) and parts[0] and ".." not in parts and ":" not in parts[0]
        path = (self.folder / location).resolve()
        allowed = inside and any(
            path.is_relative_to(f.resolve()) for f in (self.folder, *self.more)
        )
        if not allowed:
            raise FormatError(f"{at}: its data are in {location!r}, outside of the model's folder")
        if not path.is_file():
            raise FormatError(f"{at}: its data are in {location!r}; there is no such file")
        return path


def to_array(tensor: TensorProto, at: str, storage: Storage) -> Array:
    """The value of a tensor.

    Args:
        tensor: the tensor, with raw, typed or external data.
        at: its place, for errors.
        storage: the external data.

    Returns:
        An array; if it is mapped from a file, it is read-only and may begin at any address.

    Raises:
        FormatError: its data are missing, too short or too long, or lie elsewhere.
        UnsupportedOperator: its dtype is none of NumPy's.
    """
    from onnx import TensorProto, numpy_helper  # noqa: PLC0415  (an optional dependency)

    dtype = np.dtype(dtype_name(tensor.data_type, at))
    shape = tuple(tensor.dims)
    if len(shape) > MAX_RANK or min(shape, default=0) < 0:
        raise FormatError(f"{at}: has the shape {list(shape)}")
    array: Array
    try:
        outside = tensor.data_location == TensorProto.EXTERNAL
        if outside and tensor.data_type in NARROW_NAMES and tensor.data_type != BFLOAT16:
            size = -(-math.prod(shape) * BITS.get(tensor.data_type, 8) // 8)
            data = storage.find(tensor, size, at)
            inside = TensorProto(data_type=tensor.data_type, dims=shape, raw_data=bytes(data))
            array = numpy_helper.to_array(inside)
        elif outside:
            stored = np.dtype(STORED.get(tensor.data_type, dtype))
            data = storage.find(tensor, math.prod(shape) * stored.itemsize, at)
            array = np.frombuffer(data, stored.newbyteorder("<")).reshape(shape)
            if tensor.data_type == BFLOAT16:
                array = lazy(shape, dtype, from_bfloat16, array)
        else:
            array = numpy_helper.to_array(tensor)
        if array.dtype != dtype:
            array = array.astype(dtype)
    except FormatError:
        raise
    except Exception as error:  # the helper raises whatever NumPy did
        raise FormatError(f"{at}: shape {list(shape)} does not fit its data: {error}") from None
    if array.shape != shape:
        raise FormatError(
            f"{at}: expected {dtype}{list(shape)}, got {array.dtype}{list(array.shape)}"
        )
    return array
