"""What every fuzzed file is put through: it is loaded and, where it loads, run once."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

import cnnrt
from cnnrt.errors import CnnrtError

MAX_ELEMENTS = 1 << 16
"""Of all inputs together: larger ones take time and find nothing."""
MAX_WORK = 2e8
"""Nanoseconds that a run is predicted to take: whether a network is slow is its author's affair."""


def execute(data: bytes) -> str:
    """Loads a file and runs it once; "refused" or "ran".

    Any exception but a `CnnrtError`, a crash or a hang is a finding.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = cnnrt.load(data, threads=1)
            if sum(math.prod(n for n in small(spec) if n) for spec in model.inputs) > MAX_ELEMENTS:
                return "large"
            inputs = {spec.name: sample(spec) for spec in model.inputs}
            if (
                sum(step.cost_ns for step in model.plan_for(list(inputs.values())).describe())
                > MAX_WORK
            ):
                return "slow"
            model.run(inputs)
        except CnnrtError as error:
            assert str(error), "an error without a message"
            return "refused"
    return "ran"


def small(spec: Any) -> list[int]:
    """The shape of an input; sizes that are free become 2."""
    return [2 if isinstance(size, str) else size for size in spec.shape]


def sample(spec: Any) -> Any:
    """A small input."""
    shape = small(spec)
    values = np.arange(math.prod(shape), dtype=np.float64) % 7 - 3
    return values.reshape(shape).astype(spec.dtype)
