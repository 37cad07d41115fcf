"""A lowered graph: the kernel calls of a plan, before memory is laid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..graph import Array, Graph, Node, TensorType
from ..layout.tensors import Buffer, Plain, Step
from ..weights.packed import Key


class ReferenceStep:
    """An operator that runs by its NumPy reference, between two stretches of kernel steps."""

    def __init__(
        self, node: Node, inputs: Sequence[Plain | Array | None], outputs: list[Plain | None]
    ):
        self.node = node
        self.inputs = list(inputs)
        self.outputs = list(outputs)


@dataclass(frozen=True)
class Lowered:
    """The steps that run a graph at one set of input sizes, with the memory and weights they use.

    A value: nothing is allocated but the packed weights, and nothing has an address yet.
    """

    graph: Graph
    """The graph after all passes, with the types of its tensors."""
    steps: Sequence[Step | ReferenceStep]
    buffers: Sequence[Buffer]
    """The pieces of the arena, with the first and the last step that touch each."""
    externals: Sequence[TensorType]
    """Arrays that Python sees: inputs, outputs, and the arrays that reference steps read and
    make."""
    weights: tuple[Key, ...]
    """The entries of the packed weights that the steps use; one may come twice."""
    packed_bytes: int
    """Bytes of packed weights that one run reads."""
    cost_ns: float
    """Estimated nanoseconds of all kernel steps on one thread."""

    @property
    def all_kernels(self) -> bool:
        """True if there are steps and a kernel does each of them."""
        return bool(self.steps) and all(isinstance(step, Step) for step in self.steps)
