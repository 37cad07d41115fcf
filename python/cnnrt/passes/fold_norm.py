"""Batch normalisation after a convolution becomes part of its weights and bias.

With y = scale (x - mean) / sqrt(var + epsilon) + bias, every weight of an output channel is
multiplied by scale / sqrt(var + epsilon). Computed in double precision, rounded once.
"""

from __future__ import annotations

import numpy as np

from ..graph import Array, Graph, Node

CHANNEL_AXIS = {"conv": 0, "linear": 0}
"""Where the output channels lie in the weight, for the operators that can take it."""


def fold_norm(graph: Graph) -> None:
    """Folds every batch_normalization that follows a convolution which nobody else reads."""
    producers, consumers = graph.producers(), graph.consumers()
    outputs = {spec.name for spec in graph.outputs}
    folded = set()
    for node in graph.nodes:
        if node.op != "batch_normalization":
            continue
        conv = producers.get(node.inputs[0])
        statistics = [graph.constants.get(name) for name in node.inputs[1:5]]
        if (
            conv is None
            or conv.op not in CHANNEL_AXIS
            or conv.inputs[1] not in graph.constants
            or any(name and name not in graph.constants for name in conv.inputs[2:])
            or conv.attributes.get("activation") is not None
            or len(consumers[conv.outputs[0]]) != 1
            or conv.outputs[0] in outputs
            or any(s is None for s in statistics)
        ):
            continue
        _fold(graph, conv, node, [s for s in statistics if s is not None])
        conv.outputs[0] = node.outputs[0]
        producers[node.outputs[0]] = conv
        folded.add(id(node))
    graph.nodes = [n for n in graph.nodes if id(n) not in folded]


def scale_and_shift(statistics: list[Array], epsilon: float) -> tuple[Array, Array]:
    """y = factor x + shift of a batch normalisation, in double precision."""
    scale, bias, mean, var = (s.astype(np.float64) for s in statistics)
    factor = scale / np.sqrt(var + epsilon)
    return factor, bias - mean * factor


def _fold(graph: Graph, conv: Node, norm: Node, statistics: list[Array]) -> None:
    factor, shift = scale_and_shift(statistics, norm["epsilon"])
    weight = graph.constants[conv.inputs[1]]
    per_channel = factor.reshape(-1, *[1] * (weight.ndim - 1))
    bias_name = conv.inputs[2] if len(conv.inputs) > 2 else ""
    if bias_name:
        shift = shift + graph.constants[bias_name].astype(np.float64) * factor
    new_weight, new_bias = f"{conv.inputs[1]}*{norm.name}", f"{norm.name}.shift"
    graph.constants[new_weight] = (weight * per_channel).astype(np.float32)
    graph.constants[new_bias] = shift.astype(np.float32)
    conv.inputs[1:3] = [new_weight, new_bias]
