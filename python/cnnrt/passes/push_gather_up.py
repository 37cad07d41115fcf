"""Moves a selection of rows before operators that work row by row, so that no row is computed in
vain.

A vision transformer's head reads one token of the last block. The selection moves up through that
block's normalisation, layers and additions to its attention, which then computes one query.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import ops
from ..graph import Graph, Node, TensorType
from ..ops import NodeTypes, axes_mapping
from ..ops.shape import Rename


def push_gather_up(graph: Graph) -> None:
    """Moves every gather of few constant rows as far up as it can go, in place."""
    pushing = _Pushing(graph)
    for node in list(graph.nodes):
        if node.op == "gather":
            pushing.begin(node)
    graph.nodes = pushing.nodes
    graph.sort()


@dataclass
class _Selection:
    """A gather node that keeps all axes, with `count` elements along `axis`."""

    node: Node
    axis: int
    count: int
    moved: bool = False


class _Pushing:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.types = graph.types
        self.nodes = list(graph.nodes)
        self.producers = graph.producers()
        self.readers = graph.reader_counts()
        self.selections: dict[tuple[str, str, int], _Selection] = {}
        """Selections by tensor, indices and axis: readers of the same rows share them."""

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
        """The inputs of the node that makes `name` from which to select instead, with their axes.

        None: it does not work row by row, or another node needs all of its rows.
        """
        node = self.producers.get(name)
        if node is None or self.readers.get(name) != 1 or any(node.outputs[1:]):
            return None
        operator, types = ops.op(node), NodeTypes.of(node, self.graph)
        sources: list[tuple[int, int]] = []
        for i, links in enumerate(axes_mapping(node, types).links()):
            if links is None:
                if types.has(i) and not isinstance(operator, Rename):  # it states the shape
                    return None
                continue
            for a, link in enumerate(links):
                rows = types.shape(i)[a]
                if axis not in link.outputs or (rows == 1 and link.reach == 0):
                    continue
                packed = operator.all_pairs and node.inputs[i] in self.graph.constants
                if link.follows is None or rows != self.types[name].shape[axis] or packed:
                    return None
                sources.append((i, a))
        return sources if len({i for i, _ in sources}) == len(sources) > 0 else None

    def _move(self, selection: _Selection) -> list[_Selection]:
        """Moves a selection before the node that makes its input; returns the selections that
        replace it."""
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
                node.inputs = _replaced(node.inputs, i, known.node.outputs[0])
                self.readers[node.inputs[i]] += 1
                self.readers[x] -= 1
                made.append(known)
                continue
            to = f"{x}.{index}.{axis}"
            node.inputs = _replaced(node.inputs, i, to)
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
        node.outputs = _replaced(node.outputs, 0, select.outputs[0])
        self.producers[node.outputs[0]] = node
        self.nodes.remove(select)
        self.selections.pop((name, index, selection.axis), None)
        if isinstance(ops.op(node), Rename):
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


def _replaced(names: list[str], index: int, name: str) -> list[str]:
    """A copy of the names with another one at `index`."""
    return [*names[:index], name, *names[index + 1 :]]
