"""Helpers of all families: tables of operators, checked reading of inputs and attributes."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from .. import dtypes
from ..dtypes import DType
from ..errors import CnnrtError, GraphError, UnsupportedOperator, ValueNeeded
from ..graph import DTYPES, Array, Graph, Node, TensorType, Value
from ..symbolic import integer, spread
from . import NodeTypes, Op, Operand, op, register, shape_error
from .axes import AxesMapping, elementwise

Inputs = Sequence[Operand | None]


def family(
    base: type[Op], names: Iterable[str], attributes: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Registers a subclass of `base` per name, and per key of `attributes` with those it adds."""
    table = {**dict.fromkeys(names), **(attributes or {})}
    for name, more in table.items():
        members = {
            "name": name,
            "attributes": {**base.attributes, **(more or {})},
            "__module__": base.__module__,
            "__doc__": base.__doc__,
        }
        register(type(name.title().replace("_", ""), (base,), members))


class Elementwise(Op):
    """An operator whose inputs broadcast to each other, position by position."""

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return elementwise(types)


class SameType(Op):
    """An operator whose first output has the type of its first input."""

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        return [x.type]


class RuntimeTyped(Op):
    """An operator whose result types are known only when it has run on the values of its inputs.

    A plan runs it between two stages. The nodes before it are planned and run, then it computes its
    outputs, and the rest is planned for their shapes.
    """

    runs_on_values = True

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        first = next((x for x in inputs if x), None)
        problem = "the types of its results are known only when it has run"
        name = first.name if first else ""
        raise ValueNeeded(str(shape_error(node, inputs, problem)), name, runs_on_values=True)

    def reference(self, node: Node, *inputs: Any, **_: Any) -> tuple[Any, ...]:
        return tuple(self.evaluate(node, inputs, Interpreter()))


class Interpreter:
    """Runs a graph by the operators' NumPy references, node after node, without a limit."""

    def __call__(self, graph: Graph, values: Sequence[Value]) -> list[Value]:
        known: dict[str, Value] = {"": None, **graph.constants}
        known |= {spec.name: value for spec, value in zip(graph.inputs, values, strict=True)}
        for node in graph.nodes:
            results = op(node).reference(node, *(known[name] for name in node.inputs))
            known |= zip(node.outputs, results, strict=False)
            known[""] = None
        return [known[spec.name] for spec in graph.outputs]

    def hold(self, nbytes: int) -> None:
        pass


class ByValue(Op):
    """An operator whose output shapes depend on the values of its inputs.

    If these are constant, so is its result; otherwise it runs between two stages of a plan.
    """

    runs_on_values = True
    arity: ClassVar[tuple[int, int]]
    """Minimum and maximum number of inputs."""

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        given = operands(node, inputs, *self.arity)
        values = [None if x is None else value_of(node, inputs, x) for x in given]
        try:
            outputs = self.reference(node, *values)
        except (TypeError, ValueError) as error:
            raise shape_error(node, inputs, str(error)) from None
        return [TensorType(y.shape, y.dtype) for y in outputs]


def operands(node: Node, inputs: Inputs, least: int, most: int | None = None) -> tuple[Any, ...]:
    """The inputs, filled up with None to `most`; `most` None: as many as came.

    Raises:
        ShapeError: one of the first `least` is absent, or there are more than `most`.
    """
    most = max(len(inputs), least) if most is None else most
    if len(inputs) > most or len(inputs) < least or None in inputs[:least]:
        counts = f"{least}" if least == most else f"{least} to {most}"
        raise shape_error(node, inputs, f"takes {counts} inputs, got {len(inputs)}")
    return (*inputs, *[None] * (most - len(inputs)))


def value_of(node: Node, inputs: Inputs, x: Operand) -> Array:
    """The value of an input that shapes, or what is to be computed, depend on.

    Raises:
        ValueNeeded: it is not constant.
    """
    if x.value is None:
        problem = f"input {x.name!r} must be constant, as the result's shape or kind depends on it"
        runs = op(node).runs_on_values
        raise ValueNeeded(str(shape_error(node, inputs, problem)), x.name, runs_on_values=runs)
    return x.value


def integers(node: Node, inputs: Inputs, x: Operand | None, kinds: str = "iu") -> list[int] | None:
    """The elements of a constant integer input of at most one axis; None if it is absent.

    Raises:
        ShapeError: it is not constant, not of integers, or has several axes.
    """
    if x is None:
        return None
    value = value_of(node, inputs, x)
    kind = x.type.dtype.kind
    if x.rank > 1 or kind not in kinds or (kind not in "iu" and not np.isfinite(value).all()):
        raise shape_error(node, inputs, f"input {x.name!r} must be a list of integers")
    return [integer(v) for v in spread(value).reshape(-1)]


def axis_of(node: Node, inputs: Inputs, axis: Any, rank: int) -> int:
    """`axis` counted from the front.

    Raises:
        ShapeError: it is not an axis of a tensor of this rank.
    """
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise shape_error(node, inputs, f"axis {axis!r} of a tensor with {rank} axes")
    return axis % rank


def axes_of(node: Node, inputs: Inputs, axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """`axes` counted from the front.

    Raises:
        ShapeError: one is not an axis of a tensor of this rank, or is given twice.
    """
    given = tuple(axes)
    found = tuple(axis_of(node, inputs, axis, rank) for axis in given)
    if len(set(found)) != len(found):
        raise shape_error(node, inputs, f"axes {list(given)} name one axis twice")
    return found


def check_kind(node: Node, inputs: Inputs, x: Operand | None, kinds: str, what: str) -> None:
    """Checks that `x`, if it is there, has a dtype of one of NumPy's `kinds`.

    Raises:
        ShapeError: it has another, and `what` says which it must have.
    """
    if x and x.type.dtype.kind not in kinds:
        raise shape_error(node, inputs, f"input {x.name!r} must be of {what}, not {x.type.dtype}")


def check_indices(node: Node, inputs: Inputs, indices: Operand, size: int) -> None:
    """Checks that indices are integers and, if they are constant, within `size` elements.

    Raises:
        ShapeError: they are not.
    """
    check_kind(node, inputs, indices, "iu", "integers")
    value = indices.value
    if value is not None and value.size and not -size <= value.min() <= value.max() < size:
        raise shape_error(node, inputs, f"an index is beyond {size} elements")


def dry_run(op: Op, node: Node, inputs: Inputs) -> None:
    """Evaluates an elementwise operator on empty arrays, to see that it takes its inputs' dtypes.

    Raises:
        ShapeError: it does not.
    """
    attributes = tuple(node.attributes.items())
    names = tuple([x.type.dtype.name for x in inputs if x])
    try:
        takes = _takes(op, attributes, names)
    except CnnrtError:  # worded for a node without a name
        op.reference(node, *(np.empty(0, dtypes.DTYPES[name]) for name in names))
        raise
    if not takes:
        raise shape_error(node, inputs, "these dtypes are not supported")


@lru_cache(1024)
def _takes(op: Op, attributes: tuple[tuple[str, Any], ...], names: tuple[str, ...]) -> bool:
    """True if the reference of an elementwise operator takes arrays of the dtypes so named."""
    arrays = [np.empty(0, dtypes.DTYPES[name]) for name in names]
    try:
        op.reference(Node(op.name, "", [], [], dict(attributes)), *arrays)
    except TypeError:
        return False
    return True


def broadcast(node: Node, inputs: Inputs, *shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that `shapes` broadcast to.

    Raises:
        ShapeError: they do not.
    """
    result = tuple(shapes[0])
    for other in shapes[1:]:
        if result == other:
            continue
        if len(other) < len(result):
            longer, shorter = result, other
        else:
            longer, shorter = tuple(other), result
        joined = list(longer)
        for axis, n in enumerate(shorter, len(longer) - len(shorter)):
            if n != 1 and n != joined[axis]:
                if joined[axis] != 1:
                    text = ", ".join(str(tuple(shape)) for shape in shapes)
                    raise shape_error(node, inputs, f"shapes {text} do not broadcast")
                joined[axis] = n
        result = tuple(joined)
        if math.prod(result) > sys.maxsize:
            raise shape_error(node, inputs, f"{result} is larger than any array")
    return result


def fits(node: Node, inputs: Inputs, x: Operand | None, shape: Sequence[int], what: str) -> None:
    """Checks that `x`, if it is there, broadcasts to `shape`.

    Raises:
        ShapeError: it does not.
    """
    if x and broadcast(node, inputs, x.shape, shape) != tuple(shape):
        raise shape_error(node, inputs, f"{what} must broadcast to {tuple(shape)}")


def dtype_of(node: Node, attribute: str, default: DType | np.dtype[Any] | None = None) -> DType:
    """The dtype that an attribute names, or `default` if it is None.

    Raises:
        UnsupportedOperator: it is not one of `DTYPES`.
    """
    name = node[attribute]
    if name is None and default is not None:
        return dtypes.as_dtype(default)
    if name not in DTYPES:
        raise UnsupportedOperator(
            f"node {node.name!r} ({node.op}): {attribute} {name!r}; supported: {', '.join(DTYPES)}"
        )
    return dtypes.DTYPES[name]


def choice(node: Node, attribute: str, options: Iterable[str]) -> str:
    """The value of an attribute that is one of `options`.

    Raises:
        UnsupportedOperator: it is none of them.
    """
    value: str = node[attribute]
    if value not in (known := tuple(options)):
        raise UnsupportedOperator(
            f"node {node.name!r} ({node.op}): {attribute} {value!r}; supported: {', '.join(known)}"
        )
    return value


def at_least(node: Node, attribute: str, low: int) -> int:
    """The value of an integer attribute that may not be below `low`.

    Raises:
        GraphError: it is, or it is no integer.
    """
    value = node[attribute]
    if not isinstance(value, int) or value < low:
        raise GraphError(
            f"node {node.name!r} ({node.op}): {attribute} {value!r}; expected at least {low}"
        )
    return value
