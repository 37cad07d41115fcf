"""Pickling of models, for other processes.

A model goes as the path of its model.bin with a digest of the content, if the file is still what it
was. That is small, and the processes share the file's pages. Any other model goes as the bytes of a
model.bin. Either way the other process makes its own plans: packed weights depend on its CPU.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import formats
from ..errors import FormatError
from .files import Stamp, open_model, stamp_of

if TYPE_CHECKING:
    from ..model import Model


@dataclass(frozen=True)
class Origin:
    """The file that a model was loaded from."""

    path: str
    stamp: Stamp

    @staticmethod
    def of(source: object) -> Origin | None:
        """Of a model.bin given by path; None for ONNX files, whose data may lie in others, and for
        bytes."""
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
        """SHA-256 of the file; None if there is another one in its place now, or none."""
        try:
            same = stamp_of(self.path) == self.stamp
            return _sha256(self.path, self.stamp) if same else None
        except OSError:
            return None


def reduce(model: Model) -> tuple[Callable[..., Model], tuple[Any, ...]]:
    """A model as `pickle` keeps it: the function that restores it, and its arguments."""
    options = model.options()
    digest = model.origin.digest() if model.origin else None
    if model.origin and digest:
        return restore_file, (model.origin.path, digest, options)
    return restore_bytes, (formats.write_model(None, model.graph), options)


def restore_file(path: str, digest: str, options: dict[str, Any]) -> Model:
    """The model of a file.

    Raises:
        FormatError: the file is not what it was when the model was pickled, or is not there.
    """
    from ..model import load  # noqa: PLC0415  (that module imports this one)

    with open_model(path) as file:
        stamp = stamp_of(file.fileno())
    if _sha256(path, stamp) != digest:
        raise FormatError(
            f"{path}: has changed since the model was pickled; load and pickle it again, or load "
            "it from its bytes, which then travel in the pickle"
        )
    model = load(path, threads=options["threads"], algorithm=options["algorithm"])
    model.preprocessing, model.labels = options["preprocessing"], options["labels"]
    return model


def restore_bytes(data: bytes, options: dict[str, Any]) -> Model:
    """The model of a model.bin's bytes."""
    from ..model import Model  # noqa: PLC0415

    return Model(formats.read_model(data).graph, **options)


@functools.lru_cache(maxsize=16)
def _sha256(path: str, stamp: Stamp) -> str:  # noqa: ARG001  (the stamp is part of the cache's key)
    total = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()
