"""Sliding windows: kernel, stride, dilation and padding of convolutions and pools, per axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import GraphError, ShapeError
from ..graph import Array, Node
from ..process.limits import MAX_SIZE
from ..process.locks import cached_property
from ..symbolic import integer, memo
from .axes import Link

PATCHES_FLOOR, PATCHES_FACTOR = 1 << 27, 1024
"""Elements that all windows together may have: in any case, and for each element of the image. An
ordinary window reads each pixel up to 50 times."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Where the windows of an operator lie, one entry per spatial axis.

    `resolve_windows` gives one object for equal windows, so that tables go by identity.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]  # padding before
    end: tuple[int, ...]  # and after
    size: tuple[int, ...]  # of the input
    out: tuple[int, ...]  # of the output

    @cached_property
    def padded(self) -> bool:
        """True if there is padding on any side."""
        return any(self.begin) or any(self.end)

    @cached_property
    def all_live(self) -> bool:
        """True for ordinary windows, each tap of which meets the image; False if that is not
        plain."""
        axes = zip(
            *(self.kernel, self.dilation, self.begin, self.stride, self.size, self.out),
            strict=True,
        )
        return all(
            0 <= (kernel - 1) * dilation - begin < size
            and begin <= (out - 1) * stride
            and stride <= size
            for kernel, dilation, begin, stride, size, out in axes
        )

    def live(self, axis: int) -> Array:
        """True for the taps that meet the image, of shape (outputs, taps) along an axis."""
        first = np.arange(self.out[axis])[:, None] * self.stride[axis] - self.begin[axis]
        places = first + np.arange(self.kernel[axis]) * self.dilation[axis]
        return np.asarray((places >= 0) & (places < self.size[axis]))

    @cached_property
    def in_3d(self) -> Windows:
        """The same over the axes d, h, w; those that are missing have one element and one tap."""
        missing = 3 - len(self.kernel)
        if missing <= 0:
            return self
        one, zero = (1,) * missing, (0,) * missing
        return Windows(
            one + self.kernel,
            one + self.stride,
            one + self.dilation,
            zero + self.begin,
            zero + self.end,
            one + self.size,
            one + self.out,
        )

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
    at = node.attributes
    stated = at.get("kernel_shape")
    if stated is not None and tuple(stated) != tuple(kernel):
        raise GraphError(
            f"node {node.name!r} ({node.op}): kernel_shape {list(stated)} but the kernel is "
            f"{tuple(kernel)}"
        )
    try:
        return _windows(
            tuple(size),
            tuple(kernel),
            tuple(at.get("strides") or ()),
            tuple(at.get("dilations") or ()),
            tuple(at.get("pads") or ()),
            at.get("auto_pad", "NOTSET"),
            ceil_mode,
        )
    except (GraphError, ShapeError) as error:
        raise type(error)(f"node {node.name!r} ({node.op}): {error}") from None


@memo(1024)  # shape inference, passes and lowering each look at the windows of a node
def _windows(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    pads: tuple[int, ...],
    auto: str,
    ceil_mode: bool,
) -> Windows:
    """Like `resolve_windows`, but given the attributes; an empty one stands for its default."""
    rank = len(size)
    kernel = tuple(int(k) for k in kernel)
    if len(kernel) != rank or min(kernel, default=1) < 1:
        raise GraphError(f"kernel {kernel} for {rank} axes")
    stride = _per_axis("strides", strides, rank)
    dilation = _per_axis("dilations", dilations, rank)
    given = pads if pads and auto == "NOTSET" else (0,) * (2 * rank)
    if len(given) != 2 * rank or min(given, default=0) < 0:
        raise GraphError(
            f"pads {list(given)} for {rank} axes; expected {2 * rank} sizes of zero or more, all "
            "begins and then all ends"
        )
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    begin, end, out = list(given[:rank]), list(given[rank:]), []
    for i, (n, s, p) in enumerate(zip(size, stride, span, strict=True)):
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            o = -(-n // s)
            total = max(0, (o - 1) * s + p - n)
            small, large = total // 2, total - total // 2
            begin[i], end[i] = (small, large) if auto == "SAME_UPPER" else (large, small)
        elif ceil_mode:
            o = -(-(n + begin[i] + end[i] - p) // s) + 1
            # A window must start inside the input or its left padding.
            o -= (o - 1) * s >= n + begin[i]
        else:
            o = (n + begin[i] + end[i] - p) // s + 1
        out.append(integer(o))
    padded = [n + b + e for n, b, e in zip(size, begin, end, strict=True)]
    if any(n > MAX_SIZE for n in (*span, *stride, *padded)):
        raise GraphError(
            f"a window of {span}, moved by {list(stride)}, over {list(size)} padded by {begin} and "
            f"{end}: expected at most {MAX_SIZE}"
        )
    for n, o, p in zip(size, out, span, strict=True):
        if (n < 1 or o < 1) and not n == o == 0 == p - 1:
            raise ShapeError(
                f"a window of {span} does not fit into an input of {list(size)} padded by {begin} "
                f"and {end}"
            )
    return Windows(kernel, stride, dilation, tuple(begin), tuple(end), size, tuple(out))


def _per_axis(name: str, given: tuple[int, ...], rank: int) -> tuple[int, ...]:
    values = tuple(int(v) for v in given) or (1,) * rank
    if len(values) != rank or min(values, default=1) < 1:
        raise GraphError(f"{name} {list(values)}; expected {rank} positive sizes")
    return values
