"""Puts quantise and dequantise nodes into a graph, as every runtime reads them from ONNX (QDQ)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .. import ops
from ..graph import Array, Graph, Node, TensorType
from .prepared import with_matrix_products
from .ranges import Quantiser
from .scheme import Layer, Scheme


@dataclass(frozen=True)
class Weights:
    """The weight of a layer as integers, and its bias in floats."""

    values: Array
    """int8, in the weight's shape."""
    scale: Array
    """float32, one per output channel."""
    bias: Array | None
    """float64, one per output channel; None: zeros."""


def with_quantisation(
    graph: Graph,
    types: Mapping[str, TensorType],
    scheme: Scheme,
    quantisers: Mapping[str, Quantiser],
    weights: Mapping[str, Weights],
) -> Graph:
    """A copy of a prepared graph with Q and DQ around the nodes that run in integers.

    Args:
        graph: a graph after `prepared.prepare`; tensors keep their names.
        types: types of its tensors.
        scheme: the nodes that run in integers.
        quantisers: one for each tensor of the scheme.
        weights: one for each layer of the scheme, by its name.
    """
    return _Insertion(graph.copy(), types, scheme, quantisers, weights).run()


def bias_scale(x: Quantiser, scale: Array) -> Array:
    """The scale of a bias of int32: that of the sums of products, float32 per channel."""
    product: Array = np.float32(x.scale) * scale
    return product


class _Insertion:
    def __init__(
        self,
        graph: Graph,
        types: Mapping[str, TensorType],
        scheme: Scheme,
        quantisers: Mapping[str, Quantiser],
        weights: Mapping[str, Weights],
    ) -> None:
        self.graph, self.types, self.scheme = graph, types, scheme
        self.quantisers, self.weights = quantisers, weights
        self.taken = {*graph.tensors(), *graph.constants, ""}
        self.nodes: list[Node] = []
        self.rounded: dict[str, str] = {}
        """The name of each quantised tensor after Q and DQ."""

    def run(self) -> Graph:
        layers = {layer.name: layer for layer in self.scheme.layers}
        for spec in self.graph.inputs:
            self._around(spec.name)
        for node in self.graph.nodes:
            whole = node.outputs[0] in self.scheme.made
            node.inputs = [self._source(name, whole) for name in node.inputs]
            if node.name in layers:
                self._layer(node, layers[node.name])
            else:
                self.nodes.append(node)
            for name in node.outputs:
                self._around(name)
        self.graph.nodes = self.nodes
        with_matrix_products(self.graph, self.types)
        for node in self.graph.nodes:
            ops.complete(node)
        return self.graph

    def _source(self, name: str, whole: bool) -> str:
        """The tensor that a node reads: rounded, unless floats both make and read it."""
        if name in self.rounded and (whole or name in self.scheme.made):
            return self.rounded[name]
        return name

    def _around(self, name: str) -> None:
        """Puts Q and DQ after a tensor, if it is one of the scheme's."""
        if name not in self.scheme.tensors:
            return
        found = self.quantisers[name]
        scale = self._constant(f"{name}.scale", np.array(found.scale, np.float32))
        zero = self._constant(f"{name}.zero_point", np.array(found.zero, np.uint8))
        q, dq = self._name(f"{name}.quantized"), self._name(f"{name}.dequantized")
        self.nodes.append(Node("quantize_linear", q, [name, scale, zero], [q]))
        self.nodes.append(Node("dequantize_linear", dq, [q, scale, zero], [dq]))
        self.rounded[name] = dq

    def _layer(self, node: Node, layer: Layer) -> None:
        found = self.weights[layer.name]
        values, axis = found.values, 0
        by_columns = layer.op == "linear" and self.types[layer.input].rank != 2
        if by_columns:
            values, axis = np.ascontiguousarray(values.T), 1
        name = layer.sum
        scale = self._constant(f"{name}.weight_scale", found.scale)
        zero = self._constant(f"{name}.weight_zero_point", np.zeros(len(found.scale), np.int8))
        q = self._constant(f"{name}.weight_quantized", values)
        weight = self._dequantised(f"{name}.weight", [q, scale, zero], axis)
        inputs = [node.inputs[0], weight]
        if found.bias is not None:
            step = bias_scale(self.quantisers[layer.input], found.scale)
            rounded = np.rint(found.bias / step).astype(np.int32)
            q = self._constant(f"{name}.bias_quantized", rounded)
            scale = self._constant(f"{name}.bias_scale", step)
            inputs.append(self._dequantised(f"{name}.bias", [q, scale], 0))
        if not by_columns:
            node.inputs = inputs
            if layer.op == "linear":
                node.op = "gemm"
                node.attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
            self.nodes.append(node)
            return
        product = self._name(f"{name}.product") if len(inputs) > 2 else name
        self.nodes.append(Node("matmul", node.name, inputs[:2], [product]))
        if len(inputs) > 2:
            added = self._name(f"{node.name}.bias_added")
            self.nodes.append(Node("add", added, [product, inputs[2]], node.outputs))

    def _dequantised(self, wanted: str, inputs: list[str], axis: int) -> str:
        name = self._name(wanted)
        self.nodes.append(Node("dequantize_linear", name, inputs, [name], {"axis": axis}))
        return name

    def _constant(self, wanted: str, value: Array) -> str:
        name = self._name(wanted)
        self.graph.constants[name] = value
        return name

    def _name(self, wanted: str) -> str:
        name, i = wanted, 1
        while name in self.taken:
            name, i = f"{wanted}_{i}", i + 1
        self.taken.add(name)
        return name
