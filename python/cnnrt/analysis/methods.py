"""The methods of a model that look into it: its steps, layers, times and geometry."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from .. import feeds
from ..feeds import Inputs, Shapes
from ..graph import Graph
from ..planning import description
from ..planning.plan_cache import PlanCache
from ..preprocessing import Preprocessing
from ..process.locks import importing
from ..tasks.task import Task
from ..weights.packed import Packed

if TYPE_CHECKING:
    from ..tasks.upscale import Reach
    from .profiling import Profile
    from .summary import Summary


class Planned(Protocol):
    """The parts of a model that are looked into."""

    graph: Graph
    preprocessing: Preprocessing | None
    labels: list[str] | None
    task: Task | None
    isa: str
    _plans: PlanCache
    _packed: Packed
    _default_outputs: tuple[str, ...]


class AnalysisMethods:
    """Methods of `Model` that read its graph and its plans. What they need is imported when they
    are called, as running a network does not need it."""

    def describe(self: Planned, x: Inputs | None = None) -> str:
        """The steps of the plan, one per line: node, kernel, algorithm with the reason, predicted
        time.

        Args:
            x: an input, for a network whose input sizes are free.
        """
        specs = self.graph.inputs
        arrays = None if x is None else feeds.arrays(specs, x)
        shapes = feeds.shapes_of(feeds.zeros(specs) if arrays is None else arrays)
        return description.describe(self._plans.get(shapes, self._default_outputs, arrays))

    def summary(self: Planned, x: Inputs | Shapes | None = None) -> Summary:
        """The layers after fusion, each with its cost and its receptive field.

        Args:
            x: an input or its shape, if the network's input sizes are free, or to see other sizes.
                For several inputs it is a dict by name. None: the sizes that the model states, and
                1 for a free size of the first axis.

        Raises:
            ShapeError: the network does not take such an input, or its sizes are free.
        """
        with importing:
            from .summary import summarise  # noqa: PLC0415

        shapes = feeds.shapes(self.graph.inputs, x)
        memory = self._plans.get(tuple(shapes.values()), self._default_outputs).memory()
        return dataclasses.replace(
            summarise(self.graph, shapes),
            packed_bytes=self._packed.nbytes,
            arena_bytes=memory.arena + memory.scratch,
        )

    def profile(
        self: Planned, x: Inputs | Shapes | None = None, *, seconds: float = 1.0
    ) -> Profile:
        """Where the time of a run goes, layer by layer, and how near to the machine's peak.

        Args:
            x: as in `summary`; if no values are given, they are random.
            seconds: how long to measure.

        Raises:
            ShapeError: the network does not take such an input, or its sizes are free.
        """
        with importing:
            from . import profiling  # noqa: PLC0415

        inputs = feeds.example(self.graph.inputs, x)
        plan = self._plans.get(feeds.shapes_of(inputs), self._default_outputs, inputs)
        return profiling.profile(self.graph, self.isa, plan, inputs, seconds)

    def _reach(self: Planned) -> Reach:
        """The geometry of a network that makes pictures of pictures."""
        with importing:
            from .reach import reach_of  # noqa: PLC0415

        def run_bytes(shape: tuple[int, ...]) -> int:
            memory = self._plans.get((shape,), self._default_outputs).memory()
            return memory.arena + memory.scratch

        return reach_of(self.graph, self.preprocessing, run_bytes)

    def _features(self: Planned) -> str | None:
        """The tensor that the network's classifier reads; None if it is no classifier."""
        with importing:
            from .classifier import features_of  # noqa: PLC0415

        return features_of(self.graph, self.preprocessing, self.labels, self.task)
