"""Matrices of bytes that only become floats: the layer that reads them takes them as they are.

Products of two tensors of 8 bits are another pass, `quantised`. Here the layer's input is float32.
The weights have 8 bits to take less memory, and less of its bandwidth.
"""

from __future__ import annotations

import numpy as np

from ..graph import Array, Graph, Node
from ..weights.lazy import lazy
from ..weights.widen import from_int8, less_128, narrow, transpose


def widen_weights(graph: Graph) -> None:
    """Makes DequantizeLinear of constant matrices of bytes, and their transposes, constants that
    are computed at each use."""
    kept = []
    for node in graph.nodes:
        value = None
        if node.op == "dequantize_linear":
            value = _widened(graph, node)
        elif node.op == "transpose":
            given = graph.constants.get(node.inputs[0])
            if given is not None and _exchanges(node, given.ndim):
                matrix = given.ndim == 2 and narrow(given)
                value = transpose(given) if matrix or given.dtype.itemsize == 1 else None
        if value is None:
            kept.append(node)
        else:
            graph.constants[node.outputs[0]] = value
    graph.nodes = kept


def _exchanges(node: Node, rank: int) -> bool:
    """True for a transpose that exchanges the last two of at least two axes."""
    axes = list(range(rank))
    if rank < 2:
        return False
    axes[-2:] = axes[:-3:-1]
    return list(node["perm"] or range(rank - 1, -1, -1)) == axes


def _widened(graph: Graph, node: Node) -> Array | None:
    """The floats of int8 without a zero point, or of uint8 around 128; None for others."""
    values, scale = (graph.constants.get(name) for name in node.inputs[:2])
    zero = graph.constants.get(node.input(2))
    if values is None or scale is None or values.ndim < 2 or 0 in values.shape:
        return None
    if values.dtype not in (np.int8, np.uint8) or scale.dtype != np.float32:
        return None
    if node.input(2) and zero is None:
        return None
    if values.dtype == np.int8 and zero is not None and np.asarray(zero).any():
        return None
    if values.dtype == np.uint8:
        if zero is None or (np.asarray(zero) != 128).any():
            return None
        values = lazy(values.shape, np.int8, less_128, values)
    if node["output_dtype"] not in (None, "float32"):
        return None
    axis, block = node["axis"] % values.ndim, node["block_size"]
    if values.ndim > 2:  # such as those of a recurrent layer
        rows = bool(block) and axis == values.ndim - 1
        return lazy(values.shape, np.float32, from_int8, values, scale, block) if rows else None
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
