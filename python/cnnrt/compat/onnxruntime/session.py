"""Sessions: a model that is run by the names of its inputs and outputs."""

from __future__ import annotations

import copy
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ... import feeds
from ...errors import CnnrtError
from ...model import Model, load, with_graph
from ...process.threads import get_num_threads
from .arguments import check_running, checked
from .binding import IOBinding
from .devices import CPU_MEMORY, OrtMemoryInfo
from .errors import (
    Fail,
    InvalidArgument,
    InvalidProtobuf,
    ModelLoadCanceled,
    NoSuchFile,
    status,
    translated,
)
from .hardware import OrtEpDevice, get_ep_devices
from .initializers import with_constants, with_initializers, write
from .metadata import AssignedSubgraph, ModelMetadata, config_of, facts_of, is_model_bin
from .native import NativeSession
from .options import RunOptions, SessionOptions
from .process import check_threads, log
from .profiling import Profiler
from .providers import CPU, chosen
from .types import NodeArg
from .values import OrtValue, OrtValueVector, unwrapped

Feed = Mapping[str, Any]


class InferenceSession:
    """A model that is ready to run, with the interface of ONNX Runtime's class of this name.

    Results are those of `cnnrt.load(...)`: float32, independent of threads and batch.
    """

    def __init__(
        self,
        path_or_bytes: str | bytes | os.PathLike[str],
        sess_options: SessionOptions | None = None,
        providers: Sequence[str | tuple[str, dict[Any, Any]]] | None = None,
        provider_options: Sequence[dict[Any, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Loads a model.

        Args:
            path_or_bytes: an ONNX file or a model.bin, by path or as bytes.
            sess_options: see `SessionOptions`.
            providers: names, or pairs of name and options; others than the CPU's are skipped with
                a warning.
            provider_options: options by provider, if `providers` are names alone.
            kwargs: `read_config_from_model` takes options from the model's metadata, as the
                environment's ORT_LOAD_CONFIG_FROM_MODEL=1 does. `disabled_optimizers` and
                `enable_fallback` are taken and change nothing.

        Raises:
            NoSuchFile: there is no such file.
            InvalidProtobuf: it is no model, or is damaged.
            NotImplemented: the model needs operators that cnnrt does not run.
            RuntimeError: threads of its own and global ones are mixed.
            TypeError: the model is given as something else.
        """
        if isinstance(path_or_bytes, (bytes, bytearray, memoryview)):
            source: Any = bytes(path_or_bytes)
        elif isinstance(path_or_bytes, (str, os.PathLike)):
            source = os.fspath(path_or_bytes)
        else:
            raise TypeError(f"Unable to load from type '{type(path_or_bytes)}'")
        known = {"disabled_optimizers", "enable_fallback", "read_config_from_model"}
        if unknown := kwargs.keys() - known:
            raise TypeError(f"InferenceSession takes no argument {sorted(unknown)[0]!r}")
        self._source: Any = source
        self._options = sess_options if sess_options is not None else SessionOptions()
        self._fallback = bool(kwargs.get("enable_fallback", True))
        self._providers = chosen(providers, provider_options)
        start = time.monotonic_ns()
        configured = os.environ.get("ORT_LOAD_CONFIG_FROM_MODEL") == "1"
        self._load(configured=bool(int(kwargs.get("read_config_from_model", configured))))
        taken = time.monotonic_ns() - start
        self._log(1, f"Session successfully initialized in {taken / 1e6:.1f} ms.")
        prefix = self._options.profile_file_prefix
        self._profiler = Profiler(prefix, taken) if self._options.enable_profiling else None
        self._start_ns = start

    def _load(self, *, configured: bool) -> None:
        if isinstance(self._source, str) and not Path(self._source).is_file():
            raise status(
                NoSuchFile,
                f"Load model from {self._source} failed:Load model {self._source} failed. "
                "File doesn't exist",
            )
        if not self._source:
            raise status(InvalidProtobuf, "the model has no bytes")
        if self._options._cancelled:
            raise status(ModelLoadCanceled, "the loading was cancelled by the session's options")
        if configured:
            with translated(loading=True):
                config = config_of(self._source)
            if config:
                self._options = copy.copy(self._options)
                self._options._take(config)
        options, source = self._options, self._source
        check_threads(per_session=bool(options.use_per_session_threads))
        count = int(options.intra_op_num_threads)
        with translated(loading=True):
            replaced = bool(options._initializers or options._files)
            compiled = is_model_bin(source)
            if replaced and not compiled:
                source = with_initializers(source, options._initializers, options._files)
            model = load(source, threads=count if count > 0 else get_num_threads())
            if replaced and compiled:
                model = with_graph(model, with_constants(model.graph, options._initializers))
            self._facts = facts_of(source, model)
            self._model = self._overridden(model)
            if options.optimized_model_filepath:
                path = os.fspath(options.optimized_model_filepath)
                write(path, self._model.graph, options._entries)
        self._single = len(self._model.outputs) == 1 and not self._model.optional_inputs
        self._specs = {s.name: s for s in (*self._model.inputs, *self._model.optional_inputs)}
        self._required = [s for s in self._model.inputs if s.kind != "optional"]
        self._output_names = [output.name for output in self._model.outputs]

    def _overridden(self, model: Model) -> Model:
        """The model with the sizes that the options replace."""
        options, graph = self._options, model.graph
        if not (options._sizes_by_name or options._sizes_by_denotation):
            return model
        graph = graph.copy()
        inputs = []
        for spec, arg in zip(graph.inputs, self._facts.inputs, strict=True):
            sizes = options._fixed(spec.shape, self._facts.denotations.get(spec.name, []))
            inputs.append(dataclasses.replace(spec, shape=tuple(sizes)))
            arg.shape[:] = [
                new if isinstance(new, int) and not isinstance(old, int) else old
                for old, new in zip(arg.shape, sizes, strict=False)
            ]
        graph.inputs = inputs
        return with_graph(model, graph)

    @property
    def _sess(self) -> NativeSession:
        """The session below; made anew, as a session that held it would never be freed by
        reference counts."""
        return NativeSession(self)

    # What the model is.

    def get_inputs(self) -> list[NodeArg]:
        """The inputs that must be given, in order."""
        return self._facts.inputs

    def get_outputs(self) -> list[NodeArg]:
        """The outputs in order."""
        return self._facts.outputs

    def get_overridable_initializers(self) -> list[NodeArg]:
        """The inputs that have a value in the model and may be given another."""
        return self._facts.overridable

    def get_modelmeta(self) -> ModelMetadata:
        """Producer, names, version and the texts stored with the model."""
        return self._facts.metadata

    def get_session_options(self) -> SessionOptions:
        return self._options

    def get_providers(self) -> list[str]:
        return list(self._providers)

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {name: dict(options) for name, options in self._providers.items()}

    def set_providers(
        self,
        providers: Sequence[str | tuple[str, dict[Any, Any]]] | None = None,
        provider_options: Sequence[dict[Any, Any]] | None = None,
    ) -> None:
        """Chooses providers again: the CPU's is all that there is."""
        self._providers = chosen(providers, provider_options, strict=True)

    def get_input_memory_infos(self) -> list[OrtMemoryInfo]:
        """The memory that each input is taken from."""
        return [CPU_MEMORY] * len(self._facts.inputs)

    def get_output_memory_infos(self) -> list[OrtMemoryInfo]:
        """The memory that each output is in."""
        return [CPU_MEMORY] * len(self._facts.outputs)

    def get_input_epdevices(self) -> list[OrtEpDevice | None]:
        """For each input its device, if the options name the provider; else None."""
        device = get_ep_devices()[0] if self._options.has_providers() else None
        return [device] * len(self._facts.inputs)

    def get_provider_graph_assignment_info(self) -> list[AssignedSubgraph]:
        """The nodes of the file, each as a subgraph of the CPU's provider.

        Raises:
            Fail: the options do not ask for it.
        """
        if self._options._entries.get("session.record_ep_graph_assignment_info") != "1":
            raise status(
                Fail,
                "Session configuration entry 'session.record_ep_graph_assignment_info' must be "
                'set to "1" to retrieve the nodes of each provider.',
            )
        return [AssignedSubgraph(CPU, node) for node in self._facts.nodes]

    def enable_fallback(self) -> None:
        """Kept for clients: there is no provider to fall back from."""
        self._fallback = True

    def disable_fallback(self) -> None:
        """Kept for clients: there is no provider to fall back from."""
        self._fallback = False

    # Running.

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Feed,
        run_options: RunOptions | None = None,
    ) -> list[Any]:
        """Runs the model.

        Args:
            output_names: the outputs wanted, in this order; None or empty: all.
            input_feed: arrays (or `OrtValue`s) by input name, of the inputs' own types.
            run_options: see `RunOptions`.

        Returns:
            An array for each output, a list of arrays for a sequence.

        Raises:
            ValueError: an input is missing.
            InvalidArgument: a name is unknown, or a shape or type does not fit.
        """
        feed = self._checked(input_feed)
        names = self._wanted(output_names)
        if run_options is not None:
            check_running(run_options)
        begin = time.monotonic_ns()
        with translated(loading=False):
            if self._single and len(feed) == 1 and len(names) == 1:
                results = [self._model(next(iter(feed.values())))]
            elif len(names) == 1:
                results = [self._model.run(feed, names)]
            else:
                found = self._model.run(feed, list(dict.fromkeys(names)))
                results = [found[name] for name in names]
        if self._profiler is not None:
            taken = time.monotonic_ns() - begin
            arrays = feeds.arrays(self._model.graph.inputs, feed)
            self._profiler.record(self._model, arrays, begin - self._profiler.start_ns, taken)
        if run_options is not None:
            check_running(run_options)
        return results

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """As `run`, with `OrtValue`s for arrays."""
        return [OrtValue(y) for y in self.run(output_names, input_dict_ort_values, run_options)]

    def run_with_ortvaluevector(
        self,
        run_options: RunOptions | None,
        feed_names: Sequence[str],
        feeds: OrtValueVector,
        fetch_names: Sequence[str],
        fetches: OrtValueVector,
        fetch_devices: Any = None,
    ) -> None:
        """As `run`; the results are appended to `fetches`."""
        del fetch_devices
        feed = dict(zip(feed_names, feeds, strict=True))
        for value in self.run_with_ort_values(fetch_names, feed, run_options):
            fetches.push_back(value)

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Feed,
        callback: Callable[[Any, Any, str], None],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """Runs in a thread of its own, which then calls `callback(results, user_data, error)`.

        `error` is an empty text after a run that succeeded.
        """

        def work() -> None:
            try:
                results, error = self.run(output_names, input_feed, run_options), ""
            except (CnnrtError, ValueError) as problem:
                results, error = [], str(problem)
            callback(results, user_data, error)

        threading.Thread(target=work, name="cnnrt run_async").start()

    def io_binding(self) -> IOBinding:
        """An object that holds inputs and outputs from one run to the next."""
        return IOBinding(self)

    def run_with_iobinding(
        self, iobinding: IOBinding, run_options: RunOptions | None = None
    ) -> None:
        """Runs with the inputs of a binding and leaves the results in it."""
        iobinding._run(run_options)

    def create_ortvalue_from_shape_and_type(
        self, shape: Sequence[int], element_type: Any, device_type: str = "cpu", *_: Any
    ) -> OrtValue:
        """A value of zeros; see `OrtValue.ortvalue_from_shape_and_type`."""
        return OrtValue.ortvalue_from_shape_and_type(shape, element_type, device_type)

    # Profiling and tuning.

    def end_profiling(self) -> str:
        """Writes the profile; returns its file name, or "" if profiling was not enabled."""
        if self._profiler is None:
            return ""
        path = self._profiler.write()
        self._profiler = None
        return path

    def get_profiling_start_time_ns(self) -> int:
        """When profiling began, as `time.monotonic_ns` counts."""
        return self._profiler.start_ns if self._profiler else self._start_ns

    def get_tuning_results(self) -> list[Any]:
        """Results of tuning kernels of providers: the CPU's has none."""
        return []

    def set_tuning_results(self, results: Any, *, error_on_invalid: bool = False) -> None:
        """Takes no results: see `get_tuning_results`."""
        if results and error_on_invalid:
            raise status(Fail, f"{CPU} has no tuning results")

    def set_ep_dynamic_options(self, options: dict[str, str]) -> None:
        raise NotImplementedError(f"{CPU} has no dynamic options, such as {options}")

    # Checks.

    def _log(self, severity: int, text: str) -> None:
        own, logid = self._options.log_severity_level, self._options.logid
        log(severity, own, logid, "cnnrt InferenceSession", text)

    def _wanted(self, names: Sequence[str] | None) -> list[str]:
        if not names:
            return self._output_names
        for name in names:
            if name not in self._output_names:
                raise status(
                    InvalidArgument,
                    f"Invalid output name:{name}; the model has {', '.join(self._output_names)}",
                )
        return list(names)

    def _checked(self, feed: Feed) -> dict[str, Any]:
        """The inputs by name, of the types and ranks that the model takes.

        Unlike `Model`, nothing is converted: a wrong type is a mistake in the calling program.
        """
        missing = [s.name for s in self._required if s.name not in feed]
        if missing:
            raise ValueError(
                f"Required inputs ({missing}) are missing from input feed ({list(feed)})."
            )
        found = {}
        for name, value in feed.items():
            spec = self._specs.get(name)
            if spec is None:
                raise status(
                    InvalidArgument,
                    f"Invalid input name: {name}; the model takes {', '.join(self._specs)}",
                )
            found[name] = checked(spec, unwrapped(value))
        for spec in self._model.inputs:
            found.setdefault(spec.name, None)
        return found
