"""The plans of a model: one for each shape of its inputs, the latest kept."""

from __future__ import annotations

import contextlib
import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .. import _core
from ..cost import Algorithms
from ..errors import MemoryLimitError, ShapeError, ValueNeeded
from ..graph import ANY_SHAPE, Array, Graph, TensorType
from ..lowering import PlanOptions
from ..passes import inputs_of_value, partition, prepare
from ..process import limits
from ..process.locks import Lock, nested, when_free
from ..process.threads import Threading
from ..weights.packed import Packed
from .batch import AnyPlan, make_plan
from .hot_plan import HotPlan
from .memory_use import PlanMemory
from .stages import StagedPlan
from .template import PlanTemplates

MAX_PLANS = 16
"""Maximum number of plans: those of the input shapes seen last."""

MAX_VALUE_ELEMENTS = 1024
"""Maximum elements of an input that a plan takes for a constant. Shapes can depend on the values of
inputs, such as the second of a reshape: a shape, some boxes, but not an image."""

Shape = tuple[int, ...]
Outputs = tuple[str, ...]
"""Names of tensors."""
Key = tuple[Any, ...]
"""The shapes of the inputs, the outputs, and the values of inputs that shapes depend on."""


class _Prepared(NamedTuple):
    """The part of the network that some outputs need, after the passes that no size matters to."""

    graph: Graph
    stored: int
    """Bytes of its constants, which are summed up once: a network has hundreds."""


class PlanCache:
    """Plans by the shapes of the inputs and by the outputs.

    If shapes depend on the values of small inputs there is a plan for each of these values. Several
    threads may call at once: one makes a plan that is missing, the others wait for it.
    """

    def __init__(
        self,
        graph: Graph,
        packed: Packed,
        threads: int,
        threading: Threading,
        isa: str,
        algorithms: Algorithms,
        memory: _core.RunMemory | None = None,
    ) -> None:
        """
        Args:
            graph: the graph as it was read.
            packed: the weights, which the plans share.
            threads: number of threads that a run may use.
            threading: the threads that it uses.
            isa: the instruction-set tier.
            algorithms: algorithms of the convolutions; after a change, call `replace`.
            memory: that of the network, if this graph is a stage or a subgraph of it; its packed
                weights are shared too. None: this is the network.
        """
        self._graph = graph
        self._packed = packed
        self._threads = threads
        self._threading = threading
        self._isa = isa
        self._algorithms = algorithms
        self._names = [spec.name for spec in graph.inputs]
        self._default_outputs = tuple(spec.name for spec in graph.outputs)
        self._prepared: dict[Outputs, _Prepared] = {}
        self._templates: dict[Outputs, PlanTemplates] = {}
        # Inputs whose values the shapes depend on, by outputs.
        self._valued: dict[Outputs, set[str]] = {}
        self._plans: OrderedDict[Key, AnyPlan] = OrderedDict()
        """Plans in the order of their last use. A use of the hot plan is entered at the next look
        at the table."""
        self._hot: HotPlan | None = None
        self._hot_used = False
        self._lock = Lock()
        self.planning_ns = 0
        """CPU time that making plans has taken so far, in nanoseconds."""
        self._part = memory is not None
        self.run_memory = _core.RunMemory() if memory is None else memory
        """The memory of runs, which the plans share."""

    def __len__(self) -> int:
        return len(self._plans)

    def hot(self, x: Any) -> tuple[AnyPlan, list[Array]] | None:
        """The plan of the last call and its inputs, if x is such as that plan takes.

        It counts as used like any other.

        Args:
            x: an array, or a dict of arrays by input name.
        """
        hot, file = self._hot, self._packed.file
        arrays = None if hot is None else hot.arrays(x)
        if hot is None or arrays is None or (file is not None and file.cut):
            return None
        self._hot_used = True
        return hot.plan, arrays

    def get(
        self,
        shapes: tuple[Shape, ...],
        outputs: Outputs,
        arrays: Sequence[Array] | None = None,
        limit: int | None = None,
    ) -> AnyPlan:
        """The plan for inputs of these shapes.

        Args:
            arrays: the inputs themselves, for their values.
            limit: bytes that the plan may use; None: the limits for these inputs.

        Raises:
            ShapeError: an operator does not take what the shapes lead to.
            ValueNeeded: shapes depend on values that are not given, or on too many.
            FormatError: the weights' file was written to in place, and the plan is a new one, or
                the file is a compiled one and shorter now.
        """
        if (file := self._packed.file) is not None and file.cut:
            file.check()
        kept = not nested()
        return self._lock.run(lambda: self._get(shapes, outputs, arrays, limit, kept=kept))

    def _get(
        self,
        shapes: tuple[Shape, ...],
        outputs: Outputs,
        arrays: Sequence[Array] | None,
        limit: int | None,
        *,
        kept: bool,
    ) -> AnyPlan:
        """Like `get`. A call from within another one changes nothing that the other relies on, so
        its plan is not kept."""
        self._enter_use()
        while True:
            values = {
                name: array.copy()
                for name, array in zip(self._names, arrays or (), strict=False)
                if name in self._valued.get(outputs, ())
            }
            key = (shapes, outputs, *(array.tobytes() for array in values.values()))
            plan = self._plans.get(key)
            if plan is not None:
                break
            began = time.thread_time_ns()
            try:
                # An input that is no tensor has no place in a plan, even if nothing reads it.
                tensors = all(spec.kind == "tensor" for spec in self._graph.inputs)
                make = self._make if tensors else self._make_stages
                plan = make(shapes, outputs, values, limit)
                break
            except ValueNeeded as error:
                # Tried again with the values; each time there are more of them.
                needed = self._keyed_inputs(error, outputs, shapes, arrays is not None)
                if not needed:
                    plan = self._make_stages(shapes, outputs, values, limit)
                    break
                self._valued[outputs] = self._valued.get(outputs, set()) | needed
            finally:
                self.planning_ns += time.thread_time_ns() - began
        if not kept:
            return plan
        if key not in self._plans:
            self._plans[key] = plan
            if len(self._plans) > MAX_PLANS:
                self._evict()
            self._packed.release()
        else:
            self._plans.move_to_end(key)
        if not values and outputs == self._default_outputs:
            self._hot = HotPlan.of(key, plan, self._graph.inputs, shapes)
        return plan

    def make_ahead(self) -> AnyPlan | None:
        """Packs the weights now, if the sizes of one image are known: the first run then takes no
        longer than the others.

        A free batch is taken for 1. If the network does not take that, it is planned when an input
        comes. Returns the plan, if one was made.
        """
        shapes = []
        guessed = any(isinstance(spec.shape[0], str) for spec in self._graph.inputs if spec.shape)
        for spec in self._graph.inputs:
            batch, *rest = (*spec.shape, 1)[: max(1, len(spec.shape))]
            if spec.shape == ANY_SHAPE or any(isinstance(size, str) for size in rest):
                return None
            shape = (1 if isinstance(batch, str) else batch, *rest)
            shapes.append(shape[: len(spec.shape)])
        # A large input is planned for when it comes.
        given = limits.memory_limit(sum(v.nbytes for v in self._graph.constants.values()))
        expected = (ShapeError,) if guessed else (MemoryLimitError, ValueNeeded)
        with contextlib.suppress(*expected):
            return self.get(
                tuple(shapes),  # type: ignore[arg-type]
                self._default_outputs,
                limit=given,
            )
        return None

    def replace(self) -> None:
        """Makes plans anew after a change of algorithms."""
        self._lock.run(self._clear)
        self.make_ahead()
        self._lock.run(self._forget)

    def _clear(self) -> None:
        self._hot = None
        self._plans.clear()
        self._templates.clear()

    def trim(self) -> None:
        """Keeps one plan, what it needs, and no idle workspace: that of the last plain call of the
        model, or else the one used last. If this thread is planning, it is done after that."""
        when_free(lambda: self._lock.run(self._trim))

    def _trim(self) -> None:
        self.run_memory.trim()
        if self._hot is not None and self._hot.key in self._plans:
            self._plans.move_to_end(self._hot.key)
        while len(self._plans) > 1:
            self._plans.popitem(last=False)
        self._evict()
        self._prepared = {k: g for k, g in self._prepared.items() if k == self._default_outputs}
        self._templates.clear()
        self._packed.release()

    def memory(self) -> tuple[PlanMemory, ...]:
        """Memory of each plan, the one used last at the end. Waits for nobody."""
        hot = self._hot if self._hot_used else None
        plans = [plan for key, plan in list(self._plans.items()) if not hot or key != hot.key]
        if hot:
            plans.append(hot.plan)
        return tuple(plan.memory() for plan in plans)

    def lasting_weights(self) -> dict[str, Any]:
        """The packed weights of the plans that a compiled file may hold, by their names there."""
        return self._lock.run(lambda: self._packed.lasting(self._weights()))

    # --------------------------------------------------------------------------------------------

    def _enter_use(self) -> None:
        """Moves the hot plan, if it ran since the last time, to the end of the table."""
        if self._hot_used and self._hot is not None and self._hot.key in self._plans:
            self._hot_used = False
            self._plans.move_to_end(self._hot.key)

    def _evict(self) -> None:
        """Drops the plans used longest ago, and the packed weights that only they use."""
        while len(self._plans) > MAX_PLANS:  # by more than one after an interruption
            self._plans.popitem(last=False)
        if self._hot is not None and self._hot.key not in self._plans:
            self._hot = None
        self._forget()

    def _weights(self) -> set[tuple[str, str]]:
        return set().union(*(plan.weights for plan in self._plans.values()))

    def _forget(self) -> None:
        """Drops the packed weights that no plan uses, if there is a plan."""
        if self._plans and not self._part:
            self._packed.keep(self._weights())

    def _make(
        self,
        shapes: tuple[Shape, ...],
        outputs: Outputs,
        values: Mapping[str, Array],
        limit: int | None,
    ) -> AnyPlan:
        sizes = dict(zip(self._names, shapes, strict=True))
        self._packed.check()
        try:
            if outputs not in self._prepared:
                graph = prepare(self._graph, outputs, sizes, values, limit)
                stored = sum(value.nbytes for value in graph.constants.values())
                self._prepared[outputs] = _Prepared(graph, stored)
            graph, stored = self._prepared[outputs]
            options = self._options_for(stored, sizes, limit)
            templates = self._templates.setdefault(outputs, PlanTemplates(graph))
            return make_plan(graph, sizes, values, options, templates)
        except ValueNeeded:
            raise
        except ShapeError as error:
            given = ", ".join(f"{n!r}: {s}" for n, s in zip(self._names, shapes, strict=True))
            raise type(error)(f"{error} (the model's inputs are {given})") from None

    def _options_for(
        self, stored: int, sizes: Mapping[str, Shape], limit: int | None
    ) -> PlanOptions:
        """The options for planning a graph with constants of `stored` bytes for such inputs."""
        if limit is None:
            specs = self._graph.inputs
            given = (TensorType(sizes[spec.name], spec.dtype).nbytes for spec in specs)
            limit = limits.memory_limit(sum(given) + stored)
        return PlanOptions(
            self._packed,
            self.run_memory,
            self._threads,
            self._threading,
            self._isa,
            self._algorithms,
            stored,
            limit,
        )

    def _make_stages(
        self,
        shapes: tuple[Shape, ...],
        outputs: Outputs,
        values: Mapping[str, Array],
        limit: int | None,
    ) -> AnyPlan:
        """A plan in stages, of which the first is planned now."""
        specs = self._graph.inputs
        sizes = {s.name: n for s, n in zip(specs, shapes, strict=True) if s.kind == "tensor"}
        graph = self._graph.ending_at(outputs)
        graph.constants |= values
        graph.varying |= set(values)
        parts = partition(graph, sizes, limit)
        return StagedPlan(graph, parts, sizes, self._subcache, self._threads, limit)

    def _subcache(self, graph: Graph) -> PlanCache:
        """The cache of a part of the graph, with the same settings and packed weights."""
        return PlanCache(
            graph,
            self._packed,
            self._threads,
            self._threading,
            self._isa,
            self._algorithms,
            self.run_memory,
        )

    def plans(self) -> list[AnyPlan]:
        """The plans that are kept."""
        return list(self._plans.values())

    def _keyed_inputs(
        self, error: ValueNeeded, outputs: Outputs, shapes: tuple[Shape, ...], given: bool
    ) -> set[str]:
        """The inputs whose values the plan will be made for; none if it will have stages.

        These are inputs that a size is read from directly, and small inputs of integers that a
        size, or the condition of an If, is computed from.

        Raises:
            ValueNeeded: their values are not given.
        """
        known = self._valued.get(outputs, set())
        prepared = self._prepared.get(outputs)
        graph = prepared.graph if prepared else self._graph.ending_at(outputs)
        needed = inputs_of_value(graph, error.tensor) - known
        specs = dict(zip(self._names, zip(self._graph.inputs, shapes, strict=True), strict=True))
        direct = needed == {error.tensor} and specs[error.tensor][0].kind == "tensor"
        small = all(
            spec.kind == "tensor" and spec.dtype.kind in "iub" and takes_value(shape)
            for spec, shape in (specs[name] for name in needed)
        )
        if not needed or (error.runs_on_values and self._part):
            return set()
        if not (direct and not error.runs_on_values) and not small:
            return set()
        if not given:
            names = ", ".join(sorted(needed))
            raise ValueNeeded(f"{error}; give the values of {names}", error.tensor) from None
        return needed


def takes_value(shape: Sequence[int]) -> bool:
    """True if an input of this shape is small enough for a plan per value."""
    return math.prod(shape) <= MAX_VALUE_ELEMENTS
