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
    """int8 (..., M, K) times factors (..., M, K / block), one for each block of a row, as
    float32."""
    values, factors = np.asarray(values), np.asarray(factors)
    wide = np.empty(values.shape, np.float32)
    for i in range(factors.shape[-1]):  # as many factors as values would take as much memory again
        part = np.s_[..., i * block : (i + 1) * block]
        np.multiply(values[part], factors[..., i : i + 1], out=wide[part])
    return wide


def less_128(values: Array) -> Array:
    """uint8 less 128, as int8, in row-major order."""
    flipped: Array = np.bitwise_xor(np.asarray(values), np.uint8(128), order="C")
    return flipped.view(np.int8)


class Narrow(NamedTuple):
    """A float32 constant as it is stored."""

    dtype: DType
    values: Array
    """The elements; the bits of bfloat16 as uint16."""
    factors: Array | None = None
    """float32 (..., M, K / FACTOR_BLOCK), of int8 (..., M, K)."""


def narrow(array: Array | None) -> Narrow | None:
    """The narrower array that a constant is widened from; None if it is of floats, or computed."""
    if not isinstance(array, LazyArray):
        return None
    for dtype, widen in WIDENED.items():
        if array.function is widen:
            return Narrow(dtype, array.arguments[0])
    if array.function is from_int8:
        values, factors, block = array.arguments
        depth = array.shape[-1]
        if block % FACTOR_BLOCK == 0 or block >= depth:
            count = -(-depth // FACTOR_BLOCK)
            times = -(-min(block, depth) // FACTOR_BLOCK)
            shape = (*array.shape[:-1], count)
            return Narrow(INT8, values, lazy(shape, np.float32, _repeated, factors, times, count))
    return None


def transpose(matrix: Array) -> Array:
    """A matrix, or several, with the last two axes exchanged. A widened one is widened from its
    transpose."""
    if isinstance(matrix, LazyArray):
        if matrix.function is _turned:
            turned: Array = matrix.arguments[0]
            return turned
        if matrix.function in WIDENED.values():
            values = transpose(matrix.arguments[0])
            return lazy(values.shape, matrix.dtype, matrix.function, values)
    *lead, rows, columns = matrix.shape
    return lazy((*lead, columns, rows), matrix.dtype, _turned, matrix)


def _turned(matrix: Array) -> Array:
    turned: Array = np.swapaxes(matrix, -2, -1)
    return turned


def _repeated(factors: Array, times: int, count: int) -> Array:
    """Factors of blocks as those of parts of a block, `count` in a row."""
    repeated: Array = np.repeat(np.asarray(factors), times, axis=-1)[..., :count]
    return repeated
