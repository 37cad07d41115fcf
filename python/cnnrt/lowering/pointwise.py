"""Elementwise operators as programs of the kernel `pointwise`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import _core
from ..graph import Node
from ..layout.strides import Strided, blocked_shape, merge_axes
from ..layout.tensors import Blocked
from ..ops import OPS
from ..ops.elementwise import Unary
from ..ops.pointwise import (
    MAX_AXES,
    MAX_INPUTS,
    SEVERAL,
    Program,
    program_of,
    takes,
)
from .builder import PlanBuilder
from .operands import blocked_operands, plain_operand
from .pointwise_code import encode
from .registry import ALL_TYPES, lowers

ELSEWHERE = {"add", "sub", "mul", "div", "min", "max", "prelu"}
"""Operators that `elementwise` lowers if they are of float32."""


@lowers("pointwise", types=ALL_TYPES)
def lower_pointwise(node: Node, builder: PlanBuilder) -> bool:
    return lower_program(program_of(node), builder)


@lowers(*sorted(SEVERAL.keys() - ELSEWHERE), types=ALL_TYPES)
def lower_operator(node: Node, builder: PlanBuilder) -> bool:
    """A single operator of any types, as a program."""
    types = builder.graph.types
    if not takes(node, types) or types[node.outputs[0]].rank > MAX_AXES:
        return False
    inputs = tuple(dict.fromkeys(filter(None, node.inputs)))
    if len(inputs) > MAX_INPUTS:
        return False
    return lower_program(Program(inputs, (node,), tuple(node.outputs)), builder)


def lower_program(program: Program, builder: PlanBuilder) -> bool:
    """Appends y, ... = program(x, ...), blocked if an input lies so and all others can be read
    so."""
    constants, types = builder.graph.constants, builder.graph.types
    numbers = {
        name: constants[name].reshape(()).item()
        for name in program.inputs
        if name in constants and types[name].size == 1
    }
    loaded = [name for name in program.inputs if name not in numbers]
    type_ = types[program.outputs[0]]
    operands = blocked_operands(loaded, type_, builder)
    if operands is None:
        shape: Sequence[int] = type_.shape
        inputs = [plain_operand(name, builder, shape) for name in loaded]
        outputs = _plain_outputs(program, loaded, builder)
    else:
        made = _blocked_outputs(program, loaded, operands, builder)
        whole = next(t for t in operands if isinstance(t, Blocked) and t.type.shape == type_.shape)
        shape = blocked_shape(whole)
        inputs = [Strided.of_blocked(t, whole) if isinstance(t, Blocked) else t for t in operands]
        outputs = [Strided.of_blocked(t) for t in made]
    sizes, strides = merge_axes(shape, *(view.strides for view in (*inputs, *outputs)))
    code = encode(program, loaded, types, constants)
    moved = sum(types[name].dtype.itemsize for name in (*loaded, *program.outputs))
    size = math.prod(shape)
    builder.step(
        "pointwise",
        program=_core.Memory(np.frombuffer(code.data, np.uint8)),
        **{f"x{i}": view.at for i, view in enumerate(inputs)},
        **{f"y{i}": view.at for i, view in enumerate(outputs)},
        instructions=code.instructions,
        once=code.once,
        registers=code.registers,
        width=code.width,
        dims=len(sizes),
        shape=sizes,
        strides=strides,
        note=program.text(numbers),
        cost_ns=size * moved / builder.machine.activations + _compute_ns(program, size, builder),
    )
    return True


def _compute_ns(program: Program, size: int, builder: PlanBuilder) -> float:
    """Estimated nanoseconds of the operations on one thread, if all their operands are in L1."""
    machine = builder.machine
    total = len(program.nodes) * size / machine.activations
    for node in program.nodes:
        op, activation = OPS[node.op], node.attributes.get("activation")
        if activation is None and isinstance(op, Unary):
            activation = op.activation(node)
        total += machine.time_of(activation, size)
    return total


def _plain_outputs(program: Program, loaded: Sequence[str], builder: PlanBuilder) -> list[Strided]:
    """Row-major results. A single one takes the place of an input that nobody needs any more."""
    if len(program.outputs) == 1:
        y = program.outputs[0]
        for x in loaded:
            if builder.type(x) == builder.type(y) and builder.may_overwrite(x, y):
                builder.alias(y, builder.plain(x))
                return [builder.strided(y)]
    return [Strided.of_plain(builder.new_plain(y), builder.type(y).shape) for y in program.outputs]


def _blocked_outputs(
    program: Program,
    loaded: Sequence[str],
    operands: Sequence[Blocked | Strided],
    builder: PlanBuilder,
) -> list[Blocked]:
    """The same for blocked results."""
    if len(program.outputs) == 1:
        y = program.outputs[0]
        for x, tensor in zip(loaded, operands, strict=True):
            if not isinstance(tensor, Blocked) or builder.type(x) != builder.type(y):
                continue
            if builder.may_overwrite(x, y, tensor):
                builder.alias_blocked(y, tensor)
                return [tensor]
    return [builder.new_blocked(y) for y in program.outputs]
