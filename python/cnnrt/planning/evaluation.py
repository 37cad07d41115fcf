"""Operators that run on values, between two stages of a plan or in a stage without one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import ops
from ..errors import CnnrtError, IndexOutOfRange, MemoryLimitError, ShapeError
from ..graph import Graph, Node, Value
from ..ops import RunSubgraph
from .allowance import Allowance, predicted

OPERATOR_NS = 4000.0
"""Work of an operator on few elements, and 1 ns for each of their bytes."""


class _NoSubgraph:
    """Replaces the function that runs subgraphs, for operators that have none."""

    def __call__(self, graph: Graph, values: Sequence[Value]) -> list[Value]:
        raise ShapeError(f"the graph {graph.name!r} cannot be run here, on {len(values)} values")

    def hold(self, nbytes: int) -> None:
        raise ShapeError(f"{nbytes} bytes cannot be kept here")


NO_SUBGRAPH = _NoSubgraph()


def evaluated(node: Node, values: Sequence[Value], run: RunSubgraph = NO_SUBGRAPH) -> list[Value]:
    """The outputs of a node for the values of its inputs.

    Raises:
        CnnrtError: the values do not fit the operator; the error names the node.
    """
    at = f"node {node.name!r} ({node.op})"
    try:
        results = ops.op(node).evaluate(node, values, run)
    except CnnrtError:
        raise
    except IndexError as error:
        raise IndexOutOfRange(f"{at}: {error}") from error
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        # AttributeError: a sequence in the place of a tensor
        raise ShapeError(f"{at} cannot be evaluated: {error}") from error
    except MemoryError as error:
        raise MemoryLimitError(f"{at} needs more memory than there is: {error}") from error
    if len(results) < len(node.outputs):
        raise ShapeError(f"{at} gives {len(results)} outputs, not {len(node.outputs)}")
    return results


class Charged:
    """Evaluates the operators of a stage without a plan, and adds up their work."""

    def __init__(self, allowance: Allowance, at: str) -> None:
        self._allowance = allowance
        self._at = at
        self._ns = 0.0

    def __call__(self, node: Node, values: Sequence[Value]) -> list[Value]:
        self._ns += OPERATOR_NS + sum(x.nbytes for x in values if isinstance(x, np.ndarray))
        if node.op == "non_max_suppression":  # the one whose work is not that of its elements
            self._allowance.spend(predicted(node, values)[1], self._at)
        return evaluated(node, values)

    def spend(self) -> None:
        """Takes the work from the allowance."""
        self._allowance.spend(self._ns, self._at)
