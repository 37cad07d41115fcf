"""Compares a quantised network with the one in floats, on the same images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..graph import Array
from ..model import Model
from .observation import runs, tensors
from .samples import Samples


@dataclass
class Error:
    """The distance of a tensor from the same one in floats, over all images."""

    signal: float = 0.0
    noise: float = 0.0
    """Sums of squares: of the values, and of the differences."""

    def add(self, want: Array, got: Array) -> None:
        """Counts a tensor of one run."""
        wide = want.astype(np.float64)
        self.signal += float(np.sum(wide * wide))
        difference = wide - got
        self.noise += float(np.sum(difference * difference))

    @property
    def decibels(self) -> float:
        """The ratio of signal to noise; infinite if there is no noise."""
        if self.noise == 0:
            return math.inf
        if self.signal == 0:
            return -math.inf
        return 10 * math.log10(self.signal / self.noise)


@dataclass
class Comparison:
    """The errors and answers found by a check of a quantised network."""

    errors: dict[str, Error]
    """Errors by tensor; the outputs of the network first."""
    answers: list[tuple[int, int]] = field(default_factory=list)
    """The likeliest class of each image in floats and in integers. Empty if the network does not
    end in scores of classes."""

    @property
    def agreement(self) -> float | None:
        """The share of images with the same answer; None if there are no answers."""
        if not self.answers:
            return None
        return sum(a == b for a, b in self.answers) / len(self.answers)


def compare(
    floats: Model,
    integers: Model,
    names: Sequence[str],
    samples: Samples,
    chosen: Sequence[int],
    *,
    progress: bool | None = None,
) -> Comparison:
    """Compares tensors of two networks, which have the same names in both.

    Args:
        floats: the network as it is prepared.
        integers: the network with Q and DQ.
        names: tensors to compare besides the outputs.
        samples: the inputs to run on.
        chosen: numbers of runs.
    """
    outputs = [spec.name for spec in floats.outputs]
    wanted = list(dict.fromkeys([*outputs, *names]))
    result = Comparison({name: Error() for name in wanted})
    for feed, want in runs(floats, wanted, samples, chosen, progress=progress):
        got = tensors(integers, feed, wanted)
        for name in wanted:
            result.errors[name].add(want[name], got[name])
        if is_scores(want[outputs[0]]):
            pairs = zip(_classes(want[outputs[0]]), _classes(got[outputs[0]]), strict=True)
            result.answers += [(int(a), int(b)) for a, b in pairs]
    return result


def is_scores(y: Array) -> bool:
    """True for (images, classes), with further axes of one element."""
    return y.ndim >= 2 and y.shape[1] > 1 and y.size == y.shape[0] * y.shape[1]


def _classes(y: Array) -> Array:
    return np.asarray(np.argmax(y.reshape(y.shape[0], -1), axis=1))
