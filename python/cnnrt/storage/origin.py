"""The file that a model was loaded from, for pickling it.

A model goes as the path of its model.bin with a digest of the content, if the file is still what it
was. That is small, and the processes share the file's pages. Any other model goes as the bytes of a
model.bin. Either way the other process makes its own plans: packed weights depend on its CPU.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from .. import importing
from ..errors import FormatError
from .files import Stamp, open_model, stamp_of


@dataclass(frozen=True)
class Origin:
    """The file that a model was loaded from."""

    path: str
    stamp: Stamp

    @staticmethod
    def of(source: object) -> Origin | None:
        """The origin of a model.bin given by path. None for bytes, and for ONNX files, whose data
        may lie in other files."""
        if not isinstance(source, str | os.PathLike):
            return None
        try:
            path = os.path.realpath(source)
            if not Path(path).is_file():
                return None
            with Path(path).open("rb") as file:
                model_bin = file.read(9)[8:] == b"{"
                return Origin(path, stamp_of(file.fileno())) if model_bin else None
        except (OSError, ValueError):  # ValueError: a null byte in the name
            return None

    def digest(self) -> str | None:
        """SHA-256 of the file; None if it has been replaced or removed."""
        try:
            same = stamp_of(self.path) == self.stamp
            return _sha256(self.path, self.stamp) if same else None
        except OSError:
            return None


def check_digest(path: str, digest: str) -> None:
    """Compares a file with the digest that was taken when a model of it was pickled.

    Raises:
        FormatError: the file is not what it was, or is not there.
    """
    with open_model(path) as file:
        stamp = stamp_of(file.fileno())
    if _sha256(path, stamp) != digest:
        raise FormatError(
            f"{path}: has changed since the model was pickled; load and pickle it again, or load "
            "it from its bytes, which then travel in the pickle"
        )


@functools.lru_cache(maxsize=16)
def _sha256(path: str, stamp: Stamp) -> str:  # noqa: ARG001  (the stamp is part of the cache's key)
    with importing:
        import hashlib  # noqa: PLC0415  (its OpenSSL takes 3 MB, and few processes need it)

    total = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()
