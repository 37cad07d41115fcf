"""Folds batch normalisation after a convolution into its weights and bias.

With y = scale (x - mean) / sqrt(var + epsilon) + bias, every weight of an output channel is
multiplied by scale / sqrt(var + epsilon). Computed in double precision, rounded once.
"""

from __future__ import annotations

import numpy as np

from ..graph import Array, Graph, Node
from ..weights.lazy import lazy

TAKES_NORM = {"conv", "conv_transpose", "linear"}
"""The operators that can take a factor and a shift for each output channel."""


def fold_norm(graph: Graph) -> None:
    """Folds every batch_normalization that follows a convolution which nobody else reads."""
    producers, consumers = graph.producers(), graph.consumers()
    outputs = {spec.name for spec in graph.outputs}
    folded = set()
    for node in graph.nodes:
        if node.op != "batch_normalization" or node["training_mode"]:
            continue
        conv = producers.get(node.inputs[0])
        statistics = [graph.constants.get(name) for name in node.inputs[1:5]]
        if (
            conv is None
            or conv.op not in TAKES_NORM
            or conv.inputs[1] not in graph.constants
            or graph.constants[conv.inputs[1]].dtype != np.float32
            or any(name and name not in graph.constants for name in conv.inputs[2:])
            or conv.attributes.get("activation") is not None
            or len(consumers[conv.outputs[0]]) != 1
            or conv.outputs[0] in outputs
            or any(s is None for s in statistics)
        ):
            continue
        # Sizes are checked later, when shapes are inferred: a norm that does not fit stays.
        biases = [graph.constants[name] for name in conv.inputs[2:] if name]
        channels = graph.constants[conv.inputs[1]].shape[:1]
        if any(s is not None and s.shape != channels for s in (*statistics, *biases)):
            continue
        _fold(graph, conv, node, [s for s in statistics if s is not None])
        conv.outputs[0] = node.outputs[0]
        producers[node.outputs[0]] = conv
        folded.add(id(node))
    graph.nodes = [n for n in graph.nodes if id(n) not in folded]


def scale_and_shift(statistics: list[Array], epsilon: float) -> tuple[Array, Array]:
    """Factor and shift of a batch normalisation y = factor x + shift, in double precision."""
    scale, bias, mean, var = (s.astype(np.float64) for s in statistics)
    factor = scale / np.sqrt(var + epsilon)
    return factor, bias - mean * factor


def scaled_channels(weight: Array, factor: Array) -> Array:
    """A weight with its output channels multiplied in double precision, without a copy in that."""
    per_channel = factor.reshape(-1, *[1] * (weight.ndim - 1))
    result = np.empty(weight.shape, np.float32)
    return np.multiply(weight, per_channel, out=result, casting="same_kind")


def _fold(graph: Graph, conv: Node, norm: Node, statistics: list[Array]) -> None:
    weight = graph.constants[conv.inputs[1]]
    bias_name = conv.input(2)
    biases = [graph.constants[bias_name]] if bias_name else []
    # Named after the tensor that is made: two nodes may share a name, and a weight.
    made, epsilon = norm.outputs[0], norm["epsilon"]
    new_weight, new_bias = f"{conv.inputs[1]}*{made}", f"{made}.shift"
    group = conv["group"] if conv.op == "conv_transpose" else 0
    graph.constants[new_weight] = lazy(
        weight.shape, np.float32, _scaled, weight, group, epsilon, *statistics
    )
    graph.constants[new_bias] = lazy(
        statistics[0].shape, np.float32, _shifted, epsilon, *statistics, *biases
    )
    conv.inputs[1:3] = [new_weight, new_bias]


def _scaled(weight: Array, group: int, epsilon: float, *statistics: Array) -> Array:
    """The weight of a convolution or layer, or of a transposed one if `group` is not 0."""
    factor, _ = scale_and_shift(list(statistics), epsilon)
    if not group:
        return scaled_channels(weight, factor)
    # (C, M / group, *kernel): the channels of an input channel's group on axis 1
    c, m, *kernel = weight.shape
    spread = np.repeat(factor.reshape(group, m), c // group, axis=0)
    per_channel = spread.reshape(c, m, *[1] * len(kernel))
    result: Array = (np.asarray(weight) * per_channel).astype(np.float32)
    return result


def _shifted(epsilon: float, *values: Array) -> Array:
    """The bias, from the statistics and, as a fifth value, the bias before."""
    factor, shift = scale_and_shift(list(values[:4]), epsilon)
    for bias in values[4:]:
        shift = shift + bias.astype(np.float64) * factor
    return shift.astype(np.float32)
