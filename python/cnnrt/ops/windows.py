"""Sliding windows: kernel, stride, dilation and padding of convolutions and pools, per axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import GraphError, ShapeError
from ..graph import Array, Node
from ..process.limits import MAX_SIZE
from .axes import Link

PATCHES_FLOOR, PATCHES_FACTOR = 1 << 27, 1024
"""Elements that all windows together may have, and that for each element of the image; an ordinary
window reads each pixel up to 50 times."""


@dataclass(frozen=True)
class Windows:
    """Where the windows of an operator lie, one entry per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]  # padding before
    end: tuple[int, ...]  # and after
    size: tuple[int, ...]  # of the input
    out: tuple[int, ...]  # of the output

    def links(self) -> list[Link]:
        """How the spatial axes of (N, C, *out) follow those of (N, C, *size)."""
        made = []
        axes = zip(self.kernel, self.stride, self.dilation, self.begin, strict=True)
        for axis, (k, stride, dilation, begin) in enumerate(axes, start=2):
            reach = (k - 1) * dilation
            made.append(Link((axis,), reach, stride, reach / 2 - begin))
        return made

    def patches(self, x: Array, fill: float = 0.0) -> Array:
        """(N, C, *size) -> (N, C, *out, *kernel), a view of x padded with `fill`.

        Raises:
            ValueError: it has so many elements that going through them would take all memory.
        """
        rank = len(self.kernel)
        if 0 in self.out:
            return np.empty((*x.shape[:2], *self.out, *self.kernel), x.dtype)
        reach = [
            (o - 1) * s + (k - 1) * d + 1
            for o, s, k, d in zip(self.out, self.stride, self.kernel, self.dilation, strict=True)
        ]
        # With ceil_mode the last window may reach beyond the padding given.
        after = [
            max(e, r - n - b)
            for e, r, n, b in zip(self.end, reach, self.size, self.begin, strict=True)
        ]
        padded_size = [n + b + e for n, b, e in zip(self.size, self.begin, after, strict=True)]
        most = max(math.prod(padded_size), math.prod(self.out) * math.prod(self.kernel))
        if most * math.prod(x.shape[:2]) > max(PATCHES_FLOOR, PATCHES_FACTOR * x.size):
            raise ValueError(
                f"windows {list(self.kernel)} over {padded_size} pixels, {most} elements for an "
                f"image of {list(self.size)}"
            )
        pads = [(0, 0), (0, 0), *zip(self.begin, after, strict=True)]
        padded = np.pad(x, pads, constant_values=fill)
        span = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        axes = tuple(range(2, 2 + rank))
        view = np.lib.stride_tricks.sliding_window_view(padded, span, axis=axes)
        ends = zip(self.out, self.stride, strict=True)
        steps = tuple(slice(0, (o - 1) * s + 1, s) for o, s in ends)
        taps = tuple(slice(None, None, d) for d in self.dilation)
        return view[(slice(None), slice(None)) + steps + taps]


def resolve_windows(
    node: Node, size: Sequence[int], kernel: Sequence[int], *, ceil_mode: bool = False
) -> Windows:
    """Reads strides, dilations, pads and auto_pad of a node and computes the output sizes.

    An axis without elements has no windows, if they are one element wide.

    Raises:
        GraphError: an attribute is out of range.
        ShapeError: the window does not fit into the padded input.
    """
    rank = len(size)
    at = node.attributes
    stride = _per_axis(node, "strides", at.get("strides"), rank)
    dilation = _per_axis(node, "dilations", at.get("dilations"), rank)
    kernel = tuple(int(k) for k in kernel)
    given = at.get("kernel_shape")
    if given is not None and tuple(given) != kernel:
        raise GraphError(
            f"node {node.name!r} ({node.op}): kernel_shape {list(given)} but the kernel is {kernel}"
        )
    if len(kernel) != rank or min(kernel, default=1) < 1:
        raise GraphError(f"node {node.name!r} ({node.op}): kernel {kernel} for {rank} axes")
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    auto = at.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        out = [-(-n // s) for n, s in zip(size, stride, strict=True)]
        total = [
            max(0, (o - 1) * s + p - n) for o, s, p, n in zip(out, stride, span, size, strict=True)
        ]
        small = [t // 2 for t in total]
        large = [t - t // 2 for t in total]
        begin, end = (small, large) if auto == "SAME_UPPER" else (large, small)
    else:
        pads = list(at.get("pads") or [0] * (2 * rank)) if auto == "NOTSET" else [0] * (2 * rank)
        if len(pads) != 2 * rank or min(pads) < 0:
            raise GraphError(
                f"node {node.name!r} ({node.op}): pads {pads} for {rank} axes; expected {2 * rank} "
                "sizes of zero or more, all begins and then all ends"
            )
        begin, end = pads[:rank], pads[rank:]
        out = []
        for n, b, e, p, s in zip(size, begin, end, span, stride, strict=True):
            room = n + b + e - p
            if ceil_mode:
                o = -(-room // s) + 1
                # A window must start inside the input or its left padding.
                o -= (o - 1) * s >= n + b
            else:
                o = room // s + 1
            out.append(o)
    if (
        max(*span, *stride, *(n + b + e for n, b, e in zip(size, begin, end, strict=True)))
        > MAX_SIZE
    ):
        raise GraphError(
            f"node {node.name!r} ({node.op}): a window of {span}, moved by {list(stride)}, over "
            f"{list(size)} padded by {list(begin)} and {list(end)}: expected at most {MAX_SIZE}"
        )
    empty = [n == o == 0 and p == 1 for n, o, p in zip(size, out, span, strict=True)]
    if any(min(n, o) < 1 and not e for n, o, e in zip(size, out, empty, strict=True)):
        raise ShapeError(
            f"node {node.name!r} ({node.op}): a window of {span} does not fit into an input of "
            f"{list(size)} padded by {list(begin)} and {list(end)}"
        )
    return Windows(
        kernel, stride, dilation, tuple(begin), tuple(end), tuple(size), tuple(int(o) for o in out)
    )


def _per_axis(node: Node, name: str, given: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    values = tuple(int(v) for v in given) if given else (1,) * rank
    if len(values) != rank or min(values, default=1) < 1:
        raise GraphError(
            f"node {node.name!r} ({node.op}): {name} {list(values)}; expected {rank} positive sizes"
        )
    return values
