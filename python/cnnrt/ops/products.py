"""Convolutions as products of matrices, which NumPy leaves to BLAS.

The method is im2col, some rows of an image at a time. Source: Chellapilla, Puri and Simard, "High
Performance Convolutional Neural Networks for Document Processing", 2006.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from ..graph import Array
from .windows import Windows

COLUMNS = 1 << 20
"""Approximate elements of the patches that are multiplied at once. They are few enough for a cache,
and so many that the threads of BLAS seldom wait for each other."""


def convolve(x: Array, weight: Array, windows: Windows, group: int) -> Array:
    """The convolution of x (N, C, *size) with a weight (M, C / group, *kernel): (N, M, *out).

    Integers are computed in float64, for which BLAS has a product, as long as no sum can exceed
    what it holds exactly.
    """
    if x.dtype.kind in "iu" and _is_exact(x, weight, math.prod(weight.shape[1:])):
        y = convolve(x.astype(np.float64), weight.astype(np.float64), windows, group)
        return y.astype(np.int64).astype(x.dtype)
    n, c = x.shape[:2]
    m, depth = weight.shape[:2]
    dtype = np.result_type(x, weight)
    y = np.zeros((n, m, *windows.out), dtype)
    rank = len(windows.kernel)
    # (N, C, *kernel, *out), a view of the padded image
    patches = np.moveaxis(windows.patches(x), range(2, 2 + rank), range(-rank, 0))
    if depth == 1 and m == c:
        taps = weight.reshape(m, -1, *[1] * rank)
        for i, tap in enumerate(itertools.product(*map(range, windows.kernel))):
            index: tuple[Any, ...] = (slice(None), slice(None), *tap)
            y += patches[index] * taps[:, i]
        return y
    height = windows.out[0]
    row = depth * math.prod(windows.kernel) * math.prod(windows.out[1:])
    step = max(1, COLUMNS // max(row, 1))
    outputs = m // group
    for image, g, r in itertools.product(range(n), range(group), range(0, height, step)):
        rows: tuple[Any, ...] = (..., slice(r, r + step), *[slice(None)] * (rank - 1))
        part = patches[image, g * depth : (g + 1) * depth][rows]
        factors = weight[g * outputs : (g + 1) * outputs].reshape(outputs, -1)
        made = factors @ part.reshape(factors.shape[1], -1)
        target = y[image, g * outputs : (g + 1) * outputs, r : r + step]
        target[...] = made.reshape(target.shape)
    return y


def product(a: Array, b: Array) -> Array:
    """NumPy's matmul, by BLAS for integers too if no sum can exceed what float64 holds exactly."""
    dtype = np.result_type(a, b)
    if dtype.kind in "iu" and _is_exact(a, b, a.shape[-1]):
        y = np.matmul(a.astype(np.float64), b.astype(np.float64))
        return np.asarray(y).astype(np.int64).astype(dtype)
    return np.asarray(np.matmul(a, b))


def _is_exact(a: Array, b: Array, terms: int) -> bool:
    """True if every sum of this many products of two arrays of integers is below 2^53."""
    if not a.size or not b.size:
        return False
    largest = [max(abs(int(x.min())), abs(int(x.max()))) for x in (a, b)]
    return math.prod(largest) * terms < 1 << 53
