"""Turns stretches of a network that work channels last, between two transposes, to channels first.

ConvNeXt transposes to (N, H, W, C) for a layer normalisation and two layers over the channels, and
back. A normalisation over channels and two 1x1 convolutions do the same on blocked tensors as they
lie. The transposes, and all copies for them, are gone.
"""

from __future__ import annotations

import numpy as np

from .. import ops
from ..graph import Array, Graph, Node
from ..ops import OPS
from ..ops.elementwise import Unary

BINARY = {"add", "sub", "mul", "div"}


def channels_first(graph: Graph) -> None:
    """Rewrites every stretch whose ends are all transposes to channels last, or back."""
    consumers = graph.consumers()
    outputs = {spec.name for spec in graph.outputs}
    for node in graph.nodes:
        if not _is_transpose(node, to_last=True):
            continue
        stretch = _Stretch(graph, consumers, outputs, len(node["perm"]))
        if stretch.grow(node):
            stretch.rewrite(node)


def _is_transpose(node: Node, *, to_last: bool) -> bool:
    perm = node.attributes.get("perm")
    if node.op != "transpose" or not perm or not 3 <= len(perm) <= 5:
        return False
    rank = len(perm)
    wanted = [0, *range(2, rank), 1] if to_last else [0, rank - 1, *range(1, rank - 1)]
    return list(perm) == wanted


class _Stretch:
    """Nodes between one transpose to channels last and the transposes back."""

    def __init__(
        self, graph: Graph, consumers: dict[str, list[Node]], outputs: set[str], rank: int
    ) -> None:
        self.graph = graph
        self.consumers = consumers
        self.outputs = outputs
        self.rank = rank
        self.inside: list[Node] = []
        self.ends: list[Node] = []

    def grow(self, start: Node) -> bool:
        """Finds all nodes of the stretch; False if one of them must stay channels last."""
        tensors = {start.outputs[0]}
        pending = [start.outputs[0]]
        while pending:
            name = pending.pop()
            if name in self.outputs:
                return False
            for node in self.consumers.get(name, []):
                if node in self.inside or node in self.ends:
                    continue
                if _is_transpose(node, to_last=False):
                    self.ends.append(node)
                    continue
                if not self._takes(node):
                    return False
                self.inside.append(node)
                tensors.add(node.outputs[0])
                pending.append(node.outputs[0])
        constants = self.graph.constants
        return bool(self.ends) and all(
            not name or name in constants or name in tensors
            for node in self.inside
            for name in node.inputs
        )

    def _takes(self, node: Node) -> bool:
        """True if a node can be done channels first."""
        values = [self.graph.constants.get(name) for name in node.inputs if name]
        if node.op == "layer_normalization":
            return (
                node["axis"] in (-1, self.rank - 1)
                and not any(node.outputs[1:])
                and len(node.inputs) == 3
                and all(v is not None and v.ndim == 1 for v in values[1:])
            )
        if node.op == "linear":
            return len(node.inputs) <= 3 and all(v is not None for v in values[1:])
        if node.op in BINARY:
            return len(node.inputs) == 2 and all(v is None or v.ndim <= 1 for v in values)
        return isinstance(OPS[node.op], Unary) or node.op == "activate"

    def rewrite(self, start: Node) -> None:
        for node in (start, *self.ends):
            node.op, node.attributes = "identity", {}
            ops.complete(node)
        for node in self.inside:
            if node.op == "layer_normalization":
                node.op, node.attributes = (
                    "channel_normalization",
                    {"epsilon": node["epsilon"]},
                )
            elif node.op == "linear":
                weight = self._shaped(node.inputs[1], (1,) * (self.rank - 2))
                node.op, node.attributes = "conv", {"activation": node["activation"]}
                node.inputs[1] = weight
                ops.complete(node)
            else:
                for i, name in enumerate(node.inputs):
                    value = self.graph.constants.get(name)
                    if value is not None and value.size > 1:
                        node.inputs[i] = self._shaped(name, (1,) * (self.rank - 2))

    def _shaped(self, name: str, trailing: tuple[int, ...]) -> str:
        """A constant with axes of size 1 added behind."""
        value: Array = self.graph.constants[name]
        new = f"{name}.channels_first"
        if new not in self.graph.constants:
            self.graph.constants[new] = np.ascontiguousarray(value).reshape(*value.shape, *trailing)
        return new
