"""Softmax, and normalisation by statistics of the input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _core
from ..graph import Node
from ..layout.strides import Strided, blocked_shape, merge_axes
from ..layout.tensors import BLOCK, row_major
from .builder import PlanBuilder
from .registry import lowers


@lowers("softmax", "log_softmax")
def lower_softmax(node: Node, builder: PlanBuilder) -> bool:
    x = builder.plain(node.inputs[0])
    shape = x.type.shape
    if 0 in shape or not shape:
        return False
    axis = node["axis"] % len(shape)
    y = builder.new_plain(node.outputs[0])
    builder.step(
        "softmax",
        x=x.at,
        y=y.at,
        outer=math.prod(shape[:axis]),
        axis=shape[axis],
        inner=math.prod(shape[axis + 1 :]),
        log=int(node.op == "log_softmax"),
        note="softmax",
        cost_ns=x.type.size * 0.2,
    )
    return True


@lowers("layer_normalization", "rms_normalization")
def lower_layer_norm(node: Node, builder: PlanBuilder) -> bool:
    """Normalises rows of the last axes, however the axes before them lie."""
    name, y_name = node.inputs[0], node.outputs[0]
    shape = builder.type(name).shape
    axis = node["axis"] % len(shape)
    weights = [_row(n, shape[axis:], builder) for n in node.inputs[1:3]]
    if any(w is None for w in weights) or any(node.outputs[1:]) or 0 in shape:
        return False
    view = builder.strided(name)
    if list(view.strides[axis:]) != list(row_major(shape[axis:])):
        x = builder.plain(name)
        view = Strided(x.at, x.strides())
    y = builder.new_plain(y_name)
    centred = node.op == "layer_normalization"
    _layer_norm(
        node,
        builder,
        shape[:axis],
        Strided(view.at, view.strides[:axis]),
        Strided(y.at, y.strides()[:axis]),
        math.prod(shape[axis:]),
        (BLOCK, BLOCK),
        [*weights, None][:2],
        centred,
    )
    return True


def _row(name: str, shape: Sequence[int], builder: PlanBuilder) -> Any:
    """Scale or bias for every element of a row; None if it would have to be computed."""
    value = builder.constant(name) if name else None
    if not name:
        return _core.Memory(np.zeros(math.prod(shape), np.float32))
    if value is not None and np.broadcast_shapes(value.shape, tuple(shape)) != tuple(shape):
        return None
    if value is None:
        return builder.plain(name).at if builder.type(name).shape == tuple(shape) else None
    return builder.constant_memory(name, f"row of {shape}", np.broadcast_to(value, shape))


@lowers("channel_normalization")
def lower_channel_norm(node: Node, builder: PlanBuilder) -> bool:
    """Normalises the channels of each pixel; the result overwrites x if no other node needs it."""
    name, y_name = node.inputs[0], node.outputs[0]
    type_ = builder.type(name)
    if not 3 <= type_.rank <= 5 or any(builder.constant(n) is None for n in node.inputs[1:]):
        return False
    x = builder.blocked(name)
    if builder.may_overwrite(name, y_name, x):
        builder.alias_blocked(y_name, x)
        y = x
    else:
        y = builder.new_blocked(y_name)
    n, block, d, h, w, _ = Strided.of_blocked(x).strides
    y_n, y_block, y_d, y_h, y_w, _ = Strided.of_blocked(y).strides
    _layer_norm(
        node,
        builder,
        (x.n, *blocked_shape(x)[2:5]),
        Strided(x.view().at, (n, d, h, w)),
        Strided(y.view().at, (y_n, y_d, y_h, y_w)),
        type_.shape[1],
        (block, y_block),
        [_row(i, type_.shape[1:2], builder) for i in node.inputs[1:]],
        centred=True,
    )
    return True


@lowers("group_normalization", "instance_normalization")
def lower_group_norm(node: Node, builder: PlanBuilder) -> bool:
    """Normalises the channels of a group of a plain image, which follow each other."""
    shape = builder.type(node.inputs[0]).shape
    groups = node["num_groups"] if node.op == "group_normalization" else shape[1]
    weights = [_row(n, shape[1:2], builder) for n in node.inputs[1:]]
    if any(w is None for w in weights) or 0 in shape:
        return False
    x, y = builder.plain(node.inputs[0]), builder.new_plain(node.outputs[0])
    axis = math.prod(shape[1:]) // groups
    rows = (shape[0] * groups,)
    _layer_norm(
        node,
        builder,
        rows,
        Strided(x.at, (axis,)),
        Strided(y.at, (axis,)),
        axis,
        (BLOCK, BLOCK),
        weights,
        centred=True,
        span=math.prod(shape[2:]),
        groups=groups,
    )
    return True


@lowers("mean_variance_normalization")
def lower_mean_variance_norm(node: Node, builder: PlanBuilder) -> bool:
    """Normalises the last axes, if those are the given ones (axes of one element aside)."""
    shape = builder.type(node.inputs[0]).shape
    axes = {a % len(shape) for a in node["axes"]}
    kept = [i for i, n in enumerate(shape) if n != 1 and i not in axes]
    first = kept[-1] + 1 if kept else 0
    if 0 in shape or any(a < first and shape[a] != 1 for a in axes):
        return False
    x, y = builder.plain(node.inputs[0]), builder.new_plain(node.outputs[0])
    axis = math.prod(shape[first:])
    _layer_norm(
        node,
        builder,
        (math.prod(shape[:first]),),
        Strided(x.at, (axis,)),
        Strided(y.at, (axis,)),
        axis,
        (BLOCK, BLOCK),
        (None, None),
        centred=True,
        epsilon=1e-18,  # like an addition of 1e-9 to the deviation, if that is zero
    )
    return True


def _layer_norm(
    node: Node,
    builder: PlanBuilder,
    rows: Sequence[int],
    x: Strided,
    y: Strided,
    axis: int,
    blocks: tuple[int, int],
    weights: Sequence[Any],
    centred: bool,
    epsilon: float | None = None,
    **more: Any,
) -> None:
    """One step over rows of `axis` elements, of which x and y hold 16 every `blocks` floats."""
    shape, (x_strides, y_strides) = merge_axes(rows, x.strides, y.strides)
    scale, bias = weights
    builder.step(
        "layer_norm",
        x=x.at,
        y=y.at,
        scale=scale,
        bias=bias,
        axis=axis,
        x_block=blocks[0],
        y_block=blocks[1],
        dims=len(shape),
        centred=int(centred),
        shape=shape,
        x_stride=x_strides,
        y_stride=y_strides,
        epsilon=node["epsilon"] if epsilon is None else epsilon,
        note=node.op.replace("_", " "),
        cost_ns=math.prod(rows) * axis * 8 / builder.machine.activations,
        **more,
    )
