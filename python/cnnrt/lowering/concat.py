"""Tensors that are made in their place in a concatenation, so that nothing is copied.

A tensor whose channels begin at a whole block of the result can be written there by the node that
makes it. DenseNet concatenates the same tensors over and over, each time with one more. They all go
into the last, longest concatenation, and the shorter ones are its beginnings.
"""

from __future__ import annotations

from ..dtypes import FLOAT32, UINT8
from ..graph import Graph, Node
from ..layout.tensors import BLOCK


def in_whole_blocks(graph: Graph, node: Node) -> bool:
    """True if a concat node joins channels, and each input begins at a whole block."""
    types = graph.types
    type_ = types[node.outputs[0]]
    rank, kept = len(type_.shape), type_.dtype in (FLOAT32, UINT8)
    if not 3 <= rank <= 5 or not kept or node.attributes["axis"] % rank != 1:
        return False
    shapes = [types[name].shape for name in node.inputs]
    if any(0 in shape for shape in shapes):
        return False
    return not any(shape[1] % BLOCK for shape in shapes[:-1])


def concat_places(graph: Graph) -> dict[str, tuple[str, int]]:
    """The result and the first block there of each tensor that has a place in a concatenation."""
    made = {output for node in graph.nodes for output in node.outputs}
    kept = {spec.name for spec in graph.outputs}
    places: dict[str, tuple[str, int]] = {}
    for node in reversed(graph.nodes):  # the longest of a chain comes last
        if node.op != "concat" or not in_whole_blocks(graph, node):
            continue
        # A concatenation may itself be part of another.
        whole, block = places.get(node.outputs[0], (node.outputs[0], 0))
        for name in node.inputs:
            if name in made and name not in kept and node.inputs.count(name) == 1:
                places.setdefault(name, (whole, block))
            block += graph.types[name].shape[1] // BLOCK
    return places
