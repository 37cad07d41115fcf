"""Ranks and dtypes of tensors, where ONNX's own inference does not know an operator before them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ... import ops
from ...errors import CnnrtError
from ...graph import ANY_SHAPE, Array, Node, TensorSpec, TensorType
from ...ops import Operand
from ...ops.common import ByValue

FREE = 64
"""What a free size is taken for: sizes that come of it are not to be believed."""


class Ranks:
    """Types of what the nodes of a graph make, by the operators' own inference."""

    def __init__(self, constants: Mapping[str, Array], inputs: Iterable[TensorSpec]) -> None:
        """
        Args:
            constants: what has been read; may grow.
            inputs: of the graph.
        """
        self._constants = constants
        self.pending: list[Node] = []
        """Nodes that were read since; they are looked at when a type is asked for."""
        self._types = {
            spec.name: TensorType(
                tuple(size if isinstance(size, int) else FREE for size in spec.shape), spec.dtype
            )
            for spec in inputs
            if spec.shape != ANY_SHAPE
        }

    def type(self, name: str) -> TensorType | None:
        """The type of a tensor, of which rank and dtype are right; None if it is not known."""
        for node in self.pending:
            self._infer(node)
        self.pending.clear()
        return self._type(name)

    def _type(self, name: str) -> TensorType | None:
        value = self._constants.get(name)
        return self._types.get(name) if value is None else TensorType(value.shape, value.dtype)

    def _infer(self, node: Node) -> None:
        operands: list[Operand | None] = []
        for name in node.inputs:
            type_ = self._type(name)
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
        self._types.update(zip(node.outputs, inferred, strict=False))
