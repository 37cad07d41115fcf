"""Sources of a model: a path, bytes, an open file or a protobuf message."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from ..errors import FormatError

if TYPE_CHECKING:
    from onnx import ModelProto

Bytes: TypeAlias = bytes | bytearray | memoryview
Source: TypeAlias = "str | os.PathLike[str] | Bytes | BinaryIO | ModelProto"

EXPECTED = "a path, bytes, a file open for reading in binary mode, or an onnx.ModelProto"


def is_message(source: Any) -> bool:
    """True if this is an onnx.ModelProto; does not import onnx."""
    kind = type(source)
    return kind.__name__ == "ModelProto" and kind.__module__.startswith("onnx")


def path_or_bytes(source: Any) -> str | os.PathLike[str] | bytes:
    """The path of a source, or its bytes if it has none.

    Raises:
        FormatError: it is nothing that a model can be read from.
    """
    if isinstance(source, str) and source.split("://")[0].lower() in ("http", "https", "s3", "hf"):
        raise FormatError(f"{source}: is an address; download the file and give its path")
    if isinstance(source, str | os.PathLike | bytes):
        return source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if callable(getattr(source, "read", None)):
        data = source.read()
        if isinstance(data, Bytes):
            return bytes(data)
        raise FormatError(f"the file gives {type(data).__name__}; expected {EXPECTED}")
    if callable(getattr(source, "state_dict", None)):
        raise FormatError("is a PyTorch module; write it with cnnrt.export(module, inputs, path)")
    raise FormatError(f"expected {EXPECTED}; got {type(source).__name__}")
