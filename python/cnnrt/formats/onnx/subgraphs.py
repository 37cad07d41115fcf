"""Subgraphs of control flow: their names, their captures, and branches that are always taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from ...errors import CnnrtError, FormatError
from ...graph import Array, Graph, Node, TensorSpec
from ...passes.infer import infer
from ...storage import validate

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto


class Surroundings(Protocol):
    """The graph that contains an If, as far as it is known."""

    nodes: list[Node]

    def value(self, name: str) -> Array | None:
        """The value of a tensor that is a constant."""

    def shape(self, name: str) -> tuple[int | str, ...] | None:
        """The shape of a tensor, if it is known."""

    def add_tensor(self, name: str) -> str:
        """A name for a tensor between two nodes: `name` or one derived from it."""


class Branch(NamedTuple):
    """A branch whose tensors share their names with no other tensor."""

    graph: GraphProto
    outputs: list[tuple[str, str]]
    """For each output, the tensor in the branch and the output of the If."""


@dataclass
class Subgraphs:
    """The subgraphs of a node by attribute, and the outer tensors that they capture."""

    graphs: dict[str, Graph] = field(default_factory=dict)
    captured: list[str] = field(default_factory=list)

    def attach(self, node: Node) -> None:
        """Gives the subgraphs to the node, which passes their captures as its last inputs."""
        if self.graphs:
            node.attributes |= {**self.graphs, "captured": len(self.captured)}
            node.inputs = [*node.inputs, *self.captured]


NO_SUBGRAPHS = Subgraphs()


def bind_captures(graphs: dict[str, Graph]) -> Subgraphs:
    """Makes outer tensors that the graphs read their last inputs, the same for all graphs."""
    captured: dict[str, None] = {}
    for graph in graphs.values():
        made = {spec.name for spec in graph.inputs} | {""}
        made |= {name for node in graph.nodes for name in node.outputs}
        read = [name for node in graph.nodes for name in node.inputs]
        read += [spec.name for spec in graph.outputs]
        captured |= dict.fromkeys(name for name in read if name not in made)
    for graph in graphs.values():
        graph.inputs += [TensorSpec(name, ()) for name in captured]
        _separate_outputs(graph)
    return Subgraphs(graphs, list(captured))


def _separate_outputs(graph: Graph) -> None:
    """Puts an identity before an output that occurs twice or is an input."""
    taken = {spec.name for spec in graph.inputs}
    for i, spec in enumerate(graph.outputs):
        if spec.name in taken:
            name = f"{spec.name}/output{i}"
            graph.nodes.append(Node("identity", name, [spec.name], [name]))
            graph.outputs[i] = replace(spec, name=name)
        taken.add(spec.name)


def choose_branch(proto: NodeProto, around: Surroundings, at: str) -> Branch | None:
    """The branch that an If always takes; None if its condition is known only at run time.

    Raises:
        FormatError: the If is malformed.
    """
    branches = {a.name: a.g for a in proto.attribute if a.HasField("g")}
    if set(branches) != {"then_branch", "else_branch"} or len(proto.input) != 1:
        raise FormatError(f"{at}: expected a condition, a then_branch and an else_branch")
    for branch in branches.values():
        if len(branch.output) != len(proto.output):
            raise FormatError(
                f"{at}: has {len(proto.output)} outputs, its branch {len(branch.output)}"
            )
    condition = constant_value(proto.input[0], around)
    if condition is None or condition.size != 1:
        return None
    taken = branches["then_branch" if condition.reshape(()) else "else_branch"]
    graph = with_unique_names(taken, around, at)
    inner = [value.name for value in graph.output]
    return Branch(graph, [(a, b) for a, b in zip(inner, proto.output, strict=True) if b])


def with_unique_names(proto: GraphProto, around: Surroundings, at: str) -> GraphProto:
    """A copy of a subgraph whose own tensors have names that no other tensor has."""
    graph = type(proto)()
    graph.CopyFrom(proto)
    own = (
        *(value.name for value in graph.input),
        *(tensor.name for tensor in graph.initializer),
        *(name for node in graph.node for name in node.output if name),
    )
    renamed = {name: around.add_tensor(validate.name(name, at)) for name in dict.fromkeys(own)}
    for tensor in graph.initializer:
        tensor.name = renamed[tensor.name]
    _rename(graph, renamed)
    for value in (*graph.input, *graph.output):
        value.name = renamed.get(value.name, value.name)
    return graph


def _rename(graph: GraphProto, renamed: Mapping[str, str]) -> None:
    """Renames the tensors that the nodes of a graph read and make, also in subgraphs that do not
    make a tensor of that name."""
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else []
            for inner in (*graphs, *attribute.graphs):
                own = {name for n in inner.node for name in n.output}
                own |= {value.name for value in (*inner.initializer, *inner.input)}
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
        value = around.value(one)
        if value is not None:
            constants[one] = value
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
