"""The rules of `fuse_patterns`, `decompose` and `integer_products`, applied to a graph."""

from __future__ import annotations

from ..graph import Graph
from . import decompose, fuse_patterns, integer_products
from .rules import apply

MODULES = (fuse_patterns, decompose, integer_products)
RULES = {
    op: [rule for module in MODULES for rule in module.RULES.get(op, [])]
    for op in fuse_patterns.RULES | decompose.RULES | integer_products.RULES
}
"""The rules that need sizes, by operator."""


def rewrite(graph: Graph) -> None:
    """Applies the rules that need sizes."""
    apply(graph, RULES)
