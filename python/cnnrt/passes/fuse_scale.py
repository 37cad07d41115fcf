"""Fuses a product of a map with a factor per image and channel into the 1x1 convolution after it.

Squeeze-and-excite ends in such a product (Hu et al., "Squeeze-and-Excitation Networks", 2018). The
convolution multiplies its weights by the factors, image by image, and the map is neither read nor
written.
"""

from __future__ import annotations

import math

from ..dtypes import FLOAT32
from ..graph import Graph, Node

BOUNDED = {"sigmoid", "hard_sigmoid", "tanh"}
"""Activations between -1 and 1: a weight that is multiplied by such a factor stays finite, like the
scaled map."""

PIXELS = 2
"""Minimum pixels of the map for each output of the convolution. Every thread scales the weights for
itself, but only its share of a map. Two threads then do no more than before, one half as much. Any
number of threads must give the same results, so this cannot depend on their number."""


def fuse_scale(graph: Graph) -> None:
    """Moves such products into the convolutions that alone read them."""
    producers, readers = graph.producers(), graph.reader_counts()
    moved = set()
    for node in graph.nodes:
        product = producers.get(node.inputs[0]) if node.inputs else None
        if product is None or product.op != "mul" or readers[node.inputs[0]] != 1:
            continue
        if product.attributes.get("activation") is not None or not _takes_scale(graph, node):
            continue
        for x, scale in (product.inputs, product.inputs[::-1]):
            if _is_scale(graph, x, scale) and _is_bounded(producers.get(scale)):
                node.inputs = [x, *node.inputs[1:], *[""] * (4 - len(node.inputs)), scale]
                moved.add(id(product))
                break
    graph.nodes = [n for n in graph.nodes if id(n) not in moved]


def _takes_scale(graph: Graph, node: Node) -> bool:
    """True if a node is a 1x1 convolution without padding, with few weights beside the map."""
    if node.op != "conv" or node["group"] != 1 or len(node.inputs) > 4:
        return False
    x, (m, _, *kernel) = graph.types[node.inputs[0]].shape, graph.types[node.inputs[1]].shape
    constant = all(n in graph.constants for n in node.inputs[1:3] if n)
    single = math.prod(kernel) == 1 and not any(node["pads"] or ())
    return constant and single and math.prod(x[2:]) >= PIXELS * m


def _is_scale(graph: Graph, x: str, scale: str) -> bool:
    of_x, of_scale = graph.types[x], graph.types[scale]
    shape = (*of_x.shape[:2], *[1] * (of_x.rank - 2))
    return of_scale.shape == shape and of_x.dtype is of_scale.dtype is FLOAT32


def _is_bounded(node: Node | None) -> bool:
    """True if all values of a node's output are within -1 and 1."""
    if node is None:
        return False
    activation = node.attributes.get("activation")
    return (activation[0] if activation is not None else node.op) in BOUNDED
