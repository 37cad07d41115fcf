"""Templates of lowered graphs: what is decided for one set of sizes serves the next.

From one size of a picture to another, nearly all that planning decides stays, and numbers change.
A template is made by lowering a graph whose sizes are symbolic (`cnnrt.symbolic`). It is a program
that computes the fields of all steps from the sizes, with guards. If sizes do not pass them, the
graph is lowered as if there were no template.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .. import _core
from ..errors import CnnrtError
from ..graph import Array, Graph, TensorType
from ..layout.tensors import Buffer, Step
from ..lowering import Lowered, PlanOptions, lower
from ..passes import fuse, infer, specialise, with_types
from ..symbolic import Program, Trace, Watched, is_symbolic
from .mould import Recorder, Values, holds_symbolic, type_of
from .size_variables import SizeVariables

LEARN_FROM = 4
"""The number of sizes that no template fits, from which on one is made. Making one takes as long as
planning three to four times. So no order of sizes takes more than twice as long as the best choice.
"""

MAX_TEMPLATES = 4
"""Maximum number of templates of a graph. A detector and a recogniser of text have 1 and 2 over 20
sizes."""

MAX_UNUSED = 2
"""Templates that have served no size but their own, from which on no more are made."""


class PlanTemplate:
    """A lowered graph as a function of the sizes."""

    def __init__(
        self, typed: Graph, sizes: SizeVariables, options: PlanOptions, *, inferred: bool
    ) -> None:
        """Lowers a graph with symbolic sizes.

        Args:
            typed: the graph with its types before the passes that need sizes, or with the types
                of its inputs.
            sizes: the variables.
            options: with the limit of the plan for these sizes.
            inferred: if the types of all tensors are there.

        Raises:
            CnnrtError: something cannot be done with symbolic sizes.
        """
        numbers = sizes.of(typed.types)
        assert numbers is not None
        with Trace() as trace:
            given = sizes.symbolic(typed.types, [trace.input(n) for n in numbers])
            limit = trace.input(options.limit)
            graph = typed.with_own_nodes()
            graph.types = dict(given)
            constants = Watched(typed.constants, typed.varying, trace)
            graph.constants = constants
            if not inferred:
                shapes = {spec.name: given[spec.name].shape for spec in graph.inputs}
                infer(graph, shapes, limit)
            fuse(graph)
            lowered = lower(graph, replace(options, limit=limit))
        if not lowered.all_kernels or graph.constants is not constants:
            raise CnnrtError("the graph has steps in NumPy")
        if any(holds_symbolic(node.attributes) for node in graph.nodes):
            raise CnnrtError("an attribute depends on sizes")
        self._sizes = sizes
        self._inferred = inferred
        self._nodes = [node.name for node in typed.nodes]
        self._seen = {name: typed.constants[name] for name in constants.seen}
        self._varying = sorted(typed.varying)
        recorder = Recorder(trace)
        self._steps = [recorder.step(step) for step in lowered.steps if isinstance(step, Step)]
        self._externals = [recorder.type(type_) for type_ in lowered.externals]
        self._arena = [recorder.number_of(buffer) for buffer in lowered.buffers]
        self._buffers = [
            (recorder.register(b.nbytes), b.external, recorder.register(b.memory), b.first, b.last)
            for b in recorder.buffers
        ]
        self._totals = [recorder.register(x) for x in (lowered.packed_bytes, lowered.cost_ns)]
        changed = {n: t for n, t in graph.types.items() if t is not given.get(n)}
        self._types = {n: recorder.type(t) for n, t in changed.items()}
        self._made = {
            n: recorder.register(constants[n]) for n in constants.keys() - typed.constants.keys()
        }
        fixed = {n: t for n, t in graph.types.items() if n not in changed}
        kept = {n: v for n, v in typed.constants.items() if n in constants}
        self._graph = replace(graph, types=fixed, constants=kept)
        self._packed = options.packed
        self._keys = [recorder.register(key) for key in lowered.weights]
        fixed_keys = [key for key in lowered.weights if not is_symbolic(key)]
        lasting = [key for key in fixed_keys if key[0] not in graph.varying]
        self._weights = options.packed.entries(lasting)
        self._program = Program(trace, recorder.used)
        trace.clear()
        self.used = False
        """True if it has served a size that it was not made for."""

    def valid(self) -> bool:
        """True if the packed weights that the steps point at are still those of the model."""
        return self._packed.holds(self._weights)

    def lowered(self, typed: Graph, options: PlanOptions) -> Lowered | None:
        """The graph lowered for the sizes in its types; None if the template does not hold for
        them.

        Args:
            typed: as for the template.
            options: as for the template, apart from the limit.
        """
        variables = self._sizes.of(typed.types)
        if variables is None:
            return None
        if self._inferred and [node.name for node in typed.nodes] != self._nodes:
            return None
        if len(typed.varying) != len(self._varying) or not typed.varying.issuperset(self._varying):
            return None
        constants = typed.constants
        for name, value in self._seen.items():
            if not np.array_equal(value, constants[name], equal_nan=value.dtype.kind == "f"):
                return None
        varying = [constants[name] for name in self._varying]
        values = self._program.run([*variables, options.limit, *varying])
        return None if values is None else self._filled(typed, values)

    def _filled(self, typed: Graph, values: Values) -> Lowered:
        """The template with values in the place of registers."""
        graph, sized = self._graph, {n: type_of(values, mould) for n, mould in self._types.items()}
        types = {name: typed.types.get(name, type_) for name, type_ in graph.types.items()} | sized
        constants = {name: typed.constants[name] for name in graph.constants}
        constants |= {name: values[register] for name, register in self._made.items()}
        buffers = [
            Buffer(values[nbytes], external, values[memory], first, last)
            for nbytes, external, memory, first, last in self._buffers
        ]
        packed_bytes, cost_ns = (values[i] for i in self._totals)
        return Lowered(
            replace(graph, types=types, constants=constants),
            [mould.step_of(values, buffers) for mould in self._steps],
            [buffers[i] for i in self._arena],
            [type_of(values, mould) for mould in self._externals],
            tuple([values[i] for i in self._keys]),
            packed_bytes,
            cost_ns,
        )


class PlanTemplates:
    """The templates of one prepared graph.

    Those of the whole graph begin at the shapes of its inputs. If shapes follow from values in a
    way that cannot be recorded, templates begin at the types of all tensors.
    """

    def __init__(self, prepared: Graph) -> None:
        self._prepared = prepared
        self._templates: list[PlanTemplate] = []
        self._inferred = False
        """True if templates begin at the types of all tensors."""
        self._types: deque[Mapping[str, TensorType]] = deque(maxlen=LEARN_FROM)
        """The types of the latest graphs that no template fitted."""
        self._missed = 0
        """Their number since the last template was made."""
        self._wanted = MAX_TEMPLATES
        """Templates that may still be made."""

    def __len__(self) -> int:
        return len(self._templates)

    def __iter__(self) -> Iterator[PlanTemplate]:
        return iter(self._templates)

    def lower(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        values: Mapping[str, Array],
        options: PlanOptions,
    ) -> Lowered:
        """The steps of the graph for inputs of these shapes, by a template if one fits.

        Args:
            shapes: shapes of all inputs, by name.
            values: values of the inputs that are taken as constants.
            options: the same every time, apart from the limit.

        Raises:
            ShapeError: an operator does not take what these shapes lead to, or the plan takes more
                memory than it may.
            ValueNeeded: shapes depend on the value of a tensor that is not constant.
        """
        prepared = self._prepared
        if values:
            return lower(specialise(prepared, shapes, values, options.limit), options)
        sized = self._sized(shapes)
        found = None if self._inferred else self._find(sized, options)
        if found is not None:
            return found
        typed = with_types(prepared, shapes, None, options.limit)
        found = self._find(typed, options) if self._inferred else None
        if found is not None:
            return found
        learn = self._wanted > 0
        if learn:
            self._types.append(typed.types)
            self._missed += 1
            learn = self._missed >= LEARN_FROM
        copy = typed.with_own_nodes() if learn else typed
        fuse(typed)
        lowered = lower(typed, options)
        if learn:
            self._learn([copy] if self._inferred else [sized, copy], lowered, options)
        return lowered

    def _sized(self, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
        """The prepared graph with the types of its inputs."""
        graph = self._prepared
        given = {s.name: TensorType(tuple(shapes[s.name]), s.dtype) for s in graph.inputs}
        return replace(graph, types=graph.types | given)

    def _find(self, graph: Graph, options: PlanOptions) -> Lowered | None:
        self._templates = [template for template in self._templates if template.valid()]
        for template in self._templates:
            found = template.lowered(graph, options)
            if found is not None:
                template.used = True
                return found
        return None

    def _learn(self, graphs: list[Graph], lowered: Lowered, options: PlanOptions) -> None:
        """Makes a template from a graph that has just been lowered, and tries it on that.

        If it does not give the same steps, there will be no other.

        Args:
            graphs: the graph as templates begin at it, the last with all types.
        """
        unused = sum(not template.used for template in self._templates)
        if not lowered.all_kernels or unused >= MAX_UNUSED:
            self._wanted = 0
            return
        self._wanted -= 1
        self._missed = 0
        for graph in graphs:
            inferred = graph is graphs[-1]
            try:
                sizes = SizeVariables(self._types, graph)
                template = PlanTemplate(graph, sizes, options, inferred=inferred)
                found = template.lowered(graph, options)
            # What a lowering does to a number, a symbolic one may not know: any error is possible.
            except Exception:
                continue
            if found is not None and same(found, lowered):
                self._templates.append(template)
                self._inferred = inferred
                return
        self._wanted = 0


def same(a: Lowered, b: Lowered) -> bool:
    """True if two lowered graphs run the same steps on the same memory."""
    sizes = ([(x.nbytes, x.first, x.last) for x in side.buffers] for side in (a, b))
    numbers: dict[int, int] = {}
    for side in (a, b):
        numbers |= {id(buffer): i for i, buffer in enumerate(side.buffers)}
    return (
        next(sizes) == next(sizes)
        and a.externals == b.externals
        and (a.graph.types, a.graph.constants.keys()) == (b.graph.types, b.graph.constants.keys())
        and (a.weights, a.packed_bytes, a.cost_ns) == (b.weights, b.packed_bytes, b.cost_ns)
        and _alike(a.steps, b.steps, numbers)
    )


_COMPOUND = (Step, Buffer, _core.Memory, dict, list, tuple)


def _alike(a: Any, b: Any, numbers: Mapping[int, int]) -> bool:
    """True if steps, or what their fields hold, are equal; `numbers` are those of buffers."""
    if a is b or type(a) is int or not isinstance(a, _COMPOUND):
        return bool(a is b or a == b)
    if isinstance(a, Step):
        names = ("kernel", "node", "note", "cost_ns", "independent", "fields")
        return all(_alike(getattr(a, n), getattr(b, n), numbers) for n in names)
    if isinstance(a, Buffer):
        where, other = ((numbers.get(id(x)), x.external, x.nbytes) for x in (a, b))
        return where == other and _alike(a.memory, b.memory, numbers)
    if isinstance(a, _core.Memory):
        return isinstance(b, _core.Memory) and bytes(a) == bytes(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(v, b[k], numbers) for k, v in a.items())
    return len(a) == len(b) and all(_alike(x, y, numbers) for x, y in zip(a, b, strict=True))
