"""Executes a fuzzed file: it is loaded and, if it loads, run once.

Every fourth file is also checked, summarised and verified, as the commands do.
"""

from __future__ import annotations

import math
import warnings
import zlib
from typing import Any

import numpy as np

import cnnrt
from cnnrt import formats
from cnnrt.errors import CnnrtError
from cnnrt.model import plan_for
from cnnrt.passes import problems
from cnnrt.storage.text import escaped

MAX_ELEMENTS = 1 << 16
"""Maximum elements of all inputs together: larger ones take time and find nothing."""
MAX_WORK = 2e8
"""Maximum predicted nanoseconds of a run: a slow network is its author's affair."""


def execute(data: bytes) -> str:
    """Loads a file and runs it once; "refused" or "ran".

    Any exception but a `CnnrtError`, a crash or a hang is a finding.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if zlib.crc32(data) % 4 == 0:
                look_at(data)
            model = cnnrt.load(data, threads=1)
            if sum(math.prod(n for n in small(spec) if n) for spec in model.inputs) > MAX_ELEMENTS:
                return "large"
            inputs = {spec.name: sample(spec) for spec in model.inputs}
            if (
                sum(step.cost_ns for step in plan_for(model, list(inputs.values())).describe())
                > MAX_WORK
            ):
                return "slow"
            model.run(inputs)
        except CnnrtError as error:
            assert str(error), "an error without a message"
            return "refused"
    return "ran"


def look_at(data: bytes) -> None:
    """Does the work of the commands check and summary, and verifies that a damaged file is
    noticed."""
    graph = formats.read(data).graph
    shapes = {spec.name: tuple(small(spec)) for spec in graph.inputs}
    if sum(math.prod(shape) for shape in shapes.values()) <= MAX_ELEMENTS:
        for problem in problems(graph, shapes).values():
            assert str(problem)
        model = cnnrt.Model(graph, threads=1)
        try:
            escaped(f"{model.summary(shapes)}\n{graph}").encode()
        except CnnrtError as error:
            escaped(str(error)).encode()
    try:
        cnnrt.load(data, threads=1, verify=True)
    except CnnrtError as error:
        escaped(str(error)).encode()


def small(spec: Any) -> list[int]:
    """The shape of an input; sizes that are free become 2."""
    return [2 if isinstance(size, str) else size for size in spec.shape]


def sample(spec: Any) -> Any:
    """A small input."""
    shape = small(spec)
    values = np.arange(math.prod(shape), dtype=np.float64) % 7 - 3
    return values.reshape(shape).astype(spec.dtype)
