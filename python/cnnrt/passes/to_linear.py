"""gemm and matmul by a constant matrix become linear, y = x weight^T + bias.

A matmul of doubles stays: its kernel reads the matrix as it is.
"""

from __future__ import annotations

import numpy as np

from ..graph import Array, Graph, Node
from ..weights.lazy import lazy
from ..weights.widen import transpose


def to_linear(graph: Graph) -> None:
    """Rewrites every gemm and matmul whose second factor is a constant matrix, in place."""
    nodes = []
    for node in graph.nodes:
        weight = graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if weight is not None and weight.ndim == 2 and weight.dtype in (np.float32, np.float64):
            if node.op == "gemm":
                nodes += _gemm(graph, node)
            elif node.op == "matmul" and weight.dtype == np.float32:
                _set(graph, node, transposed=False, bias="")
        nodes.append(node)
    graph.nodes = nodes


def _gemm(graph: Graph, node: Node) -> list[Node]:
    """Rewrites a gemm. Its factors go into weight and bias. Returns what must run before it."""
    bias_name, alpha, beta = node.input(2), node["alpha"], node["beta"]
    matrix = graph.constants[node.inputs[1]]
    columns = matrix.shape[0 if node["transB"] else 1]
    if bias_name:
        bias = graph.constants.get(bias_name)
        if (
            bias is None
            or bias.size not in (1, columns)
            or bias.shape[-1:] not in ((), (bias.size,))
        ):
            return []
        if bias.shape != (columns,) or beta != 1:
            bias_name = f"{bias_name}.row of {columns} by {beta}"
            row = np.broadcast_to(bias.reshape(-1), (columns,)) * bias.dtype.type(beta)
            graph.constants[bias_name] = np.ascontiguousarray(row)
    if alpha != 1:
        node.inputs[1] += f" by {alpha}"
        scaled = lazy(matrix.shape, matrix.dtype, _scaled, matrix, alpha)
        graph.constants[node.inputs[1]] = scaled
    before = []
    if node["transA"]:
        x, turned = node.inputs[0], f"{node.outputs[0]}.a"
        before.append(Node("transpose", f"{node.name}.a", [x], [turned], {"perm": [1, 0]}))
        node.inputs[0] = turned
    _set(graph, node, transposed=bool(node["transB"]), bias=bias_name)
    return before


def _set(graph: Graph, node: Node, *, transposed: bool, bias: str) -> None:
    weight = node.inputs[1]
    if not transposed:
        name = f"{weight}.T"
        if name not in graph.constants:
            graph.constants[name] = transpose(graph.constants[weight])
        weight = name
    node.op = "linear"
    node.attributes = {"activation": None}
    node.inputs = [node.inputs[0], weight, *([bias] if bias else [])]


def _scaled(matrix: Array, factor: float) -> Array:
    scaled: Array = matrix * matrix.dtype.type(factor)
    return scaled
