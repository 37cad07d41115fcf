"""float16 as a type of storage: tensors keep it at the network's border, products are float32.

Sums in half precision overflow at 65504, and no CPU that cnnrt runs on multiplies it faster. So
each float16 tensor inside the network is float32. Weights stay float16 in the model and are widened
while they are packed. A cast to float16 that the network states still rounds, and overflows to
infinity. What only moves elements from an input of the network to an output stays float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..dtypes import FLOAT16
from ..graph import Graph, Node, TensorType
from ..ops import complete
from ..weights.lazy import lazy
from ..weights.widen import from_float16

HALF, SINGLE = np.dtype(np.float16), np.dtype(np.float32)
MOVES = frozenset(
    (
        *("concat", "expand", "flatten", "gather", "gather_elements", "gather_nd", "identity"),
        *("pad", "reshape", "reverse_sequence", "slice", "split", "squeeze", "tile"),
        *("transpose", "trilu", "unsqueeze", "where"),
    )
)
"""Operators whose kernels move elements of any size."""
DTYPE_ATTRIBUTES = ("to", "dtype", "output_datatype", "output_dtype", "softmax_precision")


def half_storage(graph: Graph, types: Mapping[str, TensorType]) -> None:
    """Makes every float16 tensor inside the graph float32, with casts at its border.

    Args:
        graph: is changed.
        types: types of all its tensors.
    """
    half = {name for name, type_ in types.items() if type_.dtype == HALF}
    if not half:
        return
    taken = {*graph.tensors(), *graph.constants}
    moves = _moves(graph, half)
    kept = {name for node in moves for name in node.outputs}
    for name in half & graph.constants.keys():
        value = graph.constants[name]
        graph.constants[name] = lazy(value.shape, SINGLE, from_float16, value)
        if readers := [node for node in moves if name in node.inputs]:
            same = _unique(f"{name}/float16", taken)
            graph.constants[same] = value
            for node in readers:
                node.inputs = [same if n == name else n for n in node.inputs]
    moving = {id(node) for node in moves}
    inner = {name: _unique(f"{name}/float32", taken) for name in half & _border(graph)}
    nodes = [
        _cast(spec.name, inner[spec.name], SINGLE)
        for spec in graph.inputs
        if spec.name in inner and spec.kind == "tensor"
    ]
    given = {spec.name for spec in graph.inputs}
    for old in graph.nodes:
        node = old
        if id(node) in moving:
            nodes.append(node)
            continue
        before, after = list(node.inputs), list(node.outputs)
        node.inputs = [inner.get(name, name) for name in node.inputs]
        node.outputs = [inner.get(name, name) for name in node.outputs]
        if node.op == "cast_like" and before[1] in types:
            target = types[before[1]].dtype.name
            node = Node("cast", node.name, node.inputs[:1], node.outputs, {"to": target})
            complete(node)
        if node.op == "cast":
            nodes += _rounded(node, before[0] in half, taken)
            continue
        if node.op == "bit_cast":
            nodes += _exact(node, [name in half for name in (*before[:1], *after)], taken)
            continue
        for attribute in DTYPE_ATTRIBUTES:
            if node.attributes.get(attribute) == "float16":
                node.attributes[attribute] = "float32"
        nodes.append(node)
    for spec in graph.outputs:
        if spec.name in inner and spec.name not in given | kept:
            source = inner[spec.name]
            if spec.name in graph.constants:
                source = _unique(f"{spec.name}/constant", taken)
                graph.constants[source] = graph.constants.pop(spec.name)
            nodes.append(_cast(source, spec.name, HALF))
    graph.nodes = nodes
    graph.outputs = [
        replace(spec, dtype=FLOAT16) if spec.name in inner else spec for spec in graph.outputs
    ]


def _moves(graph: Graph, half: set[str]) -> list[Node]:
    """The nodes that stay float16: those on a way from inputs to outputs on which all only move.

    A view that a convolution reads is not among them: it is best made of what is float32 already.
    """
    readers: dict[str, list[int]] = {}
    for node in graph.nodes:
        for name in {*node.inputs, *node.outputs} & half:
            readers.setdefault(name, []).append(id(node))
    found = {id(node): node for node in graph.nodes if node.op in MOVES}
    given = {spec.name for spec in graph.inputs if spec.kind == "tensor"} | graph.constants.keys()
    while True:
        made = {name for node in found.values() for name in node.outputs}
        bad = [
            key
            for key, node in found.items()
            if not half & (set(node.inputs) - graph.constants.keys())
            or not half & set(node.inputs) <= given | made
            or not half & set(node.outputs)
            or any(not found.keys() >= set(readers[n]) for n in half & set(node.outputs))
        ]
        if not bad:
            return list(found.values())
        for key in bad:
            del found[key]


def _rounded(node: Node, from_half: bool, taken: set[str]) -> list[Node]:
    """A cast among float32 tensors: one to float16 rounds, one from it to float32 does nothing."""
    if node["to"] == "float16":
        if from_half:
            return [Node("identity", node.name, node.inputs, node.outputs)]
        rounded = _unique(f"{node.outputs[0]}/rounded", taken)
        return [
            Node("cast", node.name, node.inputs, [rounded], dict(node.attributes)),
            _cast(rounded, node.outputs[0], SINGLE),
        ]
    if from_half and node["to"] == "float32":
        return [Node("identity", node.name, node.inputs, node.outputs)]
    return [node]


def _exact(node: Node, is_half: list[bool], taken: set[str]) -> list[Node]:
    """An operator on the bits of its input, with casts around it where these are of float16."""
    (x, y), made = (node.inputs[0], node.outputs[0]), []
    if is_half[0]:
        x = _unique(f"{x}/float16", taken)
        made.append(_cast(node.inputs[0], x, HALF))
    if not is_half[1]:
        return [*made, Node(node.op, node.name, [x], [y], node.attributes)]
    inner = _unique(f"{y}/float16", taken)
    made.append(Node(node.op, node.name, [x], [inner], node.attributes))
    return [*made, _cast(inner, y, SINGLE)]


def _border(graph: Graph) -> set[str]:
    return {spec.name for spec in (*graph.inputs, *graph.outputs)}


def _cast(x: str, y: str, dtype: np.dtype[Any]) -> Node:
    node = Node("cast", f"{y}/cast", [x], [y], {"to": dtype.name})
    complete(node)
    return node


def _unique(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
