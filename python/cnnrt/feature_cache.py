"""Features on disk, by the contents of the network that made them and of the image."""

from __future__ import annotations

import hashlib
import io
import secrets
import zipfile
from pathlib import Path

import numpy as np

from .files import atomic_write, cache_folder
from .graph import Array

SHARD = 1024
"""Images per file: what an interruption costs at most, about 10 s of a small network."""


def digest(*parts: bytes | memoryview) -> bytes:
    """32 bytes that no other contents have."""
    total = hashlib.blake2b(digest_size=32)
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.digest()


class FeatureCache:
    """The features of many images by one network; a new file for each stretch of new ones.

    Files are only ever added, whole, so that several processes can share the folder. One that is
    damaged counts as absent, and a folder that cannot be written is done without.
    """

    def __init__(self, key: bytes) -> None:
        """Opens the features that the network of this digest has made."""
        self.folder = cache_folder() / "features" / key.hex()[:32]
        self._rows: dict[bytes, Array] = {}
        self._new: list[bytes] = []
        for file in sorted(self.folder.glob("*.npz")):
            self._read(file)

    def get(self, image: bytes) -> Array | None:
        """The features of the image of this digest, if they are known."""
        return self._rows.get(image)

    def add(self, image: bytes, features: Array) -> None:
        """Remembers features; they are on disk after `flush`, or once they fill a file."""
        if image not in self._rows:
            self._rows[image] = features
            self._new.append(image)
        if len(self._new) >= SHARD:
            self.flush()

    def flush(self) -> None:
        """Writes what is new."""
        if not self._new:
            return
        buffer = io.BytesIO()
        np.savez(
            buffer,
            images=np.frombuffer(b"".join(self._new), np.uint8).reshape(len(self._new), -1),
            features=np.stack([self._rows[image] for image in self._new]),
        )
        self._new.clear()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(self.folder / f"{secrets.token_hex(8)}.npz", [buffer.getbuffer()])
        except OSError:
            return

    def _read(self, file: Path) -> None:
        try:
            with np.load(file, allow_pickle=False) as content:
                images, features = content["images"], content["features"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return
        if len(images) == len(features):
            self._rows.update(zip(map(bytes, images), features, strict=True))
