"""Elementwise operators of one and two inputs, in whichever layout their inputs lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Node
from ..layout.tensors import BLOCK, Blocked, ceil_div
from ..ops import OPS
from ..ops.activation import Activation
from ..ops.elementwise import Unary, clip_bounds
from . import Lowering, Strided, blocked_shape, lowers

BINARY = {"add", "sub", "mul", "div", "min", "max", "pow", "prelu"}

UNARY = sorted(name for name, op in OPS.items() if isinstance(op, Unary) and name != "identity")


def lower_activation(node: Node, to: Lowering, activation: Activation) -> None:
    """y = activation(x), in place where x is not needed any more."""
    x, y = node.inputs[0], node.outputs[0]
    if to.is_blocked(x):
        source = to.blocked(x)
        if to.may_overwrite(x, y, source):
            target = source
            to.alias_blocked(y, target)
        else:
            target = to.new_blocked(y)
        shape, a, out = (
            blocked_shape(target),
            Strided.of_blocked(source),
            Strided.of_blocked(target),
        )
    else:
        plain = to.plain(x)
        if to.may_overwrite(x, y):
            to.alias(y, plain)
            out_plain = plain
        else:
            out_plain = to.new_plain(y)
        shape = plain.type.shape
        a, out = Strided.of_plain(plain, shape), Strided.of_plain(out_plain, shape)
    to.elementwise("first", shape, a, None, out, activation)


@lowers(*UNARY)
def lower_unary(node: Node, to: Lowering) -> bool:
    op = OPS[node.op]
    assert isinstance(op, Unary)
    activation = op.activation(node)
    if activation is None:
        return False
    lower_activation(node, to, activation)
    return True


@lowers("activate")
def lower_activate(node: Node, to: Lowering) -> bool:
    lower_activation(node, to, node["activation"])
    return True


@lowers("clip")
def lower_clip(node: Node, to: Lowering) -> bool:
    bounds = clip_bounds(node, to.graph.constants)
    if bounds is None:
        return False
    lower_activation(node, to, bounds)
    return True


@lowers(*sorted(BINARY))
def lower_binary(node: Node, to: Lowering) -> bool:
    if len(node.inputs) != 2:
        return False
    y = node.outputs[0]
    type_ = to.type(y)
    operands = _blocked_operands(node, to)
    if operands is not None:
        first = next(t for t in operands if isinstance(t, Blocked) and t.type.shape == type_.shape)
        reusable = [
            t
            for t, name in zip(operands, node.inputs, strict=True)
            if isinstance(t, Blocked)
            and t.type.shape == type_.shape
            and to.may_overwrite(name, y, t)
        ]
        if reusable:
            target = reusable[0]
            to.alias_blocked(y, target)
        else:
            target = to.new_blocked(y)
        a, b = (Strided.of_blocked(t, first) if isinstance(t, Blocked) else t for t in operands)
        shape, out = blocked_shape(target), Strided.of_blocked(target)
    else:
        shape = type_.shape
        a, b = (_plain_operand(n, to, shape) for n in node.inputs)
        out_plain = to.new_plain(y)
        out = Strided.of_plain(out_plain, shape)
    to.elementwise(node.op, shape, a, b, out, node.attributes.get("activation"))
    return True


def _plain_operand(name: str, to: Lowering, shape: Sequence[int]) -> Strided:
    """A tensor over the axes of `shape`: as it lies if its rows can be read so, or row-major."""
    own = to.type(name).shape
    view = to.strided(name).broadcast(own, shape)
    # A row is the last axis that is left when those of size 1 are dropped.
    row = [step for n, step in zip(shape, view.strides, strict=True) if n != 1][-1:]
    if row in ([], [0], [1]):
        return view
    plain = to.plain(name)
    return Strided(plain.at, plain.strides()).broadcast(own, shape)


def _blocked_operands(node: Node, to: Lowering) -> list[Blocked | Strided] | None:
    """Both operands over the blocked axes, if one lies blocked and the other can be read so."""
    type_ = to.type(node.outputs[0])
    if not 3 <= type_.rank <= 5:
        return None
    if not any(to.is_blocked(n) and to.type(n).shape == type_.shape for n in node.inputs):
        return None
    result: list[Blocked | Strided] = []
    for name in node.inputs:
        shape = to.type(name).shape
        value = to.constant(name)
        if value is not None:
            strided = _constant_operand(name, to, type_.rank, type_.shape[1])
            if strided is None:
                return None
            result.append(strided)
        elif len(shape) == type_.rank:
            result.append(to.blocked(name))
        else:
            return None
    return result


def _constant_operand(name: str, to: Lowering, rank: int, channels: int) -> Strided | None:
    """A constant that is a scalar, or one value per channel, over the blocked axes."""
    value = to.constant(name)
    assert value is not None
    shape = (1,) * (rank - value.ndim) + value.shape
    if value.size == 1:
        return Strided(to.constant_memory(name, "plain", value), [0] * 6)
    if shape[1] != channels or value.size != channels:
        return None
    padded = np.zeros(ceil_div(channels, BLOCK) * BLOCK, np.float32)
    padded[:channels] = value.reshape(-1)
    return Strided(to.constant_memory(name, "channels", padded), [0, BLOCK, 0, 0, 0, 1])
