"""Weights of bytes as the kernels take them: panels of quads, of 9 bits as several parts."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ..graph import Array
from ..layout.tensors import BLOCK, ceil_div
from .builder import PlanBuilder

QUAD = 4
"""Inputs that one step of a product of bytes takes."""


def parts_of(weight: Array) -> list[Array]:
    """Weights of 9 bits as the sum of two of 8, or of three if one is 255."""
    rest, parts = np.asarray(weight), []
    if weight.dtype == np.int8:
        return [rest]
    for _ in range(count_of(weight)):
        part = np.clip(rest, -128, 127)
        parts.append(part.astype(np.int8))
        rest = rest - part
    return parts


def count_of(weight: Array) -> int:
    """How many int8 weights are added for one."""
    if weight.dtype == np.int8:
        return 1
    return 3 if np.asarray(weight).max() > 254 else 2


def pack(builder: PlanBuilder, weight: Array, channels: int) -> Any:
    """Weights (M, C, taps) as panels; parts of those of 9 bits as further channels."""
    parts = parts_of(weight)
    if len(parts) > 1:
        missing = ceil_div(channels, BLOCK) * BLOCK - channels
        parts = [np.pad(part, ((0, 0), (0, missing), (0, 0))) for part in parts]
    whole = np.ascontiguousarray(np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0])
    return _core.pack_conv(whole, builder.team)


def panel_of(weight: Array, taps: int) -> int:
    """Bytes of one block's panel of weights (M, C, ...)."""
    channels: int = weight.shape[1]
    if weight.dtype != np.int8:
        return count_of(weight) * ceil_div(channels, BLOCK) * BLOCK * taps * BLOCK
    steps = channels // BLOCK * QUAD + ceil_div(channels % BLOCK, QUAD)
    return steps * taps * BLOCK * QUAD


def together(packed: list[Any], whole: int, taps: int, depths: list[int]) -> Any:
    """Panels of the parts of grouped weights as one: more taps of whole blocks, and of the last.

    `whole` is the size of the taps of whole blocks. Those of the last take `depths` channels.
    """
    panels = [np.asarray(p).reshape(len(depths), -1) for p in packed]
    made = np.zeros((len(depths), panels[0].shape[1] * len(panels)), np.int8)
    for block, depth in enumerate(depths):
        end = whole + taps * ceil_div(depth, QUAD) * QUAD * BLOCK
        heads, tails = [p[block, :whole] for p in panels], [p[block, whole:end] for p in panels]
        made[block, : len(panels) * end] = np.concatenate(heads + tails)
    return _core.Memory(made)


def depthwise_quads(weight: Array) -> Array:
    """Weights (C, D, H, W) as [C / 16][D][H][W / 4][16][4], with zeros beyond."""
    c, d, h, width = weight.shape
    blocks, quads = ceil_div(c, BLOCK), ceil_div(width, QUAD)
    padded = np.zeros((blocks * BLOCK, d, h, quads * QUAD), np.int8)
    padded[:c, :, :, :width] = weight
    parts = padded.reshape(blocks, BLOCK, d, h, quads, QUAD)
    return np.ascontiguousarray(parts.transpose(0, 2, 3, 4, 1, 5))


def pack_rows(builder: PlanBuilder, weight: Array) -> Any:
    """Weights (M, C) as panels of linear_u8; parts of those of 9 bits one after the other."""
    parts = parts_of(weight)
    whole = np.concatenate(parts, axis=1, dtype=np.int8) if len(parts) > 1 else parts[0]
    return _core.pack_conv(np.ascontiguousarray(whole[..., None]), builder.team)
