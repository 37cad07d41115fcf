"""Memory that a model needs, for `Model.memory`."""

from __future__ import annotations

from dataclasses import dataclass

from .. import _core
from ..graph import Graph
from ..storage.files import file_of
from ..weights.lazy import stored
from ..weights.packed import Packed


@dataclass(frozen=True)
class PlanMemory:
    """Memory of the plan for one set of input shapes, in bytes."""

    shapes: tuple[tuple[int, ...], ...]
    live: int
    """The largest total of activations that are alive at the same time."""
    arena: int
    """Bytes of the activations as they are laid out in a workspace."""
    scratch: int
    """Scratch memory of the kernels in a workspace."""


@dataclass(frozen=True)
class MemoryUse:
    """The memory of a model in bytes. `print` shows it as a table.

    Mapped bytes are pages of a file: shared with other processes, and given back by the system when
    memory is short.
    """

    stored: int
    """The weights as the model's file or graph has them."""
    stored_mapped: int
    """Bytes of `stored` that lie in a mapped file. They are read while weights are packed."""
    packed: int
    """The weights as the kernels read them. Winograd's are larger than those stored: 16/9 for
    winograd2, 4 for winograd4, 64/9 for winograd6. At stride 2 they are 25/9 and 9. Kernels with
    three taps on one axis only have 4/3 and 2, those of 5x5 36/25. First layers of seven columns
    at stride 2 have 20/7: what is stored, and what is transformed."""
    packed_mapped: int
    """Bytes of the packed weights that lie in a mapped, compiled file."""
    plans: tuple[PlanMemory, ...]
    """The cached plans, with the one used last at the end."""
    workspaces: int
    """As many as have run at the same time, but no more than processors are kept. The plans share
    them: each is as large as the largest plan that has run in it."""
    arena: int
    """Bytes of activations in all workspaces."""
    scratch: int
    """Bytes of kernels in all workspaces."""
    outputs: int
    """Memory of dropped outputs that the next run takes: at most as many as it returns."""

    @property
    def activations(self) -> int:
        """Bytes of the workspaces, and of outputs that wait for the next run."""
        return self.arena + self.scratch + self.outputs

    @property
    def private(self) -> int:
        """Bytes that belong to this process alone."""
        return (
            self.stored - self.stored_mapped + self.packed - self.packed_mapped + self.activations
        )

    @property
    def total(self) -> int:
        """Bytes that a run reads, private and mapped, and stored weights that are not mapped."""
        return self.private + self.packed_mapped

    @property
    def lower_bound(self) -> int:
        """The minimum for the plan used last: packed weights and live activations."""
        return self.packed + (self.plans[-1].live if self.plans else 0)

    def __str__(self) -> str:
        rows = [
            ("weights as stored", self.stored, _where(self.stored, self.stored_mapped)),
            ("weights as packed", self.packed, _where(self.packed, self.packed_mapped)),
            ("activations", self.arena, self._counts()),
            ("scratch", self.scratch, ""),
            ("idle outputs", self.outputs, "for the next run"),
            ("total", self.total, f"{self.private / 1e6:.1f} MB private"),
            ("lower bound", self.lower_bound, "packed weights and live activations"),
        ]
        return "\n".join(f"{n:<18} {b / 1e6:8.1f} MB  {note}".rstrip() for n, b, note in rows)

    def _counts(self) -> str:
        plans, workspaces = len(self.plans), self.workspaces
        return f"{plans} plan{'s' * (plans != 1)}, {workspaces} workspace{'s' * (workspaces != 1)}"


def _where(nbytes: int, mapped: int) -> str:
    if not mapped:
        return "private"
    return "mapped" if mapped == nbytes else f"{mapped / 1e6:.1f} MB of them mapped"


def memory_use(
    graph: Graph,
    packed: Packed,
    plans: tuple[PlanMemory, ...],
    runs: _core.RunMemory,
) -> MemoryUse:
    """The memory of a network as it was loaded, of its packed weights, plans and runs."""
    arrays = [array for c in graph.constants.values() for array in stored(c)]
    return MemoryUse(
        stored=sum(array.nbytes for array in arrays),
        stored_mapped=sum(a.nbytes for a in arrays if file_of(a) is not None),
        packed=packed.nbytes,
        packed_mapped=packed.mapped_nbytes,
        plans=plans,
        workspaces=runs.workspaces,
        arena=runs.arena_bytes,
        scratch=runs.scratch_bytes,
        outputs=runs.output_bytes,
    )
