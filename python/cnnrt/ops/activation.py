"""The activation that other operators carry fused: attribute `activation`, (name, alpha, beta)."""

from __future__ import annotations

from typing import NamedTuple


class Activation(NamedTuple):
    """One of cpp/kernels/activations.def, with its parameters."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0
