"""model.bin: a safetensors file whose metadata hold the graph and what belongs to it as JSON.

docs/format.md specifies it. Nothing in a file is code, and everything in it is checked: reading
gives a consistent model or raises an error.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..dtypes import BOOL, DTYPES, FLOAT16, FLOAT32, DType, as_dtype
from ..errors import FormatError, GraphError
from ..graph import Array, Graph
from ..preprocessing import Preprocessing
from ..process import limits
from ..storage import validate
from ..storage.files import MappedFile, atomic_write, map_file
from ..tasks.task import Task
from ..weights.lazy import files_of, lazy
from ..weights.packed import PREFIX
from ..weights.widen import WIDENED, narrow
from . import digests
from .compiled import Compiled
from .graph_json import graph_from_json, graph_to_json
from .metadata import Document, described, dumps, labels_of, metadata_of, parsed

FORMAT_VERSION, COMPILED_VERSION = 1, 2
"""Versions of a model file and of a compiled one. They go up if earlier readers would misread a
file."""

MAX_HEADER = 64 * 2**20
"""Maximum bytes of a header; that of a network with 1000 nodes has about 0.3 million."""
ALIGNMENT = 64
"""Alignment in bytes of the data of the tensors, so that a mapped file can be used in place."""

IRREGULAR = {"bool": "BOOL", "bfloat16": "BF16"}
CODES = {
    dtype: IRREGULAR.get(name, f"{dtype.kind.upper()}{8 * dtype.itemsize}")
    for name, dtype in DTYPES.items()
}
"""Names of element types in safetensors: F32, I8, BF16."""
OF_CODE = {code: dtype for dtype, code in CODES.items()}
PART = 16 << 20
"""Bytes of a tensor that are written at a time."""
SLACK = 64
"""Readable bytes after a packed weight: the kernels read whole vectors."""


def write_model(
    path: str | os.PathLike[str] | None,
    graph: Graph,
    *,
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] | None = None,
    notice: str | None = None,
    float16: bool = False,
    multi_label: bool = False,
    task: Task | None = None,
    compiled: Compiled | None = None,
) -> bytes | None:
    """Writes a model; with `path` None returns the bytes instead.

    The same model gives the same bytes. A file appears under its name only when it is complete.

    Args:
        path: path of the file, or None.
        graph: the network, its nodes in topological order.
        preprocessing: what is done to pictures before the network sees them.
        labels: names of the classes, in the order of the network's output.
        notice: where the weights come from and their licence.
        float16: stores float32 constants of two axes and more in half the space, unless a value
            is beyond the range of float16. They are widened when read; only precision is lost.
        multi_label: whether several classes may hold at once.
        task: the network's task, and how its outputs are read.
        compiled: packed weights, for a compiled file.

    Raises:
        GraphError: the graph is inconsistent, or holds what a file cannot.
        OSError: the file cannot be written.
    """
    own = metadata_of(
        preprocessing=preprocessing,
        labels=labels,
        notice=notice,
        multi_label=multi_label,
        task=task,
    )
    chunks = _chunks(graph, own, float16, compiled)
    if path is None:
        return b"".join(chunks)
    atomic_write(path, chunks)
    return None


def read_model(source: str | os.PathLike[str] | bytes, *, verify: bool = False) -> Document:
    """Reads a model from a file or its bytes.

    Args:
        source: the file.
        verify: reads all bytes of the file and compares them with its digests.

    Raises:
        FormatError: there is no such file, it is none of cnnrt's, or is damaged; or `verify` is set
            and it has no digests.
        UnsupportedOperator: the model needs what this version does not run.
    """
    at = "model" if isinstance(source, bytes) else str(source)
    data = memoryview(source) if isinstance(source, bytes) else map_file(source)
    metadata, entries = _check_header(data, at)
    if verify:
        digests.check(data, at)
    graph, dtypes = graph_from_json(parsed(metadata, "graph", at), f"{at}: cnnrt.graph")
    packed: dict[str, Array] = {}
    if "cnnrt.compiled" in metadata:
        names = [n for n in entries if n.startswith(PREFIX) and n not in dtypes]
        packed = {n: _packed(data, entries.pop(n), f"{at}: tensor {n!r}") for n in names}
    if odd := sorted(entries.keys() ^ dtypes.keys()):
        problem = "has no tensor" if odd[0] in dtypes else "is not one of the graph's constants"
        raise FormatError(f"{at}: {odd[0]!r} {problem}")
    for name, dtype in dtypes.items():
        place = f"{at}: tensor {name!r}"
        entry = entries[name]
        graph.constants[name] = _widened(_array(data, entry, place), entry.dtype, dtype, place)
    document = parsed(metadata, "compiled", at)
    if isinstance(data.obj, MappedFile) and entries:
        data.obj.first_released = min(entry.begin for entry in entries.values())
    return described(graph, metadata, at)._replace(
        compiled=document and Compiled.from_json(document, f"{at}: cnnrt.compiled", packed)
    )


def _chunks(
    graph: Graph, own: Mapping[str, str], float16: bool, compiled: Compiled | None
) -> Iterator[bytes | memoryview]:
    """The bytes of a file: length of the header, header, tensors."""
    from .. import __version__  # noqa: PLC0415  (the package imports this module)

    tensors = {name: _stored(array, name, float16) for name, array in graph.constants.items()}
    # As safetensors' own writer does: large elements first, so that each tensor is aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    if compiled:
        # First, as they are multiples of 64 bytes: each then begins on a line of its own.
        names = [*sorted(compiled.weights), *names]
        tensors |= {name: _Stored(FLOAT32, array) for name, array in compiled.weights.items()}
    metadata = {
        "cnnrt.format_version": dumps(COMPILED_VERSION if compiled else FORMAT_VERSION),
        **({"cnnrt.compiled": dumps(compiled.to_json())} if compiled else {}),
        "cnnrt.graph": dumps(graph_to_json(graph)),
        **own,
        "cnnrt.producer": dumps({"name": "cnnrt", "version": __version__}),
    }
    _check_written(metadata)
    header: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for name in names:
        dtype, array = tensors[name]
        header[name] = {
            "dtype": CODES[dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    written = digests.document_of(header, {name: _parts(tensors[name].array) for name in names})
    metadata[digests.KEY] = dumps(written)
    text = dumps(header).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in names:
        yield from _parts(tensors[name].array)


def _parts(array: Array) -> Iterator[memoryview]:
    """The bytes of a tensor. The pages that they were mapped from are given back part by part."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for begin in range(0, flat.size, PART):
        yield flat[begin : begin + PART].data
        for file in files_of(array):
            file.release()


def _check_written(metadata: Mapping[str, str]) -> None:
    """Reads the metadata back: a file that was written must be readable."""
    try:
        graph_from_json(parsed(metadata, "graph", "model"), "graph")
        labels_of(metadata, "model")
    except FormatError as error:
        raise GraphError(f"the model cannot be written: {error}") from None


class _Stored(NamedTuple):
    """A tensor to be written: its elements, and their type and shape."""

    dtype: DType
    array: Array


def _stored(array: Array, name: str, float16: bool) -> _Stored:
    """A constant as the file holds it: little-endian, contiguous, perhaps narrower."""
    if array.dtype.name not in DTYPES:
        raise GraphError(f"constant {name!r}: a file cannot hold the dtype {array.dtype}")
    if name == "__metadata__" or name.startswith(PREFIX):
        raise GraphError(f"a constant cannot be named {name!r} in a file: the name is reserved")
    read = narrow(array)
    if read and read.dtype in WIDENED:  # stored as it was read
        dtype, array = read.dtype, read.values
    else:
        dtype = as_dtype(array.dtype)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if float16 and dtype == FLOAT32 and array.ndim >= 2:
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        # A value that becomes infinite on the way is out of range; one that was so stays so.
        if np.array_equal(np.isinf(half), np.isinf(array)):
            return _Stored(FLOAT16, half)
    return _Stored(dtype, array)


def _widened(array: Array, stored: DType, dtype: DType, at: str) -> Array:
    """A tensor in the dtype that the graph requires: as stored, or float32 for a narrower float."""
    if stored == dtype:
        return array
    if stored in WIDENED and dtype == FLOAT32:
        return lazy(array.shape, np.float32, WIDENED[stored], array)
    raise FormatError(f"{at}: expected {dtype}, got {stored}")


class _Entry(NamedTuple):
    """A tensor in a file, from byte `begin` of the file on."""

    dtype: DType
    shape: list[int]
    begin: int
    nbytes: int


def _check_header(data: memoryview, at: str) -> tuple[Mapping[str, str], dict[str, _Entry]]:
    """The metadata and the tensors of a safetensors file; every byte of the file belongs to one."""
    size, start = len(data), bytes(data[:16])
    if not size:
        raise FormatError(f"{at}: is empty; expected a model")
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:9] != b"{" or not 2 <= length <= MAX_HEADER:
        raise FormatError(f"{at}: is not a model.bin; it begins with {start[:16]!r}")
    if 8 + length > size:
        raise FormatError(f"{at}: is cut off: its header alone has {length} bytes, the file {size}")
    table = validate.parse_json(bytes(data[8 : 8 + length]), f"{at}: header")
    if not isinstance(table, dict):
        validate.fail(f"{at}: header", "an object", table)
    metadata = validate.mapping(table.pop("__metadata__", {}), f"{at}: metadata", validate.string)
    entries = {name: _entry(e, 8 + length, f"{at}: tensor {name!r}") for name, e in table.items()}
    end = max((e.begin + e.nbytes for e in entries.values()), default=8 + length)
    if end != size:
        raise FormatError(
            f"{at}: is cut off or damaged: by its header it has {end} bytes, in fact {size}"
        )
    end = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].nbytes)):
        if entry.begin != end:
            raise FormatError(f"{at}: tensor {name!r}: does not begin where the one before it ends")
        end += entry.nbytes
    if "cnnrt.format_version" not in metadata:
        raise FormatError(
            f"{at}: is a safetensors file without a network (no 'cnnrt.graph' in its metadata); "
            "cnnrt.export and `python -m cnnrt convert` write files that have one"
        )
    version = validate.integer(
        parsed(metadata, "format_version", at), f"{at}: cnnrt.format_version", 1, 10**6
    )
    if version > COMPILED_VERSION:
        raise FormatError(
            f"{at}: has format version {version}, this cnnrt reads up to {COMPILED_VERSION}; "
            "pip install --upgrade cnnrt"
        )
    return metadata, entries


def _entry(value: Any, data: int, at: str) -> _Entry:
    """A tensor of the header, checked; `data` is where the tensors begin."""
    fields = validate.record(value, at, "dtype shape data_offsets")
    kind = validate.choice(fields["dtype"], f"{at}: dtype", tuple(OF_CODE))
    offsets = validate.listing(fields["data_offsets"], at, _size)
    shape = validate.listing(fields["shape"], at, _size)
    if len(offsets) != 2 or len(shape) > limits.MAX_RANK:
        raise FormatError(f"{at}: has offsets {offsets} and {len(shape)} axes")
    dtype = OF_CODE[kind]
    nbytes = math.prod(shape) * dtype.itemsize
    if offsets[1] - offsets[0] != nbytes:
        raise FormatError(f"{at}: has offsets {offsets}, but {nbytes} bytes by dtype and shape")
    return _Entry(dtype, shape, data + offsets[0], nbytes)


def _array(data: memoryview, entry: _Entry, at: str) -> Array:
    """A tensor in place; a copy only if NumPy needs it in another form."""
    dtype = entry.dtype.numpy
    flat = np.frombuffer(data[entry.begin : entry.begin + entry.nbytes], dtype.newbyteorder("<"))
    if not flat.flags.aligned:
        flat = flat.copy()
    if entry.dtype == BOOL:  # any byte but 0 is true, and only 1 is what NumPy takes for it
        flat = flat.view(np.uint8) != 0
    try:
        return flat.astype(dtype, copy=False).reshape(entry.shape)
    except ValueError as error:  # an empty one whose other sizes are beyond NumPy
        raise FormatError(f"{at}: has the shape {entry.shape}: {error}") from None


def _packed(data: memoryview, entry: _Entry, at: str) -> Array:
    """A packed weight: whole lines of float32."""
    if entry.dtype != FLOAT32 or len(entry.shape) != 1 or entry.nbytes % 64 or entry.begin % 64:
        raise FormatError(
            f"{at}: expected lines of 16 float32 from a multiple of 64 bytes on, got {entry.dtype} "
            f"{entry.shape} from byte {entry.begin} on"
        )
    if entry.begin + entry.nbytes + SLACK > len(data):
        padded = np.zeros(entry.shape[0] + SLACK // 4, np.float32)
        padded[: entry.shape[0]] = _array(data, entry, at)
        return padded[: entry.shape[0]]
    return _array(data, entry, at)


def _size(value: Any, at: str) -> int:
    return validate.integer(value, at, 0, 2**63 - 1)
