"""Plans in stages, for networks in which sizes or branches depend on computed values.

What can be planned is planned and run first. Then come the operators whose results have types that
only their values tell (NonZero, NonMaxSuppression, If, Loop, sequences). The rest is planned like a
network of its own for the types that came, and kept. Branches and bodies are networks of their own
too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import ops
from ..dtypes import as_dtype
from ..errors import CnnrtError, IndexOutOfRange, MemoryLimitError, ShapeError
from ..graph import Array, Graph, Node, Value
from ..layout.tensors import Step
from ..lowering import ReferenceStep
from ..ops import RunSubgraph
from ..passes import Partition
from ..process.limits import check_memory, memory_limit
from ..weights.packed import Key
from .interpreter import Interpreter
from .memory_use import PlanMemory
from .plan import StepInfo, step_times

MakeCache = Callable[[Graph], Any]
"""Makes the plan cache of a graph, with the settings and the packed weights of the model."""


UNCHECKED = 1 << 20
"""Bytes of a result that is not held against the memory limit: to ask the machine takes 35 us."""

ON_VALUES = "on values"
"""Stands for a kernel's name where an operator runs between two stages."""


def no_subgraph(graph: Graph, values: Sequence[Value]) -> list[Value]:
    """Takes the place of what runs subgraphs, for operators that have none."""
    raise ShapeError(f"the graph {graph.name!r} cannot be run here, on {len(values)} values")


class Subnetwork:
    """A graph that is planned for the types of the values it is run on.

    There is a plan cache for each set of dtypes, which keeps plans by shape as a model's does.
    """

    def __init__(self, graph: Graph, make_cache: MakeCache) -> None:
        self.graph = graph
        self.last: Any = None
        """The plan, or interpreter, used last, or None."""
        self._interpreter = Interpreter(graph, evaluated) if Interpreter.takes(graph) else None
        self._make_cache = make_cache
        self._outputs = tuple(spec.name for spec in graph.outputs)
        self._caches: dict[tuple[Any, ...], Any] = {}

    def run(self, values: Sequence[Value]) -> list[Value]:
        """The outputs for the values of the inputs, both in the graph's order."""
        results = None if self._interpreter is None else self._interpreter.run(values)
        if results is not None:
            self.last = self._interpreter
            return results
        return list(self.plan_for(values).run(values))

    def trace(self, values: Sequence[Value], threads: int) -> Array:
        """When each thread worked on each step in one run, as `Plan.trace`."""
        spans = None if self._interpreter is None else self._interpreter.trace(values, threads)
        if spans is not None:
            self.last = self._interpreter
            return spans
        return self.plan_for(values).trace(values)  # type: ignore[no-any-return]

    def plan_for(self, values: Sequence[Value]) -> Any:
        """The plan for values of these types; made if there is none."""
        types = tuple(x.dtype if isinstance(x, np.ndarray) else None for x in values)
        cache: Any = self._caches.get(types)
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
        self.last = cache.get(shapes, self._outputs, values)
        return self.last

    def plans(self) -> Iterator[Any]:
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

    def run(self, inputs: Sequence[Value]) -> list[Any]:
        """Outputs of the graph, in order."""
        known = dict(zip(self._inputs, inputs, strict=True)) | self._constants
        given = set(known)
        known[""] = None
        if self._head is not None:
            arrays = [known[name] for name in self._head_inputs]
            known |= zip(self._head_outputs, self._head.run(arrays), strict=True)
        for node in self._on_values:
            known |= zip(node.outputs, self._evaluate(node, known), strict=False)
            known[""] = None
        if self._rest is not None:
            graph = self._rest.graph
            results = self._rest.run([known[spec.name] for spec in graph.inputs])
            known |= {s.name: y for s, y in zip(graph.outputs, results, strict=True)}
        # A result belongs to the caller: inputs and constants are copied.
        return [_copy(known[n]) if n in given else known[n] for n in self._outputs]

    def _evaluate(self, node: Node, known: dict[str, Value]) -> list[Value]:
        """The outputs of an operator that runs on values."""
        values = [known[name] for name in node.inputs]
        if node.op == "identity":
            return values
        results = evaluated(node, values, self._run_subgraph)
        # Sixty NonZero in a row may make twice as much each.
        nbytes = sum(map(_nbytes, results))
        if nbytes > UNCHECKED:
            check_memory(nbytes, memory_limit(0), f"node {node.name!r} ({node.op}): its result")
        return [_contiguous(value) for value in results]

    def _run_subgraph(self, graph: Graph, values: Sequence[Value]) -> list[Value]:
        subnetwork = self._subnetworks.get(id(graph))
        if subnetwork is None:
            subnetwork = Subnetwork(graph, self._make_cache)
            subnetwork = self._subnetworks.setdefault(id(graph), subnetwork)
        return subnetwork.run(values)

    # What a plan tells of itself -----------------------------------------------------------------

    def _parts(self) -> Iterator[Any]:
        """All plans that this one is made of."""
        if self._head is not None:
            yield self._head
        for subnetwork in list(self._subnetworks.values()):
            yield from subnetwork.plans()
        if self._rest is not None:
            yield from self._rest.plans()

    @property
    def _last_rest(self) -> Any:
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
        if self._head is not None:
            arrays = [known[name] for name in self._head_inputs]
            tables.append(self._head.trace(arrays))
            known |= zip(self._head_outputs, self._head.run(arrays), strict=True)
        for node in self._on_values:
            start = time.perf_counter_ns()
            known |= zip(node.outputs, self._evaluate(node, known), strict=False)
            known[""] = None
            span = np.full((self.threads, 1, 2), -1, np.int64)
            span[0, 0] = 0, time.perf_counter_ns() - start
            tables.append(span)
        if self._rest is not None:
            values = [known[spec.name] for spec in self._rest.graph.inputs]
            tables.append(self._rest.trace(values, self.threads))
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


def evaluated(node: Node, values: Sequence[Value], run: RunSubgraph = no_subgraph) -> list[Value]:
    """The outputs of a node for the values of its inputs.

    Raises:
        CnnrtError: the values do not fit the operator; the error names the node.
    """
    at = f"node {node.name!r} ({node.op})"
    try:
        results = ops.op(node).evaluate(node, values, run)
    except CnnrtError:
        raise
    except IndexError as error:
        raise IndexOutOfRange(f"{at}: {error}") from error
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        # AttributeError: of a sequence in the place of a tensor
        raise ShapeError(f"{at} cannot be evaluated: {error}") from error
    except MemoryError as error:
        raise MemoryLimitError(f"{at} needs more memory than there is: {error}") from error
    if len(results) < len(node.outputs):
        raise ShapeError(f"{at} gives {len(results)} outputs, not {len(node.outputs)}")
    return results


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
    return np.ascontiguousarray(array).reshape(array.shape)


def _nbytes(value: Value) -> int:
    if isinstance(value, list):
        return sum(map(_nbytes, value))
    return 0 if value is None else int(np.asarray(value).nbytes)


def _copy(value: Value) -> Value:
    if isinstance(value, list):
        return [_copy(element) for element in value]
    return None if value is None else np.array(value)
