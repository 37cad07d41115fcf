"""Batches: runs a network's images one by one, as far as that is faster than all at once.

A thread that computes one image finds its tensors in its own caches and waits for no other thread.
The tensors of a whole batch are in memory. But weights are then read once for every image. That
costs nothing if each weight takes part in many products, as in convolutions. Behind the first fully
connected layer each takes part in one, so from there on all images go together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import CnnrtError
from ..graph import Array, Graph, TensorSpec
from ..layout.tensors import Step
from ..lowering import Lowered, PlanOptions, ReferenceStep, lower
from ..ops import op
from ..passes import dependence, fuse, specialise, with_types
from .memory_use import PlanMemory
from .plan import Plan, StepInfo
from .stages import StagedPlan, join_traces
from .template import PlanTemplates

Shapes = Mapping[str, tuple[int, ...]]


class BatchPlan:
    """Two plans in a row: one of single images up to a tensor, and one of all images from it on."""

    def __init__(self, head: Plan, tail: Plan) -> None:
        self.parts = (head, tail)
        self.weights = head.weights | tail.weights
        self.nbytes = head.nbytes + tail.nbytes
        self.cost_ns = head.cost_ns + tail.cost_ns

    @property
    def threads(self) -> int:
        """The number of threads that a run may use."""
        return max(part.threads for part in self.parts)

    @property
    def images(self) -> int:
        return self.parts[0].images

    @property
    def cut(self) -> str | None:
        return self.parts[1].graph.inputs[0].name

    @property
    def dependence(self) -> str | None:
        return None

    @property
    def graphs(self) -> tuple[Graph, ...]:
        return tuple(graph for part in self.parts for graph in part.graphs)

    @property
    def steps(self) -> list[Step | ReferenceStep]:
        return [step for part in self.parts for step in part.steps]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        head, tail = self.parts
        return tail.run(head.run(inputs))

    def trace(self, inputs: Sequence[Array]) -> Array:
        head, tail = self.parts
        return join_traces([head.trace(inputs), tail.trace(head.run(inputs))], self.threads)

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
            arena=max(head.arena, tail.arena),
            scratch=max(head.scratch, tail.scratch),
        )


AnyPlan = Plan | BatchPlan | StagedPlan


def make_plan(
    prepared: Graph,
    shapes: Shapes,
    values: Mapping[str, Array],
    options: PlanOptions,
    templates: PlanTemplates,
) -> AnyPlan:
    """The plan of a prepared graph (`passes.prepare`) for inputs of these shapes.

    Args:
        values: values of those inputs for which alone the plan holds.
        templates: those of the graph and the options.

    Raises:
        ShapeError: an operator does not take what these shapes lead to, or the plan takes more
            memory than it may.
        ValueNeeded: shapes depend on the value of a tensor that is not constant.
    """
    one_by_one = None if values else _one_by_one(prepared, shapes, options)
    if one_by_one is not None and not isinstance(one_by_one, str):
        return one_by_one
    plan = Plan(templates.lower(shapes, values, options), options)
    plan.dependence = one_by_one
    return plan


def _one_by_one(prepared: Graph, shapes: Shapes, options: PlanOptions) -> AnyPlan | str | None:
    """A plan that takes the images of a batch one by one; its result is that for all at once.

    Returns:
        None if that is not faster; a reason if an image may depend on another one.
    """
    sizes = {shape[0] if shape else 1 for shape in shapes.values()}
    images = max(sizes, default=1)
    if len(sizes) != 1 or images < 2:
        return None
    one = {name: (1, *shape[1:]) for name, shape in shapes.items()}
    try:
        typed = with_types(prepared, one, None, options.limit)
        cut = first_linear(prepared, typed)
        twin = typed if cut is None else _ending_at(typed, cut)
        fuse(twin)
    except CnnrtError:  # a network for batches of this size alone
        return None
    head = prepared if cut is None else prepared.ending_at([cut])
    # Every step of a recurrent layer reads all its weights. For 8 images one by one, an LSTM of 256
    # states takes 1.3 times as long as for all at once. One of 512 states takes 1.7 times as long.
    if any(op(node).family == "recurrent" for node in head.nodes):
        return None
    reason = dependence(specialise(head, shapes, None, options.limit), twin)
    if reason is not None:
        return reason
    lowered = lower(twin, options)
    if not pays_one_by_one(lowered, options):
        return None
    plan = Plan(lowered, options, images)
    if cut is None:
        return plan
    rest = prepared.beginning_at(TensorSpec(cut, ()))
    tail = specialise(rest, {cut: (images, *twin.types[cut].shape[1:])}, None, options.limit)
    return BatchPlan(plan, Plan(lower(tail, options), options))


def _ending_at(typed: Graph, cut: str) -> Graph:
    """The part of a graph with types that makes one tensor."""
    head = typed.ending_at([cut])
    head.types, head.varying = typed.types, typed.varying
    return head


def pays_one_by_one(lowered: Lowered, options: PlanOptions) -> bool:
    """True if the steps of one image can and should run image by image.

    Kernels must do all of them. Reading the weights may take at most half of the time in which the
    threads compute an image each. With more weights, one reading for all images pays.
    """
    traffic = lowered.packed_bytes / options.machine.cold * options.threads
    return lowered.all_kernels and 0 < traffic < 0.5 * lowered.cost_ns


def first_linear(graph: Graph, typed: Graph) -> str | None:
    """The input of the first fully connected layer that has a single row for each image. None if a
    node behind it reads another tensor from before it.

    Args:
        graph: the prepared graph.
        typed: the same graph with its types for one image.
    """
    made = {spec.name for spec in graph.inputs}
    outputs = {spec.name for spec in graph.outputs}
    for i, node in enumerate(graph.nodes):
        cut = node.inputs[0] if node.inputs else ""
        if node.op == "linear" and cut in made and len(typed.types[cut].shape) == 2:
            read = {name for later in graph.nodes[i:] for name in later.inputs} | outputs
            return cut if read & made == {cut} else None
        made.update(filter(None, node.outputs))
    return None
