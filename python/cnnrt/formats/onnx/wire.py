"""The bytes of an ONNX file without its large tensors, which need no parser to be read.

protobuf's parser copies every tensor, and asking the message for it copies it again. So large raw
data are cut out first, and become external data that lie in the file itself. Only the frames of the
messages on the way are read (https://protobuf.dev/programming-guides/encoding/). If anything in
them is unusual, the whole file is left to the parser.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

LARGE = 4096
"""Minimum bytes of raw data that are cut out. Smaller tensors are few bytes in all, and no
weights."""
MAX_FIELDS = 1 << 18
"""Maximum number of fields that are read, in about 0.2 s. ResNet-152 has 1600."""
MAX_DEPTH = 50
"""Maximum depth of messages inside each other; protobuf's own limit is 100."""

INNER = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
}
"""Fields that hold messages with tensors in them, by message and by their numbers in onnx.proto."""
ONCE = {"model": (7,), "attribute": (5, 6)}
"""Fields of `INNER` that are not lists: the parser would merge two of them."""

RAW_DATA, DATA_LOCATION = 9, 14
PLAIN = (1, 2, 8, 12, 16)
"""Fields that may stand beside raw data: dims, data_type, name, doc_string, metadata_props."""

Pieces = list[bytes | memoryview]


class _Unusual(Exception):
    """Raised for anything that is left to the parser."""


class _Field(NamedTuple):
    number: int
    wire_type: int
    start: int
    key_end: int
    """End of the number and the wire type, where the length of the value begins."""
    begin: int
    end: int

    @property
    def large(self) -> bool:
        return self.wire_type == 2 and self.end - self.begin >= LARGE


def without_tensors(data: memoryview, location: str) -> bytes | None:
    """A model's bytes with external data in place of large raw data; None to take them as they are.

    Args:
        data: the model; any bytes.
        location: the location that the tensors get, beside their offset in `data`.
    """
    try:
        pieces = _Cutter(data, location).message("model", 0, len(data), 0)
    except _Unusual:
        return None
    return b"".join(pieces) if len(pieces) > 1 else None


MODEL = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
"""The fields of a model and their wire types."""


def is_model(data: memoryview) -> bool:
    """True if these bytes are the fields of an ONNX model, among them a graph."""
    try:
        fields = {f.number: f.wire_type for f in _Cutter(data, "").fields(0, len(data))}
    except _Unusual:
        return False
    return 7 in fields and fields.items() <= MODEL.items()


class _Cutter:
    def __init__(self, data: memoryview, location: str) -> None:
        self.data, self.location = data, location.encode()
        self.count = 0

    def message(self, kind: str, begin: int, end: int, depth: int) -> Pieces:
        """The message in bytes [begin, end), without large raw data."""
        if depth > MAX_DEPTH:
            raise _Unusual
        pieces: Pieces = []
        kept = begin
        met = set()
        for field in self.fields(begin, end):
            inner = INNER[kind].get(field.number)
            if inner and field.number in ONCE.get(kind, ()):
                if field.number in met:
                    raise _Unusual
                met.add(field.number)
            if inner is None or not field.large:
                continue
            if inner == "tensor":
                new = self.tensor(field.begin, field.end)
            else:
                new = self.message(inner, field.begin, field.end, depth + 1)
            if len(new) > 1:
                size = _varint(sum(map(len, new)))
                pieces += [self.data[kept : field.key_end], size, *new]
                kept = field.end
        return [*pieces, self.data[kept:end]]

    def tensor(self, begin: int, end: int) -> Pieces:
        """A tensor, with external data in place of large raw data."""
        fields = list(self.fields(begin, end))
        raw = [field for field in fields if field.number == RAW_DATA]
        if not any(field.large for field in raw):
            return [self.data[begin:end]]
        for field in fields:
            value = bytes(self.data[field.begin : field.begin + 1])
            here = field.number == DATA_LOCATION and value == b"\0"
            if field.number not in (*PLAIN, RAW_DATA) and not here:
                raise _Unusual
        if len(raw) > 1:
            raise _Unusual
        offset, size = raw[0].begin, raw[0].end - raw[0].begin
        entries = {b"location": self.location, b"offset": b"%d" % offset, b"length": b"%d" % size}
        external = b"".join(
            _bytes(13, _bytes(1, key) + _bytes(2, value)) for key, value in entries.items()
        )
        # At the end: of a data_location the last one counts.
        external += _varint(DATA_LOCATION << 3) + _varint(1)
        return [self.data[begin : raw[0].start], self.data[raw[0].end : end], external]

    def fields(self, at: int, end: int) -> Iterator[_Field]:
        """The fields in bytes [at, end), which all lie within."""
        while at < end:
            self.count += 1
            start = at
            key, at = self.varint(at, end, 5)
            number, wire_type, key_end = key >> 3, key & 7, at
            begin = at
            if wire_type == 2:
                length, begin = self.varint(at, end, 5)
                at = begin + length
            elif wire_type == 0:
                _, at = self.varint(at, end, 10)
            elif wire_type in (1, 5):
                at += 8 if wire_type == 1 else 4
            else:  # groups, which ONNX has none of
                raise _Unusual
            if not 0 < number < 1 << 29 or at > end or self.count > MAX_FIELDS:
                raise _Unusual
            yield _Field(number, wire_type, start, key_end, begin, at)

    def varint(self, at: int, end: int, max_bytes: int) -> tuple[int, int]:
        """A number of at most `max_bytes` bytes, and its end."""
        if at < end and self.data[at] < 128:  # most are
            return self.data[at], at + 1
        value = 0
        for i, byte in enumerate(self.data[at : min(end, at + max_bytes)]):
            value |= (byte & 127) << 7 * i
            if byte < 128:
                return value, at + i + 1
        raise _Unusual


def _varint(value: int) -> bytes:
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def _bytes(number: int, value: bytes) -> bytes:
    """A field of type bytes, string or message."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value
