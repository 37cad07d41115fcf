"""Folds a product or a sum with constants, one per channel, into the convolution or layer before
it.

Such are bias additions as exporters write them after a matmul, and layer scales. The weights are
multiplied in double precision and rounded once.

A division by one number stays, unless a power of two. A blurred mask of 255 divided by 255 is 1.
Weights divided by 255 may add up to less, and a cast to bytes behind them then loses a level.
"""

from __future__ import annotations

import math

import numpy as np

from ..graph import Array, Graph, Node
from ..weights.lazy import lazy
from .fold_norm import scaled_channels

FOLDED = {"add", "sub", "mul", "div"}


def fold_affine(graph: Graph) -> None:
    """Folds every such operator whose other input only it reads."""
    producers, consumers = graph.producers(), graph.consumers()
    outputs = {spec.name for spec in graph.outputs}
    folded = set()
    for node in graph.nodes:
        if node.op not in FOLDED or len(node.inputs) != 2:
            continue
        x, value_name = node.inputs
        if x in graph.constants and node.op in ("add", "mul"):
            x, value_name = value_name, x
        value, layer = graph.constants.get(value_name), producers.get(x)
        if (
            value is None
            or layer is None
            or layer.op not in ("conv", "linear")
            or any(name and name not in graph.constants for name in layer.inputs[1:])
            or layer.attributes.get("activation") is not None
            or len(consumers[x]) != 1
            or x in outputs
            or (node.op == "div" and value.size == 1 and not _is_power_of_two(value))
        ):
            continue
        per_channel = _per_channel(value, layer, graph.constants[layer.inputs[1]])
        biases = [graph.constants[name] for name in layer.inputs[2:] if name]
        if per_channel is None or any(b.shape != per_channel.shape for b in biases):
            continue
        _fold(graph, layer, node, per_channel, value)
        layer.outputs[0] = node.outputs[0]
        producers[node.outputs[0]] = layer
        folded.add(id(node))
    graph.nodes = [n for n in graph.nodes if id(n) not in folded]


def _is_power_of_two(value: Array) -> bool:
    return abs(math.frexp(float(value.reshape(())))[0]) == 0.5


def _per_channel(value: Array, layer: Node, weight: Array) -> Array | None:
    """The constant as one value per output channel, in double precision; None if it has another
    shape."""
    trailing = weight.ndim - 2 if layer.op == "conv" else 0
    channels = weight.shape[0]
    shape = value.shape
    if value.dtype != np.float32 or value.ndim > 2 + trailing:
        return None
    if value.size == 1 and value.ndim <= 1 + trailing:
        return np.full(channels, value.reshape(()), np.float64)
    position = value.ndim - 1 - trailing
    # A leading axis of 1 adds none to a convolution's result, but might to a layer's.
    if position < 0 or value.size != channels or shape[position] != channels:
        return None
    if layer.op == "linear" and value.ndim != 1:
        return None
    return value.reshape(-1).astype(np.float64)


def _fold(graph: Graph, layer: Node, node: Node, value: Array, constant: Array) -> None:
    bias_name = layer.input(2)
    weight = graph.constants[layer.inputs[1]]
    bias = np.zeros(weight.shape[0])
    if bias_name:
        bias = graph.constants[bias_name].astype(np.float64)
    weight_name = layer.inputs[1]
    if node.op in ("mul", "div"):
        factor = value if node.op == "mul" else 1 / value
        bias = bias * factor
        weight_name = f"{weight_name}*{node.outputs[0]}"
        graph.constants[weight_name] = lazy(
            weight.shape, np.float32, _scaled, weight, constant, node.op
        )
    else:
        bias = bias + value if node.op == "add" else bias - value
    new_bias = f"{node.outputs[0]}.bias"
    graph.constants[new_bias] = bias.astype(np.float32)
    layer.inputs[1:3] = [weight_name, new_bias]


def _scaled(weight: Array, constant: Array, op: str) -> Array:
    value = np.broadcast_to(constant.reshape(-1).astype(np.float64), weight.shape[:1])
    return scaled_channels(weight, value if op == "mul" else 1 / value)
