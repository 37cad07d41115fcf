"""The lowerings of all operators, by the operator's name.

One file per family, one function per operator:

    @lowers("softmax")
    def lower_softmax(node: Node, builder: PlanBuilder) -> bool: ...

Kernels want a zero border around some tensors. Their producers leave room for it, so an operator
that needs one declares it beforehand with `@borders("conv")`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..dtypes import DTYPES, FLOAT32, FLOAT64, DType
from ..errors import GraphError
from ..graph import Graph, Node
from ..layout.tensors import Border

if TYPE_CHECKING:
    from .builder import PlanBuilder

    LowerFunction = Callable[[Node, PlanBuilder], bool]
    BorderFunction = Callable[[Node, PlanBuilder], Mapping[str, Border]]

LOWERINGS: dict[str, LowerFunction] = {}
FLOAT = frozenset({FLOAT32})
FLOATS = frozenset({FLOAT32, FLOAT64})
ALL_TYPES = frozenset(DTYPES.values())
TYPES: dict[str, frozenset[DType]] = {}
"""The element types that each operator is lowered for."""
BORDERS: dict[str, BorderFunction] = {}


def lowers(*ops: str, types: frozenset[DType] = FLOAT) -> Callable[[LowerFunction], LowerFunction]:
    """Registers a function as the lowering of these operators.

    The function returns False, before it changes anything, if no kernel does what the node says.

    Args:
        ops: the operators.
        types: the element types of the tensors that its kernels read and write. `ALL_TYPES` if they
            move elements of any type, or if the function checks the types itself.

    Raises:
        GraphError: an operator has a lowering already.
    """

    def enter(function: LowerFunction) -> LowerFunction:
        for name in ops:
            if name in LOWERINGS:
                raise GraphError(f"operator {name!r} has two lowerings")
            LOWERINGS[name] = function
            TYPES[name] = types
        return function

    return enter


def borders(*ops: str) -> Callable[[BorderFunction], BorderFunction]:
    """Registers a function that gives the borders these operators need around their inputs."""

    def enter(function: BorderFunction) -> BorderFunction:
        BORDERS.update(dict.fromkeys(ops, function))
        return function

    return enter


def has_kernel(node: Node, graph: Graph) -> bool:
    """True unless the tensors alone rule out a kernel.

    Kernels need tensors that are not empty, and of the types that the operator is lowered for.
    """
    types, constants = graph.types, graph.constants
    lowered, full = TYPES.get(node.op, FLOAT), False
    # Nearly all tensors are float32: no look at a set for those.
    floats = lowered is FLOAT or lowered is ALL_TYPES or FLOAT32 in lowered
    for name in node.outputs:
        if name:
            type_ = types[name]
            full = full or 0 not in type_.shape
            if not floats if type_.dtype is FLOAT32 else type_.dtype not in lowered:
                return False
    if not full:
        return False
    for name in node.inputs:
        if name and name not in constants:
            type_ = types[name]
            if 0 in type_.shape:
                return False
            if not floats if type_.dtype is FLOAT32 else type_.dtype not in lowered:
                return False
    return True


def load_families(package: str, path: list[str]) -> None:
    """Imports every module of a package, so that its lowerings are registered."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
