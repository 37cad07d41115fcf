"""A loaded network."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from . import feeds, formats
from .analysis.methods import AnalysisMethods
from .cost import Algorithms
from .errors import GraphError, MissingKernelWarning
from .feeds import Inputs
from .formats import Source
from .graph import Array, Graph, TensorSpec
from .planning import description, tuning
from .planning.batch import AnyPlan
from .planning.memory_use import MemoryUse, memory_use
from .planning.plan_cache import PlanCache
from .preprocessing import Preprocessing
from .process.isa import default_isa
from .process.threads import MAX_THREADS, Threading, available, get_threading, share_budget
from .storage.origin import Origin, check_digest
from .tasks.methods import TaskMethods
from .tasks.task import Task
from .weights.packed import PACKING, Packed

MAX_VARIANTS = 4
"""Maximum number of combinations of optional inputs whose plans are kept."""

MEANING = ("preprocessing", "labels", "notice", "multi_label", "task")
"""The attributes that say what a network's numbers mean."""


def load(
    source: Source,
    *,
    threads: int | None = None,
    threading: Threading | None = None,
    algorithm: str | Mapping[str, str] = "auto",
    tune: bool = False,
    verify: bool = False,
) -> Model:
    """Loads a network from model.bin, a compiled file or an ONNX file.

    Files are mapped, not read: replace one by renaming another file while it is in use.

    Args:
        source: a path, bytes (bytearray, memoryview), a file open for reading in binary mode, or an
            onnx.ModelProto. ONNX files need the package `onnx` (``pip install onnx``).
        threads: number of threads; None: `cnnrt.get_num_threads()`.
        threading: "pool" or "openmp", the threads to use; None: `cnnrt.get_threading()`.
        algorithm: algorithm of convolutions of 3x3, 1x3, 3x1 and 3 taps: "auto", "im2col" (exact),
            "winograd2" or "winograd4". Those of 5x5 have the first three, those of 3x3 at stride 1
            "winograd6" too. At stride 2 only 3x3 has a choice, and a first layer of seven columns
            of taps, which "im2col" makes exact. A dict names them by node.
        tune: times these algorithms now, inside the network, and takes the fastest for each layer
            that `algorithm` does not name; see `Model.tune`.
        verify: reads the whole file and compares each tensor and the header with the digests that
            `convert`, `export` and `save_compiled` write. A flipped bit is an error, not a result.

    Raises:
        FormatError: the file is missing, damaged or of another kind, or has no digests.
        UnsupportedOperator: the network needs operators that cnnrt does not have.
        OpenMPError: `threading` is "openmp", and no runtime can be had.

    Warns:
        MissingKernelWarning: operators without a kernel take a good part of a run.
    """
    origin = Origin.of(source)
    content = formats.read(source, verify=verify)
    compiled = content.compiled
    if compiled:
        algorithm = compiled.algorithms_with(algorithm)
    ready = compiled.weights if compiled and compiled.packing == PACKING else None
    model = Model(
        content.graph,
        preprocessing=content.preprocessing,
        labels=content.labels,
        threads=threads,
        threading=threading,
        algorithm=algorithm,
        notice=content.metadata.get("notice"),
        multi_label=content.multi_label,
        task=content.task,
        ready=ready,
    )
    model._origin = origin
    if model._missing:
        name = content.graph.name
        warnings.warn(f"{name!r}: {model._missing}", MissingKernelWarning, stacklevel=2)
    if tune:
        model.tune()
    return model


class Model(TaskMethods, AnalysisMethods):
    """A network, ready to run on arrays. May be called from several threads at once.

    It can be pickled. A model that was loaded from a model.bin goes as the path and digest of that
    file, any other as its bytes.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        preprocessing: Preprocessing | None = None,
        labels: Sequence[str] | None = None,
        threads: int | None = None,
        threading: Threading | None = None,
        algorithm: str | Mapping[str, str] = "auto",
        isa: str | None = None,
        notice: str | None = None,
        multi_label: bool = False,
        task: Task | None = None,
        ready: Mapping[str, Array] | None = None,
    ) -> None:
        """Wraps a graph; see `cnnrt.load` for the arguments.

        Args:
            notice: where the weights come from and their licence.
            multi_label: True if several classes may hold at once: each score has a sigmoid.
            task: what the network is for, and how its outputs are read.
            ready: the weights that a compiled file holds packed, by their names there.

        Raises:
            ValueError: `threads` is less than 1, or `threading` or an algorithm is unknown.
            OpenMPError: `threading` is "openmp", and no runtime can be had.
        """
        self.graph = graph
        self.preprocessing = preprocessing
        self.labels = list(labels) if labels is not None else None
        self.notice = notice
        self.multi_label = multi_label
        self.task = task
        shared = share_budget()
        self.threads = shared if threads is None else min(int(threads), MAX_THREADS)
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        self.threading = get_threading() if threading is None else available(threading)
        self.isa = isa or default_isa()
        self._asked = (threads, threading, isa)
        self._algorithms = Algorithms(algorithm)
        self._origin: Origin | None = None  # the file, if that alone makes the model
        self._default_outputs = tuple(spec.name for spec in graph.outputs)
        self._packed = Packed(graph.constants.values(), ready)
        self._plans = PlanCache(
            graph, self._packed, self.threads, self.threading, self.isa, self._algorithms
        )
        ahead = self._plans.make_ahead()
        self._missing = description.missing_kernels(ahead, serious=True) if ahead else None
        self._variants: dict[tuple[str, ...], Model] = {}

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[Any, ...]]:
        self._packed.check()
        threads, threading, isa = self._asked  # None: another process takes its own default
        options = {
            "threads": threads,
            "threading": threading,
            "algorithm": self._algorithms.requested,
            "isa": isa,
            **self._meaning(),
        }
        digest = self._origin.digest() if self._origin else None
        kept = (
            self._origin.path if self._origin and digest else formats.write_model(None, self.graph)
        )
        return _restore, (kept, digest, options)

    @property
    def inputs(self) -> list[TensorSpec]:
        """Name, shape and dtype of each input; a named size is free."""
        return list(self.graph.inputs)

    @property
    def optional_inputs(self) -> list[TensorSpec]:
        """The inputs that need not be given, by name; the model has a value for each."""
        return list(self.graph.optional_inputs)

    @property
    def outputs(self) -> list[TensorSpec]:
        """Name, shape and dtype of each output."""
        return list(self.graph.outputs)

    def __call__(self, x: Inputs) -> Any:
        """Runs the network.

        Args:
            x: an array of the input's shape, or a dict of arrays by input name, which may hold
                optional inputs too. Anything that NumPy takes for an array, such as a list or a
                tensor, is converted. The input's dtype must be of the same kind or a wider one. An
                array of uint8 for an input of floats brings a `PreprocessingWarning`: as a rule it
                is a picture that was not normalised.

        Returns:
            The output array; for a network of several outputs a dict of arrays by name.

        Raises:
            ShapeError: an input has another shape or dtype than the network takes.
        """
        found = self._plans.hot(x)
        if found is None:
            return self.run(x)
        plan, arrays = found
        results = plan.run(arrays)
        if len(results) == 1:
            return results[0]
        return dict(zip(self._default_outputs, results, strict=True))

    def run(self, x: Inputs, outputs: Sequence[str] | None = None) -> Any:
        """Like calling the model, but returns any inner tensors, by name.

        Only the nodes that they need are computed.

        Returns:
            One array if one output is requested (or the network has one), else a dict by name.

        Raises:
            ShapeError: an input has another shape or dtype than the network takes.
            GraphError: no tensor has one of the names.
        """
        wanted = self._default_outputs if outputs is None else outputs
        if not isinstance(wanted, str):
            wanted = tuple(wanted)
        plan, arrays = planned(self, x, wanted)
        results = plan.run(arrays)
        if len(wanted) == 1:
            return results[0]
        return dict(zip(wanted, results, strict=True))

    def tune(self, x: Inputs | None = None) -> dict[str, str]:
        """Times each algorithm of the convolutions that have several, inside this network, and
        keeps the fastest.

        The results are cached on disk by CPU and layer shape (`CNNRT_CACHE`, or the user's cache
        folder). Tuning the same layers again takes no time.

        Args:
            x: an input of the size to be tuned for; None: the size that the model states.

        Returns:
            The algorithm chosen for each convolution that the caller left to "auto", by name.
        """
        specs = self.graph.inputs
        arrays = feeds.zeros(specs) if x is None else feeds.arrays(specs, x)
        fastest = tuning.tune(self.graph, plan_for(self, arrays), arrays, self.isa)
        found = {name: a for name, a in fastest.items() if self._algorithms.of(name) == "auto"}
        self._algorithms.update(found)
        self._plans.replace()
        return found

    def save_compiled(self, path: str | os.PathLike[str], x: Inputs | None = None) -> None:
        """Writes a file that `cnnrt.load` loads faster: the model with its weights packed.

        The packed weights are those of the plans that the model has, with the algorithms requested
        or found by `tune`. Loaded, they are mapped and shared by all processes. A machine that
        needs other packed weights packs them when it loads the file, as from a model.bin.

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
            plan_for(self, feeds.arrays(self.graph.inputs, x))
        if not self._plans:
            raise GraphError(
                "the model leaves the sizes of its inputs open: give an input of the size to "
                "compile for (cnnrt compile --input 1x3x224x224)"
            )
        memories = self._plans.lasting_weights()
        weights = {name: np.frombuffer(m, np.float32) for name, m in memories.items()}
        asked = {n.name: self._algorithms.of(n.name) for n in self.graph.nodes if n.op == "conv"}
        formats.write_model(
            path,
            self.graph,
            **self._meaning(),
            compiled=formats.Compiled(
                self.isa, {n: a for n, a in asked.items() if a != "auto"}, weights, PACKING
            ),
        )
        self._packed.release()

    def memory(self) -> MemoryUse:
        """Memory that the model takes, and the minimum that it needs."""
        plans = self._plans
        return memory_use(self.graph, self._packed, plans.memory(), plans.run_memory)

    def trim(self) -> None:
        """Gives back memory that is not in use: idle workspaces and outputs, and all plans but the
        one used last.

        Weights that only those plans need go too. Everything is made again on demand.
        """
        self._plans.trim()

    def _meaning(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in MEANING}

    def _given(self, names: tuple[str, ...]) -> Model:
        """The same network with these optional inputs given, one of a few kept."""
        found = self._variants.get(names)
        if found is None:
            found = with_graph(self, self.graph.with_inputs(names))
            if len(self._variants) >= MAX_VARIANTS:
                self._variants = {}
            self._variants[names] = found
        return found


def planned(model: Model, x: Inputs, outputs: Sequence[str]) -> tuple[AnyPlan, list[Array]]:
    """The plan that runs these inputs to these tensors, and the inputs as it takes them.

    Raises:
        ShapeError, GraphError: see `Model.run`.
    """
    if isinstance(x, Mapping) and model.graph.optional_inputs:
        given = tuple(s.name for s in model.graph.optional_inputs if s.name in x)
        if given:
            model = model._given(given)
    arrays = feeds.arrays(model.graph.inputs, x)
    if isinstance(outputs, str):
        raise GraphError(f"outputs takes a list of names: outputs=[{outputs!r}]")
    return model._plans.get(feeds.shapes_of(arrays), tuple(outputs), arrays), arrays


def plan_for(model: Model, arrays: Sequence[Array]) -> AnyPlan:
    """The plan that runs checked inputs of these shapes."""
    return model._plans.get(feeds.shapes_of(arrays), model._default_outputs, arrays)


def with_graph(model: Model, graph: Graph) -> Model:
    """A model of another graph with the settings and the preprocessing of this one."""
    return Model(
        graph,
        preprocessing=model.preprocessing,
        threads=model.threads,
        threading=model.threading,
        algorithm=model._algorithms.requested,
        isa=model.isa,
    )


def settings(model: Model) -> str:
    """Settings that the last bits of the results depend on, besides the network."""
    return f"{model.isa} {model._algorithms}"


def _restore(source: Any, digest: str | None, options: dict[str, Any]) -> Model:
    """A pickled model: of a file that has not changed since, or of the bytes of a model.bin."""
    if digest is None:
        return Model(formats.read_model(source).graph, **options)
    check_digest(source, digest)
    model = load(source, **{name: options[name] for name in ("threads", "threading", "algorithm")})
    for name in MEANING:
        setattr(model, name, options[name])
    return model
