"""Batches: a network's images one by one, as far as that is faster than all at once.

A thread that takes an image alone finds its tensors in its own caches and waits for nobody, where
the tensors of a whole batch are in memory. Only weights are read once for every image instead of
once for all. That costs nothing where each takes part in many products, as in convolutions; behind
the first fully connected layer each takes part in one, so there all images go together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import CnnrtError
from ..graph import Array, Graph, TensorSpec
from ..layout.tensors import Step
from ..lowering import ReferenceStep
from ..passes import images_apart, infer, specialise
from ..process.locks import cached_property
from ..weights.packed import Key
from .memory_use import PlanMemory
from .plan import Plan, StepInfo

Shapes = Mapping[str, tuple[int, ...]]


class BatchPlan:
    """Two plans as one: of single images up to a tensor, and of all images from it on."""

    def __init__(self, head: Plan, tail: Plan) -> None:
        self.parts = (head, tail)

    @property
    def threads(self) -> int:
        """As `Plan.threads`; and so for the other members."""
        return max(part.threads for part in self.parts)

    @property
    def images(self) -> int:
        return self.parts[0].images

    @property
    def cut(self) -> str | None:
        return self.parts[1].graph.inputs[0].name

    @property
    def graphs(self) -> tuple[Graph, ...]:
        return tuple(graph for part in self.parts for graph in part.graphs)

    @property
    def steps(self) -> list[Step | ReferenceStep]:
        return [step for part in self.parts for step in part.steps]

    @cached_property
    def weights(self) -> set[Key]:
        return self.parts[0].weights | self.parts[1].weights

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        head, tail = self.parts
        return tail.run(head.run(inputs))

    def trace(self, inputs: Sequence[Array]) -> Array:
        head, tail = self.parts
        tables = head.trace(inputs), tail.trace(head.run(inputs))
        missing = [self.threads - len(table) for table in tables]
        first, second = (
            np.pad(t, ((0, m), (0, 0), (0, 0)), constant_values=-1)
            for t, m in zip(tables, missing, strict=True)
        )
        return np.hstack([first, np.where(second < 0, -1, second + first.max(initial=0))])

    def time(self, inputs: Sequence[Array]) -> list[int]:
        head, tail = self.parts
        return head.time(inputs) + tail.time(head.run(inputs))

    def describe(self) -> list[StepInfo]:
        return [info for part in self.parts for info in part.describe()]

    def memory(self) -> PlanMemory:
        head, tail = (part.memory() for part in self.parts)
        return PlanMemory(
            head.shapes,
            live=max(head.live, tail.live),
            arena=head.arena + tail.arena,
            scratch=head.scratch + tail.scratch,
            workspaces=head.workspaces,
            outputs=head.outputs + tail.outputs,
            nbytes=head.nbytes + tail.nbytes,
        )

    def trim(self) -> None:
        for part in self.parts:
            part.trim()


AnyPlan = Plan | BatchPlan


def plan_images(graph: Graph, shapes: Shapes, **options: Any) -> AnyPlan | None:
    """A plan that takes the images of a batch one by one; its result is that for all at once.

    Args:
        graph: prepared (`passes.prepare`).
        shapes: of the inputs.
        options: of `Plan`.

    Returns:
        None where that is not the faster way, or the network may mix its images.
    """
    sizes = {shape[0] if shape else 1 for shape in shapes.values()}
    images = max(sizes, default=1)
    if len(sizes) != 1 or images < 2 or options["values"]:
        return None
    one = {name: (1, *shape[1:]) for name, shape in shapes.items()}
    try:
        cut = first_linear(graph, one, options["limit"])
        head = graph if cut is None else graph.ending_at([cut])
        twin = specialise(head, one, None, options["limit"])
    except CnnrtError:  # a network for batches of this size alone
        return None
    if not images_apart(specialise(head, shapes, None, options["limit"]), twin):
        return None
    options["network"] = graph
    plan = Plan(head, one, images=images, **options)
    if not plan.runs_images:
        return None
    if cut is None:
        return plan
    rest = graph.beginning_at(TensorSpec(cut, ()))
    given = {cut: (images, *twin.types[cut].shape[1:])}
    return BatchPlan(plan, Plan(rest, given, **options))


def first_linear(graph: Graph, one: Shapes, limit: int | None) -> str | None:
    """The input of the first fully connected layer of an image's single row, if nothing behind it
    reads anything else that was made before."""
    typed = graph.copy()
    infer(typed, one, limit)
    made = {spec.name for spec in graph.inputs}
    outputs = {spec.name for spec in graph.outputs}
    for i, node in enumerate(graph.nodes):
        cut = node.inputs[0] if node.inputs else ""
        if node.op == "linear" and cut in made and len(typed.types[cut].shape) == 2:
            read = {name for later in graph.nodes[i:] for name in later.inputs} | outputs
            return cut if read & made == {cut} else None
        made.update(filter(None, node.outputs))
    return None
