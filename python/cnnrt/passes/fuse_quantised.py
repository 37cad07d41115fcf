"""Fuses tables and additions of bytes into the product before them, which does them in
registers."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from ..ops.requantised import Addition, QAdd, Sum

PRODUCTS = frozenset({"qconv", "qlinear"})


def fuse_quantised(graph: Graph) -> None:
    """Moves each addition of bytes into the product before it, then each table, in place."""
    readers = graph.reader_counts()
    position: dict[str, int] = {}
    nodes: list[Node | None] = []

    def producer(name: str) -> Node | None:
        """The product of bytes that makes a tensor which only the present node reads."""
        if readers.get(name) != 1 or name not in position:
            return None
        node = nodes[position[name]]
        plain = node is not None and node.op in PRODUCTS and not node["floats"]
        return node if node and plain and not node.input(5) else None

    for node in graph.nodes:
        fused = node
        if node.op == "qadd":
            best: tuple[int, Node, int] | None = None
            for index, name in enumerate(node.inputs):
                product = producer(name)
                if product is not None and takes_residual(graph, product, node):
                    # The later of two producers: then the other one's result is there.
                    best = max(best or (-1, product, 0), (position[name], product, index), key=_at)
            if best is not None:
                place, fused, index = best
                shape = graph.types[node.outputs[0]].shape
                _add(fused, node, index, QAdd.sum_of(node, shape, shape))
                nodes[place] = None
        elif node.op == "table" and graph.types[node.outputs[0]].dtype == np.uint8:
            product = producer(node.inputs[0])
            if product is not None and node.inputs[1] in graph.constants:
                nodes[position[node.inputs[0]]] = None
                missing = [""] * (5 - len(product.inputs))
                product.inputs = [*product.inputs, *missing, node.inputs[1]]
                product.outputs = list(node.outputs)
                fused = product
        for output in fused.outputs:
            position[output] = len(nodes)
        nodes.append(fused)
    graph.nodes = [node for node in nodes if node is not None]


def _at(candidate: tuple[int, Node, int]) -> int:
    return candidate[0]


def takes_residual(graph: Graph, product: Node, node: Node) -> bool:
    """True if a product can add the other input of an addition."""
    a, b = (graph.types[name].shape for name in node.inputs)
    if a != b or product.input(4) or any(name in graph.constants for name in node.inputs):
        return False
    return bool(product.attributes.get("group", 1) == 1)


def _add(product: Node, node: Node, index: int, how: Sum) -> None:
    """Makes a product add the other input of an addition, of which it makes number `index`."""
    ratios = node["a_ratio"], node["b_ratio"]
    middle = (product["zero"], product["low"], product["high"])
    addition = Addition(
        ratios[index],
        ratios[1 - index],
        how.constant,
        first=index != int(how.exchanged),
        middle=middle,
        shift=node["shift"],
    )
    product.attributes = {
        **product.attributes,
        "addition": addition,
        "low": node["low"],
        "high": node["high"],
    }
    missing = [""] * (4 - len(product.inputs))
    product.inputs = [*product.inputs, *missing, node.inputs[1 - index]]
    product.outputs = list(node.outputs)
