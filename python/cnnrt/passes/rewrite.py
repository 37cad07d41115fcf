"""The rules of `fuse_patterns` and `decompose`, applied to a graph."""

from __future__ import annotations

from ..graph import Graph
from . import decompose, fuse_patterns
from .rules import apply

RULES = {
    op: [*fuse_patterns.RULES.get(op, []), *decompose.RULES.get(op, [])]
    for op in fuse_patterns.RULES | decompose.RULES
}
"""The rules that need sizes, by operator."""


def rewrite(graph: Graph) -> None:
    """Applies the rules that need sizes."""
    apply(graph, RULES)
