"""Vectors of pictures, for comparing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..classification import scores_of_images
from ..errors import GraphError, ShapeError
from ..feeds import as_batch, of_images
from ..graph import Array
from ..preprocessing.steps import ImageChannels
from .network import Network


@dataclass(frozen=True, eq=False)
class Embeddings:
    """A vector for each picture; alike pictures have vectors of about one direction."""

    vectors: Array
    """float32 (N, D): each of length 1, or all zero."""

    def __len__(self) -> int:
        return len(self.vectors)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The vectors."""
        return np.array(self.vectors, dtype) if copy else np.asarray(self.vectors, dtype)

    def similarity(self, other: Embeddings | Array | None = None) -> Array:
        """The cosine between each vector and each of another set.

        Args:
            other: embeddings, or vectors (M, D) or (D,) of any length; None: these themselves.

        Returns:
            float32 (N, M): from -1 to 1, 1 for the same direction.

        Raises:
            ShapeError: the vectors of the two have not the same length.
        """
        if other is None:
            there = self.vectors
        elif isinstance(other, Embeddings):
            there = other.vectors
        else:
            there = normalised(np.atleast_2d(np.asarray(other, np.float32)))
        if there.ndim != 2 or there.shape[1] != self.vectors.shape[1]:
            raise ShapeError(
                f"vectors of {self.vectors.shape[1]} numbers cannot be compared with an array of "
                f"shape {there.shape}; both must come from one network"
            )
        return np.asarray(np.clip(self.vectors @ there.T, -1, 1))


def normalised(vectors: Array) -> Array:
    """float32 (N, D): the vectors with the length 1; a vector of zeros stays as it is."""
    wide = vectors.astype(np.float64)
    length = np.sqrt((wide * wide).sum(1, keepdims=True))
    return np.asarray(np.divide(wide, length, out=wide, where=length > 0), np.float32)


def embed(network: Network, layer: str | None, image: Any, channels: ImageChannels) -> Embeddings:
    """The vectors of one picture or several; see `Model.embed`.

    Args:
        layer: the tensor that holds them; None: the network's first output.
    """
    preprocessing = network.preprocessing
    if preprocessing is None:
        raise GraphError(
            "this model does not say how an image becomes its input. Say it when the file is "
            "made (cnnrt convert --preset imagenet; export(preprocessing=...)) or now: "
            "model.preprocessing = cnnrt.Preprocessing.preset('imagenet')"
        )
    spec = network.graph.inputs[0]
    several = as_batch(image)
    name = layer or network.graph.outputs[0].name
    rows = scores_of_images(
        lambda x: network.run(x, outputs=[name]),
        lambda images: of_images(spec, preprocessing(images, channels)),
        [image] if several is None else several,
        spec.shape[0],
    )
    if not rows:
        return Embeddings(np.empty((0, _width(network, name)), np.float32))
    return Embeddings(normalised(np.stack([_vector(row, name) for row in rows])))


def _width(network: Network, name: str) -> int:
    """The numbers of a vector, for no picture at all, if the graph tells them."""
    specs = [spec for spec in network.graph.outputs if spec.name == name]
    sizes: Sequence[int | str] = specs[0].shape[1:2] if specs else ()
    return next((size for size in sizes if isinstance(size, int)), 0)


def _vector(row: Array, name: str) -> Array:
    """The vector of one picture: axes of 1 left out, the mean taken over a map's space."""
    if row.ndim == 3:
        row = row.mean((1, 2), dtype=np.float64)
    flat = row.reshape(-1)
    if row.ndim < 1 or flat.size != row.shape[0]:
        raise ShapeError(
            f"{name!r} has shape {row.shape} for a picture, which is no vector: expected (D,), or "
            "a map (D, h, w). cnnrt.FeatureExtractor takes other layers"
        )
    return flat
