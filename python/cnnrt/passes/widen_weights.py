"""Matrices of int8 that only become floats: the layer that reads them takes them as they are.

Products of two tensors of 8 bits are another pass, `quantised`. Here the layer's input is float32.
The weights have 8 bits to take less memory, and less of its bandwidth.
"""

from __future__ import annotations

import numpy as np

from ..graph import Array, Graph, Node
from ..weights.lazy import lazy
from ..weights.widen import from_int8, narrow, transpose


def widen_weights(graph: Graph) -> None:
    """Makes DequantizeLinear of a constant matrix of int8, and the transpose of that, a constant
    that is computed at each use."""
    kept = []
    for node in graph.nodes:
        value = None
        if node.op == "dequantize_linear":
            value = _widened(graph, node)
        elif node.op == "transpose" and node["perm"] in (None, [1, 0], (1, 0)):
            given = graph.constants.get(node.inputs[0])
            if given is not None and given.ndim == 2 and narrow(given):
                value = transpose(given)
        if value is None:
            kept.append(node)
        else:
            graph.constants[node.outputs[0]] = value
    graph.nodes = kept


def _widened(graph: Graph, node: Node) -> Array | None:
    """The floats of a matrix of int8 without a zero point; None if it is another tensor."""
    values, scale = (graph.constants.get(name) for name in node.inputs[:2])
    zero = graph.constants.get(node.input(2))
    if values is None or scale is None or values.ndim != 2 or 0 in values.shape:
        return None
    if values.dtype != np.int8 or scale.dtype != np.float32:
        return None
    if node.input(2) and (zero is None or np.asarray(zero).any()):
        return None
    if node["output_dtype"] not in (None, "float32"):
        return None
    axis, block = node["axis"] % 2, node["block_size"]
    if not block:
        if scale.size == 1 or scale.shape != (values.shape[axis],):
            return None
        # One factor for each row or column: a block is as long as that.
        axis, block = 1 - axis, values.shape[1 - axis]
        scale = scale.reshape((-1, 1) if axis else (1, -1))
    if axis == 0:
        values, scale = transpose(values), transpose(scale)
    wide = lazy(values.shape, np.float32, from_int8, values, scale, block)
    return wide if axis else transpose(wide)
