"""gemm and matmul by a constant matrix become linear, y = x weight^T + bias."""

from __future__ import annotations

import numpy as np

from ..graph import Array, Graph, Node
from ..weights.lazy import lazy


def to_linear(graph: Graph) -> None:
    """Rewrites every gemm and matmul whose second factor is a constant matrix, in place."""
    for node in graph.nodes:
        weight = graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if weight is None or weight.ndim != 2 or weight.dtype != np.float32:
            continue
        if node.op == "gemm":
            _gemm(graph, node)
        elif node.op == "matmul":
            _set(graph, node, transposed=False, bias="")


def _gemm(graph: Graph, node: Node) -> None:
    bias_name = node.input(2)
    columns = graph.constants[node.inputs[1]].shape[0 if node["transB"] else 1]
    if node["transA"] or node["alpha"] != 1 or (bias_name and node["beta"] != 1):
        return
    if bias_name:
        bias = graph.constants.get(bias_name)
        if (
            bias is None
            or bias.size not in (1, columns)
            or bias.shape[-1:] not in ((), (bias.size,))
        ):
            return
        if bias.shape != (columns,):
            name = f"{bias_name}.row"
            row = np.broadcast_to(bias.reshape(-1), (columns,))
            graph.constants[name] = np.ascontiguousarray(row)
            bias_name = name
    _set(graph, node, transposed=bool(node["transB"]), bias=bias_name)


def _set(graph: Graph, node: Node, *, transposed: bool, bias: str) -> None:
    weight = node.inputs[1]
    if not transposed:
        name = f"{weight}.T"
        if name not in graph.constants:
            matrix = graph.constants[weight]
            graph.constants[name] = lazy(matrix.shape[::-1], matrix.dtype, _transposed, matrix)
        weight = name
    node.op = "linear"
    node.attributes = {"activation": None}
    node.inputs = [node.inputs[0], weight, *([bias] if bias else [])]


def _transposed(matrix: Array) -> Array:
    turned: Array = matrix.T
    return turned
