"""Cones of a graph: the nodes between one tensor and another that is a function of it alone.

Exporters spell an activation or a normalisation in many ways. A cone is computed on samples and
compared with the functions that cnnrt has kernels for, so no spelling needs a pattern of its own.
The spellings of one function are told from other functions at these samples, however they compute
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..graph import Array, Graph, Node
from ..ops import OPS

MAX_NODES = 24
"""Nodes of a cone; layer normalisation as TensorFlow writes it has 17."""


class Line(NamedTuple):
    """One node of a cone: its operator, its attributes, and its operands.

    Operands are a number of the line that makes one, "x" for the tensor that the cone begins at, a
    float, or "v0", "v1", ... for constants of several elements.
    """

    op: str
    attributes: tuple[tuple[str, Any], ...]
    operands: tuple[int | float | str, ...]


class Cone(NamedTuple):
    """The lines of a cone in order, the last of which makes its result."""

    root: str
    """The tensor that the cone begins at."""
    lines: tuple[Line, ...]
    vectors: tuple[str, ...]
    """The constants of several elements, in the order of their numbers."""


class Cones:
    """Finds the cones of a graph."""

    def __init__(self, graph: Graph, accepts: Callable[[Node], bool]) -> None:
        """
        Args:
            graph: stays as it is.
            accepts: true for the nodes that cones are made of.
        """
        self._constants = graph.constants
        self._accepts = accepts
        self._maker: dict[str, tuple[int, Node]] = {}
        for i, node in enumerate(graph.nodes):
            self._maker |= {name: (i, node) for name in node.outputs if name}

    def ending_at(self, node: Node) -> Iterator[Cone]:
        """Cones of two nodes and more that end at a node, the smallest first."""
        nodes, open_ = [node], set(self._computed(node))
        while open_:
            if len(open_) == 1 and len(nodes) > 1:
                cone = self._cone(next(iter(open_)), nodes)
                if cone is not None:
                    yield cone
            name = max(open_, key=lambda name: self._maker.get(name, (-1,))[0])
            made = self._maker.get(name)
            if made is None or len(nodes) == MAX_NODES or not self._accepts(made[1]):
                return
            open_.remove(name)
            nodes.append(made[1])
            open_.update(self._computed(made[1]))

    def _computed(self, node: Node) -> list[str]:
        return [name for name in node.inputs if name and name not in self._constants]

    def _cone(self, root: str, nodes: Sequence[Node]) -> Cone | None:
        """The lines of nodes that are given last first."""
        place: dict[str, int | float | str] = {root: "x"}
        vectors: list[str] = []
        lines: list[Line] = []
        for node in reversed(nodes):
            if len(node.outputs) != 1:
                return None
            operands = []
            for name in filter(None, node.inputs):
                value = self._constants.get(name)
                if name not in place and value is not None:
                    if value.dtype.kind != "f":
                        continue  # axes and shapes, which `accepts` has looked at
                    if value.size == 1:
                        place[name] = float(np.asarray(value).reshape(()))
                    else:
                        place[name] = f"v{len(vectors)}"
                        vectors.append(name)
                if name not in place:
                    return None
                operands.append(place[name])
            attributes = tuple(sorted(node.attributes.items(), key=lambda item: item[0]))
            place[node.outputs[0]] = len(lines)
            lines.append(Line(node.op, _hashable(attributes), tuple(operands)))
        return Cone(root, tuple(lines), tuple(vectors))


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value


def value_of(
    lines: Sequence[Line],
    samples: Mapping[str, Array],
    others: Mapping[str, Callable[[Any], Any]],
) -> Array | None:
    """The result of a cone's lines; None if they cannot be computed so.

    Args:
        lines: lines of a cone.
        samples: float64 arrays for "x" and the vectors.
        others: functions of operators that are not elementwise; they raise ValueError for other
            inputs.
    """
    made: list[Any] = []
    for line in lines:
        operands = [
            made[o] if isinstance(o, int) else samples[o] if isinstance(o, str) else np.float64(o)
            for o in line.operands
        ]
        node = Node(line.op, "", [], [""], dict(line.attributes))
        try:
            if line.op in others:
                made.append(others[line.op](operands[0]))
                continue
            with np.errstate(all="ignore"):
                made.append(OPS[line.op].reference(node, *map(np.asarray, operands))[0])
        except (TypeError, ValueError):
            return None
    return np.asarray(made[-1])
