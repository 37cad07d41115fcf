"""Weights that are stored in two bytes and widened to four for computing."""

from __future__ import annotations

import numpy as np

from ..dtypes import BFLOAT16, FLOAT16
from ..graph import Array


def from_float16(array: Array) -> Array:
    """float16 as float32, exactly."""
    return np.asarray(array).astype(np.float32)


def from_bfloat16(bits: Array) -> Array:
    """The uint16 bits of bfloat16, which are the upper half of a float32, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


WIDENED = {FLOAT16: from_float16, BFLOAT16: from_bfloat16}
"""Types that float32 constants may be stored in, and the functions that widen them."""
