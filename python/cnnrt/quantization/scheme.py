"""The choice of layers that run in integers, of the operators between them, and of their tensors.

Layers and products of two tensors run in integers unless they are excluded. Another operator does
if all of its results lead into one of those. Nothing is rounded between a layer, the addition and
the ReLU or clip after it. Nor is anything before an output of the network, or inside a function of
one tensor, which is one table of 256 values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..graph import Graph, Node, TensorType
from ..ops import OPS
from ..ops.elementwise import Unary

LAYERS = {"conv", "linear"}
MOVES = {
    *("reshape", "transpose", "flatten", "squeeze", "unsqueeze", "slice", "split", "expand"),
    *("max_pool", "global_max_pool", "depth_to_space", "space_to_depth", "gather"),
}
"""Operators that make no new values: their results have the scale of their input."""
JOINS = {
    *("add", "mul", "concat", "average_pool", "global_average_pool", "reduce_mean", "resize"),
    *("adaptive_average_pool", "upsample", "pad"),
}
POINTWISE = {"clip", "prelu", "add", "sub", "mul", "div", "pow"}
"""Operators besides the unary ones that can be a function of one tensor."""
CLAMPS = {"relu", "clip"}
TAKES_RESIDUAL = {"add"}


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer that runs in integers."""

    name: str
    """Name of its node, which is unique."""
    op: str
    input: str
    weight: str
    bias: str
    """Name of the bias; empty if there is none."""
    sum: str
    """The tensor that the node itself makes."""
    output: str
    """The tensor after the residual addition and the activation that belong to the layer."""
    group: int = 1


@dataclass
class Scheme:
    """The layers and tensors of a graph that run in integers."""

    layers: list[Layer] = field(default_factory=list)
    tensors: dict[str, str] = field(default_factory=dict)
    """The quantised tensors in order, each with the tensor whose scale it shares, or itself."""
    concats: list[tuple[str, list[str]]] = field(default_factory=list)
    """Each concatenation's result with its inputs, which should share one scale."""
    made: set[str] = field(default_factory=set)
    """The tensors that an operator makes in integers."""
    candidates: list[str] = field(default_factory=list)
    """The names of all nodes that could run in integers by themselves, excluded or not."""


def choose(
    graph: Graph,
    types: Mapping[str, TensorType],
    *,
    exclude: Collection[str] = (),
    round_residual: bool = False,
) -> Scheme:
    """Decides which parts of a prepared graph run in integers.

    Args:
        graph: a graph after `prepared.prepare`.
        types: types of its tensors, for one size of its inputs.
        exclude: names of nodes that stay in floats.
        round_residual: also rounds between a layer and the addition after it, as other runtimes
            need it to run both in integers.
    """
    return _Choice(graph, types, set(exclude), round_residual).scheme()


class _Choice:
    def __init__(
        self,
        graph: Graph,
        types: Mapping[str, TensorType],
        exclude: set[str],
        round_residual: bool,
    ) -> None:
        self.graph, self.types, self.exclude = graph, types, exclude
        self.round_residual = round_residual
        self.readers = graph.reader_counts()
        self.consumers = graph.consumers()
        self.place = {n.outputs[0]: i for i, n in enumerate(graph.nodes)}
        self.inner: set[str] = set()
        """Tensors inside a layer with its addition and activation."""
        self.integer = self._integer()

    def scheme(self) -> Scheme:
        result = Scheme(candidates=[n.name for n in self.graph.nodes if self._is_head(n)])
        self.inner |= set(self._residuals().values())
        ends = {}
        for node in self.graph.nodes:
            if self._in_integers(node) and (node.op == "mul" or not self._is_curve(node)):
                ends[node.outputs[0]] = self._end(node.outputs[0])
        roots = self._roots(ends)
        made = {y for n in self.graph.nodes if self._in_integers(n) for y in n.outputs}
        for name, root in list(roots.items()):
            if root not in made:  # a function of floats stays one: only its result is rounded
                self.integer.discard(name)
                del roots[name]
        needed = self._needed(roots)
        result.tensors = {
            name: name for name in self.graph.tensors() if name in needed and name not in self.inner
        }
        for node in self.graph.nodes:
            y = node.outputs[0]
            if y in self.integer and node.op in LAYERS:
                x, weight, bias = (node.input(i) for i in range(3))
                group = int(node.attributes.get("group", 1))
                result.layers.append(Layer(node.name, node.op, x, weight, bias, y, ends[y], group))
            if y in self.integer and self._keeps_scale(node):
                for output in node.outputs:
                    if output in result.tensors:
                        x = node.inputs[0]
                        result.tensors[output] = result.tensors.get(x, output)
            if y in self.integer and node.op == "concat":
                result.concats.append((y, [x for x in node.inputs if x in result.tensors]))
            if y in self.integer:
                result.made |= {*node.outputs, ends.get(y, y)}
        return result

    def _in_integers(self, node: Node) -> bool:
        return node.outputs[0] in self.integer

    def _is_float(self, name: str) -> bool:
        type_ = self.types.get(name)
        return type_ is not None and type_.dtype == np.float32

    def _variables(self, node: Node) -> list[str]:
        """The inputs of floats that are not constant."""
        constants = self.graph.constants
        return [x for x in node.inputs if x and x not in constants and self._is_float(x)]

    def _is_head(self, node: Node) -> bool:
        """True for layers and for products of two tensors."""
        if not node.outputs[0] or not self._is_float(node.outputs[0]):
            return False
        if node.op == "matmul":
            return len(self._variables(node)) == 2
        weight = self.graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        biases = [x for x in node.inputs[2:] if x]
        return (
            node.op in LAYERS
            and weight is not None
            and weight.dtype == np.float32
            and weight.size > 0
            and len(biases) < 2
            and all(x in self.graph.constants for x in biases)
            and node.attributes.get("activation") is None
        )

    def _is_curve(self, node: Node) -> bool:
        """True for a function of each element of one tensor, or of two that may come from one."""
        if len(node.outputs) != 1 or not self._is_float(node.outputs[0]):
            return False
        unary = isinstance(OPS[node.op], Unary)
        others = [self.graph.constants[x] for x in node.inputs if x in self.graph.constants]
        variables = self._variables(node)
        single = bool(variables) and all(value.size == 1 for value in others)
        if not single or not (unary or node.op in POINTWISE):
            return False
        return len(set(variables)) == 1 or node.op == "mul"

    def _keeps_scale(self, node: Node) -> bool:
        nearest = node.op in ("resize", "upsample") and node.attributes.get("mode") == "nearest"
        return nearest or node.op in MOVES or node.op == "pad"

    def _takes_integers(self, node: Node) -> bool:
        """True if an operator besides the layers can run on integers."""
        variables = self._variables(node)
        if not variables or not all(self._is_float(y) for y in node.outputs if y):
            return False
        if self._is_curve(node) or node.op in MOVES:
            return True
        if node.op not in JOINS:
            return False
        constants = [x for x in node.inputs if x in self.graph.constants]
        if node.op == "pad":
            value = self.graph.constants.get(node.input(2))
            return node["mode"] == "constant" and (not node.input(2) or not np.any(value))
        if node.op == "reduce_mean":
            rank = self.types[variables[0]].rank
            return rank > 2 and self.types[node.outputs[0]].size < self.types[variables[0]].size
        return node.op == "resize" or not any(self._is_float(x) for x in constants)

    def _integer(self) -> set[str]:
        """The first outputs of the nodes that run in integers."""
        found: set[str] = set()
        reaches: set[str] = set()
        """Tensors that an integer operator reads."""
        for node in reversed(self.graph.nodes):
            if node.name in self.exclude:
                continue
            useful = any(y in reaches for y in node.outputs)
            if self._is_head(node) or (useful and self._takes_integers(node)):
                found.add(node.outputs[0])
                reaches.update(self._variables(node))
        return found

    def _residuals(self) -> dict[str, str]:
        """The layer's sum that is not rounded before each addition, by the addition."""
        chosen: dict[str, str] = {}
        if self.round_residual:
            return chosen
        layers = {
            n.outputs[0]
            for n in self.graph.nodes
            if n.outputs[0] in self.integer and n.op in LAYERS and self._is_head(n)
        }
        for node in self.graph.nodes:
            y = node.outputs[0]
            if y not in self.integer or node.op not in TAKES_RESIDUAL or len(node.inputs) != 2:
                continue
            shapes = [self.types[x].shape for x in node.inputs]
            sums = [x for x in node.inputs if x in layers and self.readers[x] == 1]
            if sums and shapes[0] == shapes[1]:
                chosen[y] = max(sums, key=lambda x: self.place[x])
        return chosen

    def _end(self, name: str) -> str:
        """The tensor after the addition and the activation that are done with what makes `name`;
        those on the way are entered into `inner`."""
        while True:
            readers = self.consumers.get(name, [])
            if self.readers.get(name) != 1 or len(readers) != 1:
                return name
            node = readers[0]
            clamps = node.op in CLAMPS and node.name not in self.exclude
            bounds = all(x in self.graph.constants for x in node.inputs[1:] if x)
            if node.op in TAKES_RESIDUAL and name in self.inner:
                name = node.outputs[0]
            elif clamps and bounds:
                self.inner.add(name)
                return node.outputs[0]
            else:
                return name

    def _roots(self, ends: Mapping[str, str]) -> dict[str, str]:
        """The tensor of which each result of a function is a function, by the result."""
        curves = [n for n in self.graph.nodes if self._in_integers(n) and self._is_curve(n)]
        fixed = set(ends.values())
        for node in self.graph.nodes:
            if self._in_integers(node) and not self._is_curve(node):
                fixed.update(self._variables(node))
        while True:
            roots: dict[str, str] = {}
            for node in curves:
                found = {x if x in fixed else roots.get(x, x) for x in self._variables(node)}
                if len(found) == 1:
                    roots[node.outputs[0]] = found.pop()
            products = [n for n in curves if n.outputs[0] not in roots]
            factors = {x for n in products for x in (*self._variables(n), *n.outputs)}
            if factors <= fixed:
                return roots
            fixed |= factors  # a product of two tensors is no function of one

    def _needed(self, roots: Mapping[str, str]) -> set[str]:
        """The tensors that have to be integers."""
        needed: set[str] = set()
        for node in self.graph.nodes:
            if not self._in_integers(node) or node.outputs[0] in roots:
                continue
            needed.update(self._variables(node))
            if not self._is_head(node):
                needed.update(self._end(name) for name in node.outputs if name)
        return needed | {roots[name] for name in needed if name in roots}
