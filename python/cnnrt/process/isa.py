"""The instruction sets that kernels are compiled for, in tiers."""

from __future__ import annotations

import os

from .. import _core
from ..errors import GraphError


def default_isa() -> str:
    """The best instruction-set tier of this machine, or the one that `CNNRT_ISA` names.

    Raises:
        GraphError: `CNNRT_ISA` names a tier that this machine does not have.
    """
    tiers = _core.isas()
    wanted = os.environ.get("CNNRT_ISA", "")
    names = [*tiers, *(f"{isa}+no{overlay}" for isa in tiers for overlay in _core.overlays(isa))]
    if wanted and wanted not in names:
        raise GraphError(f"CNNRT_ISA={wanted!r}: this machine has {', '.join(names)}")
    return wanted or tiers[0]
