"""Rewriting by rules: each is a function on one node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .. import ops
from ..graph import Array, Graph, Node, TensorType


class Context:
    """The graph that rules work on, and the questions that they ask about it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()
        self.readers = graph.reader_counts()
        self.replaced: dict[int, list[Node]] = {}

    def made_by(self, name: str, op: str) -> Node | None:
        """The node that makes a tensor, if it is of this operator."""
        node = self.producers.get(name)
        return node if node is not None and node.op == op else None

    def scalar(self, name: str) -> float | None:
        value = self.graph.constants.get(name)
        return float(value.reshape(())) if value is not None and value.size == 1 else None

    def become(self, node: Node, op: str, inputs: list[str], **attributes: object) -> None:
        node.op, node.inputs, node.attributes = op, inputs, dict(attributes)
        ops.complete(node)

    def new_constant(self, node: Node, name: str, value: Array) -> str:
        """A new constant of this node."""
        full = f"{node.name}.{name}"
        self.graph.constants[full] = value
        self.graph.types[full] = TensorType(value.shape, value.dtype)
        self.graph.varying.add(full)
        return full


Rule = Callable[[Node, Context], bool]
"""Rewrites a node if it fits; returns True if it did."""


def apply(graph: Graph, rules: Mapping[str, Sequence[Rule]]) -> None:
    """Applies rules to every node, in order; producers are rewritten before consumers."""
    context = Context(graph)
    for node in list(graph.nodes):
        op = node.op
        for rule in rules.get(op, []):
            if rule(node, context) and node.op != op:
                break
    graph.nodes = [n for old in graph.nodes for n in context.replaced.get(id(old), [old])]
