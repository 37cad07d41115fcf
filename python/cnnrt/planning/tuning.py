"""Choosing convolution algorithms by timing them, instead of by the cost model.

The whole network runs with each algorithm in turn, and every layer keeps the one it was fastest
with. A layer alone would find its weights in cache, and inside a network they are not there. Timing
uses one thread, so the choice, and with it the result, is the same for any number. The choices are
kept on disk by CPU, instruction set and layer shape.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..cost import ALGORITHMS, Algorithms, handicap, tile_of
from ..feeds import shapes_of
from ..graph import Array, Graph
from ..lowering.conv import algorithms
from ..storage.cache import cache_folder, read_bytes, write_bytes
from ..weights.packed import Packed
from .batch import AnyPlan
from .plan_cache import PlanCache

CANDIDATES = ALGORITHMS[1:]
ROUNDS = 5


MAX_BYTES = 16 << 20
"""Largest file of timings: a layer takes about 150."""


def cache_file() -> Path | None:
    """The file of timings; None if nothing is kept."""
    folder = cache_folder()
    return folder / "tuning.json" if folder else None


def tune(graph: Graph, plan: AnyPlan, inputs: Sequence[Array], isa: str) -> dict[str, str]:
    """The fastest algorithm of each convolution with a choice, by node name, for these inputs.

    Args:
        graph: the network as it was loaded.
        plan: its plan for the inputs, which names the convolutions.
        inputs: in the network's order.
        isa: the instruction-set tier of the plan.
    """
    layers = _layers(plan.graphs, isa)
    file = cache_file()
    known = _read(file) if file else {}
    if any(known.get(layer.key) not in layer.algorithms for layer in layers.values()):
        known |= _measure(graph, inputs, isa, layers)
        if file:
            write_bytes(file, json.dumps(known, indent=1, sort_keys=True).encode())
    return {name: known[layer.key] for name, layer in layers.items()}


class _Layer(NamedTuple):
    """A convolution with a choice."""

    key: str
    """Key of a layer's time: everything that it depends on."""
    algorithms: dict[str, float]
    """Its algorithms, with the factors by which their times are compared (`cost.handicap`)."""


def _layers(graphs: Sequence[Graph], isa: str) -> dict[str, _Layer]:
    """The convolutions that Winograd's algorithm fits, by name."""
    layers = {}
    for graph, node in ((g, node) for g in graphs for node in g.nodes):
        if node.op != "conv" or node.inputs[1] not in graph.constants or node["group"] != 1:
            continue
        x, weight = graph.types[node.inputs[0]].shape, graph.constants[node.inputs[1]].shape
        steps = node["strides"] or [1], node["dilations"] or [1]
        candidates = algorithms(weight[2:], *steps) if len(x) in (3, 4, 5) else ()
        y = graph.types[node.outputs[0]].shape
        factors = {name: handicap(tile_of(name), y[-2], y[-1]) for name in candidates}
        factors = {name: factor for name, factor in factors.items() if math.isfinite(factor)}
        if len(factors) > 1:
            shape = f"{x[1:]} {weight} {steps} {node['pads']} {node['auto_pad']}"
            layers[node.name] = _Layer(f"{_cpu()} | {isa} | {shape}", factors)
    return layers


def _measure(
    graph: Graph, inputs: Sequence[Array], isa: str, layers: dict[str, _Layer]
) -> dict[str, str]:
    times: dict[str, dict[str, float]] = {}
    outputs = tuple(spec.name for spec in graph.outputs)
    for algorithm in CANDIDATES:
        packed = Packed(graph.constants.values(), None)
        cache = PlanCache(graph, packed, 1, "pool", isa, Algorithms(algorithm))
        plan = cache.get(shapes_of(inputs), outputs, inputs)
        steps = plan.describe()
        fastest = np.min([plan.time(inputs) for _ in range(ROUNDS)], axis=0)
        pooled = _pooled(plan.graphs)
        for step, nanoseconds in zip(steps, fastest, strict=True):
            name = pooled.get(step.node, step.node)
            if name in layers and algorithm in layers[name].algorithms:
                by_algorithm = times.setdefault(layers[name].key, {})
                by_algorithm[algorithm] = by_algorithm.get(algorithm, 0.0) + float(nanoseconds)
    factors = {layer.key: layer.algorithms for layer in layers.values()}
    return {key: min(t, key=lambda a: t[a] * factors[key][a]) for key, t in times.items()}


def _pooled(graphs: Sequence[Graph]) -> dict[str, str]:
    """The node before each max pool, by the pool's name: Winograd's algorithms may do both at
    once."""
    found: dict[str, str] = {}
    for graph in graphs:
        producers = graph.producers()
        pools = [node for node in graph.nodes if node.op == "max_pool"]
        found |= {n.name: producers[n.inputs[0]].name for n in pools if n.inputs[0] in producers}
    return found


def _read(file: Path) -> dict[str, str]:
    """The choices on disk; none if the file is missing or not what this module writes."""
    try:
        content = json.loads(read_bytes(file, MAX_BYTES) or b"{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {k: v for k, v in content.items() if v in CANDIDATES}


def _cpu() -> str:
    """The processor's name for itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "CPU part")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
