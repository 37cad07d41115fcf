"""A plan: a graph at given input shapes, lowered, laid out in memory and ready to run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _core, ops
from ..errors import CnnrtError, IndexOutOfRange, MemoryLimitError, ShapeError
from ..graph import Array, Graph, Node, TensorType
from ..layout.arena import lay_out
from ..layout.tensors import Plain, Step
from ..lowering import Lowered, PlanOptions, ReferenceStep
from ..passes import work_of
from ..process.limits import check_memory
from .memory_use import PlanMemory

EXTERNAL = 2
"""The memory space of the first input (enum Space in cpp/kernels/args.h)."""

SERIAL_BELOW = 500.0
"""Nanoseconds below which one thread does a step. Handing half of it to another core, whose caches
do not hold the input, would take as long."""


REFERENCE_NS, ELEMENT_NS = 10_000.0, 4.0
"""An operator in NumPy takes this for the call and for an element; a product takes 1 ns."""

SERIAL_NETWORK_BELOW = 30000.0
"""The same for a whole network: waking another thread takes part of this time."""


@dataclass(frozen=True)
class StepInfo:
    """One step of a plan, for `Model.describe` and profiles."""

    node: str
    kernel: str
    note: str
    cost_ns: float
    """Estimated nanoseconds on one thread."""


class Plan:
    """Runs one graph at one set of input shapes.

    The steps compute all inputs at once, or one image of a batch. A run then takes the images one
    by one, each on one thread, as long as there are as many images as threads.
    """

    cut: str | None = None
    """The tensor from which on another plan takes all images at once."""
    dependence: str | None = None
    """Reason why the images of a batch cannot be run one by one, or None."""

    def __init__(self, lowered: Lowered, options: PlanOptions, images: int = 1) -> None:
        """Lays out the memory of lowered steps and hands them to the core.

        Args:
            lowered: the steps, of which this plan keeps the buffers' offsets.
            options: the options that the graph was lowered with.
            images: number of such inputs, one after the other along axis 0, in a run.

        Raises:
            ShapeError: a kernel would use memory that its tensors do not have.
            MemoryLimitError: the plan takes more memory than it may.
        """
        self.graph = lowered.graph
        self.externals = lowered.externals
        self.steps = lowered.steps
        self.weights = frozenset(lowered.weights)
        self.images = images
        self.core = _core.Plan(options.isa, options.memory)
        arena, self._live = lay_out(lowered.buffers)
        threads = options.threads
        alone = threads == 1 or lowered.cost_ns < SERIAL_NETWORK_BELOW
        self._segments = _add_steps(self.core, self.steps, alone)
        n = len(self.graph.inputs)
        self._whole = lowered.all_kernels
        specs = _specs(self.externals[:n]), _specs(self.externals[n:])
        if images > 1 and images * lowered.cost_ns < SERIAL_NETWORK_BELOW:
            threads = 1
        team = _core.Threads(threads, options.threading)
        self.core.finish(arena, *specs, team, images if self._whole else 1)
        used = (arena + self.core.scratch_bytes) * min(images, threads)
        used += images * sum(type_.nbytes for type_ in self.externals[n:])
        in_numpy = [s for s in self.steps if isinstance(s, ReferenceStep)]
        used += max((_reference_bytes(s.node, self.graph) for s in in_numpy), default=0)
        self.nbytes = used + lowered.packed_bytes
        """Memory that a run takes besides its inputs."""
        check_memory(self.nbytes, options.limit, f"the plan of {self.graph.name!r}")
        self._costs = [
            s.cost_ns if isinstance(s, Step) else _reference_ns(s.node, self.graph)
            for s in self.steps
        ]
        self.cost_ns = images * sum(self._costs)
        """Estimated nanoseconds of a run on one thread."""

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The graphs that the plan runs, one after the other."""
        return (self.graph,)

    @property
    def threads(self) -> int:
        """The number of threads that a run may use."""
        return self.core.threads

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Outputs of the graph, in order; inputs are contiguous and of the planned types.

        Raises:
            IndexOutOfRange: an index among the inputs is beyond the axis that it selects from.
        """
        if self._whole:
            try:
                return self.core.run(inputs)
            except IndexError as error:
                raise self._located(error) from None
        return self._run_segments(inputs)[0]

    def trace(self, inputs: Sequence[Array]) -> Array:
        """The times at which each thread worked on each step in one run, int64 (threads, steps, 2).

        Beginning and end in nanoseconds since the run began; negative if a thread had no part. The
        run is as always, apart from two readings of the clock per step. Images that are run one by
        one are run by all threads together, and a step's time is that in all of them.
        """
        tables = [self._run_segments(inputs, timed=True, image=i)[1] for i in range(self.images)]
        if self.images == 1:
            return tables[0]
        taken = np.sum([np.where(t[..., 1] < 0, 0, t[..., 1] - t[..., 0]) for t in tables], axis=0)
        end = np.cumsum(np.sum([step_times(t) for t in tables], axis=0))
        spans = np.stack([np.maximum(end - taken, 0), np.broadcast_to(end, taken.shape)], axis=-1)
        spans[tables[0][..., 1] < 0] = -1
        return spans

    def trace_in_turn(self, inputs: Sequence[Array]) -> Array:
        """The times of the shares of all threads if the caller does them, one after the other.

        As in `trace`, of the first image. A machine need not have as many CPUs as the plan has
        threads.
        """
        return self._run_segments(inputs, timed=True, in_turn=True)[1]

    def waits(self) -> list[bool]:
        """True for each step before which all threads wait for each other."""
        found = iter(self.core.waits())
        return [next(found) if isinstance(s, Step) else True for s in self.steps]

    def time(self, inputs: Sequence[Array]) -> list[int]:
        """Nanoseconds that each step adds to one run; their sum is the time of the run."""
        return step_times(self.trace(inputs)).tolist()  # type: ignore[no-any-return]

    def _run_segments(
        self,
        inputs: Sequence[Array],
        *,
        timed: bool = False,
        image: int = 0,
        in_turn: bool = False,
    ) -> tuple[list[Array], Array]:
        """The outputs of one image of a batch and, if `timed`, the spans of `trace`."""
        n = len(self.graph.inputs)
        arrays = [*inputs, *map(self.core.make_output, range(len(self.externals) - n))]
        workspace = self.core.workspace()
        spans = np.full((self.core.threads, len(self.steps), 2), -1, np.int64)
        step = 0
        began = time.perf_counter_ns()
        for segment in self._segments:
            start = time.perf_counter_ns() - began
            if isinstance(segment, ReferenceStep):
                _run_reference(segment, arrays)
                spans[0, step] = start, time.perf_counter_ns() - began
                step += 1
                continue
            try:
                table = self.core.run_steps(workspace, arrays, *segment, timed, image, in_turn)
            except IndexError as error:
                raise self._located(error) from None
            if timed:
                spans[:, step : step + table.shape[1]] = np.where(table < 0, -1, table + start)
                step += table.shape[1]
        return arrays[n : n + len(self.graph.outputs)], spans

    def _shape(self, external: TensorType) -> tuple[int, ...]:
        """Shape of an input or output, of all images together."""
        shape = external.shape
        return (self.images, *shape[1:]) if self.images > 1 else shape

    def _located(self, error: IndexError) -> IndexOutOfRange:
        """Turns the core's error about an index, which names a step, into one that names the
        node."""
        step, index, size = error.args
        node = [s for s in self.steps if isinstance(s, Step)][step].node
        return IndexOutOfRange(f"node {node!r}: index {index} is beyond an axis of {size} elements")

    def memory(self) -> PlanMemory:
        """Memory that this plan takes besides weights."""
        core, n = self.core, len(self.graph.inputs)
        shapes = tuple(self._shape(t) for t in self.externals[:n])
        return PlanMemory(shapes, self._live, core.arena_bytes, core.scratch_bytes)

    def describe(self) -> list[StepInfo]:
        """The steps in order."""
        return [
            StepInfo(s.node, s.kernel, s.note, cost_ns)
            if isinstance(s, Step)
            else StepInfo(
                s.node.name,
                REFERENCE,
                f"{s.node.op} in NumPy: no kernel",
                cost_ns,
            )
            for s, cost_ns in zip(self.steps, self._costs, strict=True)
        ]


REFERENCE = "reference"
"""The kernel of a step that runs by its operator's NumPy reference, in a `StepInfo`."""


def step_times(spans: Array) -> Array:
    """Nanoseconds that each step adds to a run, from the spans of `Plan.trace`.

    A step begins when all before it are done, and ends when all threads have done it. So waiting
    for the slowest thread is part of it, and the sum is the whole.
    """
    done = np.maximum.accumulate(spans[:, :, 1].max(axis=0))
    return np.diff(done, prepend=0)


def _reference_ns(node: Node, graph: Graph) -> float:
    """Estimated nanoseconds of an operator in NumPy."""
    types = ops.NodeTypes.of(node, graph)
    macs = ops.op(node).macs(node, types)
    inputs = [x.type for x in types.inputs if x is not None]
    outputs = [y for y in types.outputs if y is not None]
    if macs:
        return REFERENCE_NS + macs + ELEMENT_NS * sum(type_.size for type_ in (*inputs, *outputs))
    return REFERENCE_NS + ELEMENT_NS * work_of(node, inputs, outputs)


def _reference_bytes(node: Node, graph: Graph) -> int:
    """Estimated bytes of the arrays that an operator in NumPy makes on its way."""
    types = ops.NodeTypes.of(node, graph)
    sizes = [x.type.size for x in types.inputs if x is not None]
    sizes += [y.size for y in types.outputs if y is not None]
    # All products of a transposed convolution are there before they are added up.
    products = ops.op(node).macs(node, types) if node.op == "conv_transpose" else 0
    return 16 * max(sizes, default=0) + 8 * products


def _run_reference(step: ReferenceStep, arrays: list[Array]) -> None:
    """Runs an operator by its NumPy reference on the arrays that Python sees."""
    inputs = [
        arrays[x.buffer.external or 0].reshape(x.type.shape) if isinstance(x, Plain) else x
        for x in step.inputs
    ]
    at = f"node {step.node.name!r} ({step.node.op})"
    try:
        results = ops.op(step.node).reference(step.node, *inputs)
    except CnnrtError:
        raise
    except IndexError as error:
        raise IndexOutOfRange(f"{at}: {error}") from error
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise ShapeError(f"{at} cannot be evaluated: {error}") from error
    except MemoryError as error:
        raise MemoryLimitError(f"{at} needs more memory than there is: {error}") from error
    for target, value in zip(step.outputs, results, strict=True):
        if target is None:
            continue
        assert target.buffer.external is not None
        if np.shape(value) != target.type.shape:
            raise ShapeError(f"{at} made shape {np.shape(value)}; planned: {target.type.shape}")
        arrays[target.buffer.external][...] = value


def _add_steps(
    core: _core.Plan, steps: Sequence[Step | ReferenceStep], alone: bool
) -> list[ReferenceStep | tuple[int, int]]:
    """Gives the kernel steps to the core; returns the stretches of these, and the reference steps
    between them.

    Args:
        alone: true if one thread does all steps.
    """
    segments: list[ReferenceStep | tuple[int, int]] = []
    first = 0
    for step in steps:
        if isinstance(step, ReferenceStep):
            if len(core) > first:
                segments.append((first, len(core)))
            segments.append(step)
            first = len(core)
            continue
        serial = alone or step.cost_ns < SERIAL_BELOW
        # The cost is that of one image for nearly all kernels that take a batch.
        cost_ns = step.cost_ns * step.fields.get("n", 1)
        try:
            core.add(step.kernel, step.fields, serial, step.independent, cost_ns)
        # A number that its field cannot hold, or a place outside of its buffer.
        except (TypeError, IndexError) as error:
            raise ShapeError(f"node {step.node!r} cannot be planned: {error}") from None
    if len(core) > first:
        segments.append((first, len(core)))
    return segments


def _specs(types: Sequence[Any]) -> list[tuple[tuple[int, ...], Any]]:
    return [(t.shape, t.dtype.numpy) for t in types]
