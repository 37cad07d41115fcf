"""Elementwise operators of one and two inputs, in whichever layout their inputs lie."""

from __future__ import annotations

from ..dtypes import FLOAT32
from ..graph import Node
from ..layout.strides import Strided, blocked_shape
from ..layout.tensors import Blocked
from ..ops import OPS
from ..ops.activation import Activation
from ..ops.elementwise import Unary, clip_bounds
from .builder import PlanBuilder
from .operands import blocked_operands, plain_operand
from .pointwise import lower_operator
from .registry import ALL_TYPES, lowers

BINARY = {"add", "sub", "mul", "div", "min", "max", "prelu"}

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


@lowers(*UNARY, types=ALL_TYPES)
def lower_unary(node: Node, builder: PlanBuilder) -> bool:
    op = OPS[node.op]
    assert isinstance(op, Unary)
    activation = op.activation(node)
    if activation is None or builder.type(node.inputs[0]).dtype != FLOAT32:
        return lower_operator(node, builder)
    lower_activation(node, builder, activation)
    return True


@lowers("activate", types=ALL_TYPES)
def lower_activate(node: Node, builder: PlanBuilder) -> bool:
    if builder.type(node.inputs[0]).dtype != FLOAT32:
        return lower_operator(node, builder)
    lower_activation(node, builder, node["activation"])
    return True


@lowers("clip", types=ALL_TYPES)
def lower_clip(node: Node, builder: PlanBuilder) -> bool:
    bounds = clip_bounds(node, builder.graph.constants)
    if bounds is None or builder.type(node.inputs[0]).dtype != FLOAT32:
        return lower_operator(node, builder)
    lower_activation(node, builder, bounds)
    return True


@lowers(*sorted(BINARY), types=ALL_TYPES)
def lower_binary(node: Node, builder: PlanBuilder) -> bool:
    y = node.outputs[0]
    type_ = builder.type(y)
    if len(node.inputs) != 2 or any(builder.type(n).dtype != FLOAT32 for n in node.inputs):
        return lower_operator(node, builder)
    operands = blocked_operands(node.inputs, type_, builder)
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
        a, b = (plain_operand(n, builder, shape) for n in node.inputs)
        out_plain = builder.new_plain(y)
        out = Strided.of_plain(out_plain, shape)
    builder.elementwise(node.op, shape, a, b, out, node.attributes.get("activation"))
    return True
