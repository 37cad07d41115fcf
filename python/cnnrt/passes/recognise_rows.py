"""Finds normalisations of rows that are written as sums, means and arithmetic, however they are
spelt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..graph import Array, Graph, Node, TensorType
from .cones import Cone, Cones, Line, value_of
from .recognise_activations import CHAIN

Function = Callable[[Array], Array]


def _of_rows(function: Function) -> Function:
    """A function of whole rows, which refuses reduced ones."""

    def reduce(x: Array) -> Array:
        if x.ndim != 2 or x.shape[1] == 1:
            raise ValueError("no rows")
        return function(x)

    return reduce


def _of_statistics(x: Array) -> Array:
    """The identity of reduced rows, which refuses whole ones."""
    if x.ndim != 2 or x.shape[1] != 1:
        raise ValueError("rows")
    return x


REDUCTIONS: dict[str, Function] = {
    "reduce_mean": _of_rows(lambda x: x.mean(1, keepdims=True)),
    "reduce_sum": _of_rows(lambda x: x.sum(1, keepdims=True)),
    "reduce_max": _of_rows(lambda x: x.max(1, keepdims=True)),
    "reduce_sum_square": _of_rows(lambda x: (x * x).sum(1, keepdims=True)),
    "reduce_l2": _of_rows(lambda x: np.sqrt((x * x).sum(1, keepdims=True))),
}
SHAPERS = dict.fromkeys(("reshape", "expand", "unsqueeze", "squeeze"), _of_statistics)
"""Operators that give the statistics of rows another shape."""
OTHERS: dict[str, Function] = {**REDUCTIONS, **SHAPERS}

ROWS, DEVIATIONS = 4, np.array([[2.0], [0.1], [1e-3], [3e-4]])
"""Samples: rows so different that epsilons make a difference."""
MAX_EPSILON = 1e-2


class Normalisation(NamedTuple):
    """The function of a cone's lines: an operator, its epsilon, and the vectors that it reads."""

    op: str
    epsilon: float = 0.0
    scale: int | None = None
    bias: int | None = None


def recognise_rows(graph: Graph) -> None:
    """Puts softmax, layer or RMS normalisation in the place of operators that compute one."""
    types = graph.types
    cones = Cones(graph, lambda node: _accepts(node, graph))
    for node in reversed(graph.nodes):  # with scale and bias before the same without
        type_ = types[node.outputs[0]] if node.outputs[0] else None
        closes = node.op in ("add", "sub", "mul", "div", "log")
        if not closes or type_ is None or type_.dtype != np.float32:
            continue
        largest = None
        for cone in cones.ending_at(node):
            if types[cone.root] != type_ or type_.shape[-1:] < (2,):
                continue
            if not any(line.op in REDUCTIONS for line in cone.lines):
                continue
            size = type_.shape[-1]
            vectors = [graph.constants[name] for name in cone.vectors]
            if any(v.size != size or v.shape[-1] != size for v in vectors):
                break
            found = _meaning(cone.lines, len(cone.vectors), size)
            largest = (cone, found) if found is not None else largest
        if largest is not None:
            _become(node, *largest, graph)


def _accepts(node: Node, graph: Graph) -> bool:
    """True for arithmetic, for a reduction of the last axis, and for its result's other shape."""
    types = graph.types
    if node.op in CHAIN:  # a statistic without its axis would lie along another one
        rank = types[node.outputs[0]].rank
        computed = [types[name] for name in node.inputs if name and name not in graph.constants]
        even = all(x.rank == rank or x.size == 1 for x in computed)
        return even and node.attributes.get("activation") is None
    if len(node.outputs) != 1:
        return False
    x, y = types[node.inputs[0]], types[node.outputs[0]]
    if node.op in REDUCTIONS:
        axes = node["axes"]
        if node.input(1):
            value = graph.constants.get(node.inputs[1])
            axes = None if value is None else value.reshape(-1).tolist()
        return bool(axes) and x.rank > 0 and [a % x.rank for a in axes] == [x.rank - 1]
    if node.op not in SHAPERS or any(name not in graph.constants for name in node.inputs[1:]):
        return False
    return _is_column_of(x, y)


def _is_column_of(x: TensorType, y: TensorType) -> bool:
    """True if y is x with an axis of one element at its end or without, repeated along it or not.

    The rows are the same in the same order, which is all that the samples have.
    """
    rows = x.shape[:-1] if x.shape[-1:] == (1,) else x.shape
    return y.shape == rows or y.shape[:-1] == rows


def _become(node: Node, cone: Cone, found: Normalisation, graph: Graph) -> None:
    """Makes a node the normalisation of the tensor that its cone begins at."""
    size = graph.types[node.outputs[0]].shape[-1]
    attributes: dict[str, Any] = {"axis": -1}
    inputs = [cone.root]
    if found.op not in ("softmax", "log_softmax"):
        attributes["epsilon"] = found.epsilon
        for kind, number in (("scale", found.scale), ("bias", found.bias)):
            if number is None and kind == "bias":
                continue
            value = np.ones(size) if number is None else graph.constants[cone.vectors[number]]
            row = np.asarray(value, np.float32).reshape(size)
            name = f"{node.name}.{kind}"
            graph.constants[name], graph.types[name] = row, TensorType(row.shape, row.dtype)
            graph.varying.add(name)
            inputs.append(name)
    node.op, node.inputs, node.attributes = found.op, inputs, attributes
    ops.complete(node)


@lru_cache(1024)
def _meaning(lines: tuple[Line, ...], vectors: int, size: int) -> Normalisation | None:
    """The normalisation that lines compute on rows of `size` elements."""
    rng = np.random.default_rng(size)
    x = DEVIATIONS * (rng.standard_normal((ROWS, size)) + 0.3)
    names = [f"v{i}" for i in range(vectors)]
    rows = {name: rng.standard_normal((1, size)) for name in names}
    got = value_of(lines, {"x": x, **rows}, OTHERS)
    if got is None or got.shape != x.shape:
        return None
    given = list(rows.values())
    for found, want in _candidates(x, lines):
        for scale in (None, *range(vectors)):
            for bias in (None, *range(vectors)):
                if vectors != len({scale, bias} - {None}):
                    continue
                if bias is not None and (scale == bias or found.op == "rms_normalization"):
                    continue
                y = want if scale is None else want * given[scale]
                y = y if bias is None else y + given[bias]
                if np.allclose(got, y, 1e-5, 1e-7):
                    return found._replace(scale=scale, bias=bias)
    return None


def _candidates(x: Array, lines: tuple[Line, ...]) -> Iterator[tuple[Normalisation, Array]]:
    """Normalisations, and their results for rows."""
    shifted = x - x.max(1, keepdims=True)
    total = np.exp(shifted).sum(1, keepdims=True)
    yield Normalisation("softmax"), np.exp(shifted) / total
    yield Normalisation("log_softmax"), shifted - np.log(total)
    numbers = {o for line in lines for o in line.operands if isinstance(o, float)}
    centred = x - x.mean(1, keepdims=True)
    for epsilon in sorted(n for n in numbers if 0 < n < MAX_EPSILON):
        for op, y in (("layer_normalization", centred), ("rms_normalization", x)):
            spread = np.sqrt((y * y).mean(1, keepdims=True) + epsilon)
            yield Normalisation(op, epsilon), y / spread
