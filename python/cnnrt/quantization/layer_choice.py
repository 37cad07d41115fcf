"""Chooses layers that go back to floats: as few as a target needs, and those that cost the least
time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..graph import Graph
from ..model import Model
from ..ops import OPS, NodeTypes
from .calibration import Calibration
from .measurement import Comparison, Error

ALONE_RUNS = 4
"""Runs on which each layer is measured by itself. They give its share of the noise accurately
enough."""
ELEMENT_MACS = 32
"""Multiply-adds that take the time of reading or writing one float, on a core of Zen 4 with
59 GMAC/s and 8 GB/s."""


@dataclass(frozen=True)
class Goal:
    """A target that a quantised network has to reach."""

    decibels: float | None
    """Signal to noise of every output, in dB."""
    answers: float | None
    """Share of the images whose likeliest class stays."""

    def holds(self, found: Comparison, outputs: Sequence[str]) -> bool:
        """True if a comparison reaches the goal."""
        worst = min(found.errors[name].decibels for name in outputs)
        if self.decibels is not None and worst < self.decibels:
            return False
        agreement = found.agreement
        return self.answers is None or agreement is None or agreement >= self.answers


@dataclass
class Chosen:
    """The layers that stay in floats, and the reasons."""

    names: list[str] = field(default_factory=list)
    alone: dict[str, Error] = field(default_factory=dict)
    """Error of the outputs for each layer, if it alone runs in integers; empty if all may."""
    reached: bool = True
    """False if even a network in floats misses the target, which demands equal answers for ties."""


def choose_floats(calibration: Calibration, goal: Goal) -> tuple[Model, Comparison, Chosen]:
    """The quantised network that reaches a goal with the fewest layers in floats that were found.

    Returns:
        The network, its comparison with that in floats, and the choice.
    """
    outputs = [spec.name for spec in calibration.floats.outputs]
    names = [layer.output for layer in calibration.scheme().layers]

    def attempt(floats: Sequence[str]) -> tuple[Model, Comparison]:
        model = calibration.quantised(floats)
        return model, calibration.compare(model, names if not floats else ())

    model, found = attempt([])
    if goal.holds(found, outputs):
        return model, found, Chosen()
    order, alone = _by_gain(calibration, outputs)
    # The number of layers doubles until the goal holds, and is then narrowed down by halves.
    low, high = 0, 1
    while True:
        high = min(high, len(order))
        model, found = attempt(order[:high])
        if goal.holds(found, outputs) or high == len(order):
            break
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        tried, result = attempt(order[:middle])
        if goal.holds(result, outputs):
            high, model, found = middle, tried, result
        else:
            low = middle
    reached = goal.holds(found, outputs)
    found = calibration.compare(model, names)
    return model, found, Chosen(order[:high], alone, reached)


def _by_gain(
    calibration: Calibration, outputs: Sequence[str]
) -> tuple[list[str], dict[str, Error]]:
    """The layers, first those with the most noise for the time that they would take in floats."""
    heads = [n for n in calibration.scheme().candidates if n not in calibration.exclude]
    cost = _costs(calibration)
    alone: dict[str, Error] = {}
    held = calibration.held
    calibration.held = held[:ALONE_RUNS]
    try:
        for name in heads:
            model = calibration.quantised([other for other in heads if other != name])
            errors = calibration.compare(model).errors
            alone[name] = max((errors[output] for output in outputs), key=_share)
    finally:
        calibration.held = held
    return sorted(heads, key=lambda name: -_share(alone[name]) / cost[name]), alone


def _share(error: Error) -> float:
    """Noise as a share of the signal."""
    return error.noise / error.signal if error.signal else error.noise


def _costs(calibration: Calibration) -> dict[str, float]:
    """The time of each layer in floats, in multiply-adds."""
    graph: Graph = calibration.graph.copy()
    graph.types = dict(calibration.types)
    costs: dict[str, float] = {}
    for node in graph.nodes:
        types = NodeTypes.of(node, graph)
        moved = types.output.size + types.operand(0).type.size
        costs[node.name] = OPS[node.op].macs(node, types) + ELEMENT_MACS * moved
    return costs
