"""Where the time of a run goes: each layer's share, its algorithm, how near it is to the peak."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array, Graph
from ..planning.batch import AnyPlan
from ..planning.plan import step_times
from ..planning.stages import ON_VALUES
from ..storage.files import atomic_write
from .counting import multiply_accumulates
from .layers import layers
from .peak import peak_gflops
from .summary import operator, settings, shape_text, table

MIN_RUNS, MAX_RUNS = 5, 2000
"""Limits to the number of runs timed, whatever the time allowed."""


@dataclasses.dataclass(frozen=True)
class LayerProfile:
    """One layer's part of a run."""

    name: str
    operator: str
    settings: str
    """Kernel, stride, padding, dilation and groups."""
    fused: tuple[str, ...]
    """The operators fused into the layer."""
    output: tuple[int, ...]
    kernels: tuple[str, ...]
    """The kernels that it runs, in order."""
    algorithm: str
    """The algorithm, and why it was chosen."""
    nanoseconds: float
    """Mean time until the last thread is done, over the fastest quarter of the runs."""
    share: float
    """The layer's share of the sum over all layers."""
    macs: int
    """Multiply-accumulates by the direct method; Winograd's algorithm does fewer."""
    gflops: float
    """Billions of operations per second, two for each multiply-accumulate."""
    of_peak: float
    """Fraction of the machine's measured peak; Winograd's algorithm can exceed 1."""


@dataclasses.dataclass(frozen=True)
class Event:
    """The work of one thread on one step."""

    step: int
    thread: int
    begin: int
    """Nanoseconds since the run began."""
    end: int


@dataclasses.dataclass(frozen=True)
class Profile:
    """All layers in order, and the whole run beside them. `str` makes the table."""

    name: str
    inputs: dict[str, tuple[int, ...]]
    isa: str
    threads: int
    layers: list[LayerProfile]
    run_nanoseconds: float
    """The time of a run without tracing, as a caller sees it: mean of the fastest quarter."""
    runs: int
    """Number of runs timed with tracing, and of as many without."""
    peak_gflops: float
    """The measured peak of the machine on these threads."""
    steps: list[tuple[str, str, str]]
    """Layer, kernel and algorithm of each step of the plan."""
    events: list[Event]
    """The events of the slowest run of the fastest quarter."""

    @property
    def sum_nanoseconds(self) -> float:
        """The time of all layers together."""
        return sum(layer.nanoseconds for layer in self.layers)

    def by_time(self) -> list[LayerProfile]:
        """The layers, slowest first."""
        return sorted(self.layers, key=lambda layer: -layer.nanoseconds)

    def facts(self) -> list[tuple[str, str]]:
        """Name and value of each figure of the whole run."""
        macs = sum(layer.macs for layer in self.layers)
        gflops = 2 * macs / self.run_nanoseconds
        return [
            ("one run", time_text(self.run_nanoseconds)),
            ("sum of layers", time_text(self.sum_nanoseconds)),
            ("speed", f"{gflops:.1f} GFLOP/s"),
            ("of the peak", f"{gflops / self.peak_gflops:.0%} of {self.peak_gflops:.0f} GFLOP/s"),
            ("threads", f"{self.threads} ({self.isa})"),
            ("runs", str(self.runs)),
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, without the events."""
        document = dataclasses.asdict(self)
        del document["events"], document["steps"]
        return {**document, "sum_nanoseconds": self.sum_nanoseconds}

    def trace(self) -> dict[str, Any]:
        """One run in the Trace Event Format of Chrome, which Perfetto opens: a track per thread.

        https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
        """
        by_name = {layer.name: layer for layer in self.layers}
        events: list[dict[str, Any]] = [
            {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": self.name}}
        ]
        for thread in range(self.threads):
            name = {"name": f"thread {thread}"}
            events.append({"ph": "M", "pid": 1, "tid": thread, "name": "thread_name", "args": name})
        for event in self.events:
            node, kernel, algorithm = self.steps[event.step]
            arguments: dict[str, Any] = {"kernel": kernel, "algorithm": algorithm}
            if node in by_name:
                layer = by_name[node]
                arguments |= {"operator": layer.operator, "output": list(layer.output)}
            events.append(
                {
                    "ph": "X",
                    "pid": 1,
                    "tid": event.thread,
                    "name": node,
                    "cat": kernel,
                    "ts": event.begin / 1e3,
                    "dur": (event.end - event.begin) / 1e3,
                    "args": arguments,
                }
            )
        return {"traceEvents": events, "displayTimeUnit": "ns"}

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Writes `trace` as JSON.

        Raises:
            OSError: the file cannot be written.
        """
        atomic_write(path, [json.dumps(self.trace()).encode()])

    def __str__(self) -> str:
        head = ("layer", "operator", "output", "time", "share", "GFLOP/s", "peak", "algorithm")

        def rows(chosen: Sequence[LayerProfile]) -> list[str]:
            cells = [
                (
                    layer.name,
                    " ".join(filter(None, (layer.operator, layer.settings))),
                    shape_text(layer.output),
                    time_text(layer.nanoseconds),
                    f"{layer.share:.1%}",
                    f"{layer.gflops:.1f}" if layer.macs else "",
                    f"{layer.of_peak:.0%}" if layer.macs else "",
                    layer.algorithm,
                )
                for layer in chosen
            ]
            return table([head, *cells], right={3, 4, 5, 6})

        shapes = ", ".join(f"{name} {shape_text(shape)}" for name, shape in self.inputs.items())
        width = max(len(name) for name, _ in self.facts())
        return "\n".join(
            [
                f"{self.name}: {shapes}",
                "",
                *rows(self.layers),
                "",
                "slowest first",
                *rows(self.by_time()[:10]),
                "",
                *(f"{name:<{width}}  {value}" for name, value in self.facts()),
            ]
        )


def profile(
    graph: Graph, isa: str, plan: AnyPlan, inputs: Sequence[Array], seconds: float
) -> Profile:
    """Runs a plan for some time. Every other run records when each thread did each step.

    Args:
        graph: the network as it was loaded, whose layers are the rows.
        isa: the instruction-set tier of the plan.
        plan: the plan of the graph for these inputs.
        inputs: in the network's order.
        seconds: how long to measure.
    """
    plain, noted = _measure(plan, inputs, seconds)
    # Not medians by step: if each run is disturbed in another step, they sum to less than any run.
    noted.sort(key=lambda spans: int(spans[:, :, 1].max(initial=0)))
    noted = noted[: -(-len(noted) // 4)]
    times = np.mean([step_times(spans) for spans in noted], axis=0)
    run_nanoseconds = float(np.mean(np.sort(plain)[: -(-len(plain) // 4)]))
    infos = plan.describe()
    shapes = {spec.name: tuple(x.shape) for spec, x in zip(graph.inputs, inputs, strict=True)}
    peak = peak_gflops(isa, plan.threads)
    found = layers(graph, shapes)
    rows = []
    # Nodes can share a name, as a selection moved before its layer does: the last has all the time.
    home = {layer.node.name: i for i, layer in enumerate(found.rows)}
    whole = float(times.sum()) or 1.0
    for row, layer in enumerate(found.rows):
        mine = [i for i, info in enumerate(infos) if home.get(info.node) == row]
        nanoseconds = float(times[mine].sum())
        macs = multiply_accumulates(found.fused, layer.node)
        gflops = 2 * macs / nanoseconds if nanoseconds else 0.0
        rows.append(
            LayerProfile(
                name=layer.node.name,
                operator=operator(layer),
                settings=settings(found, layer),
                fused=tuple(node.op for node in layer.fused),
                output=found.fused.types[next(filter(None, layer.node.outputs))].shape,
                kernels=tuple(infos[i].kernel for i in mine),
                algorithm="; ".join(dict.fromkeys(_algorithm(infos[i]) for i in mine))
                or "no work: the same memory",
                nanoseconds=nanoseconds,
                share=nanoseconds / whole,
                macs=macs,
                gflops=gflops,
                of_peak=gflops / peak,
            )
        )
    rest = [i for i, info in enumerate(infos) if info.node not in home]
    if rest:  # copies into the arrays that are returned, or the stages after the first
        nanoseconds = float(times[rest].sum())
        staged = any(infos[i].kernel == ON_VALUES for i in rest)
        rows.append(
            LayerProfile(
                name="later stages" if staged else "outputs",
                operator="several" if staged else "copy",
                settings="",
                fused=(),
                output=found.fused.types[found.fused.outputs[0].name].shape,
                kernels=tuple(infos[i].kernel for i in rest),
                algorithm="; ".join(dict.fromkeys(_algorithm(infos[i]) for i in rest)),
                nanoseconds=nanoseconds,
                share=nanoseconds / whole,
                macs=0,
                gflops=0.0,
                of_peak=0.0,
            )
        )
    return Profile(
        name=graph.name,
        inputs=shapes,
        isa=isa,
        threads=plan.threads,
        layers=rows,
        run_nanoseconds=run_nanoseconds,
        runs=len(plain),
        peak_gflops=peak,
        steps=[(info.node, info.kernel, info.note) for info in infos],
        events=[
            Event(int(step), int(thread), *map(int, noted[-1][thread, step]))
            for thread, step in np.argwhere(noted[-1][:, :, 1] >= 0)
        ],
    )


def _measure(
    plan: AnyPlan, inputs: Sequence[Array], seconds: float
) -> tuple[list[int], list[Array]]:
    """Nanoseconds of some runs, and the spans of as many traced runs between them."""
    clock = time.perf_counter_ns
    plan.run(inputs)
    plan.trace(inputs)
    end = clock() + int(seconds * 1e9)
    plain: list[int] = []
    noted: list[Array] = []
    while len(plain) < MIN_RUNS or (clock() < end and len(plain) < MAX_RUNS):
        start = clock()
        plan.run(inputs)
        plain.append(clock() - start)
        noted.append(plan.trace(inputs))
    return plain, noted


def _algorithm(info: Any) -> str:
    if not info.note or info.note.startswith(info.kernel):
        return str(info.note or info.kernel)
    return f"{info.kernel}: {info.note}"


def time_text(nanoseconds: float) -> str:
    """A time in the unit that suits it, such as "1.23 ms"."""
    if nanoseconds < 1e6:
        return f"{nanoseconds / 1e3:.1f} us"
    return f"{nanoseconds / 1e6:.2f} ms" if nanoseconds < 1e9 else f"{nanoseconds / 1e9:.2f} s"
