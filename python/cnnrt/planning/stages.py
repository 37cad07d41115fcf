"""Plans in stages, for networks in which sizes or branches depend on computed values.

What can be planned is planned and run first. Then come the operators whose results have types that
only their values tell (NonZero, NonMaxSuppression, If, Loop, sequences). The rest is planned like a
network of its own for the types that came, and kept. Branches and bodies are networks of their own
too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..dtypes import as_dtype
from ..errors import MemoryLimitError
from ..graph import Array, Graph, Node, TensorType, Value
from ..layout.tensors import Step
from ..lowering import ReferenceStep
from ..passes import Partition
from ..weights.packed import Key
from .allowance import RUN_NS, Allowance, leaves, nbytes_of, predicted
from .evaluation import Charged, evaluated
from .interpreter import Interpreter
from .memory_use import PlanMemory
from .plan import StepInfo, step_times
from .stage import MakeCache, Stage, StageCache, StagePlan

ON_VALUES = "on values"
"""Stands for a kernel's name where an operator runs between two stages."""


class Subnetwork:
    """A graph that is planned for the types of the values it is run on.

    There is a plan cache for each set of dtypes, which keeps plans by shape as a model's does.
    """

    def __init__(self, graph: Graph, make_cache: MakeCache) -> None:
        self.graph = graph
        self.last: Stage | None = None
        """The plan, or interpreter, used last, or None."""
        self._interpreter = Interpreter(graph) if Interpreter.takes(graph) else None
        self._make_cache = make_cache
        self._outputs = tuple(spec.name for spec in graph.outputs)
        self._caches: dict[tuple[Any, ...], StageCache] = {}

    def run(self, values: Sequence[Value], allowance: Allowance, at: str) -> list[Value]:
        """The outputs for the values of the inputs, both in the graph's order.

        Raises:
            MemoryLimitError: the run may not use as much memory; `at` names the node.
            WorkLimitError: it may not do as much work.
        """
        if self._interpreter is not None:
            charged = Charged(allowance, at)
            results = self._interpreter.run(values, charged)
            charged.spend()
            if results is not None:
                self.last = self._interpreter
                return results
        plan = self.plan_for(values, allowance, at)
        allowance.spend(RUN_NS + plan.cost_ns, at)
        if isinstance(plan, StagedPlan):
            return plan.run_within(allowance, values)
        allowance.check(plan.nbytes, at)
        return list(plan.run(values))

    def trace(self, values: Sequence[Value], threads: int, allowance: Allowance, at: str) -> Array:
        """When each thread worked on each step in one run, as `Plan.trace`."""
        if self._interpreter is not None:
            spans = self._interpreter.trace(values, threads, evaluated)
            if spans is not None:
                self.last = self._interpreter
                return spans
        return self.plan_for(values, allowance, at).trace(values)

    def plan_for(self, values: Sequence[Value], allowance: Allowance, at: str) -> StagePlan:
        """The plan for values of these types; made if there is none."""
        types = tuple(x.dtype if isinstance(x, np.ndarray) else None for x in values)
        cache = self._caches.get(types)
        if cache is None:
            inputs = [
                replace(spec, dtype=as_dtype(dtype))
                if dtype is not None
                else replace(spec, kind="sequence")
                for spec, dtype in zip(self.graph.inputs, types, strict=True)
            ]
            graph = replace(self.graph, inputs=inputs)
            cache = self._caches.setdefault(types, self._make_cache(graph))
        shapes = tuple(x.shape if isinstance(x, np.ndarray) else () for x in values)
        before = cache.planning_ns
        try:
            plan = cache.get(shapes, self._outputs, values, allowance.room)
        except MemoryLimitError as error:
            held = f"{allowance.held / 2**20:.1f} MiB are held beside it"
            raise MemoryLimitError(f"{at}: {error}; {held}") from None
        if cache.planning_ns != before:
            allowance.spend_planning(len(self.graph.nodes), cache.planning_ns - before, at)
        self.last = plan
        return plan

    def plans(self) -> Iterator[StagePlan]:
        """All plans that are kept."""
        for cache in list(self._caches.values()):
            yield from cache.plans()


class StagedPlan:
    """The plan of a partitioned graph at one set of input shapes."""

    images = 1
    cut: str | None = None
    dependence: str | None = None

    def __init__(
        self,
        graph: Graph,
        parts: Partition,
        shapes: dict[str, tuple[int, ...]],
        make_cache: MakeCache,
        threads: int,
        limit: int | None,
    ) -> None:
        """Plans the first stage.

        Args:
            graph: the whole, of which `parts` is the partition.
            shapes: of the inputs that are tensors.
            make_cache: see `MakeCache`.
            threads: that a run may use.
            limit: bytes that the plan of the first stage may use; None: by its inputs.

        Raises:
            ShapeError: an operator does not take what the shapes lead to.
        """
        self.threads = threads
        self._inputs = [spec.name for spec in graph.inputs]
        self._outputs = [spec.name for spec in graph.outputs]
        self._constants = {k: np.asarray(v) for k, v in parts.constants.constants.items()}
        self._make_cache = make_cache
        self._on_values = parts.on_values
        self._subnetworks: dict[int, Subnetwork] = {}
        self._shapes = tuple(shapes.get(name, ()) for name in self._inputs)
        self._at = f"a stage of {graph.name!r}"
        self._given = _stored(graph) + sum(
            TensorType(shapes[spec.name], spec.dtype).nbytes
            for spec in graph.inputs
            if spec.name in shapes
        )
        self._head = None
        self._head_inputs: list[str] = []
        self._head_outputs: list[str] = []
        if parts.head is not None:
            self._head_inputs = [spec.name for spec in parts.head.inputs]
            self._head_outputs = [spec.name for spec in parts.head.outputs]
            self._head = make_cache(parts.head).get(
                tuple(shapes[name] for name in self._head_inputs),
                tuple(self._head_outputs),
                limit=limit,
            )
        self._rest = None if parts.rest is None else Subnetwork(parts.rest, make_cache)

    @property
    def nbytes(self) -> int:
        """Bytes that the first stage takes; the others are counted as they are planned."""
        return 0 if self._head is None else self._head.nbytes

    @property
    def cost_ns(self) -> float:
        """Estimated nanoseconds of the first stage on one thread."""
        return 0.0 if self._head is None else self._head.cost_ns

    def run(self, inputs: Sequence[Value]) -> list[Any]:
        """Outputs of the graph, in order."""
        return self.run_within(Allowance(self._given), inputs)

    def run_within(self, allowance: Allowance, inputs: Sequence[Value]) -> list[Any]:
        """The same, as a part of a run that has an allowance."""
        room = allowance.room
        known = dict(zip(self._inputs, inputs, strict=True)) | self._constants
        given = set(known)
        known[""] = None
        if self._head is not None:
            arrays = [known[name] for name in self._head_inputs]
            allowance.hold(self._head.nbytes, self._at)
            known |= zip(self._head_outputs, self._head.run(arrays), strict=True)
        for node in self._on_values:
            known |= zip(node.outputs, self._evaluate(node, known, allowance), strict=False)
            known[""] = None
        if self._rest is not None:
            graph = self._rest.graph
            values = [known[spec.name] for spec in graph.inputs]
            results = self._rest.run(values, allowance, self._at)
            known |= {s.name: y for s, y in zip(graph.outputs, results, strict=True)}
        allowance.room = room
        # A result belongs to the caller: inputs and constants are copied.
        return [_copy(known[n]) if n in given else known[n] for n in self._outputs]

    def _evaluate(self, node: Node, known: dict[str, Value], allowance: Allowance) -> list[Value]:
        """The outputs of an operator that runs on values."""
        values = [known[name] for name in node.inputs]
        if node.op == "identity":
            return values
        at = f"node {node.name!r} ({node.op})"
        held = {id(value) for value in leaves(values)}
        room = allowance.room
        if not node.subgraphs():
            nbytes, ns = predicted(node, values)
            allowance.check(nbytes, at)
            allowance.spend(ns, at)
        results = evaluated(node, values, _Runner(self, allowance, at, held))
        results = [_contiguous(value) for value in results]
        allowance.room = room
        # Sixty NonZero in a row may make twice as much each.
        allowance.hold(nbytes_of(results, held), at)
        return results

    def subnetwork(self, graph: Graph) -> Subnetwork:
        """A subgraph of a node of this plan."""
        found = self._subnetworks.get(id(graph))
        return found or self._subnetworks.setdefault(id(graph), Subnetwork(graph, self._make_cache))

    # What a plan tells of itself -----------------------------------------------------------------

    def _parts(self) -> Iterator[StagePlan]:
        """All plans that this one is made of."""
        if self._head is not None:
            yield self._head
        for subnetwork in list(self._subnetworks.values()):
            yield from subnetwork.plans()
        if self._rest is not None:
            yield from self._rest.plans()

    @property
    def _last_rest(self) -> Stage | None:
        return None if self._rest is None else self._rest.last

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The graphs of the stages that have run last."""
        stages = [stage for stage in (self._head, self._last_rest) if stage is not None]
        return tuple(graph for stage in stages for graph in stage.graphs)

    @property
    def steps(self) -> list[Step | ReferenceStep]:
        """The steps of the stages that have run last, in order."""
        steps: list[Step | ReferenceStep] = [] if self._head is None else list(self._head.steps)
        steps += [ReferenceStep(node, [], []) for node in self._on_values]
        return steps if self._last_rest is None else steps + list(self._last_rest.steps)

    @property
    def weights(self) -> set[Key]:
        """The packed weights that the plans of all stages use."""
        return set().union(*(part.weights for part in self._parts()))

    def describe(self) -> list[StepInfo]:
        """The steps in order; stages that have not run yet by the number of their nodes."""
        infos: list[StepInfo] = [] if self._head is None else list(self._head.describe())
        infos += [
            StepInfo(node.name, ON_VALUES, f"{node.op}, then the next stage is planned", 0.0)
            for node in self._on_values
        ]
        if self._last_rest is not None:
            return infos + list(self._last_rest.describe())
        if self._rest is not None:
            count = len(self._rest.graph.nodes)
            note = f"{count} node{'s' * (count != 1)}, planned when their sizes are known"
            infos.append(StepInfo(self._rest.graph.nodes[0].name, "later", note, 0.0))
        return infos

    def trace(self, inputs: Sequence[Value]) -> Array:
        """When each thread worked on each step in one run, as `Plan.trace`."""
        known = dict(zip(self._inputs, inputs, strict=True)) | self._constants
        known[""] = None
        tables = [np.empty((self.threads, 0, 2), np.int64)]
        allowance = Allowance(self._given)
        if self._head is not None:
            arrays = [known[name] for name in self._head_inputs]
            tables.append(self._head.trace(arrays))
            known |= zip(self._head_outputs, self._head.run(arrays), strict=True)
        for node in self._on_values:
            start = time.perf_counter_ns()
            known |= zip(node.outputs, self._evaluate(node, known, allowance), strict=False)
            known[""] = None
            span = np.full((self.threads, 1, 2), -1, np.int64)
            span[0, 0] = 0, time.perf_counter_ns() - start
            tables.append(span)
        if self._rest is not None:
            values = [known[spec.name] for spec in self._rest.graph.inputs]
            tables.append(self._rest.trace(values, self.threads, allowance, self._at))
        return join_traces(tables, self.threads)

    def time(self, inputs: Sequence[Value]) -> list[int]:
        """Nanoseconds that each step adds to one run; their sum is the time of the run."""
        return step_times(self.trace(inputs)).tolist()  # type: ignore[no-any-return]

    def memory(self) -> PlanMemory:
        """The memory of all stages and subgraphs together."""
        parts = [part.memory() for part in self._parts()]
        return PlanMemory(
            self._shapes,
            live=max((part.live for part in parts), default=0),
            arena=max((part.arena for part in parts), default=0),
            scratch=max((part.scratch for part in parts), default=0),
        )


class _Runner:
    """Runs the subgraphs of a node within the allowance of the run."""

    def __init__(self, plan: StagedPlan, allowance: Allowance, at: str, held: set[int]) -> None:
        self._plan = plan
        self._allowance = allowance
        self._at = at
        self._held = held

    def __call__(self, graph: Graph, values: Sequence[Value]) -> list[Value]:
        room = self._allowance.room
        self.hold(nbytes_of(values, self._held))  # those that a loop carries
        results = self._plan.subnetwork(graph).run(values, self._allowance, self._at)
        self._allowance.room = room
        return results

    def hold(self, nbytes: int) -> None:
        self._allowance.hold(nbytes, self._at)


def join_traces(tables: Sequence[Array], threads: int) -> Array:
    """Traces of stages that ran one after the other, as the trace of one run."""
    end, joined = 0, []
    for table in tables:
        missing = threads - len(table)
        full = np.pad(table, ((0, missing), (0, 0), (0, 0)), constant_values=-1)
        joined.append(np.where(full < 0, -1, full + end))
        end = max(end, int(joined[-1].max(initial=0)))
    return np.hstack(joined)


def _contiguous(value: Value) -> Value:
    if isinstance(value, list) or value is None:
        return value
    array = np.asarray(value)
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _stored(graph: Graph) -> int:
    """Bytes of the constants of a graph and of its subgraphs."""
    total = sum(value.nbytes for value in graph.constants.values())
    inner = (sub for node in graph.nodes for sub in node.subgraphs().values())
    return total + sum(map(_stored, inner))


def _copy(value: Value) -> Value:
    if isinstance(value, list):
        return [_copy(element) for element in value]
    return None if value is None else np.array(value)
