"""Brings channels to one size before their tensor gets one scale, without changing the network.

Before a depthwise convolution each channel can be multiplied by any number, if its weight there is
divided by as much. Nagel et al. describe that in Data-free quantization through weight equalization
and bias correction, 2019. Before linear layers the factors of a layer normalisation take a part of
the differences, and the weights the other part. That is SmoothQuant, Xiao et al., 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..graph import Array, Graph, Node, TensorType
from ..model import Model
from .observation import runs
from .prepared import Prepared
from .samples import Samples
from .scheme import Layer, Scheme

HALF_WAY = 0.5
"""Power of the ratio of sizes that channels before a depthwise convolution are scaled by.

Other images have larger values in some channels. If channels are brought to the full size of the
tensor, these are cut off. EfficientNet-Lite0 then loses 14 dB on other photos.
"""
MAX_FACTOR = 4.0
"""Largest factor of a channel before a depthwise convolution."""
MAX_SMOOTHED = 256.0
"""Largest factor of a channel behind a layer normalisation, where outliers are far larger."""
ENOUGH = 10_000
"""Pixels of a map from which on channels are scaled before a clip too.

An image shows nearly all values that a channel has there. On smaller maps other images exceed them,
and the clip cuts those values off."""
SMOOTHING = 0.5
"""SmoothQuant's alpha: the power of a channel's size that moves into the weights."""
KEEPS_CHANNELS = {"reshape", "transpose", "slice", "concat", "pad", "split", "squeeze", "unsqueeze"}


@dataclass(frozen=True)
class _Pair:
    """A layer and the depthwise convolution that alone reads its result."""

    first: Layer
    second: Layer
    bound: float
    """The upper bound of the clip between them; infinite without one."""


@dataclass(frozen=True)
class _Norm:
    """A layer normalisation and the linear layers that read its result."""

    node: Node
    readers: list[Layer]


def balance(
    prepared: Prepared,
    scheme: Scheme,
    samples: Samples,
    chosen: Sequence[int],
    *,
    progress: bool | None = None,
) -> Prepared:
    """A network with the same results, in which the channels of more tensors have one size.

    Args:
        prepared: stays as it is.
        scheme: the parts that will run in integers.
        samples: the inputs on which the sizes of channels are measured.
        chosen: numbers of runs.
    """
    finder = _Finder(prepared, scheme)
    pairs, norms = finder.pairs(), finder.norms()
    if not pairs and not norms:
        return prepared
    tensors = {pair.first.output: 1 for pair in pairs} | {n.node.outputs[0]: -1 for n in norms}
    largest: dict[str, Array] = {}
    model = Model(prepared.graph, threads=samples.model.threads)
    for _, values in runs(model, list(tensors), samples, chosen, progress=progress):
        for name, x in values.items():
            axes = tuple(a for a in range(x.ndim) if a != tensors[name] % x.ndim)
            found = np.abs(x).max(axis=axes)
            largest[name] = np.maximum(largest[name], found) if name in largest else found
    graph = prepared.graph.copy()
    edit = _Edit(graph)
    for pair in pairs:
        _equalise(edit, pair, largest[pair.first.output].astype(np.float64))
    for norm in norms:
        _smooth(edit, norm, largest[norm.node.outputs[0]].astype(np.float64))
    return Prepared(graph, {**prepared.types, **edit.types()})


def _equalise(edit: _Edit, pair: _Pair, largest: Array) -> None:
    """Brings the channels nearer to the size of the largest one."""
    goal = min(float(largest.max(initial=0)), pair.bound)
    ratio = np.maximum(goal / np.maximum(largest, 1e-30), 1.0)
    factor = np.where(largest > 0, np.minimum(ratio**HALF_WAY, MAX_FACTOR), 1.0)
    edit.scale(pair.first.weight, pair.first, factor, axis=0)
    if pair.first.bias:
        edit.scale(pair.first.bias, pair.first, factor, axis=0)
    channels = len(edit.value(pair.second.weight))
    edit.scale(pair.second.weight, pair.second, 1 / factor.repeat(channels // len(factor)), axis=0)


def _smooth(edit: _Edit, norm: _Norm, largest: Array) -> None:
    """Divides the channels by a factor that their weights are multiplied with."""
    weights = [np.abs(edit.value(layer.weight)).max(axis=0) for layer in norm.readers]
    weight = np.maximum.reduce(weights).astype(np.float64)
    usable = (largest > 0) & (weight > 0)
    ratio = np.where(usable, largest, 1.0) ** SMOOTHING
    ratio /= np.where(usable, weight, 1.0) ** (1 - SMOOTHING)
    ratio /= np.exp(np.log(ratio).mean())
    factor = np.where(usable, np.clip(ratio, 1 / MAX_SMOOTHED, MAX_SMOOTHED), 1.0)
    for index in (1, 2):
        if norm.node.input(index):
            edit.scale_input(norm.node.outputs[0], index, 1 / factor)
    for layer in norm.readers:
        edit.scale(layer.weight, layer, factor, axis=1)


class _Finder:
    def __init__(self, prepared: Prepared, scheme: Scheme) -> None:
        self.graph, self.types = prepared.graph, prepared.types
        self.layers = {layer.sum: layer for layer in scheme.layers}
        self.ends = {layer.output: layer for layer in scheme.layers}
        self.consumers = self.graph.consumers()
        self.producers = self.graph.producers()
        self.outputs = {spec.name for spec in self.graph.outputs}

    def pairs(self) -> list[_Pair]:
        found = []
        for second in self.layers.values():
            first = self.ends.get(second.input)
            weight = self.graph.constants[second.weight]
            if (
                first is None
                or second.op != "conv"
                or first.op != "conv"
                or weight.shape[1] != 1
                or second.group != self.graph.constants[first.weight].shape[0]
                or len(self.consumers[second.input]) != 1
                or second.input in self.outputs
            ):
                continue
            bound = self._bound(first)
            if bound is not None:
                found.append(_Pair(first, second, bound))
        return found

    def _bound(self, layer: Layer) -> float | None:
        """The upper bound of what follows a layer; None if factors of channels do not pass it."""
        if layer.output == layer.sum:
            return math.inf
        node = self.producers[layer.output]
        if node.inputs[0] != layer.sum:  # a residual addition lies between them
            return None
        if node.op == "relu":
            return math.inf
        low, high = (self.graph.constants.get(node.input(i)) for i in (1, 2))
        pixels = math.prod(self.types[layer.output].shape[2:])
        if node.op != "clip" or low is None or low.reshape(()) != 0 or pixels < ENOUGH:
            return None
        return math.inf if high is None else float(high.reshape(()))

    def norms(self) -> list[_Norm]:
        found = []
        for node in self.graph.nodes:
            if node.op != "layer_normalization" or any(node.outputs[1:]):
                continue
            scale = self.graph.constants.get(node.input(1))
            rank = self.types[node.outputs[0]].rank
            if scale is None or scale.ndim != 1 or node["axis"] % rank != rank - 1:
                continue
            if node.input(2) and node.input(2) not in self.graph.constants:
                continue
            readers = self._linear_readers(node.outputs[0], len(scale))
            if readers:
                found.append(_Norm(node, readers))
        return found

    def _linear_readers(self, name: str, channels: int) -> list[Layer]:
        """The linear layers that alone read a tensor, or copies with the same last axis."""
        found: list[Layer] = []
        if name in self.outputs or self.types[name].shape[-1:] != (channels,):
            return []
        for node in self.consumers.get(name, []):
            y = node.outputs[0]
            layer = self.layers.get(y)
            if layer is not None and layer.op == "linear" and layer.input == name:
                found.append(layer)
                continue
            if not self._keeps_channels(node, name):
                return []
            further = [r for out in node.outputs for r in self._linear_readers(out, channels)]
            if not further:
                return []
            found += further
        return list({layer.name: layer for layer in found}.values())

    def _keeps_channels(self, node: Node, name: str) -> bool:
        rank = self.types[name].rank
        if node.op not in KEEPS_CHANNELS:
            return False
        if node.op == "transpose":
            order = node["perm"]
            return bool(order) and order[-1] == rank - 1
        if node.op == "concat":  # of parts of one tensor, as a cyclic shift is written
            roots = {self.producers[x].inputs[0] for x in node.inputs if x in self.producers}
            return node["axis"] % rank != rank - 1 and len(roots) == 1
        return node.op != "split" or node["axis"] % rank != rank - 1


class _Edit:
    """Changes constants of a graph, each for one reader alone."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = {name: node for node in graph.nodes for name in node.outputs}
        self.changed: set[str] = set()

    def value(self, name: str) -> Array:
        return np.asarray(self.graph.constants[name])

    def scale(self, name: str, layer: Layer, factor: Array, *, axis: int) -> None:
        """Multiplies a weight or a bias of a layer along an axis."""
        self.scale_input(layer.sum, 1 if name == layer.weight else 2, factor, axis=axis)

    def scale_input(self, output: str, index: int, factor: Array, *, axis: int = 0) -> None:
        """Multiplies a constant input of the node that makes `output` along an axis."""
        node = self.nodes[output]
        value = self.value(node.inputs[index]).astype(np.float64)
        shape = [1] * value.ndim
        shape[axis] = -1
        name = f"{output}.balanced_{index}"
        self.graph.constants[name] = (value * factor.reshape(shape)).astype(np.float32)
        node.inputs = [*node.inputs[:index], name, *node.inputs[index + 1 :]]
        self.changed.add(name)

    def types(self) -> dict[str, TensorType]:
        """The types of the constants that were made."""
        values = {name: self.graph.constants[name] for name in self.changed}
        return {name: TensorType(value.shape, value.dtype) for name, value in values.items()}
