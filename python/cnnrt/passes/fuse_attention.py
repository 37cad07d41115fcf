"""softmax(scale q k^T + mask) v, as exporters write it, becomes one operator."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..graph import Graph, Node, TensorType

RANK = 4
"""Of (N, heads, L, D)."""


def fuse_attention(graph: Graph) -> None:
    """Replaces every product with a softmax of products that nobody else reads, in place."""
    fusion = _Fusion(graph)
    nodes = []
    for node in graph.nodes:
        nodes += fusion.replace(node) if node.op == "matmul" else [node]
    graph.nodes = nodes


class _Fusion:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()
        self.readers = graph.reader_counts()

    def replace(self, node: Node) -> list[Node]:
        """The nodes that stand for a matmul: attention before whose keys a transpose, or itself."""
        softmax = self._only_read(node.inputs[0], "softmax")
        if softmax is None or softmax["axis"] not in (-1, RANK - 1):
            return [node]
        scores, mask = softmax.inputs[0], ""
        add = self._only_read(scores, "add")
        if add is not None:
            scores, mask = add.inputs
            if not self._product(scores):
                scores, mask = mask, scores
        inner, scale = self._unscaled(scores)
        product = self._only_read(inner, "matmul")
        if product is None:
            return [node]
        query, of_query = self._unscaled(product.inputs[0])
        keys, of_keys = self._unscaled(product.inputs[1])
        scale *= of_query * of_keys
        if scale < 0 or not self._fits(query, keys, node.inputs[1], mask):
            return [node]
        return self._attention(node, query, keys, mask, scale)

    def _attention(self, node: Node, query: str, keys: str, mask: str, scale: float) -> list[Node]:
        key = f"{node.outputs[0]}.key"
        n, heads, depth, tokens = self.graph.types[keys].shape
        self.graph.types[key] = TensorType((n, heads, tokens, depth))
        transpose = Node("transpose", f"{node.name}.key", [keys], [key], {"perm": [0, 1, 3, 2]})
        attention = Node(
            "attention",
            node.name,
            [query, key, node.inputs[1], *([mask] if mask else [])],
            node.outputs,
            {"scale": scale},
        )
        ops.complete(attention)
        return [transpose, attention]

    def _only_read(self, name: str, op: str) -> Node | None:
        """The node of operator `op` that makes a tensor read but once."""
        node = self.producers.get(name)
        return node if node and node.op == op and self.readers.get(name) == 1 else None

    def _product(self, name: str) -> bool:
        return self._only_read(self._unscaled(name)[0], "matmul") is not None

    def _unscaled(self, name: str) -> tuple[str, float]:
        """x and c of a tensor c x, made by a product or quotient with a constant; else c = 1."""
        for op in ("mul", "div"):
            node = self._only_read(name, op)
            if node is None:
                continue
            for x, factor in (node.inputs, node.inputs[::-1]):
                value = self.graph.constants.get(factor)
                if value is None or value.size != 1 or (op == "div" and factor != node.inputs[1]):
                    continue
                c = float(value.reshape(()))
                return x, c if op == "mul" else 1 / c
        return name, 1.0

    def _fits(self, query: str, keys: str, values: str, mask: str) -> bool:
        """Whether these have the four axes of attention, without broadcasting."""
        types = self.graph.types
        q, k, v = (types[name] for name in (query, keys, values))
        if any(t.rank != RANK or t.dtype != np.float32 for t in (q, k, v)):
            return False
        if not q.shape[:2] == k.shape[:2] == v.shape[:2]:
            return False
        if not mask:
            return True
        scores = (*q.shape[:3], k.shape[3])
        m = types[mask]
        broadcast = m.rank <= RANK and np.broadcast_shapes(m.shape, scores) == scores
        return broadcast and m.dtype == np.float32 and m.shape[-1:] == scores[-1:]
