"""Cuts a graph where sizes depend on computed values, into a part to plan now and one for later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .. import ops
from ..errors import ShapeError, ValueNeeded
from ..graph import Graph, Node, TensorSpec, TensorType
from .control_flow import bind_constants, taken_branch
from .infer import Budget, constant_types, infer_node, known_types, settle


@dataclass(frozen=True)
class Partition:
    """The first stage of a graph, the operators that run on its results, and the graph after them.

    `head` and `rest` are None if they have no nodes. The inputs of `rest` are the tensors that it
    reads of the graph's inputs, of `head` and of `on_values`.
    """

    head: Graph | None
    on_values: list[Node]
    rest: Graph | None
    constants: Graph
    """A graph without nodes, whose constants are those that `on_values` and the outputs read."""


def partition(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], limit: int | None = None
) -> Partition:
    """Cuts a prepared graph at the first operators whose result types depend on computed values.

    Args:
        graph: stays as it is. Inputs that are no tensors have no shape.
        shapes: shapes of the inputs that are tensors.
        limit: bytes that no tensor may exceed; None: `limits.memory_limit` of what is given.

    Raises:
        ShapeError: an operator does not take what these shapes lead to, or a tensor is too large.
        ValueNeeded: nothing at all can be run without a value that is not given.
    """
    graph = graph.copy()
    types = known_types(graph, shapes)
    budget = Budget(graph, types, limit)
    head: list[Node] = []
    later: list[Node] = []
    missing: ValueNeeded | None = None
    pending = graph.nodes[::-1]
    while pending:
        node = pending.pop()
        branch = taken_branch(node, graph) if node.op == "if" else None
        if branch is not None:
            types |= constant_types(graph, graph.constants.keys() - types.keys())
            pending += reversed(branch)
        elif all(name in types for name in node.inputs if name):
            try:
                if not infer_node(node, graph, types, budget):
                    head.append(node)
            except ValueNeeded as error:
                missing = missing or error
                later.append(node)
        else:
            later.append(node)
    on_values, rest = _ready(graph, later, {*types, *(spec.name for spec in graph.inputs), ""})
    if rest and not head and not on_values:  # the rest of the rest would be the same again
        node = rest[0]
        raise missing or ShapeError(
            f"node {node.name!r} ({node.op}): reads what is no tensor: {', '.join(node.inputs)}"
        )
    outputs = [spec.name for spec in graph.outputs]
    settle(graph, [*head, *later], outputs, budget.lazy)
    known = {spec.name: spec for spec in graph.inputs}
    needed_late = [name for node in (*on_values, *rest) for name in node.inputs if name]
    boundary = [name for name in dict.fromkeys((*needed_late, *outputs)) if name]
    return Partition(
        _part(graph, head, boundary, known, types),
        on_values,
        _part(graph, rest, outputs, known, types),
        Graph([], [], [], {k: v for k, v in graph.constants.items() if k in {*boundary}}),
    )


def _ready(graph: Graph, later: list[Node], available: set[str]) -> tuple[list[Node], list[Node]]:
    """The nodes that can run on the values of `available` and of each other, and the others."""
    on_values, rest = [], []
    for node in later:
        runs = ops.op(node).runs_on_values or node.op == "identity"
        if runs and available.issuperset(node.inputs):
            on_values.append(bind_constants(node, graph))
            available.update(node.outputs)
        else:
            rest.append(node)
    return on_values, rest


def _part(
    graph: Graph,
    nodes: list[Node],
    outputs: list[str],
    known: Mapping[str, TensorSpec],
    types: Mapping[str, TensorType],
) -> Graph | None:
    """The graph of some nodes, with those of the outputs that they make."""
    if not nodes:
        return None
    made = {name for node in nodes for name in node.outputs if name}
    wanted = [name for name in outputs if name in made]
    read = dict.fromkeys(name for node in nodes for name in node.inputs if name)
    inputs = [name for name in read if name not in made and name not in graph.constants]
    specs = {name: TensorSpec(name, (), types[name].dtype) for name in inputs if name in types}
    return Graph(
        inputs=[known.get(name) or specs.get(name) or TensorSpec(name, ()) for name in inputs],
        outputs=[TensorSpec(name, ()) for name in wanted],
        nodes=nodes,
        constants={name: graph.constants[name] for name in read if name in graph.constants},
        name=graph.name,
        varying={name for name in read if name in graph.varying},
    )
