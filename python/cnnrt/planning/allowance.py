"""Memory and work that one run may take behind the first stage of its plan.

A file shows the work of its network, if sizes do not depend on computed values. Behind the first
stage they do: the iterations of a loop, the elements of a range. So a run has an allowance, which
all its stages and subgraphs share, at any depth. Work is predicted, not measured: a slow machine
refuses what a fast one refuses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from ..graph import Array, Node, Value
from ..process.limits import check_memory, check_work, memory_limit, work_limit

RUN_NS = 12_000.0
"""Work of running a plan or an operator besides its steps. On a Zen 4 a loop's body of one addition
takes 11 us."""
PLAN_NS, NODE_NS = 1e5, 5e4
"""Work of planning: of a plan, and of each node. A body of two nodes takes 0.2 ms."""
SLOWEST = 30
"""Maximum factor by which an emulator slows planning down."""
LEAF_NS, ELEMENT_NS, ARRAY_NS, PAIR_NS = 500.0, 10.0, 1000.0, 1.0
"""Work of an operator. The figures are for an input array, for one of its elements, for an output
array, and for a pair of boxes compared."""
ARRAY_BYTES = 128
"""Bytes of an array besides its elements."""


class Allowance:
    """The remaining allowance of a run, in bytes and in predicted nanoseconds."""

    def __init__(self, given: int) -> None:
        """
        Args:
            given: bytes of the weights and of the inputs.
        """
        self.room = memory_limit(given)
        """Bytes that are left."""
        self._limit = self.room
        self._work = 0.0
        self._most_work = work_limit(given)

    @property
    def held(self) -> int:
        """Bytes that are taken."""
        return self._limit - self.room

    def hold(self, nbytes: int, at: str) -> None:
        """Takes memory that stays while later nodes are planned and run.

        Raises:
            MemoryLimitError: there is not as much left.
        """
        self.check(nbytes, at)
        self.room -= nbytes

    def check(self, nbytes: int, at: str) -> None:
        """Checks that there is memory for future results.

        Raises:
            MemoryLimitError: there is not.
        """
        if nbytes > self.room:
            check_memory(
                self._limit - self.room + nbytes, self._limit, f"{at}, with what it needs,"
            )

    def spend(self, ns: float, at: str) -> None:
        """Takes work.

        Raises:
            WorkLimitError: there is not as much left.
        """
        self._work += ns
        if self._work > self._most_work:
            check_work(self._work, self._most_work, at)

    def spend_planning(self, nodes: int, taken_ns: int, at: str) -> None:
        """Takes the work of planning this many nodes, which took `taken_ns`.

        Constants may be computed there, which nobody predicts.

        Raises:
            WorkLimitError: there is not as much left.
        """
        ns = PLAN_NS + NODE_NS * nodes
        self.spend(ns + max(0.0, taken_ns - SLOWEST * ns), at)


def leaves(values: Iterable[Value]) -> Iterator[Array]:
    """The arrays of some values, those of sequences too."""
    for value in values:
        if isinstance(value, list):
            yield from leaves(value)
        elif value is not None:
            yield value


def nbytes_of(values: Sequence[Value], known: Collection[int] = ()) -> int:
    """Bytes of the arrays of values, apart from those known by their `id`."""
    return sum(x.nbytes for x in leaves(values) if id(x) not in known)


def predicted(node: Node, values: Sequence[Value]) -> tuple[int, float]:
    """Bytes and nanoseconds that an operator without subgraphs may take on these values."""
    arrays = list(leaves(values))
    ns = RUN_NS + LEAF_NS * len(arrays)
    x = values[0] if values else None
    if node.op == "split_to_sequence" and isinstance(x, np.ndarray):
        parts = max(x.shape, default=1)
        return x.nbytes + ARRAY_BYTES * parts, ns + ARRAY_NS * parts
    if node.op != "concat_from_sequence" and any(isinstance(v, list) for v in values):
        return ARRAY_BYTES * len(arrays), ns  # the elements stay as they are
    elements = sum(x.size for x in arrays)
    ns += ELEMENT_NS * elements
    if node.op == "non_max_suppression" and len(values) > 2:
        scores, most = values[1:3]
        if isinstance(scores, np.ndarray) and isinstance(most, np.ndarray) and most.size == 1:
            boxes = scores.shape[-1] if scores.ndim else 1
            ns += PAIR_NS * scores.size * min(boxes, max(0, int(most.reshape(()))))
    # A place among `ndim` axes for each element is the most that any of them makes.
    return sum(x.nbytes + 8 * x.ndim * x.size for x in arrays), ns
