"""From the scores of a network to the classes that an image shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .graph import Array


@dataclass(frozen=True)
class Classification:
    """One class that an image may show."""

    label: str
    index: int
    probability: float


def likeliest(scores: Array, labels: Sequence[str], count: int) -> list[Classification]:
    """The `count` likeliest classes by the scores of one image, likeliest first.

    A class beyond the labels is named by its number. There are none if there are no scores.
    """
    if not scores.size:
        return []
    p = probabilities(scores.reshape(-1))
    order = [int(i) for i in np.argsort(-p, kind="stable")[:count]]
    return [Classification(labels[i] if i < len(labels) else str(i), i, float(p[i])) for i in order]


def probabilities(scores: Array) -> Array:
    """Softmax of scores, unless they are probabilities already (in [0, 1], with sum 1)."""
    s = scores.astype(np.float64)
    if s.size and s.min() >= 0 and abs(s.sum() - 1) < 1e-3:
        return s
    e = np.exp(s - s.max())
    return np.asarray(e / e.sum())
