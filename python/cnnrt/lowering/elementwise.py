"""Elementwise operators of one and two inputs, in whichever layout their inputs lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Node
from ..layout.strides import Strided, blocked_shape
from ..layout.tensors import BLOCK, Blocked, ceil_div
from ..ops import OPS
from ..ops.activation import Activation
from ..ops.elementwise import Unary, clip_bounds
from .builder import PlanBuilder
from .registry import lowers

BINARY = {"add", "sub", "mul", "div", "min", "max", "pow", "prelu"}

UNARY = sorted(name for name, op in OPS.items() if isinstance(op, Unary) and name != "identity")


def lower_activation(node: Node, builder: PlanBuilder, activation: Activation) -> None:
    """y = activation(x), in place if no later node needs x."""
    x, y = node.inputs[0], node.outputs[0]
    if builder.is_blocked(x):
        source = builder.blocked(x)
        if builder.may_overwrite(x, y, source):
            target = source
            builder.alias_blocked(y, target)
        else:
            target = builder.new_blocked(y)
        shape, a, out = (
            blocked_shape(target),
            Strided.of_blocked(source),
            Strided.of_blocked(target),
        )
    else:
        plain = builder.plain(x)
        if builder.may_overwrite(x, y):
            builder.alias(y, plain)
            out_plain = plain
        else:
            out_plain = builder.new_plain(y)
        shape = plain.type.shape
        a, out = Strided.of_plain(plain, shape), Strided.of_plain(out_plain, shape)
    builder.elementwise("none", shape, a, None, out, activation)


@lowers(*UNARY)
def lower_unary(node: Node, builder: PlanBuilder) -> bool:
    op = OPS[node.op]
    assert isinstance(op, Unary)
    activation = op.activation(node)
    if activation is None:
        return False
    lower_activation(node, builder, activation)
    return True


@lowers("activate")
def lower_activate(node: Node, builder: PlanBuilder) -> bool:
    lower_activation(node, builder, node["activation"])
    return True


@lowers("clip")
def lower_clip(node: Node, builder: PlanBuilder) -> bool:
    bounds = clip_bounds(node, builder.graph.constants)
    if bounds is None:
        return False
    lower_activation(node, builder, bounds)
    return True


@lowers(*sorted(BINARY))
def lower_binary(node: Node, builder: PlanBuilder) -> bool:
    if len(node.inputs) != 2:
        return False
    y = node.outputs[0]
    type_ = builder.type(y)
    operands = _blocked_operands(node, builder)
    if operands is not None:
        first = next(t for t in operands if isinstance(t, Blocked) and t.type.shape == type_.shape)
        reusable = [
            t
            for t, name in zip(operands, node.inputs, strict=True)
            if isinstance(t, Blocked)
            and t.type.shape == type_.shape
            and builder.may_overwrite(name, y, t)
        ]
        if reusable:
            target = reusable[0]
            builder.alias_blocked(y, target)
        else:
            target = builder.new_blocked(y)
        a, b = (Strided.of_blocked(t, first) if isinstance(t, Blocked) else t for t in operands)
        shape, out = blocked_shape(target), Strided.of_blocked(target)
    else:
        shape = type_.shape
        a, b = (_plain_operand(n, builder, shape) for n in node.inputs)
        out_plain = builder.new_plain(y)
        out = Strided.of_plain(out_plain, shape)
    builder.elementwise(node.op, shape, a, b, out, node.attributes.get("activation"))
    return True


def _plain_operand(name: str, builder: PlanBuilder, shape: Sequence[int]) -> Strided:
    """A tensor over the axes of `shape`: as it lies if its rows can be read so, or row-major."""
    own = builder.type(name).shape
    view = builder.strided(name).broadcast(own, shape)
    # A row is the last axis that is left when those of size 1 are dropped.
    row = [step for n, step in zip(shape, view.strides, strict=True) if n != 1][-1:]
    if row in ([], [0], [1]):
        return view
    plain = builder.plain(name)
    return Strided(plain.at, plain.strides()).broadcast(own, shape)


def _blocked_operands(node: Node, builder: PlanBuilder) -> list[Blocked | Strided] | None:
    """Both operands over the blocked axes, if one lies blocked and the other can be read so."""
    type_ = builder.type(node.outputs[0])
    if not 3 <= type_.rank <= 5:
        return None
    if not any(builder.is_blocked(n) and builder.type(n).shape == type_.shape for n in node.inputs):
        return None
    result: list[Blocked | Strided] = []
    for name in node.inputs:
        shape = builder.type(name).shape
        value = builder.constant(name)
        if value is not None:
            strided = _constant_operand(name, builder, type_.rank, type_.shape[1])
            if strided is None:
                return None
            result.append(strided)
        elif len(shape) == type_.rank:
            result.append(builder.blocked(name))
        else:
            return None
    return result


def _constant_operand(name: str, builder: PlanBuilder, rank: int, channels: int) -> Strided | None:
    """A constant that is a scalar, or one value per channel, over the blocked axes."""
    value = builder.constant(name)
    assert value is not None
    shape = (1,) * (rank - value.ndim) + value.shape
    if value.size == 1:
        return Strided(builder.constant_memory(name, "plain", value), [0] * 6)
    if shape[1] != channels or value.size != channels:
        return None
    padded = np.zeros(ceil_div(channels, BLOCK) * BLOCK, np.float32)
    padded[:channels] = value.reshape(-1)
    return Strided(builder.constant_memory(name, "channels", padded), [0, BLOCK, 0, 0, 0, 1])
