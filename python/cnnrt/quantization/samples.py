"""Images, or other inputs of a network, for several passes over them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph import Array
from ..images import as_list
from ..model import Model
from .ranges import CalibrationError

KEPT_BYTES = 1 << 28
"""Bytes of inputs that are kept; the others are read and decoded again at every pass."""

Feed = dict[str, Array]
"""The inputs of one run, by name."""


class Samples:
    """The inputs of runs, each of one image unless the network states a larger batch."""

    def __init__(self, model: Model, images: Any) -> None:
        """Lists the images.

        Args:
            model: the model whose preprocessing makes images into inputs.
            images: a file, a folder, a PIL image, an array, or an iterable of these and of dicts of
                inputs by name. Arrays of uint8 are images, (H, W), (H, W, 3) or (N, H, W, 3),
                unless the network takes uint8. Other arrays are inputs, (N, ...).

        Raises:
            CalibrationError: there are no images.
            ShapeError: an array is not what the network takes.
        """
        self.model = model
        self.batch = 1
        specs = model.inputs
        if specs and specs[0].shape and isinstance(specs[0].shape[0], int):
            self.batch = max(1, specs[0].shape[0])
        self.items: list[Any] = list(self._rows(images))
        if not self.items:
            raise CalibrationError("there are no images to calibrate with; expected at least one")
        self._kept: dict[int, Feed] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        return math.ceil(len(self.items) / self.batch)

    def feed(self, index: int) -> Feed:
        """The inputs of a run. If images are too few to fill its batch, they come again."""
        if index in self._kept:
            return self._kept[index]
        first = index * self.batch
        rows = [self.items[i % len(self.items)] for i in range(first, first + self.batch)]
        parts = [self._input(row) for row in rows]
        made = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        if self.batch == 1 or any(isinstance(row, Mapping) for row in rows):
            made = parts[0]
        size = sum(x.nbytes for x in made.values())
        if self._kept_bytes + size <= KEPT_BYTES:
            self._kept[index] = made
            self._kept_bytes += size
        return made

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the inputs of the first run."""
        return {name: x.shape for name, x in self.feed(0).items()}

    def images(self, index: int) -> list[Any]:
        """The images as they were given for a run: files, pictures or arrays."""
        return self.items[index * self.batch : (index + 1) * self.batch]

    def _rows(self, images: Any) -> Iterator[Any]:
        """Images and inputs one by one."""
        if isinstance(images, np.ndarray) and self._is_input(images):
            yield from self._split(images)
        elif isinstance(images, Iterable) and not isinstance(images, (str, bytes, np.ndarray)):
            if isinstance(images, Mapping):
                yield images
                return
            for image in images:
                if isinstance(image, Mapping):
                    yield image
                else:
                    yield from self._rows(image)
        else:
            yield from as_list(images)

    def _is_input(self, array: Array) -> bool:
        """True for an array that is no picture."""
        takes = self.model.inputs[0].dtype
        return bool(array.dtype != np.uint8 or takes == np.uint8)

    def _split(self, array: Array) -> Iterator[Array]:
        """The rows of an array of inputs, each with its axis of images."""
        rank = len(self.model.inputs[0].shape)
        if array.ndim == rank - 1:
            array = array[None]
        if array.ndim != rank:
            raise ShapeError(
                f"images: an array of shape {array.shape}; the input "
                f"{self.model.inputs[0].name!r} has {rank} axes"
            )
        yield from (array[i : i + 1] for i in range(len(array)))

    def _input(self, row: Any) -> Feed:
        if isinstance(row, Mapping):
            return {name: np.asarray(x) for name, x in row.items()}
        specs = self.model.inputs
        if len(specs) != 1:
            raise ShapeError(
                f"the network has {len(specs)} inputs; give a dict of arrays by name for each run: "
                f"{', '.join(spec.name for spec in specs)}"
            )
        if isinstance(row, np.ndarray) and self._is_input(row):
            return {specs[0].name: row.astype(specs[0].dtype.numpy, copy=False)}
        return {specs[0].name: self.model.input_from(row)}


def split(count: int) -> tuple[Sequence[int], Sequence[int]]:
    """The runs to calibrate on and those to check on: every fourth is held back.

    Fewer than four serve for both.
    """
    if count < 4:
        return range(count), range(count)
    held = range(3, count, 4)
    return [i for i in range(count) if i % 4 != 3], held
