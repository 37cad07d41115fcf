"""A loaded network."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _core, formats
from .cost import Algorithms
from .errors import GraphError, ShapeError
from .formats import Source
from .graph import ANY_SHAPE, Array, Graph, TensorSpec
from .planning import tuning
from .planning.batch import AnyPlan
from .planning.memory_use import MemoryUse
from .planning.plan_cache import PlanCache
from .preprocessing import Preprocessing
from .process.locks import importing
from .process.threads import MOST, share_budget
from .storage.files import file_of
from .storage.origin import Origin, reduce
from .weights.lazy import stored
from .weights.packed import PACKING, Packed

if TYPE_CHECKING:
    from .analysis.profiling import Profile
    from .analysis.summary import Summary

Inputs = Any
"""An array, or a dict of arrays by input name."""
Shapes = Sequence[int] | Mapping[str, Sequence[int]]
"""The shape of an input, or a dict of shapes by input name."""


MAX_VARIANTS = 4
"""Combinations of optional inputs whose plans are kept."""


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
    names = [*tiers, *(f"{isa}+no{overlay}" for isa in tiers for overlay in _core.overlays(isa))]
    if wanted and wanted not in names:
        raise GraphError(f"CNNRT_ISA={wanted!r}: this machine has {', '.join(names)}")
    return wanted or tiers[0]


def load(
    source: Source,
    *,
    threads: int | None = None,
    algorithm: str | Mapping[str, str] = "auto",
    tune: bool = False,
    verify: bool = False,
) -> Model:
    """Loads a network from model.bin, a compiled file or an ONNX file.

    Files are mapped, not read: replace one by renaming another file while it is in use.

    Args:
        source: a path, bytes (bytearray, memoryview), a file open for reading in binary mode, or an
            onnx.ModelProto. ONNX files need the package `onnx` (``pip install 'cnnrt[onnx]'``).
        threads: how many to use; None: `cnnrt.get_num_threads()`.
        algorithm: how convolutions of 3x3, 1x3, 3x1 and 3 taps are done: "auto", "im2col" (exact),
            "winograd2" or "winograd4" (5x5: the first three); or a dict of these by node name.
        tune: times these ways now, inside the network, and takes the fastest for each layer that
            `algorithm` does not name; see `Model.tune`.
        verify: reads the whole file and compares each tensor and the header with the digests that
            `convert`, `export` and `save_compiled` write: a flipped bit is an error, not a result.

    Raises:
        FormatError: the file is missing, damaged or of another kind, or has no digests.
        UnsupportedOperator: the network needs operators that cnnrt does not have.
    """
    origin = Origin.of(source)
    content = formats.read(source, verify=verify)
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
        ready=ready,
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
        ready: Mapping[str, Array] | None = None,
    ) -> None:
        """Wraps a graph; see `cnnrt.load` for the arguments.

        Args:
            notice: where the weights come from and their licence.
            ready: the weights that a compiled file holds packed, by their names there.

        Raises:
            ValueError: `threads` is less than 1, or an algorithm is unknown.
        """
        self.graph = graph
        self.preprocessing = preprocessing
        self.labels = list(labels) if labels is not None else None
        self.notice = notice
        shared = share_budget()
        self.threads = shared if threads is None else min(int(threads), MOST)
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        self.isa = isa or default_isa()
        self._asked = (threads, isa)
        self._algorithms = Algorithms(algorithm)
        self._names = [spec.name for spec in graph.inputs]
        self._default_outputs = tuple(spec.name for spec in graph.outputs)
        self._packed = Packed(graph.constants.values(), ready)
        self._plans = PlanCache(graph, self._packed, self.threads, self.isa, self._algorithms)
        self._plans.make_ahead()
        self._variants: dict[tuple[str, ...], Model] = {}

    def __reduce__(self) -> Any:
        self._packed.check()
        return reduce(self)

    def options(self) -> dict[str, Any]:
        """The arguments, besides the graph, that make another model like this one. Threads and
        instruction set are those that were asked for: None is another process's own default."""
        threads, isa = self._asked
        return {
            "preprocessing": self.preprocessing,
            "labels": self.labels,
            "threads": threads,
            "algorithm": self._algorithms.asked,
            "isa": isa,
            "notice": self.notice,
        }

    @property
    def inputs(self) -> list[TensorSpec]:
        """Name, shape and dtype of each input; a named size is free."""
        return list(self.graph.inputs)

    @property
    def optional_inputs(self) -> list[TensorSpec]:
        """The inputs that need not be given, by name: the model has a value for each."""
        return list(self.graph.optional_inputs)

    @property
    def outputs(self) -> list[TensorSpec]:
        """Name, shape and dtype of each output."""
        return list(self.graph.outputs)

    def __call__(self, x: Inputs) -> Any:
        """Runs the network.

        Args:
            x: an array of the input's shape, or a dict of arrays by input name, which may hold
                optional inputs too.

        Returns:
            The output array; for a network of several outputs a dict of arrays by name.

        Raises:
            ShapeError: an input has another shape or dtype than the network takes.
        """
        if type(x) is np.ndarray:
            plan = self._plans.hot(x.shape)
            if plan is not None and x.flags.c_contiguous and x.dtype == np.float32:
                return plan.run((x,))[0]
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
        if isinstance(x, Mapping) and self.graph.optional_inputs:
            given = tuple(s.name for s in self.graph.optional_inputs if s.name in x)
            if given:
                return self._given(given).run(x, outputs)
        arrays = self._arrays(x)
        wanted = self._default_outputs if outputs is None else tuple(outputs)
        plan = self._plans.get(_shapes_of(arrays), wanted, arrays)
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
        """The `top` likeliest classes by the network's scores (or probabilities) for one image.
        There are none if there are no scores."""
        if not scores.size:
            return []
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
        if x is None and any(spec.shape == ANY_SHAPE for spec in self.graph.inputs):
            self.shapes(x)  # raises the error that says which to give
        if x is None:
            shapes = tuple(
                tuple(d if isinstance(d, int) else 1 for d in spec.shape)
                for spec in self.graph.inputs
            )
        else:
            arrays = self._arrays(x)
            shapes = _shapes_of(arrays)
        plan = self._plans.get(shapes, self._default_outputs, arrays)
        rows = [("node", "kernel", "us", "how")]
        rows += [(s.node, s.kernel, f"{s.cost_ns / 1e3:.1f}", s.note) for s in plan.describe()]
        widths = [max(len(r[i]) for r in rows) for i in range(3)]
        lines = [
            f"{r[0]:<{widths[0]}}  {r[1]:<{widths[1]}}  {r[2]:>{widths[2]}}  {r[3]}".rstrip()
            for r in rows
        ]
        if plan.images > 1:
            rest = f", and from {plan.cut!r} on all at once" if plan.cut else ""
            lines.append(f"{plan.images} images, one by one{rest}")
        elif plan.dependence:
            lines.append(f"all images at once: {plan.dependence}")
        return "\n".join(lines)

    def summary(self, x: Inputs | Shapes | None = None) -> Summary:
        """The layers after fusion, with what each costs and how much of the input it sees.

        Args:
            x: an input or its shape, for a network whose input sizes are free, or to see other
                sizes; for several inputs a dict by name. None: the sizes that the model states,
                and 1 for a free size of the first axis.

        Raises:
            ShapeError: the network does not take such an input, or its sizes are free.
        """
        with importing:
            from .analysis.summary import summarise  # noqa: PLC0415  (not needed to run a network)

        shapes = self.shapes(x)
        memory = self._plans.get(tuple(shapes.values()), self._default_outputs).memory()
        return dataclasses.replace(
            summarise(self.graph, shapes),
            packed_bytes=self._packed.nbytes,
            arena_bytes=memory.arena + memory.scratch,
        )

    def profile(self, x: Inputs | Shapes | None = None, *, seconds: float = 1.0) -> Profile:
        """Where the time of a run goes, layer by layer, and how near to the machine's peak.

        Args:
            x: as in `summary`; where no values are given, random ones.
            seconds: how long to measure.

        Raises:
            ShapeError: the network does not take such an input, or its sizes are free.
        """
        with importing:
            from .analysis import profiling  # noqa: PLC0415  (not needed to run a network)

        return profiling.profile(self, self.example(x), seconds)

    def tune(self, x: Inputs | None = None) -> dict[str, str]:
        """Times each way of doing the convolutions that have several, inside this network, and
        keeps the fastest.

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
            if self._algorithms.of(name) == "auto"
        }
        self._algorithms.update(found)
        self._plans.replace()
        return found

    def variant(self, algorithm: str) -> Model:
        """The same network on one thread, with all convolutions done by one algorithm."""
        return Model(self.graph, threads=1, algorithm=algorithm, isa=self.isa)

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
            FormatError: the file that the model was loaded from was written to in place.
            OSError: the file cannot be written.
        """
        self._packed.check()
        if x is not None:
            self.plan_for(self._arrays(x))
        if not self._plans:
            raise GraphError(
                "the model leaves the sizes of its inputs open: give an input of the size to "
                "compile for (cnnrt compile --shape ...)"
            )
        memories = self._plans.lasting_weights()
        weights = {name: np.frombuffer(m, np.float32) for name, m in memories.items()}
        asked = {n.name: self._algorithms.of(n.name) for n in self.graph.nodes if n.op == "conv"}
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
        """Memory that the model takes, and the least that it could do with."""
        arrays = [array for c in self.graph.constants.values() for array in stored(c)]
        return MemoryUse(
            stored=sum(array.nbytes for array in arrays),
            stored_mapped=sum(a.nbytes for a in arrays if file_of(a) is not None),
            packed=self._packed.nbytes,
            packed_mapped=self._packed.mapped_nbytes,
            plans=self._plans.memory(),
        )

    def trim(self) -> None:
        """Gives back what is not in use: idle workspaces and outputs, and all plans but the one
        used last with the weights that only they need. What is needed again is made again."""
        self._plans.trim()

    def sibling(self, graph: Graph) -> Model:
        """A model of another graph with the settings and the preprocessing of this one."""
        return Model(
            graph,
            preprocessing=self.preprocessing,
            threads=self.threads,
            algorithm=self._algorithms.asked,
            isa=self.isa,
        )

    def settings(self) -> str:
        """Settings that the last bits of the results depend on, besides the network."""
        return f"{self.isa} {self._algorithms}"

    def plan_for(self, arrays: Sequence[Array]) -> AnyPlan:
        """The plan that inputs of these shapes run by."""
        return self._plans.get(_shapes_of(arrays), self._default_outputs, arrays)

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
            elif any(isinstance(n, str) for n in spec.shape[1:]) or spec.shape == ANY_SHAPE:
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

    def _given(self, names: tuple[str, ...]) -> Model:
        """The same network where these optional inputs are given, one of a few kept."""
        found = self._variants.get(names)
        if found is None:
            found = self.sibling(self.graph.with_inputs(names))
            if len(self._variants) >= MAX_VARIANTS:
                self._variants = {}
            self._variants[names] = found
        return found

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


def _shapes_of(values: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
    """The shapes of arrays; () for values that are none."""
    return tuple(value.shape if isinstance(value, np.ndarray) else () for value in values)


def as_input(spec: TensorSpec, value: Any, any_shape: bool = False) -> Any:
    """A value as the contiguous array that an input takes, or as the list of a sequence.

    Raises:
        ShapeError: its shape or dtype does not fit.
    """
    if spec.kind != "tensor":
        return _as_elements(spec, value)
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise ShapeError(f"input {spec.name!r} is no array: {error}") from None
    if not any_shape and not spec.accepts(array.shape):
        raise ShapeError(
            f"input {spec.name!r} takes shape {_shape_text(spec)}, not {tuple(array.shape)}"
        )
    if not np.can_cast(array.dtype, spec.dtype.numpy, "same_kind"):
        raise ShapeError(f"input {spec.name!r} takes {spec.dtype}, not {array.dtype}")
    return np.ascontiguousarray(array, dtype=spec.dtype.numpy).reshape(array.shape)


def _as_elements(spec: TensorSpec, value: Any) -> Any:
    """The list of arrays that a sequence takes; for an optional also one array or None.

    Raises:
        ShapeError: it is something else, or an element has another dtype.
    """
    if isinstance(value, (list, tuple)):
        return [
            as_input(dataclasses.replace(spec, kind="tensor"), x, any_shape=True) for x in value
        ]
    if spec.kind == "optional":
        return (
            None
            if value is None
            else as_input(dataclasses.replace(spec, kind="tensor"), value, True)
        )
    raise ShapeError(f"input {spec.name!r} takes a list of arrays, not {type(value).__name__}")


def _shape_text(spec: TensorSpec) -> str:
    return f"({', '.join(str(d) for d in spec.shape)}{',' if len(spec.shape) == 1 else ''})"


def probabilities(scores: Array) -> Array:
    """Softmax of scores, unless they are probabilities already (in [0, 1], with sum 1)."""
    s = scores.astype(np.float64)
    if s.size and s.min() >= 0 and abs(s.sum() - 1) < 1e-3:
        return s
    e = np.exp(s - s.max())
    return np.asarray(e / e.sum())
