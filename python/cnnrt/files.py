"""Files: whole or not at all when written, a clear error when one cannot be read."""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from .errors import FormatError


def open_model(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a model file for reading.

    Raises:
        FormatError: it does not exist, is a directory, or may not be read.
    """
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise FormatError(f"{path}: is a directory; expected a model file") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"{path}: cannot be read: {reason}") from None


class MappedFile:
    """A file mapped into memory for reading. Its pages are those of the system's file cache, which
    all processes share; they count as used only while they have been looked at.

    Who overwrites a mapped file changes it here too: replace it by renaming, as `atomic_write`
    does.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """
        Raises:
            FormatError: it does not exist or may not be read.
        """
        with open_model(path) as file:
            try:
                self._map: mmap.mmap | None = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                self.data = memoryview(self._map)
            except (OSError, ValueError):  # a pipe, an empty file, a file system without mapping
                self._map = None
                self.data = memoryview(file.read())
        self.first_released = 0
        """Where the bytes begin that `release` is about."""

    @property
    def mapped(self) -> bool:
        return self._map is not None

    def release(self) -> None:
        """Gives the pages back to the system; they come again when they are looked at."""
        if self._map is None or not hasattr(self._map, "madvise"):
            return
        start = -(-self.first_released // mmap.PAGESIZE) * mmap.PAGESIZE
        if start < len(self.data):
            self._map.madvise(mmap.MADV_DONTNEED, start, len(self.data) - start)


def atomic_write(path: str | os.PathLike[str], chunks: Iterable[bytes | memoryview]) -> None:
    """Writes a file so that `path` holds either what it held before or all of `chunks`.

    The bytes go to a temporary file in the same folder, reach the disk, and are then renamed; a
    kill, a full disk or an exception from `chunks` leaves `path` as it was.

    Raises:
        OSError: the folder does not exist, is not writable or full.
    """
    target = Path(os.path.realpath(path))  # through links, so that they go on being links
    if target.exists() and not target.is_file():  # a pipe, /dev/null: nothing to be renamed onto
        with target.open("wb") as file:
            file.writelines(chunks)
        return
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
    # os.open, not tempfile: the file gets the permissions that the umask gives any new file.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:  # an interruption too must not leave the temporary file behind
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut, where the system has a way to."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):  # some network file systems refuse; the file itself is complete
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
