"""Operands of elementwise kernels: tensors over the axes of a result, to which they broadcast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import TensorType
from ..layout.strides import Strided
from ..layout.tensors import BLOCK, Blocked, ceil_div
from .builder import PlanBuilder


def plain_operand(name: str, builder: PlanBuilder, shape: Sequence[int]) -> Strided:
    """A tensor over the axes of `shape`: as it lies if its rows can be read so, or row-major."""
    own = builder.type(name).shape
    view = builder.strided(name).broadcast(own, shape)
    # A row is the last axis that is left when those of size 1 are dropped.
    row = [step for n, step in zip(shape, view.strides, strict=True) if n != 1][-1:]
    if row in ([], [0], [1]):
        return view
    plain = builder.plain(name)
    return Strided(plain.at, plain.strides()).broadcast(own, shape)


def blocked_operands(
    names: Sequence[str], type_: TensorType, builder: PlanBuilder
) -> list[Blocked | Strided] | None:
    """Tensors over the axes of a blocked result of this type.

    None unless one of its shape lies blocked, and all others can be read so.
    """
    if not 3 <= type_.rank <= 5:
        return None
    if not any(builder.is_blocked(n) and builder.type(n).shape == type_.shape for n in names):
        return None
    result: list[Blocked | Strided] = []
    for name in names:
        shape = builder.type(name).shape
        if name in builder.graph.constants:
            strided = _constant_operand(name, builder, type_.rank, type_.shape[1])
            if strided is None:
                return None
            result.append(strided)
        elif len(shape) == type_.rank:
            result.append(builder.blocked(name))
        else:
            return None
    return result


def _constant_operand(name: str, builder: PlanBuilder, rank: int, channels: int) -> Strided | None:
    """A constant that is a scalar, or one value per channel, over the blocked axes."""
    type_ = builder.type(name)
    shape = (1,) * (rank - type_.rank) + type_.shape
    if type_.size == 1:
        return Strided(builder.packer.plain(name), [0] * 6)
    if shape[1] != channels or type_.size != channels:
        return None
    value = builder.graph.constants[name]
    padded = np.zeros(ceil_div(channels, BLOCK) * BLOCK, value.dtype)
    padded[:channels] = value.reshape(-1)
    return Strided(builder.constant_memory(name, "channels", padded), [0, BLOCK, 0, 0, 0, 1])
