"""The models of a server: found by name, loaded and unloaded while it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CnnrtError
from ..model import Model, load
from .errors import RequestError
from .protocol import tensor_metadata

SUFFIXES = (".bin", ".onnx")
VERSION = "1"
"""The only version of each model."""


@dataclass
class Entry:
    """A model file by name, and the model while it is loaded."""

    name: str
    path: Path
    model: Model | None = None
    reason: str = "not loaded"
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def state(self) -> str:
        """The state as the repository extension names it."""
        return "READY" if self.model is not None else "UNAVAILABLE"


class Repository:
    """The models that files and folders hold.

    A model is named after its file. Names come from this list alone, so no request can name another
    file.
    """

    def __init__(self, sources: Sequence[str], threads: int | None) -> None:
        """
        Args:
            sources: files, and folders whose .bin and .onnx files are taken.
            threads: threads of each model's runs.

        Raises:
            FileNotFoundError: a file or folder is missing.
            ValueError: two files have one name, or there is no file.
        """
        self._threads = threads
        self._sources = [Path(source) for source in sources]
        self._entries: dict[str, Entry] = {}
        for path in self._files():
            if path.stem in self._entries:
                raise ValueError(
                    f"{path} and {self._entries[path.stem].path} are both named {path.stem!r}"
                )
            self._entries[path.stem] = Entry(path.stem, path)
        if not self._entries:
            raise ValueError("there is no .bin or .onnx file to serve")

    def _files(self) -> Iterator[Path]:
        for source in self._sources:
            if source.is_dir():
                yield from sorted(p for p in source.iterdir() if p.suffix in SUFFIXES)
            elif source.exists():
                yield source
            else:
                raise FileNotFoundError(f"{source}: no such file or folder")

    def load_all(self) -> None:
        """Loads every model. If one fails, its entry keeps the reason and stays unavailable."""
        for name in list(self._entries):
            try:
                self.load(name)
            except RequestError:
                continue

    def load(self, name: str) -> None:
        """Loads a model, or loads it again from its file.

        Raises:
            RequestError: there is no such model, or its file cannot be loaded.
        """
        entry = self._entry(name)
        with entry.lock:
            try:
                entry.model = load(entry.path, threads=self._threads)
                entry.reason = ""
            except (CnnrtError, OSError, ImportError) as error:
                entry.reason = str(error)
                raise RequestError(400, f"model {name!r} cannot be loaded: {error}") from None

    def unload(self, name: str) -> None:
        """Forgets a model until it is loaded again.

        Raises:
            RequestError: there is no such model.
        """
        entry = self._entry(name)
        with entry.lock:
            entry.model, entry.reason = None, "unloaded"

    def _entry(self, name: str) -> Entry:
        if name not in self._entries:
            raise RequestError(
                404, f"there is no model {name!r}; there are {', '.join(self._entries)}"
            )
        return self._entries[name]

    def model(self, name: str, version: str | None = None) -> Model:
        """A loaded model.

        Raises:
            RequestError: there is no model of this name and version, or it is not loaded.
        """
        entry = self._entry(name)
        if version not in (None, "", VERSION):
            raise RequestError(404, f"model {name!r} has no version {version!r}, only {VERSION!r}")
        model = entry.model
        if model is None:
            raise RequestError(400, f"model {name!r} is not ready: {entry.reason}")
        return model

    def ready(self) -> bool:
        """True once every model that can be loaded is, and one at least."""
        return any(e.model for e in self._entries.values()) and not any(
            e.reason == "not loaded" for e in self._entries.values()
        )

    def index(self, *, ready_only: bool = False) -> list[dict[str, str]]:
        """The models as the repository extension lists them."""
        return [
            {"name": e.name, "version": VERSION, "state": e.state, "reason": e.reason}
            for e in self._entries.values()
            if e.model is not None or not ready_only
        ]

    def metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        """The inputs and outputs of a model in the protocol's form."""
        model = self.model(name, version)
        inputs = [*model.inputs, *model.optional_inputs]
        return {
            "name": name,
            "versions": [VERSION],
            "platform": "cnnrt",
            "inputs": [tensor_metadata(spec) for spec in inputs],
            "outputs": [tensor_metadata(spec) for spec in model.outputs],
        }
