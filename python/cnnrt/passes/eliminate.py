"""Removes nodes that do nothing at inference, and tensors that nobody reads."""

from __future__ import annotations

from ..graph import Graph, Node

NO_OPS = {"identity", "dropout"}


def eliminate(graph: Graph) -> None:
    """Drops identities, dead nodes and unread constants.

    If one of the two names of an identity was requested, that one stays.
    """
    outputs = {spec.name for spec in graph.outputs}
    producers = graph.producers()
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.nodes:
        if renamed:
            node.inputs = [renamed.get(name, name) for name in node.inputs]
        if node.op not in NO_OPS or any(node.outputs[1:]):
            kept.append(node)
            continue
        x, y = node.inputs[0], node.outputs[0]
        if y not in outputs:
            renamed[y] = x
        elif x in producers and x not in outputs and x not in renamed.values():
            _rename(kept, x, y)
            renamed[x] = y
            producers[y] = producers[x]
        else:
            kept.append(node)
    graph.nodes = _alive(kept, outputs)
    read = outputs | {name for node in graph.nodes for name in node.inputs}
    for name in graph.constants.keys() - read:
        del graph.constants[name]


def _rename(nodes: list[Node], old: str, new: str) -> None:
    for node in nodes:
        node.inputs = [new if name == old else name for name in node.inputs]
        node.outputs = [new if name == old else name for name in node.outputs]


def _alive(nodes: list[Node], outputs: set[str]) -> list[Node]:
    """The nodes that the outputs need."""
    needed = set(outputs)
    alive = []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.inputs)
            alive.append(node)
    return alive[::-1]
