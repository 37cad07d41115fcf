"""Subgraphs of control flow: constants that they capture, and branches whose condition is known."""

from __future__ import annotations

from typing import Any

from ..errors import ShapeError
from ..graph import Graph, Node
from ..ops.control_flow import condition_of


def bind_constants(node: Node, graph: Graph) -> Node:
    """A copy of a node whose subgraphs own the constants that they capture."""
    subgraphs = node.subgraphs()
    if not subgraphs:
        return node
    count = node["captured"]
    first = len(node.inputs) - count
    captured = node.inputs[first:]
    attributes: dict[str, Any] = dict(node.attributes)
    for attribute, subgraph in subgraphs.items():
        inner = subgraph.copy()
        own = len(inner.inputs) - count
        specs = inner.inputs[own:]
        inner.inputs = inner.inputs[:own]
        if len(captured) != len(specs):
            raise ShapeError(
                f"node {node.name!r} ({node.op}): {attribute} takes {len(specs)} tensors from "
                f"around it, the node has {len(captured)}"
            )
        for name, spec in zip(captured, specs, strict=True):
            if name in graph.constants:
                inner.constants[spec.name] = graph.constants[name]
                if name in graph.varying:
                    inner.varying.add(spec.name)
            else:
                inner.inputs.append(spec)
        attributes[attribute] = inner
    kept = [name for name in captured if name not in graph.constants]
    attributes["captured"] = len(kept)
    return Node(node.op, node.name, node.inputs[:first] + kept, list(node.outputs), attributes)


def taken_branch(node: Node, graph: Graph) -> list[Node] | None:
    """The nodes of the branch that an `if` takes, if its condition is a constant of the graph.

    The branch's constants become constants of the graph.
    """
    condition = graph.constants.get(node.inputs[0])
    if condition is None or node.op != "if":
        return None
    branch: Graph = node["then_branch" if condition_of(node, condition) else "else_branch"]
    given, made = len(node.inputs) - 1, len(node.outputs)
    if (given, made) != (len(branch.inputs), len(branch.outputs)):
        raise ShapeError(
            f"node {node.name!r} (if): gives {given} inputs to a branch of {len(branch.inputs)}, "
            f"takes {made} outputs of its {len(branch.outputs)}"
        )
    renamed = {spec.name: name for spec, name in zip(branch.inputs, node.inputs[1:], strict=True)}
    for name, value in branch.constants.items():
        graph.constants[name] = value
    graph.varying |= branch.varying
    nodes = [
        Node(
            inner.op,
            inner.name,
            [renamed.get(name, name) for name in inner.inputs],
            list(inner.outputs),
            dict(inner.attributes),
        )
        for inner in branch.nodes
    ]
    for spec, output in zip(branch.outputs, node.outputs, strict=True):
        if output:
            inner_name = renamed.get(spec.name, spec.name)
            nodes.append(Node("identity", f"{node.name}/{output}", [inner_name], [output]))
    return nodes
