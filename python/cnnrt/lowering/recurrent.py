"""Recurrent layers: one product for the inputs of all steps and gates, then the steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core
from ..dtypes import FLOAT32
from ..graph import Array, Node
from ..layout.tensors import BLOCK, At, ceil_div
from ..ops import OPS
from ..ops.recurrent import Recurrent
from ..weights.widen import narrow
from .builder import PlanBuilder
from .dense import NARROW_ROWS, pack, panel_bytes
from .registry import ALL_TYPES, lowers

ACTIVATIONS = {
    "leakyrelu": "leaky_relu",
    "thresholdedrelu": "thresholded_relu",
    "hardsigmoid": "hard_sigmoid",
}
"""Names of ONNX, in small letters, that the kernels' activations do not share."""

NARROW_STATES = 4096
"""Maximum number of states of a recurrence by narrow weights: kMaxNarrowStates of args.h."""

NARROW_BATCH = 4
"""Maximum number of rows whose states are multiplied by weights as they are stored."""


@lowers("rnn", "gru", "lstm", types=ALL_TYPES)
def lower_recurrent(node: Node, builder: PlanBuilder) -> bool:
    op = OPS[node.op]
    assert isinstance(op, Recurrent)
    inputs = [*node.inputs, *[""] * 8][:8]
    x_name, weight_name, recurrence_name, bias_name, lengths_name, *states = inputs
    peephole_name = states[2] if op.states == 2 else ""
    weight, recurrence = builder.constant(weight_name), builder.constant(recurrence_name)
    epilogues = _epilogues(op, node)
    if (
        weight is None
        or recurrence is None
        or 0 in (*weight.shape, *recurrence.shape)
        or any(builder.constant(n) is None for n in (bias_name, peephole_name) if n)
        or any(builder.type(n).dtype != np.float32 for n in (x_name, *states) if n)
        or (lengths_name and builder.type(lengths_name).dtype != np.int32)
        or epilogues is None
    ):
        return False
    x_type, (directions, _, hidden) = builder.type(x_name), recurrence.shape
    length, batch = x_type.shape[:2] if node["layout"] == 0 else x_type.shape[1::-1]
    columns = op.gates * directions * ceil_div(hidden, BLOCK) * BLOCK
    reset_after = bool(node.attributes.get("linear_before_reset", 0))
    projected = _project(node, builder, op, weight, reset_after)
    narrow_rows = NARROW_BATCH if hidden <= NARROW_STATES else 0

    # y lies by time, direction and row of the batch; with layout 1 by row, time and direction.
    y_strides = (directions * batch * hidden, batch * hidden, hidden)
    x_strides, state_strides = (batch * columns, columns), (batch * hidden, hidden)
    if node["layout"]:
        y_strides = (directions * hidden, hidden, length * directions * hidden)
        x_strides, state_strides = (columns, length * columns), (hidden, directions * hidden)
    outputs = [builder.new_plain(name).at if name else None for name in node.outputs]
    y, h_last, c_last = [*outputs, None, None][:3]
    macs = length * batch * recurrence.size
    builder.step(
        "recurrent",
        x=projected,
        **_weights(builder, recurrence_name, "recurrent", op.gates, batch <= narrow_rows),
        bias=_last_bias(node, builder, hidden) if reset_after and bias_name else None,
        peephole=_peephole(builder, peephole_name),
        lengths=builder.plain(lengths_name).at if lengths_name else None,
        h0=_at(builder, states[0]),
        c0=_at(builder, states[1]) if op.states == 2 else None,
        y=y,
        h_last=h_last,
        c_last=c_last,
        cell=node.op,
        reverse=int(node["direction"] == "reverse"),
        reset_after=int(reset_after),
        input_forget=int(bool(node.attributes.get("input_forget", 0))),
        directions=directions,
        length=length,
        batch=batch,
        hidden=hidden,
        x_time=x_strides[0],
        x_row=x_strides[1],
        y_time=y_strides[0],
        y_direction=y_strides[1],
        y_row=y_strides[2],
        state_direction=state_strides[0],
        state_row=state_strides[1],
        clip=float(node["clip"] or 0),
        activations=epilogues,
        note=f"{length} steps",
        # A few rows at a time reach half of the peak, with the weights from L2.
        cost_ns=2 * macs / builder.machine.macs[FLOAT32],
    )
    return True


def _weights(builder: PlanBuilder, name: str, kind: str, gates: int, few: bool) -> dict[str, Any]:
    """The fields for weights (directions, gates * H, depth) in panels of padded gates.

    Args:
        few: True if few rows meet them, which wait for memory: they stay as they are stored.
    """
    directions, rows, depth = builder.type(name).shape
    columns = directions * gates * ceil_div(rows // gates, BLOCK) * BLOCK

    def panels(dtype: str, depth: int, stored: Array | None) -> Any:
        return builder.weight(
            name,
            f"{kind}{dtype}, {gates} gates",
            panel_bytes(columns, depth, 4 if stored is None else stored.dtype.itemsize)
            // FLOAT32.itemsize,
            lambda value: pack(_padded(value, gates), builder),
            stored,
        )

    stored = narrow(builder.constant(name)) if few else None
    if stored is None:
        return {"weight": panels("", depth, None)}
    fields = {
        "weight": panels(f" {stored.dtype}", depth, stored.values),
        "weight_type": str(stored.dtype),
    }
    if stored.factors is not None:
        blocks = stored.factors.shape[-1]
        fields["factors"] = panels(" factors", blocks, stored.factors)
    return fields


def _epilogues(op: Recurrent, node: Node) -> list[tuple[str, float, float]] | None:
    """Three activations for each of two directions; None if a kernel lacks one."""
    result: list[tuple[str, float, float]] = []
    for direction in op.activations(node):
        named = [(ACTIVATIONS.get(name, name), a, b) for name, a, b in direction]
        result += [*named, *[("none", 0.0, 0.0)] * (3 - len(named))]
    result += [("none", 0.0, 0.0)] * (6 - len(result))
    return result if all(name in _core.activations for name, _, _ in result) else None


def _padded(value: Array, gates: int) -> Array:
    """(directions, gates * H, ...) as rows, with the rows of each gate padded to whole blocks."""
    directions, rows, *rest = value.shape
    hidden = rows // gates
    padded = value
    if hidden % BLOCK:
        size = ceil_div(hidden, BLOCK) * BLOCK
        padded = np.zeros((directions, gates, size, *rest), value.dtype)
        padded[:, :, :hidden] = value.reshape(directions, gates, hidden, *rest)
    matrix: Array = padded.reshape(math.prod(padded.shape[: -len(rest) or None]), *rest)
    return matrix


def _project(
    node: Node, builder: PlanBuilder, op: Recurrent, weight: Array, reset_after: bool
) -> At:
    """The product of all inputs by the weights of all gates and directions, biases added."""
    x, weight_name = builder.plain(node.inputs[0]), node.inputs[1]
    bias_name = node.input(3)
    depth = weight.shape[2]

    directions, rows_of_gates, _ = weight.shape
    hidden = rows_of_gates // op.gates
    columns = op.gates * directions * ceil_div(hidden, BLOCK) * BLOCK
    rows = x.type.size // depth
    y = At(builder.new_buffer(rows * columns * x.type.dtype.itemsize), 0)
    weights = _weights(builder, weight_name, "linear", op.gates, rows <= NARROW_ROWS)
    builder.step(
        "linear_narrow" if "weight_type" in weights else "linear",
        x=x.at,
        y=y,
        **weights,
        bias=_gate_bias(builder, op, bias_name, columns, reset_after),
        rows=rows,
        depth=depth,
        columns=columns,
        x_row=depth,
        y_row=columns,
        order="rows",
        note="inputs of all steps",
        cost_ns=rows * columns * depth / builder.machine.macs[x.type.dtype],
    )
    return y


def _gate_bias(
    builder: PlanBuilder, op: Recurrent, name: str, columns: int, reset_after: bool
) -> Any:
    """The biases of inputs and state, added, per direction and gate in whole blocks."""
    bias = builder.constant(name)
    if bias is None:
        return _core.Memory(np.zeros(columns, np.float32))
    of_input, of_state = np.split(bias, 2, axis=1)
    if reset_after:  # that of the last gate is multiplied by the reset
        of_state = of_state.copy()
        of_state[:, -(of_state.shape[1] // op.gates) :] = 0
    kind = f"{op.gates} gates, reset {'after' if reset_after else 'before'}"
    return builder.constant_memory(name, kind, _padded(of_input + of_state, op.gates))


def _last_bias(node: Node, builder: PlanBuilder, hidden: int) -> Any:
    """The bias of the state in the last gate, per direction, in whole blocks."""
    bias = builder.constant(node.inputs[3])
    assert bias is not None
    return builder.constant_memory(node.inputs[3], "last gate", _padded(bias[:, -hidden:], 1))


def _peephole(builder: PlanBuilder, name: str) -> Any:
    value = builder.constant(name) if name else None
    return None if value is None else builder.constant_memory(name, "peephole", _padded(value, 3))


def _at(builder: PlanBuilder, name: str) -> At | None:
    return builder.plain(name).at if name else None
