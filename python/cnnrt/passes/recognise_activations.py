"""Finds elementwise operators that together are one activation, however they are spelt."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from .. import ops
from ..graph import Array, Graph, Node, TensorType
from ..ops import OPS
from ..ops.elementwise import Unary
from .cones import Cones, Line, value_of

ACTIVATIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sigmoid", {}),
    ("silu", {}),
    ("tanh", {}),
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("hard_sigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    ("hard_sigmoid", {"alpha": 0.2, "beta": 0.5}),
    ("hard_swish", {}),
    ("softplus", {}),
    ("mish", {}),
    ("softsign", {}),
    ("elu", {"alpha": 1.0}),
)
"""Functions that a chain of operators may be: operators with their attributes."""

CHAIN = frozenset(
    (
        *(name for name, op in OPS.items() if isinstance(op, Unary)),
        *("add", "sub", "mul", "div", "pow", "min", "max", "where"),
        *("less", "less_or_equal", "greater", "greater_or_equal", "clip"),
    )
) - {"identity"}
"""Operators in chains."""

POINTS = np.concatenate([-np.geomspace(24, 1e-3, 24), [0.0], np.geomspace(1e-3, 24, 24)])
"""Points at which functions are compared. They lie on both sides of zero, from where all functions
are nearly linear to where all have reached their limits."""
ATOL, RTOL = 1e-7, 1e-5
"""A file's constants are rounded to six digits at least. Two of `ACTIVATIONS` differ by 1e-4 and
more somewhere."""


def recognise_activations(
    graph: Graph, types: Mapping[str, TensorType] = MappingProxyType({})
) -> None:
    """Puts an activation in the place of the last operator of each chain that is one.

    Args:
        graph: is changed.
        types: types of tensors, if they are known. Ranks are the same for all sizes.
    """
    cones = Cones(graph, lambda node: node.op in CHAIN)
    for node in graph.nodes:
        if node.op not in CHAIN or node.attributes.get("activation") is not None:
            continue
        for cone in cones.ending_at(node):
            if cone.vectors or not _keeps_rank(cone.root, node, types):
                break
            found = _meaning(cone.lines)
            if found is not None:
                op, attributes = found
                node.op, node.inputs, node.attributes = op, [cone.root], dict(attributes)
                ops.complete(node)
                break


def _keeps_rank(root: str, node: Node, types: Mapping[str, TensorType]) -> bool:
    """False if a constant gives the result more axes than the tensor that it is computed from."""
    x, y = types.get(root), types.get(node.outputs[0])
    return x is None or y is None or (x.rank == y.rank and x.dtype == y.dtype)


@lru_cache(1024)
def _meaning(lines: tuple[Line, ...]) -> tuple[str, tuple[tuple[str, Any], ...]] | None:
    """The activation that the lines compute, with its attributes."""
    got = value_of(lines, {"x": POINTS}, {})
    if got is None or got.shape != POINTS.shape or got.dtype != np.float64:
        return None
    for (op, attributes), want in zip(ACTIVATIONS, _values(), strict=True):
        if np.allclose(got, want, RTOL, ATOL):
            return op, tuple(attributes.items())
    return None


@lru_cache(1)
def _values() -> list[Array]:
    """The activations at the points."""
    made = []
    for op, attributes in ACTIVATIONS:
        node = Node(op, "", [], [""], dict(attributes))
        ops.complete(node)
        made.append(OPS[op].reference(node, POINTS)[0])
    return made
