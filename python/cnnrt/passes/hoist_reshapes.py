"""Moves reshapes between a layer and a residual addition before the layer.

PyTorch's multi-head attention flattens its result for the last projection and gives it its axes
back afterwards. Then the addition is not of the layer's own result, and is not fused into it.
"""

from __future__ import annotations

import numpy as np

from .. import ops
from ..graph import Array, Graph, Node, TensorType
from ..symbolic import call

RENAMES = {"reshape", "flatten", "squeeze", "unsqueeze"}


def hoist_reshapes(graph: Graph) -> None:
    """Makes every layer whose result is only reshaped and added give it in its last shape."""
    producers = graph.producers()
    readers = graph.reader_counts()
    before: dict[int, Node] = {}
    gone: set[int] = set()
    for add in graph.nodes:
        if add.op != "add":
            continue
        first, *others = [graph.types[name].shape for name in add.inputs]
        if any(other != first for other in others):
            continue
        for name in add.inputs:
            chain = []
            node = producers.get(name)
            while node and readers.get(node.outputs[0]) == 1 and _keeps_rows(graph, node):
                chain.append(node)
                node = producers.get(node.inputs[0])
            if chain and node and node.op == "linear" and readers.get(node.outputs[0]) == 1:
                before[id(node)] = _hoist(graph, node, name)
                gone.update(map(id, chain))
    graph.nodes = [
        n
        for node in graph.nodes
        if id(node) not in gone
        for n in ([before[id(node)], node] if id(node) in before else [node])
    ]


def _keeps_rows(graph: Graph, node: Node) -> bool:
    """True if a node only renames the axes before the last: no element moves."""
    if node.op not in RENAMES and node.op != "transpose":
        return False
    x, y = graph.types[node.inputs[0]].shape, graph.types[node.outputs[0]].shape
    if not x or x[-1:] != y[-1:]:
        return False
    if node.op == "transpose":
        perm = node["perm"] or list(range(len(x)))[::-1]
        moved = [axis for axis in perm if x[axis] != 1]
        return moved == sorted(moved)
    return True


def _hoist(graph: Graph, layer: Node, name: str) -> Node:
    """Makes the layer's result `name`; returns the reshape of its input that this needs."""
    x, lead = graph.types[layer.inputs[0]], graph.types[name].shape[:-1]
    shape, rows = f"{layer.name}.rows.shape", f"{layer.name}.rows"
    graph.constants[shape] = call(_int64, *lead, x.shape[-1])
    graph.types[shape] = TensorType((len(lead) + 1,), np.dtype(np.int64))
    graph.types[rows] = TensorType((*lead, x.shape[-1]), x.dtype)
    reshape = Node("reshape", rows, [layer.inputs[0], shape], [rows], {"allowzero": 1})
    ops.complete(reshape)
    layer.inputs, layer.outputs = [rows, *layer.inputs[1:]], [name, *layer.outputs[1:]]
    return reshape


def _int64(*values: int) -> Array:
    return np.array(values, np.int64)
