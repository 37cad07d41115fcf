"""Meaning of the operators: for each its attributes, its shapes, and a NumPy reference.

One class per operator, one file per family. A class registers itself; importing this package
imports every family. To add an operator, write its class beside its relatives:

    @register
    class Relu(Op):
        name = "relu"

        def infer(self, node, inputs):
            return [inputs[0].type]

        def axes(self, node, types):
            return elementwise(types)

        def reference(self, node, x):
            return (np.maximum(x, 0),)

`cnnrt.lowering` says how an operator is run; one without an entry there runs by its reference.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol

from ..errors import GraphError, ShapeError, UnsupportedOperator
from ..graph import Array, Graph, Node, TensorType, Value
from .attributes import is_kind, kind_of
from .axes import AxesMapping, mixes_all_axes

REQUIRED: Any = object()
"""The default of an attribute that must be given."""


class RunSubgraph(Protocol):
    """Runs a subgraph on the values of its inputs, in order."""

    def __call__(self, graph: Graph, values: Sequence[Value]) -> list[Value]: ...

    def hold(self, nbytes: int) -> None:
        """Counts memory that the operator keeps until it is done.

        Raises:
            MemoryLimitError: a run may not use as much.
        """


class Operand(NamedTuple):
    """An input as shape inference knows it: its type, and its value if that is constant."""

    name: str
    type: TensorType
    value: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def rank(self) -> int:
        return self.type.rank


@dataclass(frozen=True)
class NodeTypes:
    """Types of a node's inputs, with the values that are constant, and of its outputs.

    None stands for an absent input, and for an output that has no name.
    """

    inputs: Sequence[Operand | None]
    outputs: Sequence[TensorType | None]

    @classmethod
    def of(cls, node: Node, graph: Graph) -> NodeTypes:
        """The types of a node of a graph whose types are known (`passes.infer`)."""
        types, values = graph.types, graph.constants
        return cls(
            [Operand(x, types[x], values.get(x)) if x else None for x in node.inputs],
            [types[y] if y else None for y in node.outputs],
        )

    @property
    def output(self) -> TensorType:
        """The type of the first output that has a name."""
        return next(y for y in self.outputs if y is not None)

    def has(self, index: int) -> bool:
        """True if there is an input of this number."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def operand(self, index: int) -> Operand:
        """The input of this number, which must be there."""
        x = self.inputs[index]
        assert x is not None
        return x

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of an input that must be there."""
        return self.operand(index).shape

    def rank(self, index: int) -> int:
        """The number of axes of an input that must be there."""
        return self.operand(index).rank

    def integers(self, index: int) -> list[int] | None:
        """The elements of an input; None if it is absent or not constant."""
        value = self.operand(index).value if self.has(index) else None
        return None if value is None else [int(v) for v in value.reshape(-1)]


class Op:
    """An operator. Instances hold no state; one of each is in `OPS`."""

    name: ClassVar[str]
    family: ClassVar[str]
    """The module of this package that the operator is in, with its relatives."""
    attributes: ClassVar[dict[str, Any]] = {}
    """The attributes that the operator takes, with their defaults (`REQUIRED`: none)."""
    settings: ClassVar[tuple[int, ...]] = ()
    """Inputs that are no parameters even as constants of floats, such as the bounds of a clip."""
    type_only: ClassVar[bool] = False
    """True if the result depends on the type of the input alone, as that of shape does."""
    all_pairs: ClassVar[bool] = False
    """True if each element of one input may be combined with each of another."""
    python_loop: ClassVar[bool] = False
    """True if the reference goes through an axis in Python."""
    pure: ClassVar[bool] = True
    """True if the same inputs always give the same outputs."""
    runs_on_values: ClassVar[bool] = False
    """True if the reference may run between two stages of a plan. It does if the types of the
    results depend on values that are known only by then."""

    def infer(self, node: Node, inputs: Sequence[Operand | None]) -> list[TensorType]:
        """The types of the outputs.

        Raises:
            ShapeError: the inputs do not fit the operator.
        """
        raise NotImplementedError

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        """How the axes of the outputs follow those of the inputs.

        An operator that does not say mixes all axes.
        """
        return mixes_all_axes(types)

    def macs(self, node: Node, types: NodeTypes) -> int:
        """Multiply-adds by the definition of the operator, whatever algorithm computes them.

        Only convolutions and products of matrices have any.
        """
        return 0

    def reference(self, node: Node, *inputs: Any, **_: Any) -> tuple[Array, ...]:
        """The outputs, computed plainly in NumPy in the inputs' own precision.

        The tests hold kernels against it (in float64), constant folding evaluates with it, and
        an operator without a kernel runs by it. Absent optional inputs are None.
        """
        raise NotImplementedError

    def evaluate(self, node: Node, inputs: Sequence[Value], run: RunSubgraph) -> list[Value]:
        """The outputs, computed between two stages of a plan; by default by the reference.

        Args:
            node: the operator.
            inputs: their values, None for an absent one.
            run: runs a subgraph of the node.

        Raises:
            ShapeError: the values do not fit the operator.
        """
        return list(self.reference(node, *inputs))


OPS: dict[str, Op] = {}


def register(cls: type[Op]) -> type[Op]:
    """Enters an operator class into `OPS`."""
    if cls.name in OPS:
        raise GraphError(f"operator {cls.name!r} is registered twice")
    cls.family = cls.__module__.rpartition(".")[2]
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


def axes_mapping(node: Node, types: NodeTypes) -> AxesMapping:
    """The axes mapping of a node; around an empty tensor all axes mix.

    Raises:
        UnsupportedOperator: there is no such operator.
    """
    if any(x is not None and 0 in x.shape for x in (*types.inputs, *types.outputs)):
        return mixes_all_axes(types)
    mapping = op(node).axes(node, types)
    told = len(mapping.first)
    if told == len(node.inputs):
        return mapping
    if any(node.inputs[told:]):
        return mixes_all_axes(types)
    absent = (None,) * (len(node.inputs) - told)  # optional inputs that are left out at the end
    return replace(
        mapping,
        first=(*mapping.first, *absent),
        others=tuple((*links, *absent) for links in mapping.others),
    )


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
