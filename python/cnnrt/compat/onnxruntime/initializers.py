"""Constants of a model that come from the calling program, or go into a file beside the model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...dtypes import BY_CODE
from ...errors import CnnrtError, FormatError
from ...formats.onnx.document import parse
from ...formats.onnx.tensors import Storage, to_array
from ...formats.onnx.writer import write_onnx
from ...graph import Graph
from .errors import InvalidArgument, status
from .values import unwrapped

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

FILE_NAME = "session.optimized_model_external_initializers_file_name"
MIN_BYTES = "session.optimized_model_external_initializers_min_size_in_bytes"
DEFAULT_MIN_BYTES = 1024


def with_initializers(
    source: str | bytes, values: Mapping[str, Any], files: Mapping[str, bytes]
) -> ModelProto:
    """The model with some of its constants replaced before anything is derived from them.

    Args:
        source: path or bytes of an ONNX file.
        values: arrays or `OrtValue`s by name of an initialiser.
        files: contents of files of external data by their names, in place of files on disk.

    Raises:
        InvalidArgument: there is no such initialiser, or one of another shape or type.
        FormatError: data that are not replaced are missing.
    """
    import onnx.numpy_helper  # noqa: PLC0415  (an optional dependency)

    parse(source)  # refuses what is no model, in cnnrt's words
    path = Path(source) if isinstance(source, str) else None
    proto: ModelProto = onnx.ModelProto.FromString(path.read_bytes() if path else source)
    at, storage = source if isinstance(source, str) else "ONNX model", Storage(path=path)
    storage.add(files)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, value in values.items():
        array = np.asarray(unwrapped(value))
        if name not in tensors or not _fits(tensors[name], array):
            raise _unfit(name, _described(tensors.get(name)), array)
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(array, name))
    for name, tensor in tensors.items():
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            array = np.asarray(to_array(tensor, f"{at}: initialiser {name!r}", storage))
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, name))
    return proto


def _fits(tensor: TensorProto, array: Any) -> bool:
    dtype = BY_CODE.get(tensor.data_type)
    return dtype is not None and tuple(tensor.dims) == array.shape and dtype.numpy == array.dtype


def _described(tensor: TensorProto | None) -> str:
    if tensor is None:
        return "none"
    dtype = BY_CODE.get(tensor.data_type)
    return f"{dtype or 'another type'}{list(tensor.dims)}"


def with_constants(graph: Graph, values: Mapping[str, Any]) -> Graph:
    """A copy of a network with some of its constants replaced.

    Args:
        graph: of a model.bin, in which nothing is derived from constants as it is read.
        values: arrays or `OrtValue`s by name of a constant.

    Raises:
        InvalidArgument: there is no such constant, or one of another shape or type.
    """
    graph = graph.copy()
    for name, value in values.items():
        array = np.asarray(unwrapped(value))
        old = graph.constants.get(name)
        if old is None or (old.shape, old.dtype) != (array.shape, array.dtype):
            raise _unfit(name, "none" if old is None else f"{old.dtype}{list(old.shape)}", array)
        graph.constants[name] = array
    return graph


def _unfit(name: str, expected: str, array: Any) -> CnnrtError:
    found = f"{array.dtype}{list(array.shape)}"
    return status(InvalidArgument, f"initializer {name!r}: the model has {expected}, not {found}")


def write(path: str | os.PathLike[str], graph: Graph, entries: Mapping[str, str]) -> None:
    """Writes a network as ONNX.

    Args:
        path: of the file.
        graph: the network, as it was read.
        entries: configuration entries of the session: the name of a file in the same folder for
            large constants, and their least number of bytes.

    Raises:
        UnsupportedOperator, GraphError, OSError: see `write_onnx`.
        FormatError: the name of the file leads out of the folder.
    """
    beside = entries.get(FILE_NAME, "")
    if not beside:
        write_onnx(path, graph)
        return
    import onnx  # noqa: PLC0415  (an optional dependency)

    if Path(beside).name != beside:
        raise FormatError(f"{beside!r}: expected the name of a file in the model's folder")
    proto = onnx.ModelProto.FromString(write_onnx(None, graph) or b"")
    (Path(path).parent / beside).unlink(missing_ok=True)  # onnx appends to a file that is there
    onnx.save_model(
        proto,
        os.fspath(path),
        save_as_external_data=True,
        location=beside,
        size_threshold=int(entries.get(MIN_BYTES, DEFAULT_MIN_BYTES)),
    )
