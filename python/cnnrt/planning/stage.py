"""Interfaces of the plans and caches that stages use, whichever these are."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any, Protocol

from ..graph import Array, Graph
from ..layout.tensors import Step
from ..lowering import ReferenceStep
from ..weights.packed import Key
from .memory_use import PlanMemory
from .plan import StepInfo


class Stage(Protocol):
    """The facts about a stage that has run, from a plan or an interpreter."""

    @property
    def graphs(self) -> tuple[Graph, ...]: ...
    @property
    def steps(self) -> Sequence[Step | ReferenceStep]: ...
    def describe(self) -> Sequence[StepInfo]: ...


class StagePlan(Stage, Protocol):
    """The plan of a stage, of a branch or of a body: whole, in parts, or in stages again."""

    @property
    def weights(self) -> Set[Key]: ...
    @property
    def cost_ns(self) -> float: ...
    @property
    def nbytes(self) -> int: ...
    def run(self, inputs: Sequence[Any]) -> list[Any]: ...
    def trace(self, inputs: Sequence[Any]) -> Array: ...
    def memory(self) -> PlanMemory: ...


class StageCache(Protocol):
    """The plans of one graph, by the shapes of its inputs (`plan_cache.PlanCache`)."""

    @property
    def planning_ns(self) -> int: ...
    def get(
        self,
        shapes: tuple[tuple[int, ...], ...],
        outputs: tuple[str, ...],
        arrays: Sequence[Any] | None = None,
        limit: int | None = None,
    ) -> StagePlan: ...
    def plans(self) -> Sequence[StagePlan]: ...


MakeCache = Callable[[Graph], StageCache]
"""Makes the plan cache of a graph, with the settings and the packed weights of the model."""
