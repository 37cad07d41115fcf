"""Packed weights: constants in the order in which the kernels read them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from .. import _core
from ..errors import FormatError
from ..graph import Array
from ..storage.files import MappedFile, file_of
from .lazy import files_of, same

PACKING = 1
"""Version of the order and the values of packed weights. Raise it if either changes for a kind:
compiled files with another number are used without their packed weights. tests/test_compile.py
notices."""

RELEASE_AFTER = 2 << 20
"""Bytes of mapped weights that are packed before their pages are given back."""

Key = tuple[str, str]
"""The name of a constant, and the kind of packing."""


class _Entry(NamedTuple):
    source: Array | None
    memory: Any
    lasting: bool
    mapped: bool


class Packed:
    """Packed weights, found by their sources, and shared by all plans of a model."""

    def __init__(
        self, constants: Iterable[Array] = (), ready: Mapping[str, Array] | None = None
    ) -> None:
        """
        Args:
            constants: constants of the model.
            ready: weights that a compiled file holds packed, by `stored_name`.
        """
        self._files: set[MappedFile] = set().union(*map(files_of, constants))
        self._ready = ready or {}
        self.file = next(filter(None, map(file_of, self._ready.values())), None)
        """The compiled file in which packed weights stay mapped, if there is one."""
        self._table: dict[Key, _Entry] = {}
        self._read = 0

    def get(
        self, source: Array | None, key: Key, make: Callable[[], Any], nbytes: int | None = None
    ) -> Any:
        """The memory with `source` in the form that `key` names; made if it is new.

        A constant that was folded for one input size may have another value at the next: the
        array itself must be the same, not only its name.

        Args:
            nbytes: its size, if it depends on the file alone, which may then hold it.

        Raises:
            FormatError: the file holds it, but not of that size.
        """
        known = self._table.get(key)
        if known is not None and known.source is source:
            return known.memory
        if known is None or not same(known.source, source):
            memory, mapped = self._from_file(key, nbytes) if nbytes else (None, False)
            if memory is None:
                memory = make()
                self._count(source)
            # A signal handler may have run the model meanwhile: what it made is taken.
            known = self._table.get(key)
            if known is None or not same(known.source, source):
                known = self._table[key] = _Entry(source, memory, bool(nbytes), mapped)
        return known.memory

    def entries(self, keys: Iterable[Key]) -> dict[Key, Any]:
        """The memory of each of these weights, all of which are there."""
        return {key: self._table[key].memory for key in keys}

    def holds(self, entries: Mapping[Key, Any]) -> bool:
        """True if these weights are there, and the same as they were."""
        table = self._table
        try:
            return all(table[key].memory is memory for key, memory in entries.items())
        except KeyError:
            return False

    def _from_file(self, key: Key, nbytes: int | None) -> tuple[Any, bool]:
        """The part of a compiled file that holds this weight, and True if it stays mapped."""
        name = stored_name(key)
        array = self._ready.get(name)
        if array is None:
            return None, False
        if array.nbytes != nbytes:
            raise FormatError(
                f"tensor {name!r}: the layer needs {nbytes} bytes, the file holds {array.nbytes}; "
                "compile the model again"
            )
        aligned = array.ctypes.data % 64 == 0  # not if a file was given as bytes
        if not aligned:
            return _core.Memory(array), False
        return _core.Memory.view(array), file_of(array) is not None

    def _count(self, source: Array | None) -> None:
        self._read += source.nbytes if source is not None else 0
        if self._read > RELEASE_AFTER:
            self.release()

    def release(self) -> None:
        """Gives back the pages of mapped constants; they are read again when needed."""
        self._read = 0
        for file in self._files:
            file.release()

    def check(self) -> None:
        """Checks that the constants are still those of the model.

        Raises:
            FormatError: a file that they are mapped from was written to in place.
        """
        for file in self._files:
            file.check()

    def keep(self, keys: Collection[Key]) -> None:
        """Forgets all other weights."""
        self._table = {key: entry for key, entry in list(self._table.items()) if key in keys}

    def lasting(self, keys: Collection[Key]) -> dict[str, Any]:
        """Weights among `keys` that a compiled file may hold, by their names there."""
        return {
            stored_name(key): entry.memory
            for key, entry in list(self._table.items())
            if key in keys and entry.lasting
        }

    @property
    def nbytes(self) -> int:
        return sum(entry.memory.nbytes for entry in list(self._table.values()))

    @property
    def mapped_nbytes(self) -> int:
        """Bytes of the packed weights that lie in a mapped file."""
        return sum(entry.memory.nbytes for entry in list(self._table.values()) if entry.mapped)


PREFIX = "cnnrt.packed."
"""Prefix of the name of every packed weight in a compiled file."""


def stored_name(key: Key) -> str:
    """The name of a packed weight in a compiled file."""
    name, kind = key
    return f"{PREFIX}{kind}:{name}"
