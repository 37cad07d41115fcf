"""Fuses residual additions and activations into the node before them, which does them in
registers."""

from __future__ import annotations

from collections.abc import Mapping

from ..dtypes import FLOAT32
from ..graph import Graph, Node, TensorType
from ..ops import OPS
from ..ops.activation import Activation
from ..ops.elementwise import Unary, clip_bounds

TAKES_RESIDUAL = {"conv", "linear"}
TAKES_ACTIVATION = {"conv", "linear", "add", "sub", "mul", "div"}


def fuse_epilogue(graph: Graph) -> None:
    """Moves each addition into the convolution or layer before it, then each activation."""
    _Fusion(graph).run()


def fuse_activations(graph: Graph, types: Mapping[str, TensorType]) -> None:
    """Moves activations into the convolutions whose results nobody else reads, whatever the sizes.

    Args:
        graph: is changed; its own types are not known yet.
        types: of tensors that are known for some sizes. Dtypes are the same for all.
    """
    readers, producers = graph.reader_counts(), graph.producers()
    gone = set()
    for node in graph.nodes:
        conv = producers.get(node.inputs[0]) if node.inputs else None
        if conv is None or conv.op != "conv" or readers[node.inputs[0]] != 1:
            continue
        type_ = types.get(node.outputs[0])
        if conv.attributes.get("activation") is not None or type_ is None:
            continue
        activation = _as_activation(node, graph)
        if activation is not None and type_.dtype is FLOAT32:
            # The convolution is done where the activation was.
            node.attributes = {**conv.attributes, "activation": activation}
            node.op, node.name, node.inputs = conv.op, conv.name, conv.inputs
            gone.add(id(conv))
    graph.nodes = [node for node in graph.nodes if id(node) not in gone]


class _Fusion:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers = graph.reader_counts()
        self.position: dict[str, int] = {}
        self.nodes: list[Node | None] = []

    def run(self) -> None:
        for node in self.graph.nodes:
            fused = self._residual(node) or self._activation(node)
            if fused is None:
                fused = node
            for output in fused.outputs:
                self.position[output] = len(self.nodes)
            self.nodes.append(fused)
        self.graph.nodes = [n for n in self.nodes if n is not None]

    def _sole_producer(self, name: str) -> Node | None:
        """The node that makes a tensor which only the present node reads."""
        if self.readers.get(name) != 1 or name not in self.position:
            return None
        return self.nodes[self.position[name]]

    def _take(self, producer: Node, node: Node) -> Node:
        """`producer` moves to the place of `node` and makes its output."""
        self.nodes[self.position[producer.outputs[0]]] = None
        producer.outputs = list(node.outputs)
        return producer

    def _residual(self, node: Node) -> Node | None:
        if node.op != "add" or node.attributes.get("activation") is not None:
            return None
        types = self.graph.types
        if types[node.inputs[0]].shape != types[node.inputs[1]].shape:
            return None
        best: tuple[int, Node, str] | None = None
        for mine, other in (node.inputs, node.inputs[::-1]):
            producer = self._sole_producer(mine)
            if (
                producer is None
                or producer.op not in TAKES_RESIDUAL
                or producer.attributes.get("activation") is not None
                or len(producer.inputs) > 3
                or other in self.graph.constants
                or producer.attributes.get("group", 1) > 1
            ):
                continue
            # The later of two producers: then the other one's result is there.
            if best is None or self.position[mine] > best[0]:
                best = (self.position[mine], producer, other)
        if best is None:
            return None
        _, producer, other = best
        producer.inputs = [*producer.inputs, *[""] * (3 - len(producer.inputs)), other]
        return self._take(producer, node)

    def _activation(self, node: Node) -> Node | None:
        activation = _as_activation(node, self.graph)
        # Only kernels, which are for float32, carry an activation whatever the operator.
        if activation is None or self.graph.types[node.outputs[0]].dtype is not FLOAT32:
            return None
        producer = moved = self._sole_producer(node.inputs[0])
        if producer is not None and producer.op == "interleave":  # moves elements, all of them
            producer = self._sole_producer(producer.inputs[0])
        if (
            producer is None
            or moved is None
            or producer.op not in TAKES_ACTIVATION
            or producer.attributes.get("activation") is not None
        ):
            return None
        producer.attributes = {**producer.attributes, "activation": activation}
        return self._take(moved, node)


def _as_activation(node: Node, graph: Graph) -> Activation | None:
    """A node as an activation that another operator can carry, if it is one."""
    if node.op == "clip":
        return clip_bounds(node, graph.constants)
    op = OPS[node.op]
    return op.activation(node) if isinstance(op, Unary) else None
