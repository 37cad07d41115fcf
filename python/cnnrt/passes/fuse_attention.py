"""Fuses softmax(scale q k^T + mask) v, as exporters write it, into one operator."""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..graph import Graph, Node, TensorType

RANKS = (4, 5)
"""Axes of (N, heads, L, D), and of (N, windows, heads, L, D), whose first two become one."""


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
        """The nodes that replace a matmul: attention, with a transpose of the keys before it, or
        itself."""
        softmax = self._only_read(node.inputs[0], "softmax")
        if softmax is None or softmax["axis"] not in (-1, self._rank(softmax) - 1):
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

    def _rank(self, node: Node) -> int:
        return self.graph.types[node.outputs[0]].rank

    def _attention(self, node: Node, query: str, keys: str, mask: str, scale: float) -> list[Node]:
        if self.graph.types[query].rank == max(RANKS):
            return self._of_windows(node, query, keys, mask, scale)
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

    def _of_windows(self, node: Node, query: str, keys: str, mask: str, scale: float) -> list[Node]:
        """Like `replace`, with the windows of every image taken as images."""
        joined, before = [], []
        for role, name in (("q", query), ("k", keys), ("v", node.inputs[1])):
            n, windows, *rest = self.graph.types[name].shape
            made, reshape = self._reshape(node, role, name, (n * windows, *rest))
            joined.append(made)
            before.append(reshape)
        whole, shape = node.outputs[0], self.graph.types[node.outputs[0]].shape
        inner = f"{whole}.windows"
        self.graph.types[inner] = TensorType((shape[0] * shape[1], *shape[2:]))
        product = Node("matmul", node.name, ["", joined[2]], [inner])
        attention = self._attention(product, joined[0], joined[1], mask, scale)
        _, after = self._reshape(node, "y", inner, shape)
        after.outputs = [whole]
        return [*before, *attention, after]

    def _reshape(
        self, node: Node, role: str, name: str, shape: tuple[int, ...]
    ) -> tuple[str, Node]:
        made, sizes = f"{node.outputs[0]}.{role}", np.array(shape, np.int64)
        self.graph.types[made] = TensorType(shape)
        self.graph.constants[f"{made}.shape"] = sizes
        self.graph.types[f"{made}.shape"] = TensorType(sizes.shape, sizes.dtype)
        reshape = Node("reshape", f"{node.name}.{role}", [name, f"{made}.shape"], [made])
        ops.complete(reshape)
        return made, reshape

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
        """True if these have the axes of attention, without broadcasting."""
        types = self.graph.types
        q, k, v = (types[name] for name in (query, keys, values))
        if q.rank not in RANKS or any(t.rank != q.rank or t.dtype != np.float32 for t in (q, k, v)):
            return False
        if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
            return False
        if not mask:
            return True
        scores = (math.prod(q.shape[:-3]), *q.shape[-3:-1], k.shape[-1])
        m = types[mask]
        broadcast = (
            m.rank <= len(scores)
            and (q.rank == 4 or m.rank < 4 or m.shape[0] == 1)
            and np.broadcast_shapes(m.shape, scores) == scores
        )
        return broadcast and m.dtype == np.float32 and m.shape[-1:] == scores[-1:]
