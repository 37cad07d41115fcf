"""Features on disk, by the contents of the network that made them and of the image."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from ..graph import Array, Dim, TensorSpec
from ..storage.cache import DIGEST_BYTES, cache_folder, files_of, read_arrays, write_arrays

SHARD = 1024
"""Images per file. An interruption loses at most as many, about 10 s of a small network."""


class FeatureCache:
    """The features of many images by one network; a new file for each stretch of new ones.

    Files are only ever added, so several processes can fill one folder.
    """

    def __init__(self, key: bytes, shape: tuple[Dim, ...], dtype: np.dtype[Any]) -> None:
        """Opens the features that the network of this digest has made.

        Args:
            key: the digest.
            shape: shape of the features of an image; a named size can be any.
            dtype: dtype of the features.
        """
        folder = cache_folder()
        self.folder = folder and folder / "features" / key.hex()[:32]
        self._rows: dict[bytes, Array] = {}
        self._new: list[bytes] = []
        expected = TensorSpec("features", ("images", *shape), dtype)
        for file in files_of(self.folder) if self.folder else ():
            arrays = read_arrays(file)
            if arrays and arrays.keys() == {"images", "features"}:
                self._rows |= _rows(arrays["images"], arrays["features"], expected)

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
        """Writes the new features."""
        if not self._new or not self.folder:
            self._new.clear()
            return
        arrays = {
            "images": np.frombuffer(b"".join(self._new), np.uint8).reshape(len(self._new), -1),
            "features": np.stack([self._rows[image] for image in self._new]),
        }
        self._new.clear()
        write_arrays(self.folder / f"{secrets.token_hex(8)}.safetensors", arrays)


def _rows(images: Array, features: Array, expected: TensorSpec) -> dict[bytes, Array]:
    """The features by the images' digests; none if the arrays have another form."""
    fits = expected.accepts(features.shape) and features.dtype == expected.dtype
    if not fits or images.dtype != np.uint8 or images.shape != (len(features), DIGEST_BYTES):
        return {}
    return dict(zip(map(bytes, images), features, strict=True))
