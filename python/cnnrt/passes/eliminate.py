"""Removes what does nothing at inference, and what nobody reads."""

from __future__ import annotations

from ..graph import Graph

NO_OPS = {"identity", "dropout"}


def eliminate(graph: Graph) -> None:
    """Drops identities whose name nobody asked for, dead nodes and unread constants."""
    outputs = {spec.name for spec in graph.outputs}
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.nodes:
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        extra = any(node.outputs[1:])
        if node.op in NO_OPS and not extra and node.outputs[0] not in outputs:
            renamed[node.outputs[0]] = node.inputs[0]
        else:
            kept.append(node)
    needed = set(outputs)
    alive = []
    for node in reversed(kept):
        if any(name in needed for name in node.outputs):
            needed.update(filter(None, node.inputs))
            alive.append(node)
    graph.nodes = alive[::-1]
    graph.constants = {k: v for k, v in graph.constants.items() if k in needed}
