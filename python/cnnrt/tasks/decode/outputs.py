"""The outputs of a network for one picture, as a decoder sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, NoReturn

import numpy as np

from ...errors import ShapeError
from ...graph import Array
from ..task import Task


class Outputs(NamedTuple):
    """The arrays of one picture by name, and what is known of them."""

    arrays: Mapping[str, Array]
    task: Task
    size: tuple[int, int]
    """Height and width of the network's input."""
    classes: int | None
    """The number of the labels; None: there are none."""
    min_score: float
    """A decoder may leave out candidates whose score is not above this."""
    channels_last: bool = False
    """True if maps are (h, w, channels)."""

    def named(self, role: str) -> Array | None:
        """The array that the task names for a role, if it does."""
        name = self.task.get("outputs", {}).get(role)
        if name is None:
            return None
        if name not in self.arrays:
            raise ShapeError(
                f"the task names the output {name!r} for {role}; there are {', '.join(self.arrays)}"
            )
        return self.arrays[name]

    def refuse(self, expected: str) -> NoReturn:
        """
        Raises:
            ShapeError: always; it says what this family has and what the network gives.
        """
        given = ", ".join(f"{name} {list(y.shape)}" for name, y in self.arrays.items())
        raise ShapeError(
            f"outputs of the task {str(self.task)!r}: expected {expected}; the network gives "
            f"{given}. Say the right one: --task and --family, model.task = cnnrt.Task(...)"
        )


def without_batch(y: Array) -> Array:
    """An array without its first axis, if that is the one of a single picture."""
    return y[0] if y.ndim > 1 and y.shape[0] == 1 else y


def sigmoid(x: Array) -> Array:
    """The logistic function, without an overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), np.float32)


def softmax(x: Array) -> Array:
    """Along the last axis; a row with a NaN is all NaN."""
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf))
    return np.asarray(e / e.sum(-1, keepdims=True), np.float32)


def pairs(scores: Array, min_score: float, skip: int = -1) -> tuple[Array, Array]:
    """The rows and columns of scores (N, C) above the least one, without the column `skip`."""
    with np.errstate(invalid="ignore"):
        rows, columns = np.nonzero(scores > min_score)
    kept = columns != skip
    return rows[kept], columns[kept]
