"""Transposed convolution, in 1, 2 and 3 dimensions, and its relative col2im.

Shapes: x (N, C, *spatial), weight (C, M / group, *kernel), bias (M) -> (N, M, *out) with
out = stride * (in - 1) + output_padding + dilation * (kernel - 1) + 1 - pad_begin - pad_end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from . import REQUIRED, NodeTypes, Op, register, shape_error
from .axes import ALL, AxesMapping, Link, every, follow, mixed, others
from .common import Inputs, at_least, integers, operands
from .elementwise import activated
from .shape import numbers
from .windows import Windows, resolve_windows


def per_axis(node: Node, name: str, rank: int, default: int, minimum: int) -> list[int]:
    """An attribute of one size per axis, `default` if it is not given.

    Raises:
        ShapeError: it has another number of sizes, or one below `minimum`.
    """
    values = list(node[name] or [default] * rank)
    if len(values) != rank or min(values, default=minimum) < minimum:
        raise shape_error(node, (), f"{name} {values} for {rank} axes")
    return values


def scatter_windows(taps: Array, w: Windows) -> Array:
    """Sums the taps that fall on each output, (..., *kernel, *in) -> (..., *out).

    Tap t of the window at i falls on i * stride + t * dilation - begin; taps that fall outside are
    left out.
    """
    rank = len(w.kernel)
    every = (slice(None),) * (taps.ndim - 2 * rank)
    result = np.zeros((*taps.shape[: -2 * rank], *w.out), taps.dtype)
    for tap in np.ndindex(*w.kernel):
        windows, places = [], []
        axes = zip(tap, w.dilation, w.begin, w.stride, w.size, w.out, strict=True)
        for t, d, b, s, n, out in axes:
            first = t * d - b
            lo = max(0, -(first // s))
            hi = min(n, (out - 1 - first) // s + 1)
            windows.append(slice(lo, max(lo, hi)))
            places.append(slice(first + lo * s, max(0, first + (hi - 1) * s + 1), s))
        result[every + tuple(places)] += taps[every + tap + tuple(windows)]
    return result


@register
class ConvTranspose(Op):
    """ONNX ConvTranspose, and a fused activation that the passes may set."""

    name = "conv_transpose"
    all_pairs = True
    attributes = {
        "auto_pad": "NOTSET",
        "dilations": None,
        "group": 1,
        "kernel_shape": None,
        "output_padding": None,
        "output_shape": None,
        "pads": None,
        "strides": None,
        "activation": None,
    }

    def windows(self, node: Node, x: tuple[int, ...], weight: tuple[int, ...]) -> Windows:
        """Where the windows lie in the output: `size` is the input's, `out` the output's.

        Raises:
            ShapeError: an attribute does not fit, or nothing is left of the output.
        """
        size, kernel = x[2:], weight[2:]
        rank = len(size)
        if node["kernel_shape"] is not None and tuple(node["kernel_shape"]) != kernel:
            raise shape_error(node, (), f"kernel_shape {node['kernel_shape']}, weight {weight}")
        strides = per_axis(node, "strides", rank, 1, 1)
        dilations = per_axis(node, "dilations", rank, 1, 1)
        extra = per_axis(node, "output_padding", rank, 0, 0)
        pads = per_axis(node, "pads", 2 * rank, 0, 0)
        auto = node["auto_pad"]
        same = auto in ("SAME_UPPER", "SAME_LOWER")
        wanted: list[int] | None = None
        if node["output_shape"]:
            wanted = per_axis(node, "output_shape", rank, 1, 1)
        elif same:
            wanted = [n * s for n, s in zip(size, strides, strict=True)]
        begin, end, out = [], [], []
        for i in range(rank):
            full = strides[i] * (size[i] - 1) + extra[i] + dilations[i] * (kernel[i] - 1) + 1
            if wanted is None:
                before, after = (pads[i], pads[rank + i]) if auto == "NOTSET" else (0, 0)
            else:
                total = max(0, full - wanted[i])
                before = total // 2 if auto == "SAME_UPPER" else total - total // 2
                after = total - before
            begin.append(before)
            end.append(max(after, 0))
            out.append(full - before - after if wanted is None else wanted[i])
        if min(out, default=1) < 1 or min(kernel, default=1) < 1:
            raise shape_error(node, (), f"an output of {out}")
        return Windows(
            kernel, tuple(strides), tuple(dilations), tuple(begin), tuple(end), size, tuple(out)
        )

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, weight, bias = operands(node, inputs, 2, 3)
        group = at_least(node, "group", 1)
        if x.rank < 3 or weight.rank != x.rank or 0 in x.shape[2:]:
            raise shape_error(node, inputs, "x and weight need the same rank, at least 3")
        if weight.shape[0] != x.shape[1] or x.shape[1] % group:
            raise shape_error(node, inputs, f"weight takes {weight.shape[0]} channels")
        channels = weight.shape[1] * group
        if bias and bias.shape != (channels,):
            raise shape_error(node, inputs, f"bias must have shape ({channels},)")
        out = self.windows(node, x.shape, weight.shape).out
        return [TensorType((x.shape[0], channels, *out), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        x, weight = types.shape(0), types.shape(1)
        w = self.windows(node, x, weight)
        spatial = []
        axes = zip(w.kernel, w.stride, w.dilation, w.begin, strict=True)
        for axis, (k, stride, dilation, begin) in enumerate(axes, start=2):
            # Of the `span` + 1 outputs that an input reaches, every stride-th falls on one output.
            span = (k - 1) * dilation
            start = (begin - span / 2) / stride
            spatial.append(Link((axis,), span // stride, 1 / stride, start))
        one = node["group"] == 1
        made = [
            (follow(0), mixed(1), *spatial),
            (ALL, follow(1) if one else mixed(1), *[ALL] * len(spatial)),
            every(types, 2, follow(1)),
        ]
        return AxesMapping(made[: len(types.inputs)])

    def macs(self, node: Node, types: NodeTypes) -> int:
        return types.operand(0).type.size * math.prod(types.shape(1)[1:])

    def reference(self, node: Node, x: Any, weight: Any, bias: Any = None) -> tuple[Array, ...]:
        w = self.windows(node, x.shape, weight.shape)
        rank, group = len(w.kernel), node["group"]
        parts = zip(np.split(x, group, axis=1), np.split(weight, group, axis=0), strict=True)
        # (N, C, *in) . (C, M, *kernel) -> (N, *in, M, *kernel) -> (N, M, *kernel, *in)
        taps = [np.tensordot(a, b, axes=(1, 0)) for a, b in parts]
        order = (0, *range(1 + rank, 2 + 2 * rank), *range(1, 1 + rank))
        y = np.concatenate([scatter_windows(t.transpose(order), w) for t in taps], axis=1)
        if bias is not None:
            y = y + bias.reshape(-1, *[1] * rank)
        return (activated(node, y.astype(x.dtype, copy=False)),)


@register
class Col2Im(Op):
    """The image that patches add up to: (N, C * taps, windows) -> (N, C, *image).

    The sizes of the image and of the window are inputs; windows are in row-major order.
    """

    name = "col2im"
    all_pairs = True
    attributes = {"dilations": None, "pads": None, "strides": None}

    def windows(self, node: Node, image: Sequence[int], block: Sequence[int]) -> Windows:
        return resolve_windows(node, image, kernel=block)

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, image, block = operands(node, inputs, 3, 3)
        sizes = integers(node, inputs, image) or []
        kernel = integers(node, inputs, block) or []
        w = self.windows(node, sizes, kernel)
        taps = math.prod(kernel)
        if x.rank != 3 or x.shape[1] % taps or x.shape[2] != math.prod(w.out):
            raise shape_error(node, inputs, f"{w.out} windows of {taps} elements")
        return [TensorType((x.shape[0], x.shape[1] // taps, *sizes), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        spatial = range(2, types.output.rank)
        return AxesMapping([(follow(0), mixed(1), mixed(*spatial)), *others(types, 1)])

    def reference(self, node: Node, x: Any, image: Any, block: Any) -> tuple[Array, ...]:
        w = self.windows(node, numbers(image), numbers(block))
        lands = Windows(w.kernel, w.stride, w.dilation, w.begin, w.end, w.out, w.size)
        return (
            scatter_windows(
                x.reshape(x.shape[0], x.shape[1] // math.prod(w.kernel), *w.kernel, *w.out), lands
            ),
        )


@register
class Interleave(Op):
    """Pixels of one channel from several: (N, group * phases * M, *q) -> (N, group * M, *out).

    The phases r of a pixel, one per combination of 0 <= r < stride on every axis, in row-major
    order, become the pixels q * stride + r; those within `pads` are cropped. A transposed
    convolution whose taps have been sorted by phase ends with it.
    """

    name = "interleave"
    attributes = {"group": 1, "strides": REQUIRED, "pads": REQUIRED}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        strides, rank = node["strides"], x.rank - 2
        phases = math.prod(strides)
        pads = node["pads"]
        if len(strides) != rank or len(pads) != 2 * rank or min(strides) < 1 or min(pads) < 0:
            raise shape_error(node, inputs, f"needs {rank} strides and {2 * rank} pads")
        if node["group"] < 1 or x.shape[1] % (phases * node["group"]):
            raise shape_error(node, inputs, f"{phases} phases in {node['group']} groups")
        axes = zip(x.shape[2:], strides, pads[:rank], pads[rank:], strict=True)
        out = [q * s - b - e for q, s, b, e in axes]
        if min(out) < 0:
            raise shape_error(node, inputs, f"an output of {out}")
        return [TensorType((x.shape[0], x.shape[1] // phases, *out), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        axes = enumerate(zip(node["strides"], node["pads"], strict=False), start=2)
        spatial = [Link((a,), 0, 1 / s, (begin + 0.5) / s - 0.5) for a, (s, begin) in axes]
        return AxesMapping([(follow(0), mixed(1), *spatial)])

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        strides, group, rank = node["strides"], node["group"], x.ndim - 2
        n, c, *q = x.shape
        y = x.reshape(n, group, *strides, c // (group * math.prod(strides)), *q)
        pairs = [a for i in range(rank) for a in (3 + rank + i, 2 + i)]
        y = y.transpose(0, 1, 2 + rank, *pairs)
        full = [a * b for a, b in zip(q, strides, strict=True)]
        y = y.reshape(n, c // math.prod(strides), *full)
        kept = zip(node["pads"][:rank], node["pads"][rank:], full, strict=True)
        inside = (Ellipsis, *(slice(b, f - e) for b, e, f in kept))
        return (np.ascontiguousarray(y[inside]),)
