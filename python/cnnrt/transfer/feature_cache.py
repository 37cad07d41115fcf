"""Features on disk, by the contents of the network that made them and of the image."""

from __future__ import annotations

import secrets

import numpy as np

from ..graph import Array
from ..storage.cache import cache_folder, read_arrays, write_arrays

SHARD = 1024
"""Images per file: what an interruption costs at most, about 10 s of a small network."""


class FeatureCache:
    """The features of many images by one network; a new file for each stretch of new ones.

    Files are only ever added, so that several processes can fill one folder.
    """

    def __init__(self, key: bytes) -> None:
        """Opens the features that the network of this digest has made."""
        self.folder = cache_folder() / "features" / key.hex()[:32]
        self._rows: dict[bytes, Array] = {}
        self._new: list[bytes] = []
        for file in sorted(self.folder.glob("*.safetensors")):
            arrays = read_arrays(file)
            if arrays and arrays.keys() == {"images", "features"}:
                digests = map(bytes, arrays["images"])
                self._rows.update(zip(digests, arrays["features"], strict=False))

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
        arrays = {
            "images": np.frombuffer(b"".join(self._new), np.uint8).reshape(len(self._new), -1),
            "features": np.stack([self._rows[image] for image in self._new]),
        }
        self._new.clear()
        write_arrays(self.folder / f"{secrets.token_hex(8)}.safetensors", arrays)
