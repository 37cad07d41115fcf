"""Weights that are stored in fewer bytes than the floats that they stand for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..dtypes import BFLOAT16, FLOAT16, INT8, DType
from ..graph import Array
from .lazy import LazyArray, lazy

FACTOR_BLOCK = 32
"""Weights of int8 along a row that share a factor in the kernel."""


def from_float16(array: Array) -> Array:
    """float16 as float32, exactly."""
    return np.asarray(array).astype(np.float32)


def from_bfloat16(bits: Array) -> Array:
    """The uint16 bits of bfloat16, which are the upper half of a float32, as float32."""
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


WIDENED = {FLOAT16: from_float16, BFLOAT16: from_bfloat16}
"""Types that float32 constants may be stored in, and the functions that widen them."""


def from_int8(values: Array, factors: Array, block: int) -> Array:
    """int8 (M, K) times factors (M, K / block), one for each block of a row, as float32."""
    wide: Array = np.asarray(values).astype(np.float32)
    wide *= np.repeat(np.asarray(factors), block, axis=1)[:, : wide.shape[1]]
    return wide


class Narrow(NamedTuple):
    """A float32 constant as it is stored."""

    dtype: DType
    values: Array
    """The elements; the bits of bfloat16 as uint16."""
    factors: Array | None = None
    """float32 (M, K / FACTOR_BLOCK), of int8 (M, K)."""


def narrow(array: Array | None) -> Narrow | None:
    """The narrower array that a constant is widened from; None if it is of floats, or computed."""
    if not isinstance(array, LazyArray):
        return None
    for dtype, widen in WIDENED.items():
        if array.function is widen:
            return Narrow(dtype, array.arguments[0])
    if array.function is from_int8:
        values, factors, block = array.arguments
        count, depth = -(-array.shape[1] // FACTOR_BLOCK), array.shape[1]
        if block % FACTOR_BLOCK == 0 or block >= depth:
            times = -(-min(block, depth) // FACTOR_BLOCK)
            shape = (array.shape[0], count)
            return Narrow(INT8, values, lazy(shape, np.float32, _repeated, factors, times, count))
    return None


def transpose(matrix: Array) -> Array:
    """The transpose of a matrix. That of a widened one is widened from the transpose."""
    if isinstance(matrix, LazyArray):
        if matrix.function is _turned:
            turned: Array = matrix.arguments[0]
            return turned
        if matrix.function in WIDENED.values():
            values = transpose(matrix.arguments[0])
            return lazy(matrix.shape[::-1], matrix.dtype, matrix.function, values)
    return lazy(matrix.shape[::-1], matrix.dtype, _turned, matrix)


def _turned(matrix: Array) -> Array:
    turned: Array = matrix.T
    return turned


def _repeated(factors: Array, times: int, count: int) -> Array:
    """Factors of blocks as those of parts of a block, `count` in a row."""
    repeated: Array = np.repeat(np.asarray(factors), times, axis=1)[:, :count]
    return repeated
