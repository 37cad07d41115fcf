"""Sequences and optionals: values that are no tensors, which exist only between stages of a plan.

Definitions: https://onnx.ai/onnx/operators/ (Sequence*, SplitToSequence, ConcatFromSequence,
Optional*). A sequence is a list of arrays; an empty optional is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array, Node, Value
from . import REQUIRED, RunSubgraph, register
from .common import RuntimeTyped
from .control_flow import fail


class SequenceOperator(RuntimeTyped):
    """An operator on values of any kind that needs no subgraph."""

    def evaluate(self, node: Node, inputs: Sequence[Value], run: RunSubgraph) -> list[Value]:
        del run
        return list(self.values(node, *inputs))

    def values(self, node: Node, *inputs: Any) -> Sequence[Value]:
        """The outputs for these inputs; an absent input is None.

        Raises:
            ShapeError: they do not fit the operator.
        """
        raise NotImplementedError


def sequence_of(node: Node, value: Value) -> list[Any]:
    """The elements of a sequence.

    Raises:
        ShapeError: the value is no sequence.
    """
    if not isinstance(value, list):
        raise fail(node, "expected a sequence, got a tensor or nothing")
    return value


def position_of(node: Node, position: Any, count: int) -> int:
    """A position among `count` elements, counted from the front.

    Raises:
        ShapeError: there is none of this number.
    """
    if not isinstance(position, np.ndarray) or position.size != 1:
        raise fail(node, "expected a position of one element")
    i = int(position.reshape(()))
    if not -count <= i < count:
        raise fail(node, f"position {i} of a sequence of {count} elements")
    return i % count


@register
class SequenceEmpty(SequenceOperator):
    """A sequence without elements."""

    name = "sequence_empty"
    attributes = {"dtype": "float32"}

    def values(self, node: Node, *inputs: Any) -> Sequence[Value]:
        return ([],)


@register
class SequenceConstruct(SequenceOperator):
    """The inputs as the elements of a sequence."""

    name = "sequence_construct"

    def values(self, node: Node, *inputs: Any) -> Sequence[Value]:
        return (list(inputs),)


@register
class SequenceAt(SequenceOperator):
    """The element of a sequence at a position, which may count from the end."""

    name = "sequence_at"

    def values(self, node: Node, *inputs: Any) -> Sequence[Value]:
        elements = sequence_of(node, inputs[0])
        return (elements[position_of(node, inputs[1], len(elements))],)


@register
class SequenceInsert(SequenceOperator):
    """The sequence with a tensor before a position, or at the end if none is given."""

    name = "sequence_insert"

    def values(self, node: Node, *inputs: Any) -> Sequence[Value]:
        elements = list(sequence_of(node, inputs[0]))
        position = inputs[2] if len(inputs) > 2 else None
        at = len(elements)
        if position is not None:
            given = int(np.asarray(position).reshape(-1)[0]) if np.size(position) == 1 else None
            if given is None or not -at <= given <= at:
                raise fail(node, f"position {given} of a sequence of {at} elements")
            at = given + at if given < 0 else given
        elements.insert(at, inputs[1])
        return (elements,)


@register
class SequenceErase(SequenceOperator):
    """The sequence without the element at a position, or without the last if none is given."""

    name = "sequence_erase"

    def values(self, node: Node, *inputs: Any) -> Sequence[Value]:
        elements = list(sequence_of(node, inputs[0]))
        position = inputs[1] if len(inputs) > 1 else None
        if position is None:
            position = np.array(-1)
        del elements[position_of(node, position, len(elements))]
        return (elements,)


@register
class SequenceLength(SequenceOperator):
    """The number of elements, an int64 scalar."""

    name = "sequence_length"

    def values(self, node: Node, *inputs: Any) -> Sequence[Value]:
        return (np.array(len(sequence_of(node, inputs[0])), np.int64),)


@register
class SplitToSequence(SequenceOperator):
    """A tensor cut along `axis` into the elements of a sequence.

    `split` is absent: slices of one, without the axis if `keepdims` is 0. A scalar: slices of that
    many, the last one smaller. One axis: their sizes.
    """

    name = "split_to_sequence"
    attributes = {"axis": 0, "keepdims": 1}

    def values(self, node: Node, *inputs: Any) -> Sequence[Value]:
        x: Array = inputs[0]
        split = inputs[1] if len(inputs) > 1 else None
        axis = node["axis"]
        if not -x.ndim <= axis < x.ndim:
            raise fail(node, f"axis {axis} of a tensor with {x.ndim} axes")
        total = x.shape[axis]
        if split is None:
            parts = np.split(x, total, axis) if total else []
            if not node["keepdims"]:
                parts = [part.squeeze(axis) for part in parts]
        else:
            if split.ndim == 0:
                size = int(split)
                if size < 1:
                    raise fail(node, f"parts of {size} elements")
                sizes = [min(size, total - i) for i in range(0, total, size)]
            else:
                sizes = [int(n) for n in split]
            if sum(sizes) != total or min(sizes, default=0) < 0:
                raise fail(node, f"{total} elements do not split into {sizes}")
            parts = np.split(x, np.cumsum(sizes)[:-1], axis) if sizes else []
        return ([np.ascontiguousarray(part).reshape(part.shape) for part in parts],)


@register
class ConcatFromSequence(SequenceOperator):
    """The elements of a sequence one after the other along `axis`, or along a new axis."""

    name = "concat_from_sequence"
    attributes = {"axis": REQUIRED, "new_axis": 0}

    def values(self, node: Node, *inputs: Any) -> Sequence[Value]:
        elements = sequence_of(node, inputs[0])
        if not elements:
            raise fail(node, "the sequence has no elements to join")
        join = np.stack if node["new_axis"] else np.concatenate
        try:
            return (join(elements, axis=node["axis"]),)
        except ValueError as error:
            raise fail(node, str(error)) from None


@register
class Optional(SequenceOperator):
    """Its input, or an empty optional if there is none."""

    name = "optional"

    def values(self, node: Node, *inputs: Any) -> Sequence[Value]:
        return (inputs[0] if inputs else None,)


@register
class OptionalHasElement(SequenceOperator):
    """True, a bool scalar, if the optional is not empty."""

    name = "optional_has_element"

    def values(self, node: Node, *inputs: Any) -> Sequence[Value]:
        return (np.array(bool(inputs) and inputs[0] is not None),)


@register
class OptionalGetElement(SequenceOperator):
    """The tensor or sequence in an optional."""

    name = "optional_get_element"

    def values(self, node: Node, *inputs: Any) -> Sequence[Value]:
        if inputs[0] is None:
            raise fail(node, "the optional is empty")
        return (inputs[0],)
