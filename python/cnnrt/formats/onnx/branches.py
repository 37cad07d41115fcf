"""If: which branch is taken where the condition is constant, and that branch's nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from ...errors import CnnrtError, FormatError, UnsupportedOperator
from ...graph import Array, Graph, Node, TensorSpec
from ...passes.infer import infer
from ...storage import validate

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto


class Surroundings(Protocol):
    """What is known of the graph that an If is in."""

    constants: dict[str, Array]
    nodes: list[Node]

    def shape(self, name: str) -> tuple[int | str, ...] | None:
        """The shape of a tensor where it is known."""

    def add_tensor(self, name: str) -> str:
        """A name for a tensor between two nodes: `name` or one derived from it."""


class Branch(NamedTuple):
    """A branch whose names are those of no other tensor."""

    graph: GraphProto
    outputs: list[tuple[str, str]]
    """For each output the tensor in the branch, and that of the If."""


def choose_branch(proto: NodeProto, around: Surroundings, at: str) -> Branch:
    """The branch that an If takes.

    Raises:
        UnsupportedOperator: the condition is known only when the model runs.
        FormatError: the If is malformed.
    """
    branches = {a.name: a.g for a in proto.attribute if a.HasField("g")}
    if set(branches) != {"then_branch", "else_branch"} or len(proto.input) != 1:
        raise FormatError(f"{at}: expected a condition, a then_branch and an else_branch")
    condition = constant_value(proto.input[0], around)
    if condition is None or condition.size != 1:
        raise UnsupportedOperator("its condition is not constant")
    taken = branches["then_branch" if condition.reshape(()) else "else_branch"]
    if len(taken.output) != len(proto.output):
        raise FormatError(f"{at}: has {len(proto.output)} outputs, its branch {len(taken.output)}")
    graph = type(taken)()
    graph.CopyFrom(taken)
    renamed = {
        name: around.add_tensor(validate.name(name, at))
        for name in (
            *(tensor.name for tensor in graph.initializer),
            *(name for node in graph.node for name in node.output if name),
        )
    }
    for tensor in graph.initializer:
        tensor.name = renamed[tensor.name]
    _rename(graph, renamed)
    inner = [renamed.get(value.name, value.name) for value in taken.output]
    return Branch(graph, [(a, b) for a, b in zip(inner, proto.output, strict=True) if b])


def _rename(graph: GraphProto, renamed: Mapping[str, str]) -> None:
    """Renames what the nodes of a graph read and make, subgraphs' too where they do not make it."""
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                own = {name for n in inner.node for name in n.output}
                own |= {tensor.name for tensor in inner.initializer}
                outer = {old: new for old, new in renamed.items() if old not in own}
                _rename(inner, outer)
                for value in inner.output:
                    value.name = outer.get(value.name, value.name)


def constant_value(name: str, around: Surroundings) -> Array | None:
    """The value of a tensor that is computed from constants and from known shapes."""
    producers = {output: node for node in around.nodes for output in node.outputs}
    constants: dict[str, Array] = {}
    nodes: list[Node] = []
    pending, seen = [name], {""}
    while pending:
        one = pending.pop()
        if one in seen:
            continue
        seen.add(one)
        if one in around.constants:
            constants[one] = around.constants[one]
            continue
        node = producers.get(one)
        if node is None:
            return None
        if node.op in ("shape", "size"):
            shape = around.shape(node.inputs[0])
            if shape is None or not all(isinstance(size, int) for size in shape):
                return None
            array = np.array(shape, np.int64)
            start, end = node.attributes.get("start", 0), node.attributes.get("end")
            constants[one] = array[start:end] if node.op == "shape" else np.array(array.prod())
            continue
        nodes.append(Node(node.op, node.name, node.inputs, node.outputs, node.attributes))
        seen.update(node.outputs)
        pending += node.inputs
    if name in constants:
        return constants[name]
    graph = Graph([], [TensorSpec(name, ())], nodes, constants)
    try:
        graph.sort()
        infer(graph, {})
    except CnnrtError:
        return None
    return graph.constants.get(name)
