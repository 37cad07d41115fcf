"""The layers of a network after fusion: each with the operators of the original that it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ValueNeeded
from ..graph import Graph, Node
from ..passes import infer, partition, prepare, specialise
from ..passes.eliminate import NO_OPS


@dataclass(frozen=True)
class Layer:
    """A node that runs, and the nodes of the original that it replaces."""

    node: Node
    """The node as it runs."""
    sources: tuple[Node, ...]
    """The nodes of the original that it computes, in order. Its name is that of the first."""

    @property
    def fused(self) -> tuple[Node, ...]:
        """Nodes fused into this one, without those that do nothing at inference."""
        return tuple(n for n in self.sources[1:] if n.op not in NO_OPS)


@dataclass(frozen=True)
class Layers:
    """A network at one set of input shapes, before and after fusion."""

    original: Graph
    """The graph as it was read, with its types known and its constants folded."""
    fused: Graph
    """The graph as it runs."""
    rows: list[Layer]
    """Layers of the graph `fused`, in order. Every node of `original` is in exactly one."""


def layers(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Layers:
    """The layers of a graph for inputs of these shapes.

    If sizes depend on computed values, they are the layers of the first stage (`passes.partition`).
    The shapes of the others are known only in a run.

    Raises:
        ShapeError: an operator does not take what these shapes lead to.
        ValueNeeded: there is no stage whose shapes are known.
    """
    names = [spec.name for spec in graph.outputs]
    original = graph.ending_at(names).copy()
    try:
        infer(original, shapes)
    except ValueNeeded:
        first = partition(graph.ending_at(names), shapes).head
        if first is None:
            raise
        return layers(first, {spec.name: shapes[spec.name] for spec in first.inputs})
    fused = specialise(prepare(graph, names), shapes)
    return Layers(original, fused, match(original, fused))


def match(original: Graph, fused: Graph) -> list[Layer]:
    """The nodes of the original that each node of a fused graph computes.

    A node that the passes keep still has its name. Everything else that an output needs, up to the
    tensors that other nodes make, was fused into the node that makes it. The passes need not record
    anything.
    """
    producers = original.producers()
    position = {id(node): i for i, node in enumerate(original.nodes)}
    by_name = {node.name: node for node in reversed(original.nodes)}
    made = {name for node in fused.nodes for name in node.outputs if name}
    owned: set[int] = set()
    own: list[Node | None] = []
    for node in fused.nodes:
        source = by_name.get(node.name)
        if source is not None and id(source) in owned:
            source = None
        if source is not None:
            owned.add(id(source))
        own.append(source)
    rows = []
    for node, source in zip(fused.nodes, own, strict=True):
        others = []
        pending = [name for name in node.outputs if name]
        stop = made - set(pending)
        while pending:
            name = pending.pop()
            before = producers.get(name)
            if before is None or name in stop:
                continue
            if before is source or id(before) not in owned:
                if before is not source:
                    owned.add(id(before))
                    others.append(before)
                pending += filter(None, before.inputs)
                stop.add(name)
        others.sort(key=lambda n: position[id(n)])
        sources = ([source] if source else []) + others
        rows.append(Layer(node, tuple(sources)))
    return _with_rest(original, rows, owned)


def _with_rest(original: Graph, rows: list[Layer], owned: set[int]) -> list[Layer]:
    """Adds nodes that no walk has reached to the layer of the nearest node before them."""
    rest = [node for node in original.nodes if id(node) not in owned]
    if not rest or not rows:
        return rows
    home = {id(node): i for i, row in enumerate(rows) for node in row.sources}
    extra: dict[int, list[Node]] = {}
    last = 0
    for node in original.nodes:
        if id(node) in home:
            last = home[id(node)]
        else:
            extra.setdefault(last, []).append(node)
    return [Layer(row.node, (*row.sources, *extra.get(i, ()))) for i, row in enumerate(rows)]
