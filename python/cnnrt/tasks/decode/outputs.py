"""The outputs of a network for one picture, as a decoder sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, NoReturn

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
