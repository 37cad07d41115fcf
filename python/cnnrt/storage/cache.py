"""Cache on disk for results that cost time to compute again.

Files are named after the contents that their results depend on, so none is ever out of date. They
are written whole, so several processes can share them. A file that is damaged, strange or of
another user counts as absent. Nothing is kept if there is no home, or if the folder cannot be
written. Any file may be deleted at any time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..graph import Array
from ..process.locks import importing
from .files import atomic_write

DIGEST_BYTES = 32
MAX_BYTES = 1 << 30
"""Largest file that is read: the features of 1024 images, 250,000 for each."""


def cache_folder() -> Path | None:
    """The folder of `CNNRT_CACHE`, or cnnrt in the user's cache folder. None if that is empty, or
    if there is no home folder, as for a container's user without an entry in its list."""
    chosen = os.environ.get("CNNRT_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen else None
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not folder.is_absolute():  # as the standard has it
        try:
            folder = Path.home() / ".cache"
        except RuntimeError:
            return None
    return folder / "cnnrt" if folder.is_absolute() else None


def digest(*parts: bytes | memoryview) -> bytes:
    """A digest of these contents, of `DIGEST_BYTES` bytes."""
    with importing:
        import hashlib  # noqa: PLC0415  (its OpenSSL takes 3 MB, and few processes need it)

    total = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.digest()


def read_bytes(file: Path, max_bytes: int = MAX_BYTES) -> bytes | None:
    """The content of a file; None if it is absent or longer than `max_bytes`. None also if it is no
    plain file, or if anybody but this user and the administrator owns it or may write to it."""
    # A link is not followed, and a pipe is not waited for.
    flags = os.O_RDONLY | sum(getattr(os, f"O_{name}", 0) for name in _FLAGS)
    try:
        with os.fdopen(os.open(file, flags), "rb") as opened:
            status = os.fstat(opened.fileno())
            if not _is_trusted(status) or status.st_size > max_bytes:
                return None
            return opened.read(max_bytes)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None


def is_kept(file: Path, size: int) -> bool:
    """True if a file of this size is there and `read_bytes` would trust it."""
    try:
        status = file.lstat()
    except (OSError, ValueError):
        return False
    return _is_trusted(status) and status.st_size == size


def _is_trusted(status: os.stat_result) -> bool:
    """True for a plain file of this user or the administrator that nobody else may write to."""
    if not stat.S_ISREG(status.st_mode):
        return False
    return not hasattr(os, "geteuid") or (
        status.st_uid in (os.geteuid(), 0) and not status.st_mode & stat.S_IWOTH
    )


_FLAGS = ("BINARY", "CLOEXEC", "NOFOLLOW", "NONBLOCK")


def files_of(folder: Path) -> list[Path]:
    """The files of arrays in a folder, sorted; none if it is not there or may not be read."""
    try:
        return sorted(folder.glob("*.safetensors"))
    except (OSError, ValueError):
        return []


def read_arrays(file: Path) -> dict[str, Array] | None:
    """The arrays of a file; None if it is missing or damaged, or not to be trusted."""
    with importing:
        from safetensors import SafetensorError  # noqa: PLC0415  (only needed here)
        from safetensors.numpy import load  # noqa: PLC0415

    content = read_bytes(file)
    try:
        return None if content is None else load(content)
    except (SafetensorError, ValueError, KeyError, TypeError):  # the last two: of strange dtypes
        return None


def write_arrays(file: Path, arrays: Mapping[str, Array]) -> None:
    """Stores arrays, if that is possible."""
    with importing:
        from safetensors.numpy import save  # noqa: PLC0415

    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    write_bytes(file, content)


def write_bytes(file: Path, content: bytes | memoryview) -> None:
    """Stores a file, if that is possible."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.parent.is_dir() and (file.is_file() or not file.exists()):
            atomic_write(file, [content])
    except (OSError, ValueError):
        return
