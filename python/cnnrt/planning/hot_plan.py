"""The plan of a model's last call, found without a key and without a lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..graph import Array, TensorSpec
from .batch import AnyPlan


class HotPlan(NamedTuple):
    """A plan, and the inputs that it takes as they are."""

    key: tuple[Any, ...]
    """The key under which the cache keeps the plan."""
    plan: AnyPlan
    inputs: tuple[tuple[str, tuple[int, ...], np.dtype[Any]], ...]
    """The name, the shape and the dtype of each, in order."""

    @classmethod
    def of(
        cls,
        key: tuple[Any, ...],
        plan: AnyPlan,
        specs: Sequence[TensorSpec],
        shapes: Sequence[tuple[int, ...]],
    ) -> HotPlan | None:
        """The plan for inputs of these shapes; None if there are none, or others than tensors."""
        if not specs or any(spec.kind != "tensor" for spec in specs):
            return None
        inputs = ((s.name, n, s.dtype.numpy) for s, n in zip(specs, shapes, strict=True))
        return cls(key, plan, tuple(inputs))

    def arrays(self, x: Any) -> list[Array] | None:
        """The inputs in order, if each is a contiguous array of the planned shape and dtype.

        Args:
            x: an array, or a dict of arrays by input name.
        """
        given = x if type(x) is dict else {self.inputs[0][0]: x}
        found = []
        for name, shape, dtype in self.inputs:
            array = given.get(name)
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
                return None
            if not array.flags.c_contiguous:
                return None
            found.append(array)
        return found if len(given) == len(found) else None
