"""Conversion of dtypes: cast, quantisation and back."""

from __future__ import annotations

import math

import numpy as np

from .. import _core
from ..graph import Node
from ..ops.narrow import NARROW
from .builder import PlanBuilder
from .registry import ALL_TYPES, lowers

QUANTISED = frozenset(("uint8", "int8", "uint16", "int16"))
"""Quantised elements whose values, with their zero points, a float32 holds exactly."""


@lowers("cast", "cast_like", types=ALL_TYPES)
def lower_cast(node: Node, builder: PlanBuilder) -> bool:
    x, y = builder.type(node.inputs[0]), builder.type(node.outputs[0])
    if node.attributes.get("to") in NARROW:
        return False
    if x.dtype == y.dtype:
        builder.alias(node.outputs[0], builder.plain(node.inputs[0]))
        return True
    _convert(node, builder, f"{x.dtype} to {y.dtype}", rows=1, columns=x.size)
    return True


@lowers("quantize_linear", "dequantize_linear", types=ALL_TYPES)
def lower_quantize(node: Node, builder: PlanBuilder) -> bool:
    x, y = builder.type(node.inputs[0]), builder.type(node.outputs[0])
    scale = builder.constant(node.inputs[1])
    zero_name = node.input(2)
    zero = builder.constant(zero_name)
    whole, real = (y, x) if node.op == "quantize_linear" else (x, y)
    if (
        scale is None
        or scale.dtype != np.float32
        or (zero_name and zero is None)
        or node["block_size"]
        or node["output_dtype"] in NARROW
        or real.dtype != np.float32
        or whole.dtype.name not in QUANTISED
    ):
        return False
    axis = node["axis"] % x.rank if scale.size > 1 else 0
    inner = math.prod(x.shape[axis + 1 :])
    if scale.size == 1:
        rows, columns, by_column = 1, x.size, 0
    elif inner > 1:
        rows, columns, by_column = x.size // inner, inner, 0
    else:
        rows, columns, by_column = x.size // scale.size, scale.size, 1
    _convert(
        node,
        builder,
        f"{x.dtype} to {y.dtype}",
        rows=rows,
        columns=columns,
        scales=scale.size,
        by_column=by_column,
        scale=builder.constant_memory(node.inputs[1], "floats", scale),
        zero=_core.Memory(np.zeros(scale.size, np.float32))
        if zero is None
        else builder.constant_memory(zero_name, "floats", zero.astype(np.float32)),
    )
    return True


def _convert(node: Node, builder: PlanBuilder, note: str, **fields: object) -> None:
    x, y = builder.plain(node.inputs[0]), builder.new_plain(node.outputs[0])
    builder.step(
        "convert",
        x=x.at,
        y=y.at,
        **{"from": x.type.dtype.name, "to": y.type.dtype.name},
        note=note,
        cost_ns=(x.type.nbytes + y.type.nbytes) / builder.machine.activations,
        **fields,
    )
