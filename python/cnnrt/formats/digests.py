"""Digests of a model file: what `cnnrt.load(..., verify=True)` compares.

SHA-256 of the bytes of each tensor, and of the header as JSON with sorted keys, without spaces and
without these digests. They are no signature: anybody who can change a file can change its digests
too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from .. import importing
from ..errors import FormatError
from ..storage import validate
from ..storage.files import MappedFile

KEY = "cnnrt.digests"


def document_of(
    header: Mapping[str, Any], tensors: Mapping[str, Iterable[memoryview]]
) -> dict[str, Any]:
    """The digests of a file.

    Args:
        header: its header without the digests.
        tensors: the bytes of each tensor, in pieces.
    """
    return {"header": _header(header), "tensors": {n: _bytes(p) for n, p in tensors.items()}}


def check(data: memoryview, at: str) -> None:
    """Compares a file, whose header has been checked, with its digests.

    Raises:
        FormatError: it has none, or has changed since it was written.
    """
    begin = 8 + int.from_bytes(data[:8], "little")
    header = validate.parse_json(bytes(data[8:begin]), f"{at}: header")
    text = header["__metadata__"].pop(KEY, None)
    if text is None:
        raise FormatError(
            f"{at}: has no digests to be verified by; `python -m cnnrt convert` writes a file that "
            "has them"
        )
    place = f"{at}: {KEY}"
    table = validate.record(validate.parse_json(text, place), place, "header tensors")
    written = validate.mapping(table["tensors"], place, validate.string)
    _compare(table["header"], _header(header), f"{at}: its header")
    del header["__metadata__"]
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        part = data[begin + first : begin + last]
        _compare(written.get(name), _bytes([part]), f"{at}: tensor {name!r}")
        if isinstance(data.obj, MappedFile):
            data.obj.release()


def _compare(written: Any, found: str, what: str) -> None:
    if written != found:
        raise FormatError(f"{what}: has changed since it was written: its SHA-256 differs")


def _header(header: Mapping[str, Any]) -> str:
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return _bytes([memoryview(text.encode())])


def _bytes(pieces: Iterable[memoryview]) -> str:
    with importing:
        import hashlib  # noqa: PLC0415  (its OpenSSL takes 3 MB, and few processes need it)

    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()
