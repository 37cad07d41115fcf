"""How operators are run: a graph becomes the steps of a plan.

`registry` holds one function per operator, `builder` what these functions use, and the other
modules the functions, one file per family.
"""

from __future__ import annotations

from ..graph import Graph
from .builder import PlanBuilder
from .lowered import Lowered, ReferenceStep
from .options import PlanOptions
from .registry import ALL_TYPES, BORDERS, LOWERINGS, TYPES, borders, load_families, lowers
from .step_list import epilogue


def lower(graph: Graph, options: PlanOptions) -> Lowered:
    """The steps that run a graph on inputs of the sizes it was specialised for.

    Raises:
        MemoryLimitError: a tensor or the packed weights take more than a plan may.
        ShapeError: a kernel cannot hold a size.
    """
    return PlanBuilder(graph, options).run()


load_families(__name__, __path__)

__all__ = [
    "ALL_TYPES",
    "BORDERS",
    "LOWERINGS",
    "TYPES",
    "Lowered",
    "PlanBuilder",
    "PlanOptions",
    "ReferenceStep",
    "borders",
    "epilogue",
    "lower",
    "lowers",
]
