"""Answers of a classifier for images whose classes are known, counted and shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import pages
from ..graph import Array
from ..images import open_image

SHOWN, THUMBNAIL = 24, 160
"""Images of each kind in a page, and the pixels of their longer side."""


@dataclass(frozen=True)
class Measured:
    """Answers of a network for images whose classes are known."""

    how: str
    """Kind of images: "images", "test images", or "training images, each left out once"
    (cross-validation)."""
    files: list[Path]
    classes: Array
    """The class of each image, int (images,)."""
    probabilities: Array
    """float (images, classes)."""

    @property
    def predictions(self) -> Array:
        """The likeliest class of each image, int (images,)."""
        return np.asarray(np.argmax(self.probabilities, axis=1))

    @property
    def accuracy(self) -> float:
        """The share of images whose likeliest class is the right one."""
        return float(np.mean(self.predictions == self.classes))

    def top_accuracy(self, k: int) -> float:
        """The share of images whose right class is among the `k` likeliest."""
        rows = np.arange(len(self.files))
        right = self.probabilities[rows, self.classes][:, None]
        earlier = np.arange(self.probabilities.shape[1]) < self.classes[:, None]
        better = self.probabilities > right
        better |= (self.probabilities == right) & earlier
        return float(np.mean(better.sum(1) < k))

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of the accuracy on other such images with 95 % confidence (Wilson, 1927)."""
        n, p, z = len(self.files), self.accuracy, 1.96
        centre, spread = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return (centre - spread) / (1 + z**2 / n), (centre + spread) / (1 + z**2 / n)

    @property
    def confusion(self) -> Array:
        """The number of images of class i (row) that were taken for class j (column), int (i,
        j)."""
        count = self.probabilities.shape[1]
        table = np.zeros((count, count), np.int64)
        np.add.at(table, (self.classes, self.predictions), 1)
        return table

    def least_sure(self, count: int) -> list[int]:
        """Indices of the images whose likeliest class has the lowest probability, in ascending
        order."""
        return [int(i) for i in np.argsort(self.probabilities.max(axis=1), kind="stable")[:count]]

    def most_wrong(self, count: int) -> list[int]:
        """Indices of the images taken for another class, the highest probability first."""
        sure = self.probabilities.max(axis=1) * (self.predictions != self.classes)
        return [int(i) for i in np.argsort(-sure, kind="stable")[:count] if sure[i] > 0]


def groups_of(measured: Measured, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The images of a page: those that the network is least sure of, and its sure mistakes.

    Raises:
        ImageError: one cannot be read any more.
    """

    def shown(i: int) -> dict[str, Any]:
        best = int(measured.predictions[i])
        image = open_image(measured.files[i], "RGB")
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        return {
            "picture": pages.picture(image),
            "name": measured.files[i].name,
            "label": labels[int(measured.classes[i])],
            "taken_for": labels[best],
            "probability": float(measured.probabilities[i, best]),
        }

    return [
        {
            "title": "Least sure of",
            "about": "More images like these would teach it most.",
            "images": [shown(i) for i in measured.least_sure(SHOWN)],
        },
        {
            "title": "Sure, and wrong",
            "about": "Look here for images in the wrong folder.",
            "images": [shown(i) for i in measured.most_wrong(SHOWN)],
        },
    ]
