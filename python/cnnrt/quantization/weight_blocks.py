"""Fully connected layers whose weights are int8, in blocks with a factor each.

The layers compute in float32, so that no photos are needed. A layer that waits for its weights from
memory, as those of AlexNet and VGG do, waits for a quarter of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import ops
from ..graph import Array, Graph, Node
from .rounding import LARGEST, scales

BLOCK = 32
"""Weights that share a factor."""
MIN_WEIGHTS = 1 << 14
"""Weights of the smallest layer that is changed: 64 KB of floats stay in a core's own cache."""


class _Rounded(NamedTuple):
    values: Array
    factors: Array


def with_int8_weights(graph: Graph) -> Graph:
    """A copy of a network whose large linear layers have weights of int8.

    Each block of 32 weights of an output has a factor of float32, a 127th of the largest of them.
    A weight is off by at most half of that. The network states it by DequantizeLinear with a
    block size, as ONNX has it from opset 21 on.

    Args:
        graph: as it was read; it stays as it is. Weights that are not finite stay float32, and so
            do those of other types.
    """
    result = graph.copy()
    nodes: list[Node] = []
    done: dict[tuple[str, int], str] = {}
    free = {spec.name for spec in graph.optional_inputs}
    for node in result.nodes:
        axis = _depth_axis(node)
        name = node.inputs[1] if axis is not None else ""
        weight = None if name in free else graph.constants.get(name)
        if axis is not None and weight is not None and (name, axis) not in done:
            rounded = _rounded(weight, axis)
            if rounded is not None:
                done[name, axis] = f"{name}/of int8 {axis}"
                nodes.append(_dequantize(result, name, done[name, axis], rounded, axis))
        if axis is not None and (name, axis) in done:
            node.inputs[1] = done[name, axis]
        nodes.append(node)
    result.nodes = nodes
    read = {name for node in nodes for name in node.inputs} | {s.name for s in result.outputs}
    for name, _ in done:
        if name not in read:
            result.constants.pop(name, None)
    return result


def _depth_axis(node: Node) -> int | None:
    """The axis of the weight that a layer sums over; None for other operators."""
    if node.op == "matmul":
        return 0
    if node.op == "gemm":
        return 1 if node["transB"] else 0
    return 1 if node.op == "linear" else None


def _rounded(weight: Array, axis: int) -> _Rounded | None:
    """A matrix in blocks along an axis, rounded to nearest; None if it stays as it is."""
    if weight.ndim != 2 or weight.size < MIN_WEIGHTS or weight.dtype != np.float32:
        return None
    rows = np.asarray(weight) if axis == 1 else np.asarray(weight).T
    if not np.isfinite(rows).all():
        return None
    count = -(-rows.shape[1] // BLOCK)
    blocks = np.zeros((rows.shape[0], count * BLOCK), np.float32)
    blocks[:, : rows.shape[1]] = rows
    blocks = blocks.reshape(rows.shape[0], count, BLOCK)
    factors = scales(blocks)  # 1 for a block below the normal numbers, whose values become zeros
    values = np.rint(blocks / factors[:, :, None]).clip(-LARGEST, LARGEST).astype(np.int8)
    values = values.reshape(rows.shape[0], -1)[:, : rows.shape[1]]
    if axis == 0:
        values, factors = values.T, factors.T
    return _Rounded(np.ascontiguousarray(values), np.ascontiguousarray(factors))


def _dequantize(graph: Graph, name: str, wide: str, rounded: _Rounded, axis: int) -> Node:
    """The node that makes floats of the rounded weights, which become constants."""
    inputs = [f"{name}/int8 {axis}", f"{name}/factors {axis}"]
    graph.constants |= zip(inputs, rounded, strict=True)
    node = Node("dequantize_linear", wide, inputs, [wide], {"axis": axis, "block_size": BLOCK})
    ops.complete(node)
    return node
