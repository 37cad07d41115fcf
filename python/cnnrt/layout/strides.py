"""Arithmetic of strides: what can be done to a tensor by looking at its memory differently."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a contiguous array, in elements."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def is_row_major(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether the elements follow each other; the strides of axes of size 1 do not matter."""
    wanted = row_major(shape)
    return 0 in shape or all(
        n == 1 or have == want for n, have, want in zip(shape, strides, wanted, strict=True)
    )


def reshaped(
    shape: Sequence[int], strides: Sequence[int], new: Sequence[int]
) -> tuple[int, ...] | None:
    """The strides of the same elements in the shape `new`; None if no strides reach them so.

    Axes are matched from the front: as many old as make the same product as some new ones. Each
    such group of old axes must be one run, or it cannot be cut otherwise.
    """
    if 0 in shape or 0 in new:
        return row_major(new)
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    result: list[int] = []
    i = j = 0
    while j < len(new):
        if new[j] == 1:
            result.append(1)
            j += 1
            continue
        first, total, group = i, old[i][0], [new[j]]
        i, j = i + 1, j + 1
        while total != math.prod(group):
            if total < math.prod(group):
                total *= old[i][0]
                i += 1
            else:
                group.append(new[j])
                j += 1
        run = old[first:i]
        for (_, outer), (n, inner) in pairwise(run):
            if outer != n * inner:
                return None
        result += [s * run[-1][1] for s in row_major(group)]
    return tuple(result)
