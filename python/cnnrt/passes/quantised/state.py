"""The state of the pass `quantised` while it goes through a graph, and how it appends nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...graph import Array, Graph, Node, TensorType
from ...ops import complete
from .values import FLIPPED, SIGN, Code, Lookup, Pending, Scaling, scaling


class State:
    """The walk through one graph, from its inputs to its outputs."""

    def __init__(self, graph: Graph, types: Mapping[str, TensorType]) -> None:
        self.graph = graph
        self.types = types
        self.constants = graph.constants
        self.producers = graph.producers()
        self.readers = graph.reader_counts()
        self.nodes: list[Node] = []
        self.uint8: dict[str, str] = {}
        """The uint8 form of tensors of int8."""
        self.lookups: dict[str, Lookup] = {}
        self.pending: dict[str, Pending] = {}
        self.products: dict[str, Pending] = {}
        """The convolutions and products among the pending."""
        self.origin: dict[str, tuple[str, Array]] = {}
        """The source and the table of tensors of bytes that are a table of another."""
        self._taken = {*graph.tensors(), *graph.constants}

    def unique(self, name: str) -> str:
        """A name that no tensor has yet."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def constant(self, name: str, value: Array) -> str:
        """The name of a new constant."""
        name = self.unique(name)
        self.constants[name] = value
        return name

    def emit(self, op: str, name: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Appends a node; returns the name of its output."""
        node = Node(op, name, inputs, [output], attributes)
        complete(node)
        self.nodes.append(node)
        return output

    def as_bytes(self, name: str, dtype: np.dtype[Any]) -> str:
        """A tensor of uint8 or int8 as uint8."""
        if dtype == np.uint8:
            return name
        if name not in self.uint8:
            table = self.constant(f"{name}/flip", FLIPPED)
            tensor = self.unique(f"{name}/uint8")
            self.uint8[name] = self.emit("table", f"{name}/flip", [name, table], tensor)
        return self.uint8[name]

    def output_of(self, name: str, dtype: np.dtype[Any]) -> str:
        """The name under which a tensor of the file is made as uint8."""
        if dtype == np.uint8:
            return name
        self.uint8[name] = self.unique(f"{name}/uint8")
        return self.uint8[name]

    def scaling(
        self, scale: str, zero: str, tensor: str = "", dtype: np.dtype[Any] | None = None
    ) -> Scaling | None:
        """Scale and zero point of a tensor, if they are constant and its elements bytes.

        Its dtype is that of the zero point; without one, that of the tensor or `dtype`.
        """
        type_ = self.types.get(tensor)
        known = np.dtype(type_.dtype.name) if type_ else dtype
        return scaling(self.constants, scale, zero, known)

    def code(self, name: str) -> Code | None:
        """The bytes that a tensor of floats is made from by dequantisation."""
        found = self.lookups.get(name)
        return found.code if found else None

    def constant_code(self, name: str, scaling: Scaling) -> Code:
        """Constant bytes, in a form as uint8."""
        if scaling.dtype == np.uint8:
            return Code(name, scaling)
        if name not in self.uint8:
            flipped = np.asarray(self.constants[name]).view(np.uint8) ^ np.uint8(SIGN)
            self.uint8[name] = self.constant(f"{name}/uint8", np.asarray(flipped))
        return Code(self.uint8[name], scaling)

    def operand(self, name: str) -> Code | None:
        """The bytes that a tensor is made from by dequantisation, which may be constant."""
        node = self.producers.get(name)
        if node is None or node.op != "dequantize_linear" or node["block_size"]:
            return self.code(name)
        source = node.inputs[0]
        if source not in self.constants or node["output_dtype"] not in (None, "float32"):
            return self.code(name)
        dtype = self.constants[source].dtype
        found = self.scaling(node.inputs[1], node.input(2), source, dtype)
        return found and self.constant_code(source, found)

    def sole(self, name: str) -> bool:
        """True if a tensor is read once."""
        return self.readers.get(name) == 1

    def root(self, tensor: str) -> tuple[str, Array]:
        """The tensor of bytes that another is a table of, and the table."""
        return self.origin.get(tensor, (tensor, np.arange(256, dtype=np.uint8)))

    def lookup(self, x: Code) -> Lookup:
        """The values of dequantised bytes."""
        base, table = self.root(x.tensor)
        return Lookup(base, x.scaling.values()[table], x)

    def table(self, name: str, base: str, table: Array, output: str) -> None:
        """Makes the bytes `output` of those of `base`."""
        if np.array_equal(table, np.arange(256)):
            self.emit("identity", name, [base], output)
        else:
            key = self.constant(f"{output}/table", table.astype(np.uint8))
            self.emit("table", name, [base, key], output)
        root, inner = self.root(base)
        self.origin[output] = (root, table[inner])

    def flip_back(self) -> None:
        """Appends tensors of int8 that something reads though they are made as uint8."""
        made = {output for node in self.nodes for output in node.outputs}
        read = {name for node in self.nodes for name in node.inputs}
        read |= {spec.name for spec in self.graph.outputs}
        for name, tensor in self.uint8.items():
            if name in read and name not in made and name in self.producers:
                table = self.constant(f"{name}/flipped", FLIPPED.view(np.int8))
                self.emit("table", name, [tensor, table], name)
