"""The files that networks are read from: model.bin (`safetensors`) and ONNX (`onnx`)."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from .. import import_on_demand, importing
from ..errors import FormatError
from ..preprocessing.descriptions import describe
from ..storage.files import map_file, open_model
from ..tasks.recognise import of_metadata
from . import foreign
from .compiled import Compiled
from .metadata import Document, described
from .safetensors import read_model, write_model
from .sources import Source, is_message, path_or_bytes

__all__ = ["Compiled", "Document", "Source", "read", "read_model", "write_model"]


def read(source: Source, *, verify: bool = False) -> Document:
    """Reads a network; the content of the file tells its kind.

    Args:
        source: a path, bytes (bytearray, memoryview), a file open for reading in binary mode, or an
            onnx.ModelProto.
        verify: as in `read_model`; ONNX files have no digests.

    Raises:
        FormatError: there is no such file, it is of no kind that cnnrt reads, or is damaged.
        UnsupportedOperator: the network needs operators that cnnrt does not have.
        ImportError: it is an ONNX file and the package `onnx` is missing.
    """
    if is_message(source):
        return _read_onnx(source, "ONNX model", verify)
    given = path_or_bytes(source)
    if isinstance(given, bytes):
        start, at = given[: foreign.LENGTH], "model"
    else:
        at = str(given)
        with open_model(given) as file:
            try:
                start = file.read(foreign.LENGTH)
            except OSError as error:
                raise FormatError(f"{at}: cannot be read: {error.strerror}") from None
    if not start:
        raise FormatError(f"{at}: is empty; expected a model")
    if start[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        return read_model(given, verify=verify)
    if problem := foreign.explain(given, start):
        raise FormatError(f"{at}: {problem}")
    if start[:1] == b"\x08" or at.lower().endswith(".onnx") or _is_message(given):
        return _read_onnx(given, at, verify)
    raise FormatError(
        f"{at}: is neither a model.bin nor an ONNX file; it begins with {start[:16]!r}"
    )


def _read_onnx(source: Any, at: str, verify: bool) -> Document:
    if verify:
        raise FormatError(f"{at}: is no model.bin; only those have digests to be verified by")
    importer = import_on_demand(".formats.onnx.importer")  # only needed here
    graph, metadata = importer.read_onnx_model(source)
    found = described(graph, metadata, at)
    if any(key.startswith("cnnrt.") for key in metadata):
        return found
    path = source if isinstance(source, (str, os.PathLike)) else None
    told = describe(metadata, path, graph)
    task = of_metadata(metadata)
    if task and task.family == "detr" and told.preprocessing and told.preprocessing.pad is not None:
        # ultralytics stretches pictures for RT-DETR, and letterboxes them for YOLO.
        size = told.preprocessing.size
        told = told._replace(preprocessing=replace(told.preprocessing, pad=None, resize=size))
    return found._replace(**told._asdict(), task=task)


def _is_message(source: str | os.PathLike[str] | bytes) -> bool:
    """True if the bytes are an ONNX model that does not begin with its ir_version."""
    with importing:
        from .onnx.wire import is_model  # noqa: PLC0415  (only needed here)

    return is_model(memoryview(source) if isinstance(source, bytes) else map_file(source))
