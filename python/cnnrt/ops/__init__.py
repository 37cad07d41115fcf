"""What the operators mean: for each its attributes, its shapes, and a NumPy reference.

One class per operator, one file per family. A class registers itself; importing this package
imports every family. To add an operator, write its class beside its relatives:

    @register
    class Relu(Op):
        name = "relu"

        def infer(self, node, inputs):
            return [inputs[0].type]

        def reference(self, node, x):
            return (np.maximum(x, 0),)

How an operator is run is in `cnnrt.lowering`; one without an entry there runs by its reference.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import GraphError, ShapeError, UnsupportedOperator
from ..graph import Array, Node, TensorType
from .attributes import is_kind, kind_of

REQUIRED: Any = object()
"""The default of an attribute that must be given."""


@dataclass(frozen=True)
class Operand:
    """What shape inference knows of an input: its type, and its value where that is constant."""

    name: str
    type: TensorType
    value: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def rank(self) -> int:
        return self.type.rank


class Op:
    """An operator. Instances hold no state; one of each is in `OPS`."""

    name: ClassVar[str]
    attributes: ClassVar[dict[str, Any]] = {}
    """The attributes that the operator takes, with their defaults (`REQUIRED`: none)."""
    runs_on_values: ClassVar[bool] = False
    """True if the reference may run between two stages of a plan, when the types of the results
    depend on values that are known only by then."""

    def infer(self, node: Node, inputs: Sequence[Operand | None]) -> list[TensorType]:
        """The types of the outputs.

        Raises:
            ShapeError: the inputs do not fit the operator.
        """
        raise NotImplementedError

    def reference(self, node: Node, *inputs: Any, **_: Any) -> tuple[Array, ...]:
        """The outputs, computed plainly in NumPy in the inputs' own precision.

        The tests hold kernels against it (in float64), constant folding evaluates with it, and
        an operator without a kernel runs by it. Absent optional inputs are None.
        """
        raise NotImplementedError


OPS: dict[str, Op] = {}


def register(cls: type[Op]) -> type[Op]:
    """Enters an operator class into `OPS`."""
    if cls.name in OPS:
        raise GraphError(f"operator {cls.name!r} is registered twice")
    OPS[cls.name] = cls()
    return cls


def op(node: Node) -> Op:
    """The operator of a node.

    Raises:
        UnsupportedOperator: there is none of this name.
    """
    try:
        return OPS[node.op]
    except KeyError:
        raise UnsupportedOperator(
            f"node {node.name!r}: cnnrt has no operator {node.op!r}"
        ) from None


def complete(node: Node) -> None:
    """Fills in the defaults of a node's attributes.

    Raises:
        UnsupportedOperator: an attribute that the operator does not have.
        GraphError: a required attribute is missing, or one is of another kind.
    """
    known = op(node).attributes
    for name in node.attributes:
        if name not in known:
            raise UnsupportedOperator(
                f"node {node.name!r} ({node.op}): attribute {name!r} is not supported; "
                f"known: {', '.join(known) or 'none'}"
            )
    for name, default in known.items():
        if node.attributes.get(name) is None:
            if default is REQUIRED:
                raise GraphError(f"node {node.name!r} ({node.op}) lacks the attribute {name!r}")
            node.attributes[name] = default
        value, kind = node.attributes[name], kind_of(name, default)
        if value is not None and kind and not is_kind(value, kind):
            raise GraphError(
                f"node {node.name!r} ({node.op}): attribute {name!r} is {value!r}; expected {kind}"
            )


def shape_error(node: Node, inputs: Sequence[Operand | None], problem: str) -> ShapeError:
    """A ShapeError that names the node, the problem and the shapes that came."""
    shapes = ", ".join(f"{x.name}: {x.type}" for x in inputs if x)
    return ShapeError(f"node {node.name!r} ({node.op}): {problem}; inputs: {shapes}")


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
