"""Replaces a node that ONNX's latest opset does not have by nodes that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ...errors import UnsupportedOperator
from ...graph import Array, Node

MAX_INPUTS = 32


class Surroundings(Protocol):
    """The graph around an adapted node: its values and types, and a way to add tensors."""

    def value(self, name: str) -> Array | None:
        """The value of a constant."""

    def shape(self, name: str) -> tuple[int | str, ...] | None:
        """The shape of a tensor, if it is known."""

    def rank(self, name: str) -> int | None:
        """The number of axes of a tensor, if it is known."""

    def dtype(self, name: str) -> np.dtype[Any] | None:
        """The dtype of a tensor, if it is known."""

    def narrow(self, name: str) -> str | None:
        """The dtype of a constant or an input, if it is one of `ops.narrow`."""

    def add_constant(self, name: str, value: Array) -> str:
        """Adds a constant; returns its name, which is `name` or derived from it."""

    def add_tensor(self, name: str) -> str:
        """A name for a tensor between two nodes: `name` or one derived from it."""


Adapter = Callable[[Node, Surroundings], list[Node]]


class Expansion:
    """Collects the nodes that together replace one node."""

    def __init__(self, node: Node, around: Surroundings) -> None:
        self.node, self.around = node, around
        self.inputs = [*node.inputs, *[""] * (MAX_INPUTS - len(node.inputs))]
        """Inputs of the node, padded with empty names for absent ones."""
        self.outputs = [*node.outputs, *[""] * (MAX_INPUTS - len(node.outputs))]
        self.nodes: list[Node] = []

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, which then counts as understood."""
        return self.node.attributes.pop(name, default)

    def add(self, op: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Adds a node with one output; returns that output's name.

        Args:
            op: the operator.
            inputs: its inputs; empty names at the end are left out.
            out: the name of its output; "": one derived from the node's.
            attributes: its attributes.
        """
        return self.add_many(op, inputs, [out], **attributes)[0]

    def add_many(
        self, op: str, inputs: tuple[str, ...], outputs: list[str], **attributes: Any
    ) -> list[str]:
        """Like `add`, for a node with several outputs."""
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        names = [name or self.around.add_tensor(f"{self.node.name}.{op}") for name in outputs]
        own = self.node.outputs[0] in names
        self.nodes.append(Node(op, self.node.name if own else names[0], given, names, attributes))
        return names

    def constant(self, value: Any, dtype: Any, name: str = "constant") -> str:
        """A constant; returns its name."""
        return self.around.add_constant(f"{self.node.name}.{name}", np.array(value, dtype))

    def value(self, index: int, what: str) -> Array:
        """The value of input number `index`, which must be constant.

        Raises:
            UnsupportedOperator: it is absent or computed.
        """
        value = self.around.value(self.inputs[index])
        if value is None:
            raise UnsupportedOperator(f"{what} that is computed")
        return value

    def rank(self, index: int = 0) -> int:
        """The number of axes of an input.

        Raises:
            UnsupportedOperator: it is not known.
        """
        rank = self.around.rank(self.inputs[index])
        if rank is None:
            raise UnsupportedOperator(f"input {self.inputs[index]!r} of unknown rank")
        return rank
