"""Options that all plans of a model share."""

from __future__ import annotations

from dataclasses import dataclass

from .. import _core
from ..cost import Algorithms, Machine, machine
from ..process.threads import Threading
from ..weights.packed import Packed

CACHED_WEIGHTS = 8 << 20
"""Bytes of weights that stay in a last-level cache from one run to the next."""


@dataclass(frozen=True)
class PlanOptions:
    """Options for plans of one network on one machine, whatever the sizes of its inputs."""

    packed: Packed
    """The packed weights, shared by all plans of a model."""
    memory: _core.RunMemory
    """The memory of runs, shared by all plans of a model."""
    threads: int
    """The number of threads that a run may use."""
    threading: Threading
    """The threads that runs and the packing of weights use."""
    isa: str
    """The instruction-set tier."""
    algorithms: Algorithms
    """The convolution algorithms that the caller requested."""
    weight_bytes: int
    """Constants of the whole network before constants are folded for one size. Choices depend on
    them, and must not depend on the batch."""
    limit: int
    """Bytes that one plan may use."""

    @property
    def team(self) -> _core.Threads:
        """The threads that a run may use, as the core takes them."""
        return _core.Threads(self.threads, self.threading)

    @property
    def machine(self) -> Machine:
        """The cost model's constants for the tier."""
        return machine(self.isa)

    @property
    def weights_are_cold(self) -> bool:
        """True if the network's weights are too many to stay in the last-level cache."""
        return self.weight_bytes > CACHED_WEIGHTS
