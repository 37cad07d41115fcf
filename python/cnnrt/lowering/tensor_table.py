"""Where each tensor of a graph lies while its steps are built, and how long it is needed."""

from __future__ import annotations

from ..graph import Graph, Node
from ..layout.strides import Strided
from ..layout.tensors import NO_BORDER, Blocked, Border, Buffer, Plain
from .concat import concat_places

ELEMENTWISE = frozenset({"cast", "pointwise", "add", "sub", "mul", "div"})
"""Operators whose result lies as what they read does; the first of a network, as a rule."""


class TensorTable:
    """The tensors alive at the present node, by name: row-major, blocked, or views of another.

    A tensor may be in several tables at once, in as many layouts. It leaves all of them after its
    last reader, so the tables stay small, however long the network is.
    """

    def __init__(self, graph: Graph) -> None:
        self.plain: dict[str, Plain] = {}
        self.blocked: dict[str, Blocked] = {}
        self.views: dict[str, Strided] = {}
        """Tensors that are part of another's memory, by strides; copied if a reader requires it."""
        self.outputs = {spec.name for spec in graph.outputs}
        self.of_inputs = {spec.name for spec in graph.inputs}
        """The inputs, and what is computed from their elements one by one. All lie row-major."""
        self.places = concat_places(graph)
        """The result, and its first block there, of each tensor made in its place in a
        concatenation."""
        self.concatenated: dict[str, Blocked] = {}
        """The results of concatenations of which a part has been made."""
        self._borders: dict[str, Border] = {}
        self._fills: dict[str, int] = {}
        self._uses: dict[str, int] = {}
        self._readers: dict[str, Node] = {}
        self._made: set[str] = set()
        for node in graph.nodes:
            for name in node.inputs:
                if name:
                    self._uses[name] = self._uses.get(name, 0) + 1
                    self._readers[name] = node
            if node.op in ELEMENTWISE:
                read = [name for name in node.inputs if name and name not in graph.constants]
                if read and self.of_inputs.issuperset(read):
                    self.of_inputs.update(node.outputs)
        for name in self.outputs:
            self._uses[name] = self._uses.get(name, 0) + 1

    def border(self, name: str) -> Border:
        """The border that the readers of a tensor need around it."""
        return self._borders.get(name, NO_BORDER)

    def require_border(self, name: str, border: Border) -> None:
        """Makes the border of a tensor at least as wide as this one."""
        self._borders[name] = self.border(name).union(border)

    def require_fill(self, name: str, fill: int) -> None:
        """Asks for a value in the border of a tensor of integers; the first that asks gets it."""
        self._fills.setdefault(self.places.get(name, (name, 0))[0], fill)

    def fill(self, name: str) -> int:
        """The value in the border of a tensor."""
        return self._fills.get(self.places.get(name, (name, 0))[0], 0)

    def share_borders(self) -> None:
        """Gives the parts of each concatenation, which share its memory, one border."""
        for part, (whole, _) in self.places.items():
            self._borders[whole] = self.border(part).union(self.border(whole))

    def fits_border(self, name: str, tensor: Blocked) -> bool:
        """True if `tensor` has the border that the readers of `name` need."""
        border = self._borders.get(name)
        if border is None or border == NO_BORDER:
            return True
        # What fills the border of a tensor of integers depends on its readers.
        return tensor.itemsize > 1 and border.union(tensor.border) == tensor.border

    def sole_reader(self, name: str) -> Node | None:
        """The only node that reads a tensor, unless the tensor is itself an output."""
        return self._readers.get(name) if self._uses.get(name) == 1 else None

    def is_only_output(self, name: str) -> bool:
        """True if a tensor is an output that no node reads."""
        return name in self.outputs and self._uses[name] == 1

    def is_made(self, node: Node) -> bool:
        """True if the steps of an earlier node have made all outputs of this one."""
        return bool(self._made) and self._made.issuperset(filter(None, node.outputs))

    def mark_made(self, node: Node) -> None:
        """Notes that the steps of the present node also make the outputs of a later one."""
        self._made.update(filter(None, node.outputs))

    def release(self, node: Node) -> None:
        """Counts the readings of a lowered node; drops the tensors that no later node reads."""
        for name in node.inputs:
            if name:
                self._uses[name] -= 1
                if not self._uses[name]:
                    self.plain.pop(name, None)
                    self.blocked.pop(name, None)
                    self.views.pop(name, None)

    def dies(self, name: str) -> bool:
        """True if the present node is the last to read an arena tensor, which it may overwrite."""
        if self._uses.get(name, 0) != 1 or name in self.outputs or name in self.views:
            return False
        homes = [table[name] for table in (self.plain, self.blocked) if name in table]
        # A constant may lie nowhere yet.
        return bool(homes) and all(
            home.buffer.in_arena and self._is_sole(home.buffer) for home in homes
        )

    def _is_sole(self, buffer: Buffer) -> bool:
        """True if one reading is left of all tensors that lie in a buffer."""
        owners = {n for n, t in self.plain.items() if t.buffer is buffer}
        owners.update(n for n, t in self.blocked.items() if t.buffer is buffer)
        owners.update(n for n, view in self.views.items() if view.at.buffer is buffer)
        return sum(self._uses.get(n, 0) for n in owners) == 1
