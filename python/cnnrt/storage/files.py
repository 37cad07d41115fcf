"""Files: whole or not at all when written, a clear error when one cannot be read."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import FormatError

Stamp = tuple[int, int, int, int]
"""Device, inode, size and time of change of a file; one with the same stamp is not read again."""


def stamp_of(file: str | os.PathLike[str] | int) -> Stamp:
    """The stamp of a file, given by its path or descriptor.

    Raises:
        OSError: there is no such file.
    """
    s = os.fstat(file) if isinstance(file, int) else Path(file).stat()
    return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns


def open_model(path: str | os.PathLike[str]) -> BinaryIO:
    """Opens a model file for reading.

    Raises:
        FormatError: it does not exist, may not be read, or is not a regular file. A read from a
            pipe could wait without end, and empties it.
    """
    try:
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise FormatError(f"{path}: is not a regular file; read it and pass its bytes")
        return Path(path).open("rb")
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise FormatError(f"{path}: is a directory; expected a model file") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"{path}: cannot be read: {reason}") from None


class MappedFile(mmap.mmap):
    """A file mapped into memory for reading. Its pages are those of the system's file cache, which
    all processes share; they count as used only while they have been looked at.

    Overwriting a mapped file changes it here too. Replace it by renaming, as `atomic_write` does.
    """

    path: str
    stamp: Stamp
    """Stamp of the file when it was mapped."""
    first_released = 0
    """Offset of the first byte that `release` has not given back."""

    def release(self) -> None:
        """Gives the pages back to the system; they are read again when they are used."""
        if not hasattr(self, "madvise"):
            return
        start = -(-self.first_released // mmap.PAGESIZE) * mmap.PAGESIZE
        if start < len(self):
            self.madvise(mmap.MADV_DONTNEED, start, len(self) - start)

    @property
    def cut(self) -> bool:
        """True if the file is shorter now: a read beyond its end would kill the process."""
        return self.size() < len(self)

    def check(self) -> None:
        """Checks that the bytes are still those that were mapped. (Another file in its place does
        not matter: the old one lives as long as it is mapped.)

        Raises:
            FormatError: the file was written to in place.
        """
        changed = self.cut
        with suppress(OSError):  # it was removed
            now = stamp_of(self.path)
            changed |= now != self.stamp and now[:2] == self.stamp[:2]
        if changed:
            raise FormatError(
                f"{self.path}: was changed in place since the model was loaded; load it again "
                "(and replace such files by renaming)"
            )


def map_file(path: str | os.PathLike[str]) -> memoryview:
    """The bytes of a file: a view of a `MappedFile`, or a copy if it cannot be mapped.

    Raises:
        FormatError: it does not exist or may not be read.
    """
    with open_model(path) as file:
        try:
            mapped = MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # a pipe, an empty file, a file system without mapping
            return memoryview(file.read())
        mapped.path, mapped.stamp = os.path.realpath(path), stamp_of(file.fileno())
    return memoryview(mapped)


def file_of(array: Any) -> MappedFile | None:
    """The mapped file that holds an array's elements; None if they lie in memory of their own."""
    while not isinstance(array, memoryview):
        array = getattr(array, "base", None)
        if array is None:
            return None
    return array.obj if isinstance(array.obj, MappedFile) else None


def atomic_write(path: str | os.PathLike[str], chunks: Iterable[bytes | memoryview]) -> None:
    """Writes a file so that `path` holds either what it held before or all of `chunks`.

    The bytes go to a temporary file in the same folder, reach the disk, and are then renamed. A
    kill, a full disk or an exception from `chunks` leaves `path` as it was.

    Raises:
        OSError: the folder does not exist, is not writable or full.
    """
    target = Path(os.path.realpath(path))  # through links, so that they go on being links
    if target.exists() and not target.is_file():  # a pipe, /dev/null: nothing to be renamed onto
        with target.open("wb") as file:
            file.writelines(chunks)
        return
    temporary = target.with_name(f".{target.name[:200]}.{os.urandom(4).hex()}.tmp")
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
    """Makes a rename in `folder` survive a power cut, if the system has a way to."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):  # some network file systems refuse; the file itself is complete
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
