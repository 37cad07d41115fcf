"""Rows that nobody reads are not computed: a selection of rows goes before what works row by row.

A vision transformer's head reads one token of the last block. The selection moves up through that
block's normalisation, layers and additions to its attention, which is then asked for one query.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .. import ops
from ..graph import Graph, Node, TensorType
from ..ops import OPS
from ..ops.elementwise import Unary

BINARY = {"add", "sub", "mul", "div", "min", "max", "pow"}
RENAMES = {"reshape", "flatten", "squeeze", "unsqueeze"}


def narrow(graph: Graph) -> None:
    """Moves every gather of few constant rows as far up as it can go, in place."""
    narrowing = _Narrowing(graph)
    for node in list(graph.nodes):
        if node.op == "gather":
            narrowing.begin(node)
    graph.nodes = narrowing.nodes
    graph.sort()


@dataclass
class _Selection:
    """A gather node that keeps all axes, with `count` elements along `axis`."""

    node: Node
    axis: int
    count: int
    moved: bool = False


class _Narrowing:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.types = graph.types
        self.nodes = list(graph.nodes)
        self.producers = graph.producers()
        self.readers = graph.reader_counts()
        self.selections: dict[tuple[str, str, int], _Selection] = {}
        """By the tensor, the indices and the axis: readers of the same rows share them."""

    def begin(self, node: Node) -> None:
        """Moves one gather up, if its indices are constant and few."""
        indices = self.graph.constants.get(node.inputs[1])
        x = self.types[node.inputs[0]]
        axis = node["axis"] % x.rank
        if indices is None or indices.ndim > 1 or 2 * indices.size > x.shape[axis]:
            return
        if self._sources(node.inputs[0], axis) is None:
            return
        if indices.ndim == 0:
            node = self._keep_axis(node, axis)
        pending = [_Selection(node, axis, indices.size)]
        while pending:
            pending += self._move(pending.pop())

    def _keep_axis(self, node: Node, axis: int) -> Node:
        """Splits a gather of one element into one that keeps its axis and a reshape without it."""
        kept, y = f"{node.outputs[0]}.kept", node.outputs[0]
        shape = list(self.types[node.inputs[0]].shape)
        shape[axis] = 1
        self.types[kept] = TensorType(tuple(shape), self.types[y].dtype)
        index = self._constant(f"{kept}.index", self.graph.constants[node.inputs[1]].reshape(1))
        wanted = self._constant(f"{kept}.shape", np.array(self.types[y].shape, np.int64))
        select = Node("gather", node.name, [node.inputs[0], index], [kept], {"axis": axis})
        self.nodes.insert(self.nodes.index(node), select)
        node.op, node.inputs, node.attributes = "reshape", [kept, wanted], {"allowzero": 1}
        self.producers[kept], self.readers[kept] = select, 1
        return select

    def _sources(self, name: str, axis: int) -> list[tuple[int, int]] | None:
        """Of the node that makes `name`: which inputs to select from instead, along which axes.

        None: it does not work row by row, or somebody else needs all of it.
        """
        node = self.producers.get(name)
        if node is None or self.readers.get(name) != 1 or any(node.outputs[1:]):
            return None
        shape = self.types[name].shape
        first, rank = self.types[node.inputs[0]].shape, len(shape)
        if node.op == "transpose":
            perm = node["perm"] or list(range(rank))[::-1]
            return [(0, perm[axis])]
        if node.op in RENAMES:
            lead = math.prod(shape[:axis])
            for i, n in enumerate(first):
                if n == shape[axis] and math.prod(first[:i]) == lead:
                    return [(0, i)]
            return None
        if node.op in BINARY:
            ranks = [self.types[i].rank for i in node.inputs]
            places = [(i, axis - rank + r) for i, r in enumerate(ranks)]
            return [
                (i, a)
                for i, a in places
                if a >= 0 and self.types[node.inputs[i]].shape[a] == shape[axis]
            ]
        row_by_row = (
            isinstance(OPS[node.op], Unary)
            or node.op == "activate"
            or (node.op == "layer_normalization" and axis < node["axis"] % rank)
            or (node.op == "linear" and axis < rank - 1 and len(node.inputs) <= 3)
            or (node.op == "matmul" and axis == rank - 2 and len(first) == rank)
            or (node.op == "attention" and axis == 2 == rank - 2 and len(node.inputs) == 3)
        )
        return [(0, axis)] if row_by_row and first[axis] == shape[axis] else None

    def _move(self, selection: _Selection) -> list[_Selection]:
        """Moves a selection before the node that makes its input; returns those it became."""
        select = selection.node
        name, index = select.inputs
        sources = self._sources(name, selection.axis)
        if sources is None or selection.moved:
            return []
        selection.moved = True
        node = self.producers[name]
        made = []
        for i, axis in sources:
            x = node.inputs[i]
            known = self.selections.get((x, index, axis))
            if known is not None:
                node.inputs[i] = known.node.outputs[0]
                self.readers[node.inputs[i]] += 1
                self.readers[x] -= 1
                made.append(known)
                continue
            to = node.inputs[i] = f"{x}.{index}.{axis}"
            shape = list(self.types[x].shape)
            shape[axis] = selection.count
            self.types[to] = TensorType(tuple(shape), self.types[x].dtype)
            if x in self.graph.constants:
                rows = self.graph.constants[index]
                self.graph.constants[to] = np.take(self.graph.constants[x], rows, axis=axis)
                self.graph.varying.add(to)
                continue
            before = Node("gather", node.name, [x, index], [to], {"axis": axis})
            self.nodes.insert(self.nodes.index(node), before)
            self.producers[to], self.readers[to] = before, 1
            new = _Selection(before, axis, selection.count)
            self.selections[x, index, axis] = new
            made.append(new)
        node.outputs[0] = select.outputs[0]
        self.producers[node.outputs[0]] = node
        self.nodes.remove(select)
        self.selections.pop((name, index, selection.axis), None)
        if node.op in RENAMES:
            shape = list(self.types[node.outputs[0]].shape)
            wanted = self._constant(f"{node.outputs[0]}.shape", np.array(shape, np.int64))
            node.op, node.attributes = "reshape", {"allowzero": 1}
            node.inputs = [node.inputs[0], wanted]
            ops.complete(node)
        return made

    def _constant(self, name: str, value: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> str:
        self.graph.constants[name] = value
        self.types[name] = TensorType(value.shape, value.dtype)
        return name
