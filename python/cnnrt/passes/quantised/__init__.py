"""Quantised networks become networks on bytes.

A file states its computation by QuantizeLinear and DequantizeLinear around operators on floats, or
by operators of the QLinear family. Both become the operators of `ops.requantised`: products whose
integer sums are requantised, additions, products, and tables of 256 bytes. A chain of elementwise
operators between two tensors of bytes is such a table, as is x * sigmoid(x) with a quantised
sigmoid. Tensors of int8 become uint8, 128 higher. The rounding is that of ONNX Runtime. Nodes that
match nothing stay as they are, between conversions.

A float bias of a quantised product is rounded to the unit of its integer sums, as quantisers do.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...graph import Graph, TensorType
from ..eliminate import eliminate
from .products import finish_floats
from .qlinear import QLINEAR
from .state import State
from .walk import walk

MARKS = frozenset({"quantize_linear", "dequantize_linear", *QLINEAR})
"""Operators that quantised networks have."""


def quantised(graph: Graph, types: Mapping[str, TensorType]) -> None:
    """Rewrites the quantised parts, in place.

    Args:
        graph: is changed.
        types: types of tensors, as far as they are known for some sizes. Dtypes are the same for
            all.
    """
    if MARKS.isdisjoint(node.op for node in graph.nodes):
        return
    state = State(graph, types)
    walk(state)
    state.flip_back()
    graph.nodes = state.nodes
    graph.sort()
    finish_floats(state)
    eliminate(graph)
