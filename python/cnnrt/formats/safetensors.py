"""model.bin: a safetensors file whose metadata hold the graph and what belongs to it as JSON.

docs/format.md specifies it. Nothing in a file is code, and nothing in it is believed: whatever the
bytes, reading gives a model that is consistent or raises an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from ..errors import FormatError, GraphError
from ..files import atomic_write, open_model
from ..graph import Array, Graph
from ..preprocessing import Preprocessing
from .graph_json import graph_from_json, graph_to_json

FORMAT_VERSION = 1
"""Goes up when a file may say something that earlier readers would get wrong."""

MAX_HEADER = 64 * 2**20
"""Bytes of a header; that of a network with 1000 nodes is about 0.3 million."""
ALIGNMENT = 64
"""Bytes; where the data of the tensors begin, so that a mapped file can be used in place."""

DTYPES = {
    "bool": "BOOL",
    **{
        f"{kind}{bits}": f"{kind[0].upper()}{bits}"
        for kind in ("int", "uint")
        for bits in (8, 16, 32, 64)
    },
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
}
"""NumPy's names of dtypes, and those of safetensors."""


class Document(NamedTuple):
    """All that a model file holds."""

    graph: Graph
    preprocessing: Preprocessing | None
    labels: list[str] | None
    metadata: dict[str, Any]
    """`notice` and `producer`, where the file has them; and what other tools have added."""


def write_model(
    path: str | os.PathLike[str] | None,
    graph: Graph,
    *,
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] | None = None,
    notice: str | None = None,
    float16: bool = False,
) -> bytes | None:
    """Writes a model; with `path` None returns the bytes instead.

    The same model gives the same bytes. A file appears under its name only when it is complete.

    Args:
        path: where to.
        graph: the network, its nodes in topological order.
        preprocessing: what is done to pictures before the network sees them.
        labels: names of the classes, in the order of the network's output.
        notice: where the weights come from and their licence.
        float16: stores float32 constants of two axes and more in half the space, unless a value
            is beyond the range of float16. They are widened when read; only precision is lost.

    Raises:
        GraphError: the graph is inconsistent, or holds what a file cannot.
        OSError: the file cannot be written.
    """
    chunks = _chunks(graph, preprocessing, labels, notice, float16)
    if path is None:
        return b"".join(chunks)
    atomic_write(path, chunks)
    return None


def read_model(source: str | os.PathLike[str] | bytes) -> Document:
    """Reads a model from a file or its bytes.

    Raises:
        FormatError: there is no such file, it is none of cnnrt's, or is damaged.
        UnsupportedOperator: the model needs what this version does not run.
    """
    at = "model" if isinstance(source, bytes) else str(source)
    metadata = _check_header(source, at)
    graph, dtypes = graph_from_json(_json(metadata, "graph", at), f"{at}: cnnrt.graph")
    tensors = dict(_tensors(source, at))
    if odd := sorted(tensors.keys() ^ dtypes.keys()):
        problem = "has no tensor" if odd[0] in dtypes else "is not one of the graph's constants"
        raise FormatError(f"{at}: {odd[0]!r} {problem}")
    for name, dtype in dtypes.items():
        graph.constants[name] = _widened(tensors.pop(name), dtype, f"{at}: tensor {name!r}")
    return Document(
        graph,
        preprocessing=_preprocessing(metadata, at),
        labels=_labels(metadata, at),
        metadata=_others(metadata, at),
    )


def _chunks(
    graph: Graph,
    preprocessing: Preprocessing | None,
    labels: Sequence[str] | None,
    notice: str | None,
    float16: bool,
) -> Iterator[bytes | memoryview]:
    """The bytes of a file: length of the header, header, tensors."""
    from .. import __version__  # noqa: PLC0415  (the package imports this module)

    tensors = {name: _stored(array, name, float16) for name, array in graph.constants.items()}
    # As safetensors' own writer does: large elements first, so that each tensor is aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    documents: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "graph": graph_to_json(graph),
        "preprocessing": preprocessing and preprocessing.to_json(),
        "labels": None if labels is None else list(labels),
        "notice": notice,
        "producer": {"name": "cnnrt", "version": __version__},
    }
    metadata = {f"cnnrt.{k}": _dumps(v) for k, v in documents.items() if v is not None}
    _check_written(metadata)
    header: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for name in names:
        array = tensors[name]
        header[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = _dumps(header).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in names:
        yield tensors[name].tobytes()


def _dumps(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _check_written(metadata: Mapping[str, str]) -> None:
    """Reads the metadata back: a file that is written can be read."""
    try:
        graph_from_json(_json(metadata, "graph", "model"), "graph")
        _labels(metadata, "model")
    except FormatError as error:
        raise GraphError(f"the model cannot be written: {error}") from None


def _stored(array: Array, name: str, float16: bool) -> Array:
    """A constant as the file holds it: little-endian, contiguous, perhaps narrower."""
    if array.dtype.name not in DTYPES:
        raise GraphError(f"constant {name!r}: a file cannot hold the dtype {array.dtype}")
    if name == "__metadata__":
        raise GraphError("a constant cannot be named '__metadata__' in a file")
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if float16 and array.dtype == np.float32 and array.ndim >= 2:
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        # A value that becomes infinite on the way is out of range; one that was so stays so.
        if np.array_equal(np.isinf(half), np.isinf(array)):
            return half
    return array


def _widened(array: Array, dtype: np.dtype[Any], at: str) -> Array:
    """A tensor in the dtype that the graph wants: its own, or float32 for float16."""
    if array.dtype == dtype:
        return array
    if array.dtype == np.float16 and dtype == np.float32:
        return array.astype(dtype)
    raise FormatError(f"{at}: expected {dtype}, got {array.dtype}")


def _check_header(source: str | os.PathLike[str] | bytes, at: str) -> Mapping[str, str]:
    """The metadata of a safetensors file, after the checks that need no library."""
    size, start, header = _header(source)
    if not size:
        raise FormatError(f"{at}: is empty; expected a model")
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:9] != b"{" or not 2 <= length <= MAX_HEADER:
        raise FormatError(f"{at}: is not a model.bin; it begins with {start[:16]!r}")
    if 8 + length > size:
        raise FormatError(f"{at}: is cut off: its header alone has {length} bytes, the file {size}")
    table = checks.parse_json(header, f"{at}: header")
    if not isinstance(table, dict):
        checks.fail(f"{at}: header", "an object", table)
    metadata = checks.mapping(table.pop("__metadata__", {}), f"{at}: metadata", checks.string)
    end = 0
    for name, entry in table.items():
        place = f"{at}: tensor {name!r}"
        fields = checks.record(entry, place, "dtype shape data_offsets")
        checks.choice(fields["dtype"], f"{place}: dtype", tuple(DTYPES.values()))
        offsets = checks.listing(fields["data_offsets"], place, _size)
        shape = checks.listing(fields["shape"], place, _size)
        if len(offsets) != 2 or len(shape) > checks.MAX_RANK:
            raise FormatError(f"{place}: has offsets {offsets} and {len(shape)} axes")
        end = max(end, offsets[1])
    if 8 + length + end != size:
        raise FormatError(
            f"{at}: is cut off or damaged: by its header it has {8 + length + end} bytes, "
            f"in fact {size}"
        )
    if "cnnrt.format_version" not in metadata:
        raise FormatError(
            f"{at}: is a safetensors file without a network (no 'cnnrt.graph' in its metadata); "
            "cnnrt.export and `python -m cnnrt convert` write files that have one"
        )
    version = checks.integer(
        _json(metadata, "format_version", at), f"{at}: cnnrt.format_version", 1, 10**6
    )
    if version > FORMAT_VERSION:
        raise FormatError(
            f"{at}: has format version {version}, this cnnrt reads up to {FORMAT_VERSION}; "
            "pip install --upgrade cnnrt"
        )
    return metadata


def _size(value: Any, at: str) -> int:
    return checks.integer(value, at, 0, 2**63 - 1)


def _header(source: str | os.PathLike[str] | bytes) -> tuple[int, bytes, bytes]:
    """Size of the file, its first bytes, and the header that should follow the first eight."""
    if isinstance(source, bytes):
        length = min(int.from_bytes(source[:8], "little"), MAX_HEADER)
        return len(source), source[:16], source[8 : 8 + length]
    with open_model(source) as file:
        start = file.read(16)
        length = min(int.from_bytes(start[:8], "little"), MAX_HEADER)
        file.seek(8)
        header = file.read(length)
        return file.seek(0, os.SEEK_END), start, header


def _tensors(source: str | os.PathLike[str] | bytes, at: str) -> Iterator[tuple[str, Array]]:
    """Name and value of each tensor, read by the safetensors library."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415  (only needed here)
    from safetensors.numpy import load  # noqa: PLC0415

    try:
        if isinstance(source, bytes):
            yield from load(source).items()
            return
        with safe_open(Path(source), framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  (not a dict)
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())  # it may quote line breaks of the file
        raise FormatError(f"{at}: its tensors cannot be read: {reason}") from None


def _json(metadata: Mapping[str, str], key: str, at: str) -> Any:
    text = metadata.get(f"cnnrt.{key}")
    return None if text is None else checks.parse_json(text, f"{at}: cnnrt.{key}")


def _preprocessing(metadata: Mapping[str, str], at: str) -> Preprocessing | None:
    document = _json(metadata, "preprocessing", at)
    if document is None:
        return None
    return Preprocessing.from_json(document, f"{at}: cnnrt.preprocessing")


def _labels(metadata: Mapping[str, str], at: str) -> list[str] | None:
    document = _json(metadata, "labels", at)
    if document is None:
        return None
    return checks.listing(document, f"{at}: cnnrt.labels", checks.label)


def _others(metadata: Mapping[str, str], at: str) -> dict[str, Any]:
    """What else the metadata say: cnnrt's own notes parsed, other tools' as they are."""
    others: dict[str, Any] = {k: v for k, v in metadata.items() if not k.startswith("cnnrt.")}
    for key in ("notice", "producer"):
        if (document := _json(metadata, key, at)) is not None:
            others[key] = document
    return others
