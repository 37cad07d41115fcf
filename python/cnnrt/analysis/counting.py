"""What a node costs: its parameters, and its multiply-accumulates by the direct method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from ..graph import Graph, Node

SETTINGS: dict[str, tuple[int, ...]] = {
    "batch_normalization": (3, 4),  # running statistics: measured, not learnt
    "clip": (1, 2),
    "dropout": (1, 2),
    "pad": (1, 2, 3),
    "quantize_linear": (1, 2),
    "dequantize_linear": (1, 2),
    "resize": (1, 2, 3),
    "qlinear_conv": (1, 2, 4, 5, 6, 7),
    "qlinear_matmul": (1, 2, 4, 5, 6, 7),
}
"""Inputs of an operator that are no parameters, though constants and not integers of an index."""


def parameters(graph: Graph, nodes: Iterable[Node]) -> dict[str, int]:
    """The parameters that nodes read, by name, with their numbers of elements.

    These are the constants of floats, or of 8-bit integers, with at least one axis; not counted
    are settings such as the bounds of a clip and the running statistics of a normalisation.
    """
    found = {}
    for node in nodes:
        for i, name in enumerate(node.inputs):
            value = graph.constants.get(name)
            if value is None or i in SETTINGS.get(node.op, ()):
                continue
            if value.ndim and (value.dtype.kind == "f" or value.dtype.itemsize == 1):
                found[name] = int(value.size)
    return found


def multiply_accumulates(graph: Graph, node: Node) -> int:
    """How many a node does; 0 for what is no convolution or product of matrices.

    The types of the graph must be known. A convolution counts C_in / group k k for each output, as
    by the definition, whatever algorithm computes it.
    """
    count = COUNTS.get(node.op)
    return count(graph, node) if count else 0


def _size(graph: Graph, name: str) -> int:
    return graph.types[name].size


def _conv(weight: int) -> Callable[[Graph, Node], int]:
    def count(graph: Graph, node: Node) -> int:
        shape = graph.types[node.inputs[weight]].shape
        return _size(graph, node.outputs[0]) * math.prod(shape[1:])

    return count


def _conv_transpose(graph: Graph, node: Node) -> int:
    shape = graph.types[node.inputs[1]].shape
    return _size(graph, node.inputs[0]) * math.prod(shape[1:])


def _product(first: int) -> Callable[[Graph, Node], int]:
    """Of matrices, the first of which is input number `first`; its last axis is summed over."""

    def count(graph: Graph, node: Node) -> int:
        depth = graph.types[node.inputs[first]].shape[-1]
        return _size(graph, node.outputs[0]) * depth

    return count


def _gemm(graph: Graph, node: Node) -> int:
    depth = graph.types[node.inputs[0]].shape[0 if node["transA"] else 1]
    return _size(graph, node.outputs[0]) * depth


def _attention(graph: Graph, node: Node) -> int:
    """Of scores and of their products with the values; axes (N, heads, L, D)."""
    q, k, v = (graph.types[name].shape for name in node.inputs[:3])
    if len(q) != 4 or len(k) != 4 or len(v) != 4:
        return 0
    return math.prod(q[:3]) * k[2] * (q[3] + v[3])


def _einsum(graph: Graph, node: Node) -> int:
    """The product of the sizes of all letters."""
    terms = node["equation"].replace(" ", "").partition("->")[0].split(",")
    if len(terms) < 2:
        return 0
    sizes: dict[str, int] = {}
    rest = 1
    for term, name in zip(terms, node.inputs, strict=True):
        before, _, after = term.partition("...")
        shape = graph.types[name].shape
        inner = shape[len(before) : len(shape) - len(after)]
        rest = max(rest, math.prod(inner))
        named = (*shape[: len(before)], *shape[len(shape) - len(after) :])
        for letter, size in zip(before + after, named, strict=True):
            sizes[letter] = max(sizes.get(letter, 1), size)
    return rest * math.prod(sizes.values())


def _recurrent(graph: Graph, node: Node) -> int:
    """Both matrices of every direction, for each step of each sequence."""
    x = graph.types[node.inputs[0]].shape
    return x[0] * x[1] * (_size(graph, node.inputs[1]) + _size(graph, node.inputs[2]))


COUNTS: dict[str, Callable[[Graph, Node], int]] = {
    "attention": _attention,
    "conv": _conv(1),
    "conv_integer": _conv(1),
    "conv_transpose": _conv_transpose,
    "deform_conv": _conv(1),
    "einsum": _einsum,
    "gemm": _gemm,
    "linear": _product(0),
    "matmul": _product(0),
    "matmul_integer": _product(0),
    "qlinear_conv": _conv(3),
    "qlinear_matmul": _product(0),
    **dict.fromkeys(("rnn", "gru", "lstm"), _recurrent),
}
