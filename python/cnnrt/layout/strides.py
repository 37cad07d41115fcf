"""Arithmetic of strides: what can be done to a tensor by looking at its memory differently."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from .tensors import BLOCK, Blocked, Plain, row_major


class Strided(NamedTuple):
    """Where a tensor begins and its stride along each axis, in elements (0: broadcast)."""

    at: Any
    strides: Sequence[int]

    @staticmethod
    def of_blocked(x: Blocked, like: Blocked | None = None) -> Strided:
        """Strides over the axes n, block, d, h, w, lane; axes of size 1 broadcast to those of
        `like`."""
        strides = [x.image, x.block, x.plane, x.row, BLOCK, 1]
        if like is not None:
            for axis, size in enumerate((x.n, x.c, *x.spatial)):
                if size == 1:
                    strides[axis] = 0
            if x.c == 1 and like.c > 1:
                strides[5] = 0
        return Strided(x.at, strides)

    @staticmethod
    def of_plain(x: Plain, shape: Sequence[int]) -> Strided:
        """Strides over the axes of `shape`, to which x is broadcast."""
        return Strided(x.at, x.strides()).broadcast(x.type.shape, shape)

    def broadcast(self, own: Sequence[int], shape: Sequence[int]) -> Strided:
        """Strides over the axes of `shape`, to which a tensor of the shape `own` is broadcast."""
        strides = [0 if n == 1 else s for n, s in zip(own, self.strides, strict=True)]
        return Strided(self.at, [0] * (len(shape) - len(own)) + strides)


def blocked_shape(x: Blocked) -> tuple[int, ...]:
    """The axes n, block, d, h, w, lane of a blocked tensor."""
    return (x.n, x.blocks, *x.spatial, BLOCK)


def merge_axes(shape: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """Drops axes of size 1, and merges neighbours that are contiguous in every operand."""
    first, *others = strides
    if all(other == first for other in others):
        sizes, merged = _merge(shape, first)
        return sizes, [list(merged) for _ in strides]
    sizes = []
    steps: list[tuple[int, ...]] = []
    for n, inner in zip(shape, zip(*strides, strict=True), strict=True):
        if n == 1:
            continue
        if sizes and steps[-1] == tuple([n * i for i in inner]):
            sizes[-1] *= n
            steps[-1] = inner
        else:
            sizes.append(n)
            steps.append(inner)
    if not sizes:
        return [1], [[1] for _ in strides]
    return sizes, [list(s) for s in zip(*steps, strict=True)]


def _merge(shape: Sequence[int], strides: Sequence[int]) -> tuple[list[int], list[int]]:
    """`merge_axes` of operands that all have the same strides."""
    sizes: list[int] = []
    merged: list[int] = []
    for n, stride in zip(shape, strides, strict=True):
        if n == 1:
            continue
        if sizes and merged[-1] == n * stride:
            sizes[-1] *= n
            merged[-1] = stride
        else:
            sizes.append(n)
            merged.append(stride)
    return (sizes, merged) if sizes else ([1], [1])


def is_row_major(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """True if the elements follow each other; the strides of axes of size 1 do not matter."""
    wanted = row_major(shape)
    return 0 in shape or all(
        n == 1 or have == want for n, have, want in zip(shape, strides, wanted, strict=True)
    )


def around_axes(
    shape: Sequence[int], strides: Sequence[int], axes: Collection[int]
) -> tuple[int, int, int] | None:
    """The sizes [outer, axis, inner] of the memory of a permuted tensor, whose middle axis is
    `axes`.

    None if the elements do not fill a run of memory, or `axes` are not next to each other in it.
    None too if the other axes do not keep their order.
    """
    order = sorted((i for i, n in enumerate(shape) if n != 1), key=lambda i: -strides[i])
    sizes = [shape[i] for i in order]
    kept = [i for i in order if i not in axes]
    within = [place for place, i in enumerate(order) if i in axes]
    if not within or kept != sorted(kept) or within != list(range(within[0], within[-1] + 1)):
        return None
    if not is_row_major(sizes, [strides[i] for i in order]):
        return None
    first, stop = within[0], within[-1] + 1
    return math.prod(sizes[:first]), math.prod(sizes[first:stop]), math.prod(sizes[stop:])


def reshaped(
    shape: Sequence[int], strides: Sequence[int], new: Sequence[int]
) -> tuple[int, ...] | None:
    """The strides of the same elements in the shape `new`; None if no strides reach them so.

    Axes are matched from the front: groups of old axes with the same product as groups of new ones.
    Each group of old axes must be one run, so that it can be cut in another way.
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
