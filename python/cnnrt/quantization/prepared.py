"""A network ready for quantisation: norms and factors folded in, on operators that ONNX has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..graph import Graph, Node, TensorType
from ..passes.channels_first import channels_first
from ..passes.eliminate import eliminate
from ..passes.fold_affine import fold_affine
from ..passes.fold_norm import fold_norm
from ..passes.infer import infer
from ..passes.recognise_activations import recognise_activations
from ..passes.to_linear import to_linear

PASSES = [
    eliminate,
    fold_norm,
    to_linear,
    channels_first,
    eliminate,
    fold_affine,
    eliminate,
    recognise_activations,
    eliminate,
]
"""The passes of `passes.ONCE` whose results can be written as ONNX."""


@dataclass(frozen=True)
class Prepared:
    """A graph with the types of its tensors for one size of the inputs."""

    graph: Graph
    types: Mapping[str, TensorType]


def prepare(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Prepared:
    """A copy of a network after the passes that do not depend on sizes, and its types.

    Args:
        graph: the graph as it was read.
        shapes: shapes of the inputs.

    Raises:
        ShapeError: the network does not take such inputs.
    """
    result = graph.ending_at([spec.name for spec in graph.outputs]).copy()
    result.optional_inputs = [s for s in graph.optional_inputs if s.name in result.constants]
    for run in PASSES:
        run(result)
    _name_apart(result)
    return Prepared(result, types_of(result, shapes))


def types_of(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, TensorType]:
    """The types of all tensors for inputs of these shapes."""
    typed = graph.copy()
    infer(typed, shapes)
    return typed.types


def with_matrix_products(graph: Graph, types: Mapping[str, TensorType]) -> None:
    """Writes every `linear`, an operator of cnnrt alone, as ONNX's gemm, or as matmul and add."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op != "linear":
            nodes.append(node)
            continue
        x, weight, bias = node.inputs[0], node.inputs[1], node.input(2)
        if types[x].rank == 2:
            attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
            inputs = [x, weight, *([bias] if bias else [])]
            nodes.append(Node("gemm", node.name, inputs, node.outputs, attributes))
            continue
        turned = f"{weight}.T"
        if turned not in graph.constants:
            graph.constants[turned] = np.ascontiguousarray(np.asarray(graph.constants[weight]).T)
        product = f"{node.outputs[0]}.product" if bias else node.outputs[0]
        nodes.append(Node("matmul", node.name, [x, turned], [product], {}))
        if bias:
            nodes.append(Node("add", f"{node.name}.bias", [product, bias], node.outputs, {}))
    graph.nodes = nodes
    eliminate(graph)


def _name_apart(graph: Graph) -> None:
    """Names nodes without a name, or with one that another has, after their output."""
    taken: set[str] = set()
    for node in graph.nodes:
        if not node.name or node.name in taken:
            node.name = next(filter(None, node.outputs), node.op)
        taken.add(node.name)
