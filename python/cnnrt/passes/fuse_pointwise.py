"""Fuses connected elementwise operators into one node, which goes over memory once.

It takes the operators that earlier passes leave: activations that no kernel carries, arithmetic
that no pattern matched, comparisons, selections and casts.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..graph import Graph, Node
from ..ops.pointwise import MAX_AXES, MAX_INPUTS, MAX_NODES, MAX_OUTPUTS, pointwise_node, takes


def fuse_pointwise(graph: Graph) -> None:
    """Joins elementwise operators whose results have one shape, if one reads another."""
    fusion = _Fusion(graph)
    groups = [group for group in fusion.groups() if len(group) > 1]
    if groups:
        fusion.replace(groups)


class _Fusion:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes = graph.nodes
        self.group: dict[int, list[int]] = {}
        """The numbers of the nodes that each node is joined with, by its number."""
        self.maker: dict[str, int] = {}
        """The number of the node that makes a tensor."""
        self.readers: dict[str, list[int]] = {}

    def groups(self) -> list[list[int]]:
        """The nodes that become one, by number, in order."""
        types = self.graph.types
        candidates = [i for i, node in enumerate(self.nodes) if takes(node, types)]
        made = {self.nodes[i].outputs[0] for i in candidates}
        if all(made.isdisjoint(self.nodes[i].inputs) for i in candidates):
            return []
        for i, node in enumerate(self.nodes):
            self.maker |= dict.fromkeys(node.outputs, i)
            for name in node.inputs:
                self.readers.setdefault(name, []).append(i)
        for spec in self.graph.outputs:
            self.readers.setdefault(spec.name, []).append(len(self.nodes))
        for i in candidates:
            self._join(i)
        return list({id(group): sorted(group) for group in self.group.values()}.values())

    def _join(self, i: int) -> None:
        """Joins a node with the groups that make its inputs, one after the other."""
        types, node = self.graph.types, self.nodes[i]
        shape = types[node.outputs[0]].shape
        if 0 in shape or len(shape) > MAX_AXES:
            return
        group = self.group[i] = [i]
        for name in node.inputs:
            before = self.group.get(self.maker.get(name, -1))
            if before is None or before is group or types[name].shape != shape:
                continue
            whole = sorted(before + group)
            if self._fits(whole) and not self._goes_around(whole):
                group = whole
                for member in whole:
                    self.group[member] = group

    def _fits(self, group: list[int]) -> bool:
        """True if the kernel takes this many operators and operands."""
        if len(group) > MAX_NODES:
            return False
        inputs, outputs = self._operands(group)
        loaded = sum(not self._is_number(name) for name in inputs)
        return loaded <= MAX_INPUTS and len(outputs) <= MAX_OUTPUTS

    def _is_number(self, name: str) -> bool:
        return name in self.graph.constants and self.graph.types[name].size == 1

    def _operands(self, group: Iterable[int]) -> tuple[list[str], list[str]]:
        """The tensors that a group reads from others, and those that others read from it."""
        members = set(group)
        made = [self.nodes[i].outputs[0] for i in group]
        read = dict.fromkeys(name for i in group for name in self.nodes[i].inputs if name)
        inputs = [name for name in read if self.maker.get(name) not in members]
        outputs = [y for y in made if not members.issuperset(self.readers.get(y, ()))]
        return inputs, outputs

    def _goes_around(self, group: list[int]) -> bool:
        """True if a group depends on itself by way of a node that is not in it."""
        members, seen = set(group), set(group)
        pending = [i for i in self._before(group) if i not in members]
        while pending:
            i = pending.pop()
            if i in seen:
                continue
            whole = self.group.get(i, [i])
            seen.update(whole)
            if whole[-1] < group[0]:  # made before anything of the group
                continue
            before = self._before(whole)
            if not members.isdisjoint(before):
                return True
            pending += before
        return False

    def _before(self, group: Iterable[int]) -> list[int]:
        """The nodes that make the inputs of a group."""
        maker = self.maker
        return [maker[name] for i in group for name in self.nodes[i].inputs if name in maker]

    def replace(self, groups: list[list[int]]) -> None:
        """Puts one node in the place of the last of each group."""
        nodes: list[Node | None] = list(self.nodes)
        sorted_still = True
        for group in groups:
            inputs, outputs = self._operands(group)
            for i in group:
                nodes[i] = None
            nodes[group[-1]] = pointwise_node(inputs, [self.nodes[i] for i in group], outputs)
            reads = (i for name in outputs for i in self.readers[name] if i not in group)
            sorted_still = sorted_still and all(i > group[-1] for i in reads)
        self.graph.nodes = [node for node in nodes if node is not None]
        if not sorted_still:
            self.graph.sort()
