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

from ..errors import GraphError
from ..graph import Node
from ..layout.tensors import Border

if TYPE_CHECKING:
    from .builder import PlanBuilder

    LowerFunction = Callable[[Node, PlanBuilder], bool]
    BorderFunction = Callable[[Node, PlanBuilder], Mapping[str, Border]]

LOWERINGS: dict[str, LowerFunction] = {}
ANY_TYPE: set[str] = set()
"""Operators lowered for every dtype: they move elements without looking at them, or check dtypes
themselves."""
BORDERS: dict[str, BorderFunction] = {}


def lowers(*ops: str, any_type: bool = False) -> Callable[[LowerFunction], LowerFunction]:
    """Registers a function as the lowering of these operators, for float32 or for any dtype.

    The function returns False, before it changes anything, if no kernel does what the node says.

    Raises:
        GraphError: an operator has a lowering already.
    """

    def enter(function: LowerFunction) -> LowerFunction:
        for name in ops:
            if name in LOWERINGS:
                raise GraphError(f"operator {name!r} has two lowerings")
            LOWERINGS[name] = function
        if any_type:
            ANY_TYPE.update(ops)
        return function

    return enter


def borders(*ops: str) -> Callable[[BorderFunction], BorderFunction]:
    """Registers a function that gives the borders these operators need around their inputs."""

    def enter(function: BorderFunction) -> BorderFunction:
        BORDERS.update(dict.fromkeys(ops, function))
        return function

    return enter


def load_families(package: str, path: list[str]) -> None:
    """Imports every module of a package, so that its lowerings are registered."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
