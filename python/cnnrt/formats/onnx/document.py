"""Parses the bytes of an ONNX file into a ModelProto that the importer can take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ... import ops
from ...errors import FormatError, UnsupportedOperator
from ...process.extras import missing
from ...process.locks import importing
from ...storage.files import file_of, map_file
from . import opsets
from .functions import Key, expand, key_of, split_domain
from .operator_names import snake_case
from .tensors import Storage
from .wire import without_tensors

if TYPE_CHECKING:
    from onnx import ModelProto

WITHOUT_NODE = ("Constant",)
"""Operators that the importer reads without making a node for them."""


def parse(
    source: str | os.PathLike[str] | bytes | ModelProto,
) -> tuple[ModelProto, str, Storage]:
    """The model, its name in errors, and the storage of its large tensors."""
    try:
        with importing:  # all that this package uses of onnx
            import onnx.inliner  # noqa: PLC0415  (an optional dependency)
            import onnx.numpy_helper  # noqa: PLC0415
            import onnx.shape_inference  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(missing("reading ONNX", "onnx", error)) from error

    if isinstance(source, onnx.ModelProto):
        return source, "ONNX model", Storage()
    if isinstance(source, bytes):
        data, at, path = memoryview(source), "ONNX model", None
    else:
        data, at, path = map_file(source), str(source), Path(source)
    storage = Storage(data, path)
    message = without_tensors(data, storage.location)
    if (file := file_of(data)) is not None:
        file.release()  # pages come in groups of 16: reading the frames brought in a third of them
    try:
        return onnx.ModelProto.FromString(message or bytes(data)), at, storage
    except Exception as error:  # protobuf's DecodeError, a class of a package of its own
        raise FormatError(f"{at}: is not an ONNX model, or is cut off: {error}") from None


def checked(proto: ModelProto, at: str) -> ModelProto:
    """The model, after checking that it is one, and has nothing that cnnrt never reads.

    Raises:
        FormatError, UnsupportedOperator: see `importer.read_onnx`.
    """
    if not proto.graph.output:
        raise FormatError(f"{at}: is not an ONNX model: it has no outputs")
    opset = opset_of(proto, at)
    if opset > opsets.LATEST:
        raise FormatError(
            f"{at}: is of opset {opset}, cnnrt knows them up to {opsets.LATEST}; export it with a "
            "lower opset_version"
        )
    if proto.graph.sparse_initializer:
        raise UnsupportedOperator(f"{at}: has sparse initialisers, which cnnrt does not read")
    return expand(proto, at, _is_supported)


def _is_supported(key: Key) -> bool:
    """True if the importer takes nodes of this operator, if their attributes allow it."""
    domain, op_type = key
    domain, _ = split_domain(domain)
    op = f"{domain}.{op_type}" if domain else snake_case(op_type)
    known = op in opsets.ADAPTERS or (not domain and op in ops.OPS)
    return known or (not domain and op_type in WITHOUT_NODE)


def opset_of(proto: ModelProto, at: str = "ONNX model") -> int:
    """The version of ONNX's own operators that the model uses.

    Raises:
        FormatError: it uses such operators but does not state it, as it must since IR version 3.
    """
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions and proto.ir_version >= 3:
        for node in proto.graph.node:
            if key_of(node)[0] == "":
                raise FormatError(
                    f"{at}: has no opset_import for the operators of ONNX, such as "
                    f"{node.op_type!r}, which mean different things in different opsets; export "
                    "it again, or set its opset_import"
                )
    return max(versions, default=1 if proto.ir_version < 3 else opsets.LATEST)
