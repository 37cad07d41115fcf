"""Turns transposed convolutions into ordinary ones, whose channels are then interleaved.

With stride s, the outputs at o = q s + r for one phase r take only the taps k with k dilation = r
(mod s). That is a convolution of its own over x, whose q-th output it is. The phases are one
convolution with as many times the channels; `interleave` puts its pixels into place (as the
sub-pixel convolution of Shi et al. 2016 does). With stride 1 there is but one phase: the kernel is
flipped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import ops
from ..graph import Array, Graph, Node
from ..ops.conv_transpose import per_axis

MAX_GROWTH = 1024
"""Maximum ratio of the weights by phase to those of the file: a kernel of 1 with stride 32 x 32.
Beyond it they are nearly all zeros, and a file of a few bytes could ask for any
amount of memory."""


def split_transposed(graph: Graph) -> None:
    """Replaces every transposed convolution of constant weights and explicit padding, in place."""
    nodes = []
    for node in graph.nodes:
        nodes += _replace(node, graph) if node.op == "conv_transpose" else [node]
    graph.nodes = nodes


def _replace(node: Node, graph: Graph) -> list[Node]:
    weight = graph.constants.get(node.inputs[1])
    bias_name = node.input(2)
    if weight is None or 0 in weight.shape or (bias_name and bias_name not in graph.constants):
        return [node]
    group, rank = node["group"], weight.ndim - 2
    valid = node["auto_pad"] == "NOTSET" or (node["auto_pad"] == "VALID" and node["pads"] is None)
    if node["output_shape"] or not valid or rank < 1 or group < 1 or weight.shape[0] % group:
        return [node]
    strides = per_axis(node, "strides", rank, 1, 1)
    dilations = per_axis(node, "dilations", rank, 1, 1)
    extra = per_axis(node, "output_padding", rank, 0, 0)
    pads = per_axis(node, "pads", 2 * rank, 0, 0)
    phases, kernel = math.prod(strides), weight.shape[2:]
    if phases * math.prod(_taps(kernel, strides, dilations)) > MAX_GROWTH * math.prod(kernel):
        return [node]
    spans = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    begin = [n - p for n, p in zip(spans, pads[:rank], strict=True)]
    end = [n - p + e for n, p, e in zip(spans, pads[rank:], extra, strict=True)]
    flipped = math.prod(strides) == 1 and min(*begin, *end) >= 0
    steps = [1] * rank if not flipped else dilations
    made = _by_phase(np.asarray(weight), group, strides, dilations, dense=not flipped)
    names = [f"{node.inputs[1]}.phases", f"{bias_name}.phases" if bias_name else ""]
    graph.constants[names[0]] = made
    if bias_name:
        bias = np.asarray(graph.constants[bias_name]).reshape(group, 1, -1)
        graph.constants[names[1]] = np.repeat(bias, phases, axis=1).reshape(-1)
    inputs = [node.inputs[0], *filter(None, names)]
    given = {"group": group, "activation": node["activation"], "dilations": steps}
    if flipped:
        conv = Node("conv", node.name, inputs, node.outputs, {**given, "pads": begin + end})
        ops.complete(conv)
        return [conv]
    taps = made.shape[2:]
    # As many q as reach the last output: padding may lie beyond the last tap.
    beyond = [
        max(0, -(-(span + 1 - s + e - s * (t - 1)) // s))
        for span, s, e, t in zip(spans, strides, extra, taps, strict=True)
    ]
    # s (in + t - 1 + b) pixels, of which s (in - 1) + span + 1 + e are the uncropped output's.
    cropped = [
        s * (t + b) - (span + 1 + e) + p
        for s, t, b, span, e, p in zip(
            strides, taps, beyond, spans, extra, pads[rank:], strict=True
        )
    ]
    ends = [t - 1 + b for t, b in zip(taps, beyond, strict=True)]
    phased = f"{node.outputs[0]}.phases"
    conv = Node(
        "conv",
        f"{node.name}.phases",
        inputs,
        [phased],
        {**given, "pads": [t - 1 for t in taps] + ends},
    )
    interleave = Node(
        "interleave",
        node.name,
        [phased],
        node.outputs,
        {
            "group": group,
            "strides": strides,
            "pads": pads[:rank] + cropped,
        },
    )
    for new in (conv, interleave):
        ops.complete(new)
    return [conv, interleave]


def _taps(kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Taps of each phase, by axis; a phase that no tap of the kernel falls on has zeros."""
    return [(k - 1) * d // s + 1 for k, d, s in zip(kernel, dilations, strides, strict=True)]


def _by_phase(
    weight: Array, group: int, strides: Sequence[int], dilations: Sequence[int], *, dense: bool
) -> Array:
    """(C, M / group, *kernel) -> (group * phases * M / group, C / group, *taps).

    Output q reads x[q - t], so a convolution has t in descending order. If not `dense`, the stride
    is 1 and the dilation is left to the convolution.
    """
    c, m, *kernel = weight.shape
    grouped = weight.reshape(group, c // group, m, *kernel).swapaxes(1, 2)
    if not dense:
        flipped = np.flip(grouped, axis=tuple(range(3, grouped.ndim)))
        return np.ascontiguousarray(flipped.reshape(group * m, c // group, *kernel))
    taps = _taps(kernel, strides, dilations)
    result = np.zeros((group, math.prod(strides), m, c // group, *taps), weight.dtype)
    for place in np.ndindex(*kernel):
        far = [k * d for k, d in zip(place, dilations, strict=True)]
        phase = np.ravel_multi_index([f % s for f, s in zip(far, strides, strict=True)], strides)
        at = (slice(None), phase, slice(None), slice(None)) + tuple(
            n - 1 - f // s for n, f, s in zip(taps, far, strides, strict=True)
        )
        result[at] = grouped[(slice(None),) * 3 + place]
    return result.reshape(-1, c // group, *taps)
