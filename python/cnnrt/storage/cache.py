"""What is kept on disk because it costs time to compute again.

Files are named after the contents that their results depend on, so that none is ever out of date,
and are written whole, so that several processes can share them. One that is damaged counts as
absent; a folder that cannot be written is done without. Any of them may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..graph import Array
from ..process.locks import importing
from .files import atomic_write


def cache_folder() -> Path:
    """`CNNRT_CACHE`, or cnnrt in the user's cache folder."""
    folder = os.environ.get("CNNRT_CACHE")
    if folder is not None:
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnrt"


def digest(*parts: bytes | memoryview) -> bytes:
    """32 bytes that no other contents have."""
    total = hashlib.blake2b(digest_size=32)
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.digest()


def read_arrays(file: Path) -> dict[str, Array] | None:
    """The arrays of a file; None if it is missing or damaged."""
    with importing:
        from safetensors import SafetensorError  # noqa: PLC0415  (only needed here)
        from safetensors.numpy import load  # noqa: PLC0415

    try:
        return load(file.read_bytes())
    except (OSError, SafetensorError, ValueError):
        return None


def write_arrays(file: Path, arrays: Mapping[str, Array]) -> None:
    """Keeps arrays, if that is possible."""
    with importing:
        from safetensors.numpy import save  # noqa: PLC0415

    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    write_bytes(file, content)


def write_bytes(file: Path, content: bytes) -> None:
    """Keeps a file, if that is possible."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, [content])
    except OSError:
        return
