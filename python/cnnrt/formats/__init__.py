"""The files that networks are read from: model.bin (`safetensors`) and ONNX (`onnx`)."""

from __future__ import annotations

import os

from ..errors import FormatError
from ..process.locks import importing
from ..storage.files import open_model
from .compiled import Compiled
from .safetensors import Document, described, read_model, write_model

__all__ = ["Compiled", "Document", "read", "read_model", "write_model"]


def read(source: str | os.PathLike[str] | bytes) -> Document:
    """Reads a network from a file or its bytes; what kind it is, its content says.

    Raises:
        FormatError: there is no such file, it is of no kind that cnnrt reads, or is damaged.
        UnsupportedOperator: the network needs operators that cnnrt does not have.
        ImportError: it is an ONNX file and the package `onnx` is missing.
    """
    start, at = _start(source)
    # safetensors: eight bytes of length and JSON. ONNX: first the field ir_version, of type varint.
    if start[8:9] == b"{":
        return read_model(source)
    if start[:1] == b"\x08" or (at.endswith(".onnx") and start):
        with importing:
            from .onnx.importer import read_onnx_model  # noqa: PLC0415  (only needed here)

        graph, metadata = read_onnx_model(source)
        return described(graph, metadata, at)
    if not start:
        raise FormatError(f"{at}: is empty; expected a model")
    raise FormatError(f"{at}: is neither a model.bin nor an ONNX file; it begins with {start!r}")


def _start(source: str | os.PathLike[str] | bytes) -> tuple[bytes, str]:
    """The first bytes of a file, and what errors call it."""
    if isinstance(source, bytes):
        return source[:16], "model"
    with open_model(source) as file:
        return file.read(16), str(source)
