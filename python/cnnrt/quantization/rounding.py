"""Weights of 8 bits: a scale for each output channel, and rounding that makes up for its errors."""

from __future__ import annotations

import numpy as np

from ..graph import Array

LARGEST = 127
"""Largest integer of the weights, which are symmetric: -128 is not used."""
DAMPING = 0.01
"""Share of the mean second moment that is added to each, so that few images do not decide alone."""
BLOCK = 128
"""Columns that are rounded before the errors are spread over the columns after them."""


def scales(weight: Array, least: Array | float = 0.0) -> Array:
    """The scale of each output channel, float32 (groups, rows).

    Args:
        weight: (groups, rows, columns): a row for each output channel.
        least: a scale that channels may not go below, one or (groups, rows).
    """
    largest = np.abs(weight).max(axis=2, initial=0).astype(np.float64)
    found = np.maximum(largest / LARGEST, least)
    tiny = float(np.finfo(np.float32).tiny)
    return np.where(found > tiny, found, 1.0).astype(np.float32)


def to_nearest(weight: Array, scale: Array) -> Array:
    """The weights as the nearest integers, float64 (groups, rows, columns)."""
    return np.clip(np.rint(weight / scale[..., None]), -LARGEST, LARGEST).astype(np.float64)


def compensated(weight: Array, scale: Array, moments: Array) -> Array:
    """Weights rounded column by column, each error spread over the columns not yet rounded.

    The errors of the outputs, not of the weights, become small. The second moments of the inputs
    say how an error in one column is made up for in others. Columns of large inputs come first
    (Frantar et al., GPTQ, 2022).

    Args:
        weight: float (groups, rows, columns).
        scale: (groups, rows).
        moments: sums of products of each two inputs, (groups, columns, columns).

    Returns:
        Integers as float64 (groups, rows, columns).
    """
    count = moments.shape[-1]
    diagonal = np.diagonal(moments, axis1=1, axis2=2)
    mean = diagonal.mean(axis=1)
    order = np.argsort(-diagonal, axis=1, kind="stable")
    damped = np.take_along_axis(moments, order[:, :, None], axis=1)
    damped = np.take_along_axis(damped, order[:, None, :], axis=2)
    # A group that sees only zeros has no errors to make up for.
    damped += np.where(mean > 0, DAMPING * mean, 1.0)[:, None, None] * np.eye(count)
    factor = np.swapaxes(np.linalg.cholesky(np.linalg.inv(damped)), 1, 2)
    rest = np.take_along_axis(weight.astype(np.float64), order[:, None, :], axis=2)
    step = scale.astype(np.float64)
    rounded = np.empty_like(rest)
    for begin in range(0, count, BLOCK):
        end = min(begin + BLOCK, count)
        errors = np.empty((*rest.shape[:2], end - begin))
        for i in range(begin, end):
            q = np.clip(np.rint(rest[:, :, i] / step), -LARGEST, LARGEST)
            rounded[:, :, i] = q
            error = (rest[:, :, i] - q * step) / factor[:, i, i, None]
            errors[:, :, i - begin] = error
            rest[:, :, i:end] -= error[:, :, None] * factor[:, None, i, i:end]
        rest[:, :, end:] -= np.matmul(errors, factor[:, begin:end, end:])
    result = np.empty_like(rounded)
    np.put_along_axis(result, order[:, None, :].repeat(rest.shape[1], axis=1), rounded, axis=2)
    return result
