"""Linear layers whose input gets its scale at run time, without images to calibrate on."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from .. import ops
from ..errors import GraphError
from ..graph import Array, Graph, Node
from .prepared import prepare, with_matrix_products
from .rounding import scales, to_nearest
from .scheme import choose


def with_dynamic_quantisation(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], *, exclude: Collection[str] = ()
) -> Graph:
    """A network whose linear layers are DynamicQuantizeLinear and MatMulInteger.

    Weights are int8 with one scale per output, rounded to nearest. Convolutions stay in float32.

    Args:
        graph: as it was read.
        shapes: of the inputs, any that it takes.
        exclude: names of nodes that stay in float32.

    Raises:
        GraphError: there is no linear layer with a constant weight.
    """
    prepared = prepare(graph, shapes)
    result = prepared.graph
    found = choose(result, prepared.types, exclude=exclude).layers
    layers = {layer.name: layer for layer in found if layer.op == "linear"}
    if not layers:
        raise GraphError("the network has no linear layer with constant weights to quantise")
    nodes: list[Node] = []
    for node in result.nodes:
        nodes += _dynamic(node, result) if node.name in layers else [node]
    result.nodes = nodes
    with_matrix_products(result, prepared.types)
    for node in result.nodes:
        ops.complete(node)
    return result


def _dynamic(node: Node, graph: Graph) -> list[Node]:
    """The nodes that do what a linear layer does, on integers."""
    y = node.outputs[0]
    weight = np.asarray(graph.constants[node.inputs[1]]).astype(np.float64)[None]
    scale = scales(weight)
    values = to_nearest(weight, scale)[0].T.astype(np.int8)

    def constant(name: str, value: Array) -> str:
        graph.constants[f"{y}.{name}"] = value
        return f"{y}.{name}"

    w = constant("weight_quantized", np.ascontiguousarray(values))
    w_scale = constant("weight_scale", scale[0])
    q, s, z = (f"{y}.{name}" for name in ("x_quantized", "x_scale", "x_zero_point"))
    scaled = f"{y}.scaled" if node.input(2) else y
    made = [
        Node("dynamic_quantize_linear", q, [node.inputs[0]], [q, s, z]),
        Node("matmul_integer", f"{y}.integers", [q, w, z], [f"{y}.integers"]),
        Node("cast", f"{y}.cast", [f"{y}.integers"], [f"{y}.cast"], {"to": "float32"}),
        Node("mul", f"{y}.factor", [s, w_scale], [f"{y}.factor"]),
        Node("mul", node.name, [f"{y}.cast", f"{y}.factor"], [scaled]),
    ]
    if node.input(2):
        made.append(Node("add", f"{y}.bias_added", [scaled, node.input(2)], [y]))
    return made
