"""Types of all tensors for given input shapes; whatever is constant is computed on the way."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .. import ops
from ..errors import CnnrtError, GraphError, ShapeError
from ..graph import Array, Graph, Node, TensorType
from ..ops import Operand

MAX_FOLDED_ELEMENTS = 1 << 26
"""Larger constants are left to be computed at run time: a small file must not make a large one."""

BY_TYPE = {"shape", "size"}
"""Operators whose result depends on the type of their input alone."""


def infer(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Fills `graph.types` and turns nodes of constant inputs into constants.

    Raises:
        ShapeError: an operator does not take what these shapes lead to.
    """
    types = _known_types(graph, shapes)
    graph.nodes = [node for node in graph.nodes if not _infer_node(node, graph, types)]
    graph.types = types


def problems(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, CnnrtError]:
    """For each node that cannot be run on inputs of these shapes, by its name, why not.

    Nodes that read what such a node makes are passed over.
    """
    graph = graph.copy()
    types = _known_types(graph, shapes)
    found: dict[str, CnnrtError] = {}
    for node in graph.nodes:
        if all(name in types for name in node.inputs if name):
            try:
                _infer_node(node, graph, types)
            except CnnrtError as error:
                found[node.name] = error
    return found


def _known_types(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, TensorType]:
    """The types of the constants and of the inputs."""
    types = {name: TensorType(v.shape, v.dtype) for name, v in graph.constants.items()}
    for spec in graph.inputs:
        types[spec.name] = TensorType(tuple(shapes[spec.name]), spec.dtype)
    return types


def _infer_node(node: Node, graph: Graph, types: dict[str, TensorType]) -> bool:
    """Enters the types of what a node makes; if that is constant also its values: then True."""
    operands = [
        Operand(name, types[name], graph.constants.get(name)) if name else None
        for name in node.inputs
    ]
    inferred = ops.op(node).infer(node, operands)
    if len(inferred) != len(node.outputs):
        raise GraphError(
            f"node {node.name!r} ({node.op}) has {len(node.outputs)} outputs; "
            f"the operator makes {len(inferred)}"
        )
    types.update(zip(node.outputs, inferred, strict=True))
    values = _fold(node, operands, inferred)
    if values is None:
        return False
    for name, value in zip(node.outputs, values, strict=True):
        if name:
            graph.constants[name] = value
            graph.varying.add(name)
            types[name] = TensorType(value.shape, value.dtype)
    return True


def inputs_of_value(graph: Graph, tensor: str) -> set[str]:
    """The names of the inputs that the value of a tensor depends on, not only its type."""
    producers = graph.producers()
    inputs = {spec.name for spec in graph.inputs}
    found: set[str] = set()
    pending, seen = [tensor], set()
    while pending:
        name = pending.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        if name in inputs:
            found.add(name)
        elif name in producers and producers[name].op not in BY_TYPE:
            pending += producers[name].inputs
    return found


def _fold(
    node: Node, operands: list[Operand | None], inferred: list[TensorType]
) -> tuple[Array, ...] | None:
    """The values of a node's outputs, if they can be known now."""
    present = [x for x in operands if x is not None]
    if node.op in BY_TYPE:
        arrays = [np.broadcast_to(np.zeros((), x.type.dtype), x.shape) for x in present]
    elif all(x.value is not None for x in present) and present:
        if sum(t.size for t in inferred) > MAX_FOLDED_ELEMENTS:
            return None
        arrays = [np.asarray(x.value) for x in present]
    else:
        return None
    given = iter(arrays)
    inputs = [None if x is None else next(given) for x in operands]
    try:
        values = ops.op(node).reference(node, *inputs)
    except CnnrtError:
        raise
    except (ValueError, IndexError, TypeError, ArithmeticError, MemoryError) as error:
        raise ShapeError(f"node {node.name!r} ({node.op}) cannot be evaluated: {error}") from error
    return tuple(np.ascontiguousarray(v).reshape(np.shape(v)) for v in values)
