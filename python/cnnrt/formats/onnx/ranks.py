"""Types of tensors that a file does not note, by cnnrt's own inference.

ONNX's inference has been seen to crash on files that are not well formed, so it is not asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ... import ops
from ...errors import CnnrtError
from ...graph import ANY_SHAPE, Array, Dim, Node, TensorSpec, TensorType
from ...ops import Operand
from ...ops.common import ByValue
from .types import Shape

FREE = 64
"""Stand-in for a free size: sizes that follow from it are not to be believed."""
OTHER = 192
"""Another. A size that is the same with both does not follow from a free one."""


class Ranks:
    """Types of the tensors that nodes make, by the operators' own inference."""

    def __init__(self, constants: Mapping[str, Array], inputs: Iterable[TensorSpec]) -> None:
        """
        Args:
            constants: what has been read; may grow.
            inputs: inputs of the graph.
        """
        self._constants = constants
        self.pending: list[Node] = []
        """Nodes that have not been looked at yet; that happens when a type is requested."""
        known = [spec for spec in inputs if spec.shape != ANY_SHAPE]
        free = dict.fromkeys(dim for spec in known for dim in spec.shape if isinstance(dim, str))
        own: dict[Dim, int] = {dim: OTHER * (i + 2) for i, dim in enumerate(free)}
        self._names = {size: dim for dim, size in own.items()}

        def types(stand_ins: Mapping[Dim, int]) -> dict[str, TensorType]:
            return {
                spec.name: TensorType(
                    tuple(d if isinstance(d, int) else stand_ins[d] for d in spec.shape), spec.dtype
                )
                for spec in known
            }

        self._types = types(dict.fromkeys(free, FREE))
        self._others = types(dict.fromkeys(free, OTHER))
        self._own = types(own)
        """With a stand-in for each free size; types are missing if two of them must agree."""
        if not free:  # all are fixed: one inference is enough
            self._others = self._own = self._types

    def type(self, name: str) -> TensorType | None:
        """The type of a tensor, with the right rank and dtype; None if it is not known."""
        self._look()
        return self._type(name, self._types)

    def shape(self, name: str) -> Shape | None:
        """The shape of a tensor; None if it is not known.

        A size that is not fixed has the name of the free size that it equals, or one of its own.
        """
        self._look()
        a, b = self._type(name, self._types), self._type(name, self._others)
        if a is None or b is None or a.rank != b.rank:
            return None
        own = self._type(name, self._own)
        named = own.shape if own is not None and own.rank == a.rank else b.shape
        return tuple(
            m if m == n else (self._names.get(size) if m == FREE else None) or f"{name}_{i}"
            for i, (m, n, size) in enumerate(zip(a.shape, b.shape, named, strict=True))
        )

    def _look(self) -> None:
        for node in self.pending:
            self._infer(node, self._types)
            if self._names:
                self._infer(node, self._others)
                self._infer(node, self._own)
        self.pending.clear()

    def _type(self, name: str, types: Mapping[str, TensorType]) -> TensorType | None:
        value = self._constants.get(name)
        return types.get(name) if value is None else TensorType(value.shape, value.dtype)

    def _infer(self, node: Node, types: dict[str, TensorType]) -> None:
        operands: list[Operand | None] = []
        for name in node.inputs:
            type_ = self._type(name, types)
            if name and type_ is None:
                return
            operands.append(Operand(name, type_, self._constants.get(name)) if type_ else None)
        op = ops.OPS[node.op]
        if isinstance(op, ByValue):  # it would be computed
            return
        try:
            inferred = op.infer(node, operands)
        except (CnnrtError, ValueError, TypeError, LookupError, ArithmeticError):
            return  # of sizes that are not right; where the graph is planned they are
        types.update(zip(node.outputs, inferred, strict=False))
