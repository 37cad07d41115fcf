"""Costs of a node: its parameters, and its multiply-accumulates by the direct method."""

from __future__ import annotations

from collections.abc import Iterable

from ..graph import Graph, Node
from ..ops import NodeTypes, op


def parameters(graph: Graph, nodes: Iterable[Node]) -> dict[str, int]:
    """The parameters that nodes read, by name, with their numbers of elements.

    These are the constants of floats, or of 8-bit integers, with at least one axis. Settings do not
    count, such as the bounds of a clip, nor do the running statistics of a normalisation.
    """
    found = {}
    for node in nodes:
        for i, name in enumerate(node.inputs):
            value = graph.constants.get(name)
            if value is None or i in op(node).settings:
                continue
            if value.ndim and (value.dtype.kind == "f" or value.dtype.itemsize == 1):
                found[name] = int(value.size)
    return found


def multiply_accumulates(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of a node; 0 unless it is a convolution or a product of matrices.

    The types of the graph must be known. A convolution counts C_in / group k k for each output, as
    by the definition, whatever algorithm computes it.
    """
    return op(node).macs(node, NodeTypes.of(node, graph))
