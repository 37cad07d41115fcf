"""Ranks and dtypes of tensors, if an operator before them is unknown to ONNX's own inference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ... import ops
from ...errors import CnnrtError
from ...graph import ANY_SHAPE, Array, Node, TensorSpec, TensorType
from ...ops import Operand
from ...ops.common import ByValue

FREE = 64
"""Stand-in for a free size: sizes that follow from it are not to be believed."""


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
        self._types = {
            spec.name: TensorType(
                tuple(size if isinstance(size, int) else FREE for size in spec.shape), spec.dtype
            )
            for spec in inputs
            if spec.shape != ANY_SHAPE
        }

    def type(self, name: str) -> TensorType | None:
        """The type of a tensor, with the right rank and dtype; None if it is not known."""
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
