"""A loaded network."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core, formats, limits, tuning
from .cost import ALGORITHMS
from .errors import GraphError, MemoryLimitError, ShapeError, ValueNeeded
from .graph import Array, Graph, TensorSpec
from .lazy import stored_nbytes
from .memory import MemoryUse
from .packed import PACKING, Packed
from .passes import inputs_of_value, prepare
from .pickling import Origin, reduce
from .plan import Plan
from .preprocessing import Preprocessing
from .threads import Lock, share_budget

if TYPE_CHECKING:
    from .analysis.profiling import Profile
    from .analysis.summary import Summary

Source = str | os.PathLike[str] | bytes
Inputs = Any
"""An array, or a dict of arrays by input name."""
Shapes = Sequence[int] | Mapping[str, Sequence[int]]
"""The shape of an input, or a dict of shapes by input name."""

MAX_PLANS = 16
"""Plans kept for input shapes seen last."""

MAX_VALUE_ELEMENTS = 1024
"""Inputs whose values shapes depend on, such as the second of a reshape, are taken for constants of
their plan if they have no more elements: a shape, some boxes, but not an image."""


@dataclass(frozen=True)
class Classification:
    """One class that an image may show."""

    label: str
    index: int
    probability: float


def default_isa() -> str:
    """The best instruction-set tier of this machine, or the one that `CNNRT_ISA` names.

    Raises:
        GraphError: `CNNRT_ISA` names a tier that this machine does not have.
    """
    tiers = _core.isas()
    wanted = os.environ.get("CNNRT_ISA", "")
    if wanted and wanted not in tiers:
        raise GraphError(f"CNNRT_ISA={wanted!r}: this machine has {', '.join(tiers)}")
    return wanted or tiers[0]


def load(
    source: Source,
    *,
    threads: int | None = None,
    algorithm: str | Mapping[str, str] = "auto",
    tune: bool = False,
) -> Model:
    """Loads a network from model.bin, a compiled file or an ONNX file, given by path or as bytes.

    A model.bin is mapped, not read: replace it by renaming another file while it is in use.

    Args:
        source: the file. ONNX files need the package `onnx` (``pip install 'cnnrt[onnx]'``).
        threads: how many to use; None: `cnnrt.get_num_threads()`.
        algorithm: how 3x3 convolutions are done: "auto", "im2col" (exact), "winograd2" or
            "winograd4"; or a dict of these by node name.
        tune: times these ways now, inside the network, and takes the fastest for each layer that
            `algorithm` does not name; see `Model.tune`.

    Raises:
        FormatError: the file is missing, damaged or of another kind.
        UnsupportedOperator: the network needs operators that cnnrt does not have.
    """
    origin = Origin.of(source)
    content = formats.read(source)
    compiled = content.compiled
    if compiled and algorithm == "auto":
        algorithm = compiled.algorithms
    elif compiled and not isinstance(algorithm, str):
        algorithm = {**compiled.algorithms, **algorithm}
    ready = compiled.weights if compiled and compiled.packing == PACKING else None
    model = Model(
        content.graph,
        preprocessing=content.preprocessing,
        labels=content.labels,
        threads=threads,
        algorithm=algorithm,
        notice=content.metadata.get("notice"),
        packed=Packed(ready, content.file),
    )
    model.origin = origin
    if tune:
        model.tune()
    return model


class Model:
    """A network, ready to run on arrays. May be called from several threads at once.

    It can be pickled: one that was loaded from a model.bin as the path and digest of that file, any
    other as its bytes.
    """

    origin: Origin | None = None
    """The file that it was loaded from, if that alone makes the model."""

    def __init__(
        self,
        graph: Graph,
        *,
        preprocessing: Preprocessing | None = None,
        labels: Sequence[str] | None = None,
        threads: int | None = None,
        algorithm: str | Mapping[str, str] = "auto",
        isa: str | None = None,
        notice: str | None = None,
        packed: Packed | None = None,
    ) -> None:
        """Wraps a graph; see `cnnrt.load` for the arguments.

        Args:
            notice: where the weights come from and their licence.
            packed: the weights that are packed already.

        Raises:
            ValueError: `threads` is less than 1, or an algorithm is unknown.
        """
        self.graph = graph
        self.preprocessing = preprocessing
        self.labels = list(labels) if labels is not None else None
        self.notice = notice
        shared = share_budget()
        self.threads = shared if threads is None else int(threads)
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        self.isa = isa or default_isa()
        self._asked = (threads, isa)
        self._algorithms = {} if isinstance(algorithm, str) else dict(algorithm)
        self._algorithm = algorithm if isinstance(algorithm, str) else "auto"
        for name in (self._algorithm, *self._algorithms.values()):
            if name not in ALGORITHMS:
                raise ValueError(f"algorithm {name!r}; expected one of {', '.join(ALGORITHMS)}")
        self._packed = packed or Packed()
        self._prepared: dict[tuple[str, ...], Graph] = {}
        # By outputs, the inputs whose values shapes depend on.
        self._valued: dict[tuple[str, ...], set[str]] = {}
        self._plans: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()
        self._lock = Lock()
        self._names = [spec.name for spec in graph.inputs]
        self._default_outputs = tuple(spec.name for spec in graph.outputs)
        # The plan of the last call, found without building a key: (shape, plan) of a model with
        # one input.
        self._last: tuple[tuple[int, ...], Plan] | None = None
        self._plan_ahead()

    def __reduce__(self) -> Any:
        return reduce(self)

    def options(self) -> dict[str, Any]:
        """The arguments, besides the graph, that make another model like this one. Threads and
        instruction set are those that were asked for: None is another process's own default."""
        threads, isa = self._asked
        return {
            "preprocessing": self.preprocessing,
            "labels": self.labels,
            "threads": threads,
            "algorithm": dict(self._algorithms) or self._algorithm,
            "isa": isa,
            "notice": self.notice,
        }

    @property
    def inputs(self) -> list[TensorSpec]:
        """Name, shape and dtype of each input; a named size is free."""
        return list(self.graph.inputs)

    @property
    def outputs(self) -> list[TensorSpec]:
        """Name, shape and dtype of each output."""
        return list(self.graph.outputs)

    def __call__(self, x: Inputs) -> Any:
        """Runs the network.

        Args:
            x: an array of the input's shape, or a dict of arrays by input name.

        Returns:
            The output array; for a network of several outputs a dict of arrays by name.

        Raises:
            ShapeError: an input has another shape or dtype than the network takes.
        """
        last = self._last
        if last is not None and type(x) is np.ndarray and x.shape == last[0]:
            flags = x.flags
            if flags.c_contiguous and x.dtype == np.float32 and x.dtype.isnative:
                return last[1].run((x,))[0]
        return self.run(x)

    def run(self, x: Inputs, outputs: Sequence[str] | None = None) -> Any:
        """As calling the model, but any inner tensors can be asked for, by name.

        Only what they need is computed.

        Returns:
            One array if one output is asked for (or the network has one), else a dict by name.

        Raises:
            ShapeError: an input has another shape or dtype than the network takes.
            GraphError: no tensor has one of the names.
        """
        arrays = self._arrays(x)
        wanted = self._default_outputs if outputs is None else tuple(outputs)
        plan = self._plan(tuple(a.shape for a in arrays), wanted, arrays)
        results = plan.run(arrays)
        if len(wanted) == 1:
            return results[0]
        return dict(zip(wanted, results, strict=True))

    def classify(self, image: Any, top: int = 5) -> list[Classification]:
        """The `top` likeliest classes of an image, likeliest first.

        Args:
            image: a path, a PIL image, or a uint8 array H x W x 3 (or H x W).

        Raises:
            ImageError: it cannot be read as an image.
            GraphError: the model does not say how an image becomes its input.
        """
        scores = self(self.input_from(image))
        if isinstance(scores, dict):
            scores = scores[self._default_outputs[0]]
        return self.classes(scores, top)

    def input_from(self, image: Any) -> Array:
        """The network's input for one image, float32 (1, C, h, w), by the model's preprocessing.

        Raises:
            ImageError: it cannot be read as an image.
            GraphError: the model does not say how an image becomes its input.
        """
        if self.preprocessing is None:
            raise GraphError(
                "this model does not say how an image becomes its input: no preprocessing was "
                "given when it was converted (cnnrt convert --size ... --mean ... --std ...)"
            )
        return self.preprocessing(image)

    def classes(self, scores: Array, top: int = 5) -> list[Classification]:
        """The `top` likeliest classes by the network's scores (or probabilities) for one image."""
        p = probabilities(scores.reshape(-1))
        order = [int(i) for i in np.argsort(-p, kind="stable")[:top]]
        labels = self.labels or []
        return [
            Classification(labels[i] if i < len(labels) else str(i), i, float(p[i])) for i in order
        ]

    def describe(self, x: Inputs | None = None) -> str:
        """The steps of the plan, one per line: node, kernel, way chosen and why, predicted time.

        Args:
            x: an input, for a network whose input sizes are free.
        """
        arrays: list[Array] | None = None
        if x is None:
            shapes = tuple(
                tuple(d if isinstance(d, int) else 1 for d in spec.shape)
                for spec in self.graph.inputs
            )
        else:
            arrays = self._arrays(x)
            shapes = tuple(a.shape for a in arrays)
        plan = self._plan(shapes, self._default_outputs, arrays)
        rows = [("node", "kernel", "us", "how")]
        rows += [(s.node, s.kernel, f"{s.predicted / 1e3:.1f}", s.note) for s in plan.describe()]
        widths = [max(len(r[i]) for r in rows) for i in range(3)]
        return "\n".join(
            f"{r[0]:<{widths[0]}}  {r[1]:<{widths[1]}}  {r[2]:>{widths[2]}}  {r[3]}".rstrip()
            for r in rows
        )

    def summary(self, x: Inputs | Shapes | None = None) -> Summary:
        """The layers after fusion, with what each costs and how much of the input it sees.

        Args:
            x: an input, or its shape (of several inputs a dict by name), for a network whose input
                sizes are free or to see other sizes; None: the sizes that the model states, and 1
                for a free size of the first axis.

        Raises:
            ShapeError: the network does not take such an input, or its sizes are free.
        """
        from .analysis.summary import summarise  # noqa: PLC0415  (not needed to run a network)

        shapes = self.shapes(x)
        core = self._plan(tuple(shapes.values()), self._default_outputs).core
        return dataclasses.replace(
            summarise(self.graph, shapes),
            packed_bytes=self._packed.nbytes,
            arena_bytes=core.arena_bytes + core.scratch_bytes,
        )

    def profile(self, x: Inputs | Shapes | None = None, *, seconds: float = 1.0) -> Profile:
        """Where the time of a run goes, layer by layer, and how near to the machine's peak.

        Args:
            x: as in `summary`; where no values are given, random ones.
            seconds: how long to measure.

        Raises:
            ShapeError: the network does not take such an input, or its sizes are free.
        """
        from .analysis import profiling  # noqa: PLC0415  (not needed to run a network)

        return profiling.profile(self, self.example(x), seconds)

    def tune(self, x: Inputs | None = None) -> dict[str, str]:
        """Times each way of doing the 3x3 convolutions inside this network and keeps the fastest.

        The results are cached on disk by CPU and layer shape (`CNNRT_CACHE`, or the user's cache
        folder), so that tuning the same layers again takes no time.

        Args:
            x: an input of the size to be tuned for; None: the size that the model states.

        Returns:
            The algorithm chosen for each convolution that the caller left to "auto", by name.
        """
        if x is None:
            arrays = [
                np.zeros([d if isinstance(d, int) else 1 for d in spec.shape], spec.dtype)
                for spec in self.graph.inputs
            ]
        else:
            arrays = self._arrays(x)
        found = {
            name: algorithm
            for name, algorithm in tuning.tune(self, arrays).items()
            if self._algorithm_of(name) == "auto"
        }
        with self._lock:
            self._algorithms |= found
            self._plans.clear()
            self._last = None
        self._plan_ahead()
        with self._lock:
            self._forget()
        return found

    def variant(self, algorithm: str) -> Model:
        """The same network on one thread, with all convolutions done by one algorithm."""
        packed = Packed(file=self._packed.file)
        return Model(self.graph, threads=1, algorithm=algorithm, isa=self.isa, packed=packed)

    def save_compiled(self, path: str | os.PathLike[str], x: Inputs | None = None) -> None:
        """Writes a file that `cnnrt.load` loads faster: the model with its weights packed.

        The packed weights are those of the plans that the model has, with the algorithms asked for
        or found by `tune`. Loaded, they are mapped and shared by all processes. Weights that
        another machine wants otherwise are packed when it loads the file, as from a model.bin.

        Args:
            path: the file, larger than model.bin by `memory().packed`.
            x: an input of the size to compile for, if the model leaves that open.

        Raises:
            GraphError: the model leaves the sizes of its inputs open and no input is given.
            OSError: the file cannot be written.
        """
        if x is not None:
            self.plan_for(self._arrays(x))
        with self._lock:
            if not self._plans:
                raise GraphError(
                    "the model leaves the sizes of its inputs open: give an input of the size to "
                    "compile for (cnnrt compile --shape ...)"
                )
            keys = {key for plan in self._plans.values() for key in plan.weights}
            memories = self._packed.lasting(keys)
        weights = {name: np.frombuffer(m, np.float32) for name, m in memories.items()}
        asked = {n.name: self._algorithm_of(n.name) for n in self.graph.nodes if n.op == "conv"}
        formats.write_model(
            path,
            self.graph,
            preprocessing=self.preprocessing,
            labels=self.labels,
            notice=self.notice,
            compiled=formats.Compiled(
                self.isa, {n: a for n, a in asked.items() if a != "auto"}, weights, PACKING
            ),
        )
        self._packed.release()

    def memory(self) -> MemoryUse:
        """What the model takes of memory, and the least that it could do with."""
        with self._lock:
            stored = sum(stored_nbytes(c) for c in self.graph.constants.values())
            return MemoryUse(
                stored=stored,
                stored_mapped=stored if self._packed.file is not None else 0,
                packed=self._packed.nbytes,
                packed_mapped=self._packed.mapped_nbytes,
                plans=tuple(plan.memory() for plan in self._plans.values()),
            )

    def trim(self) -> None:
        """Gives back what is not in use: idle workspaces, and all plans but the one used last with
        the weights that only they need. What is needed again is made again."""
        with self._lock:
            used = self._last and self._last[1]  # by calls that do not come past the table
            for plan in self._plans.values():
                plan.core.trim()
            if self._plans:
                key = next(
                    (k for k, p in self._plans.items() if p is used), next(reversed(self._plans))
                )
                self._plans = OrderedDict({key: self._plans[key]})
            self._forget()
            self._prepared = {k: g for k, g in self._prepared.items() if k == self._default_outputs}
            self._packed.release()

    def sibling(self, graph: Graph) -> Model:
        """A model of another graph with the settings and the preprocessing of this one."""
        return Model(
            graph,
            preprocessing=self.preprocessing,
            threads=self.threads,
            algorithm=self._algorithms or self._algorithm,
            isa=self.isa,
        )

    def settings(self) -> str:
        """What the last bits of the results depend on, besides the network."""
        return f"{self.isa} {self._algorithm} {sorted(self._algorithms.items())}"

    def plan_for(self, arrays: Sequence[Array]) -> Plan:
        """The plan that inputs of these shapes run by."""
        return self._plan(tuple(a.shape for a in arrays), self._default_outputs, arrays)

    def shapes(self, x: Inputs | Shapes | None) -> dict[str, tuple[int, ...]]:
        """The shapes of the inputs by name: of `x` as in `summary`, or those that the model states.

        Raises:
            ShapeError: the network does not take such an input, or its sizes are free.
        """
        given = {} if x is None else dict(x) if isinstance(x, Mapping) else {self._names[0]: x}
        if unknown := given.keys() - set(self._names):
            raise ShapeError(
                f"no input is named {sorted(unknown)[0]!r}; the model takes "
                f"{', '.join(self._names)}"
            )
        shapes = {}
        for spec in self.graph.inputs:
            if spec.name in given:
                value = given[spec.name]
                shape = tuple(np.shape(value) if hasattr(value, "shape") else map(int, value))
            elif any(isinstance(size, str) for size in spec.shape[1:]):
                raise ShapeError(
                    f"input {spec.name!r} has free sizes: {_shape_text(spec)}; give it"
                )
            else:
                shape = tuple(1 if isinstance(size, str) else size for size in spec.shape)
            if not spec.accepts(shape):
                raise ShapeError(
                    f"input {spec.name!r} takes shape {_shape_text(spec)}, not {shape}"
                )
            shapes[spec.name] = shape
        return shapes

    def example(self, x: Inputs | Shapes | None) -> list[Array]:
        """Inputs in order: those given, or random ones of the shapes that `shapes` finds."""
        values = list(x.values()) if isinstance(x, Mapping) else [x]
        if any(hasattr(value, "shape") for value in values):
            return self._arrays(x)
        random = np.random.default_rng(0)
        shapes = self.shapes(x)
        return [
            random.standard_normal(shapes[spec.name]).astype(spec.dtype)
            if spec.dtype.kind == "f"
            else np.zeros(shapes[spec.name], spec.dtype)
            for spec in self.graph.inputs
        ]

    # --------------------------------------------------------------------------------------------

    def _algorithm_of(self, name: str) -> str:
        return self._algorithms.get(name, self._algorithm)

    def _arrays(self, x: Inputs) -> list[Array]:
        """The inputs in order, contiguous and of the model's dtypes."""
        if isinstance(x, Mapping):
            unknown = [k for k in x if k not in self._names]
            missing = [k for k in self._names if k not in x]
            if unknown or missing:
                raise ShapeError(
                    f"inputs by name: missing {missing or 'none'}, unknown {unknown or 'none'}; "
                    f"the model takes {', '.join(self._names)}"
                )
            given = [x[name] for name in self._names]
        elif len(self._names) != 1:
            raise ShapeError(
                f"this model has {len(self._names)} inputs; give a dict of arrays by name: "
                f"{', '.join(self._names)}"
            )
        else:
            given = [x]
        return [as_input(spec, value) for spec, value in zip(self.graph.inputs, given, strict=True)]

    def _plan_ahead(self) -> None:
        """Packs the weights now, if the sizes of one image are known: the first run then takes no
        longer than the others."""
        shapes = []
        for spec in self.graph.inputs:
            batch, *rest = (*spec.shape, 1)[: max(1, len(spec.shape))]
            if any(isinstance(size, str) for size in rest):
                return
            shape = (1 if isinstance(batch, str) else batch, *rest)
            shapes.append(shape[: len(spec.shape)])
        # Nobody has given an input yet: a large one is planned for when it comes.
        given = limits.memory_limit(sum(value.nbytes for value in self.graph.constants.values()))
        with contextlib.suppress(MemoryLimitError, ValueNeeded):
            self._plan(tuple(shapes), self._default_outputs, limit=given)  # type: ignore[arg-type]

    def _forget(self) -> None:
        """Drops the packed weights that no plan uses, if there is a plan."""
        if self._plans:
            self._packed.keep({key for plan in self._plans.values() for key in plan.weights})

    def _plan(
        self,
        shapes: tuple[tuple[int, ...], ...],
        outputs: tuple[str, ...],
        arrays: Sequence[Array] | None = None,
        limit: int | None = None,
    ) -> Plan:
        """The plan for inputs of these shapes; where shapes depend on the values of small inputs,
        that for these values.

        Raises:
            ShapeError: an operator does not take what the shapes lead to.
            ValueNeeded: shapes depend on values that are not given, or on too many.
        """
        with self._lock:
            if outputs not in self._prepared:
                sizes = dict(zip(self._names, shapes, strict=True))
                self._prepared[outputs] = prepare(self.graph, outputs, sizes, limit)
            while True:
                values = {
                    name: array.copy()
                    for name, array in zip(self._names, arrays or (), strict=False)
                    if name in self._valued.get(outputs, ())
                }
                key = (shapes, outputs, *(array.tobytes() for array in values.values()))
                plan = self._plans.get(key)
                try:
                    plan = plan or self._new_plan(shapes, outputs, values, limit)
                    break
                except ValueNeeded as error:
                    # Tried again with the values; each time there are more of them.
                    needed = self._inputs_behind(error, outputs, shapes, arrays is not None)
                    self._valued.setdefault(outputs, set()).update(needed)
            if key not in self._plans:
                self._plans[key] = plan
                if len(self._plans) > MAX_PLANS:
                    self._plans.popitem(last=False)
                    self._forget()
                self._packed.release()
            else:
                self._plans.move_to_end(key)
            simple = len(shapes) == 1 and len(outputs) == 1 and outputs == self._default_outputs
            if simple and not values and self.graph.inputs[0].dtype == np.float32:
                self._last = (shapes[0], plan)
        return plan

    def _new_plan(
        self,
        shapes: tuple[tuple[int, ...], ...],
        outputs: tuple[str, ...],
        values: Mapping[str, Array],
        limit: int | None,
    ) -> Plan:
        try:
            return Plan(
                self._prepared[outputs],
                dict(zip(self._names, shapes, strict=True)),
                packed=self._packed,
                threads=self.threads,
                isa=self.isa,
                algorithm=self._algorithm_of,
                values=values,
                limit=limit,
            )
        except ValueNeeded:
            raise
        except ShapeError as error:
            given = ", ".join(f"{n!r}: {s}" for n, s in zip(self._names, shapes, strict=True))
            raise type(error)(f"{error} (the model's inputs are {given})") from None

    def _inputs_behind(
        self,
        error: ValueNeeded,
        outputs: tuple[str, ...],
        shapes: tuple[tuple[int, ...], ...],
        given: bool,
    ) -> set[str]:
        """The inputs that the value of the tensor depends on which a plan could not do without.

        Raises:
            ValueNeeded: they are too large for a plan per value, or their values are not given.
        """
        known = self._valued.get(outputs, set())
        needed = inputs_of_value(self._prepared[outputs], error.tensor) - known
        sizes = dict(zip(self._names, shapes, strict=True))
        large = [name for name in self._names if name in needed and not takes_value(sizes[name])]
        if needed and not large and given:
            return needed
        if not needed:
            raise error
        if large:
            names = ", ".join(map(repr, large))
            raise ValueNeeded(
                f"{error}; it is computed from {names}: cnnrt plans for each value of inputs of up "
                f"to {MAX_VALUE_ELEMENTS} elements, not of larger ones",
                error.tensor,
            ) from None
        names = ", ".join(sorted(needed))
        raise ValueNeeded(f"{error}; give the values of {names}", error.tensor) from None


def takes_value(shape: Sequence[int]) -> bool:
    """Whether an input of this shape is small enough for a plan per value."""
    return math.prod(shape) <= MAX_VALUE_ELEMENTS


def as_input(spec: TensorSpec, value: Any) -> Array:
    """A value as the contiguous array that an input takes.

    Raises:
        ShapeError: its shape or dtype does not fit.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise ShapeError(f"input {spec.name!r} is no array: {error}") from None
    if not spec.accepts(array.shape):
        raise ShapeError(
            f"input {spec.name!r} takes shape {_shape_text(spec)}, not {tuple(array.shape)}"
        )
    if not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise ShapeError(f"input {spec.name!r} takes {spec.dtype}, not {array.dtype}")
    return np.ascontiguousarray(array, dtype=spec.dtype).reshape(array.shape)


def _shape_text(spec: TensorSpec) -> str:
    return f"({', '.join(str(d) for d in spec.shape)}{',' if len(spec.shape) == 1 else ''})"


def probabilities(scores: Array) -> Array:
    """Softmax of scores, unless they are probabilities already (in [0, 1], with sum 1)."""
    s = scores.astype(np.float64)
    if s.size and s.min() >= 0 and abs(s.sum() - 1) < 1e-3:
        return s
    e = np.exp(s - s.max())
    return np.asarray(e / e.sum())
