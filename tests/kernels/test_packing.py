"""Weights as panels [blocks of 16 outputs][steps][16][depth of a step]."""

from __future__ import annotations

import numpy as np
import pytest

from cnnrt import _core
from cnnrt.graph import Array


def _panels(weight: Array, depth: int) -> Array:
    """The panels of [m, c, taps], by padding and transposing."""
    m, c, taps = weight.shape
    blocks = -(-m // 16)
    parts = []
    for first in range(0, c, 16):
        part = weight[:, first : first + 16]
        steps = -(-part.shape[1] // depth)
        padded = np.zeros((blocks * 16, steps * depth, taps), weight.dtype)
        padded[:m, : part.shape[1]] = part
        panel = padded.reshape(blocks, 16, steps, depth, taps).transpose(0, 4, 2, 1, 3)
        parts.append(panel.reshape(blocks, -1))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize(("dtype", "depth"), [(np.float32, 1), (np.int8, 4)])
@pytest.mark.parametrize("m", [1, 16, 17, 48])
@pytest.mark.parametrize("c", [1, 3, 4, 16, 18, 37])
@pytest.mark.parametrize("taps", [1, 9])
def test_conv(dtype: type, depth: int, m: int, c: int, taps: int, threads: int) -> None:
    rng = np.random.default_rng(m * c)
    weight = rng.integers(-128, 128, (m, c, taps)).astype(dtype)
    packed = np.frombuffer(_core.pack_conv(weight, threads), dtype)
    want = _panels(weight, depth).reshape(-1)
    np.testing.assert_array_equal(packed[: want.size], want)
