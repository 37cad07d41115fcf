"""An inference engine in a process of its own, obeying commands.

As a program (`python worker.py ENGINE THREADS`) it reads JSON commands from its standard input, one
a line. It answers each with a line of JSON. Between commands it is asleep, blocked on the pipe. It
imports nothing but NumPy and the engine, so no engine is charged with another's memory.

An engine is loaded once for one input shape and number of threads. It is then a function from an
array to an array: the whole call as a Python program makes it. Options are the ones that make each
engine fastest at float32; nothing else is tuned.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import statistics
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

Array = Any
"""A NumPy array, or for a network of several inputs a dict of them by name."""
Run = Callable[[Array], Array]

WARM_UP = 0.2
"""The part of a turn that is not timed; at least one run."""


@dataclass(frozen=True)
class Source:
    """A network as files, and the shape at which it will run."""

    onnx: Path
    torchscript: Path | None
    shape: tuple[int, ...]
    own: Path | None = None
    """The file that cnnrt reads, if it is another one."""


class Engine(ABC):
    """Loads networks for one inference engine."""

    package: str
    """Its name on PyPI."""
    module: str | None = None
    """The name by which it is imported, if that is another one."""

    def __init__(self, option: str = "") -> None:
        self.option = option

    @classmethod
    def version(cls) -> str | None:
        """The installed version; None if the engine is not installed."""
        try:
            return version(cls.package)
        except PackageNotFoundError:
            return None

    @abstractmethod
    def load(self, source: Source, threads: int) -> Run:
        """The network as a function. Raises whatever the engine raises if it cannot."""

    def outputs(self, x: Array) -> list[Array]:
        """All outputs of the network that was loaded, if the engine returns more than the first."""
        raise NotImplementedError

    def steps(self, x: Array, seconds: float) -> list[tuple[str, int]]:
        """Kernel and shortest time in ns of each step in some seconds, if the engine reports
        them."""
        raise NotImplementedError


class Cnnrt(Engine):
    """cnnrt; the option is the algorithm of its 3x3 convolutions, or "tune" to choose by timing."""

    package = "cnnrt"

    @classmethod
    def version(cls) -> str | None:
        found = super().version()
        if found is None and importlib.util.find_spec("cnnrt"):  # a source tree on PYTHONPATH
            return "0"
        return found

    def load(self, source: Source, threads: int) -> Run:
        cnnrt = importlib.import_module("cnnrt")
        file = source.own or source.onnx
        how = {"tune": True} if self.option == "tune" else {"algorithm": self.option or "auto"}
        self.model = cnnrt.load(file, threads=threads, **how)
        return self.model  # type: ignore[no-any-return]

    def outputs(self, x: Array) -> list[Array]:
        y = self.model(x)
        return list(y.values()) if isinstance(y, dict) else [y]

    def steps(self, x: Array, seconds: float) -> list[tuple[str, int]]:
        plan = importlib.import_module("cnnrt.model").plan_for(self.model, (x,))
        plan.time((x,))
        times = np.array(plan.time((x,)))
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            times = np.minimum(times, plan.time((x,)))
        timed = zip(plan.describe(), times, strict=True)
        return [(s.kernel, int(t)) for s, t in timed if s.kernel != "reference"]


class OnnxRuntime(Engine):
    """ONNX Runtime on its own CPU provider."""

    package = "onnxruntime"

    def load(self, source: Source, threads: int) -> Run:
        onnxruntime = importlib.import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # A known batch size lets it fold shapes; without a free axis of this name nothing happens.
        options.add_free_dimension_override_by_name("batch", source.shape[0])
        self.session = onnxruntime.InferenceSession(
            str(source.onnx), options, providers=["CPUExecutionProvider"]
        )
        self.name = self.session.get_inputs()[0].name
        return lambda x: self.outputs(x)[0]

    def outputs(self, x: Array) -> list[Array]:
        found: list[Array] = self.session.run(None, x if isinstance(x, dict) else {self.name: x})
        return found


class OpenVino(Engine):
    """OpenVINO's CPU plugin."""

    package = "openvino"

    def load(self, source: Source, threads: int) -> Run:
        core = importlib.import_module("openvino").Core()
        model = core.read_model(source.onnx)
        if len(model.inputs) == 1:
            model.reshape(list(source.shape))
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        request = core.compile_model(model, "CPU", options).create_infer_request()
        return lambda x: request.infer(x, share_inputs=True, share_outputs=True)[0]


ENGINES: dict[str, type[Engine]] = {
    "cnnrt": Cnnrt,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
}
"""Engines by name; `bench/engines.py` adds more."""


def engine(name: str) -> Engine:
    """The engine with this name, which may have an option: "cnnrt:winograd4".

    Raises:
        KeyError: there is no such engine.
    """
    base, _, option = name.partition(":")
    return ENGINES[base](option)


def load(
    subject: Engine, command: dict[str, Any], threads: int
) -> tuple[Run, Array, dict[str, Any]]:
    """Loads the network and compares its output with the reference."""
    given = command["source"]
    files = {k: Path(given[k]) if given.get(k) else None for k in ("onnx", "torchscript", "own")}
    source = Source(
        files["onnx"] or Path(), files["torchscript"], tuple(given["shape"]), files["own"]
    )
    found = np.load(command["input"])
    single = isinstance(found, np.ndarray)
    x = np.ascontiguousarray(found) if single else {name: found[name] for name in found.files}
    reference = np.load(command["ref"])
    module = subject.module or subject.package
    if importlib.util.find_spec(module):
        importlib.import_module(module)  # no part of loading a network
    start = time.perf_counter()
    run = subject.load(source, threads)
    loaded = time.perf_counter()
    y = np.asarray(run(x))
    done = time.perf_counter()
    if y.size != reference.size:
        raise ValueError(f"the output has shape {y.shape}, not {reference.shape}")
    difference = np.abs(y.astype(np.float64).reshape(reference.shape) - reference).max(initial=0)
    error = float(difference / (np.abs(reference).max(initial=0) or 1))
    return (
        run,
        x,
        {
            "error": error if np.isfinite(error) else 1e30,
            "seconds": done - start,
            "load_seconds": loaded - start,
        },
    )


def turn(run: Run, x: Array, seconds: float) -> list[int]:
    """Runs for some time; nanoseconds of each run."""
    clock = time.perf_counter_ns
    end = clock() + int(seconds * WARM_UP * 1e9)
    run(x)
    while clock() < end:
        run(x)
    times: list[int] = []
    end = clock() + int(seconds * (1 - WARM_UP) * 1e9)
    now = clock()
    while now < end or not times:
        run(x)
        then, now = now, clock()
        times.append(now - then)
    return times


def peak_bytes() -> int | None:
    """The most memory that this process has had, in bytes; None if the system does not say."""
    try:  # On Linux getrusage includes the process that this one was forked from
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    try:
        import resource  # noqa: PLC0415  (POSIX)
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def forget_peak() -> None:
    """Begins `peak_bytes` anew, if the system can do that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """One engine, obeying commands."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    name, threads = sys.argv[1], int(sys.argv[2])
    subject = engine(name)
    run: Run | None = None
    x: Array = None
    for line in sys.stdin:
        command = json.loads(line)
        answer: dict[str, Any]
        try:
            if command["do"] == "load":
                if subject.version() is None:
                    raise ModuleNotFoundError(f"{subject.package} is not installed")
                run, x, answer = load(subject, command, threads)
                gc.collect()
                gc.disable()
            elif command["do"] == "turn":
                assert run is not None
                times = turn(run, x, command["seconds"])
                middle = statistics.median(times)
                answer = {"min": min(times), "median": middle, "runs": len(times)}
                answer |= {"times": times} if command.get("all") else {}
            elif command["do"] == "memory":
                answer = {"peak_bytes": peak_bytes(), "version": subject.version()}
                if command.get("reset"):
                    forget_peak()
            else:
                answer = {"steps": subject.steps(x, command["seconds"])}
        except Exception as error:  # whatever an engine raises is the answer
            words = " ".join(str(error).split()) or "no message"
            answer = {"failed": f"{type(error).__name__}: {words[:300]}"}
        print(json.dumps(answer), file=out)


if __name__ == "__main__":
    if sys.path[0] == str(Path(__file__).parent):  # whose files must not hide a library's
        sys.path.pop(0)
    main()
