"""A model on its way to other processes and machines."""

from __future__ import annotations

import copy
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .. import formats
from ..errors import FormatError, GraphError
from ..formats import Source
from ..graph import Array
from ..model import Model, load
from ..storage.cache import cache_folder, digest, files_of, is_kept, write_bytes

KEPT = 4
"""Models kept in the cache folder of a machine."""


class ModelFile:
    """A compiled model as bytes. Each machine writes them to its cache folder once, and all of its
    processes map that file: the weights are in memory once.

    It can be pickled. The bytes are an array, which Ray hands out without a copy.
    """

    def __init__(self, model: Model | Source) -> None:
        """Compiles a model for the size of its pictures.

        Raises:
            FormatError, UnsupportedOperator: see `cnnrt.load`.
        """
        whole = model if isinstance(model, Model) else load(model)
        self._data: Array | None = np.frombuffer(_compiled(whole), np.uint8)
        self._nbytes = self._data.nbytes
        self.digest = digest(self._data.data).hex()[:32]
        """The digest of the file's content, in hexadecimal."""

    def path(self) -> Path | None:
        """The file in this machine's cache folder, written if need be. None if there is no such
        folder, or if others may write to the file."""
        folder = cache_folder()
        if folder is None:
            return None
        file = folder / "models" / f"{self.digest}.safetensors"
        if not is_kept(file, self._nbytes) and self._data is not None:
            write_bytes(file, self._data.data)
            with suppress(OSError):  # another process was faster
                for old in sorted(files_of(file.parent), key=_age)[KEPT:]:
                    old.unlink()
        return file if is_kept(file, self._nbytes) else None

    def write(self, path: Path) -> None:
        """Writes the file to another place.

        Raises:
            OSError: it cannot be written.
        """
        assert self._data is not None
        path.write_bytes(self._data.data)

    def here(self) -> ModelFile:
        """This file for other processes of this machine, without the bytes if the cache folder has
        them."""
        if self.path() is None:
            return self
        light = copy.copy(self)
        light._data = None
        return light

    def load(self, threads: int = 1) -> Model:
        """The model; the same object when this process asks again.

        Raises:
            FormatError: the file on disk is damaged, or was removed.
        """
        key = self.digest, threads
        if key not in _loaded:
            path = self.path()
            if path is None and self._data is None:
                raise FormatError(f"model {self.digest}: was removed from the cache folder")
            source = path or self._data.tobytes()  # type: ignore[union-attr]
            _loaded.clear()
            _loaded[key] = load(source, threads=threads, verify=path is not None)
        return _loaded[key]


_loaded: dict[tuple[str, int], Model] = {}
"""The model that this process loaded last."""


def _age(file: Path) -> float:
    return -file.stat().st_mtime


def _compiled(model: Model) -> bytes:
    with tempfile.TemporaryDirectory(prefix="cnnrt-model-") as folder:
        file = Path(folder) / "model.bin"
        try:
            x: Any = None
            if model.preprocessing is not None:
                x = model.input_from(np.zeros(model.preprocessing.size, np.uint8))
            model.save_compiled(os.fspath(file), x)
        except GraphError:  # sizes that are known only when it runs
            formats.write_model(
                file,
                model.graph,
                preprocessing=model.preprocessing,
                labels=model.labels,
                notice=model.notice,
                multi_label=model.multi_label,
                task=model.task,
            )
        return file.read_bytes()
