"""Makes pending tensors of floats as tensors of bytes, once their scale is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...graph import Array, Node
from ...ops import OPS
from ...symbolic import is_symbolic
from .products import make_product
from .state import State
from .values import BYTES, SIGN, Kind, Pending, Scaling


def make(state: State, pending: Pending, y: Scaling, output: str) -> bool:
    """Makes a pending tensor as bytes; False if that cannot be done."""
    maker = MAKERS[pending.kind]
    if not pending.moves:
        return maker(state, pending, y, output)
    x = state.unique(f"{output}/before")
    if not maker(state, pending, y, x):
        return False
    for node in pending.moves:
        moved = output if node is pending.moves[-1] else state.unique(f"{output}/before")
        state.emit(node.op, node.name, [x, *node.inputs[1:]], moved, **node.attributes)
        x = moved
    return True


def shift_of(y: Scaling) -> int:
    """128 for tensors of int8, which are rounded as the numbers that they were; else 0."""
    return SIGN if y.dtype == np.int8 else 0


def make_pair(state: State, pending: Pending, y: Scaling, output: str) -> bool:
    """Makes a sum or a product of two tensors of bytes."""
    a, b = pending.codes
    kinds = {a.scaling.dtype, b.scaling.dtype, y.dtype}
    if len(kinds) > 1:
        return False
    low, high = pending.limits(y)
    zeros = {"a_zero": a.scaling.zero, "b_zero": b.scaling.zero, "zero": y.zero}
    attributes: dict[str, object] = {"low": low, "high": high, "shift": shift_of(y), **zeros}
    if pending.kind == "add":
        for key, code in (("a_ratio", a), ("b_ratio", b)):
            attributes[key] = float(np.float32(code.scaling.scale / y.scale))
    else:
        attributes["ratio"] = float(np.float32(a.scaling.scale * b.scaling.scale / y.scale))
    op, name = f"q{pending.kind}", pending.node.name
    found = _tables(state, pending)
    if found is not None:
        base, tables = found
        table = OPS[op].reference(Node(op, name, [], [], attributes), *tables)[0]
        state.table(name, base, table, output)
    else:
        state.emit(op, name, [a.tensor, b.tensor], output, **attributes)
    return True


def _tables(state: State, pending: Pending) -> tuple[str, list[Array]] | None:
    """The tensor that both operands are tables of, and the tables; one may be a single number.

    None: there is none, or the order of a sum depends on a size (see `first_is_single`).
    """
    y = state.types.get(pending.node.outputs[0])
    axes = y.shape if y else ()
    base, tables = "", []
    for code in pending.codes:
        value = state.constants.get(code.tensor)
        if value is None:
            root, table = state.root(code.tensor)
            if base not in ("", root):
                return None
            base = root
        elif y is None or value.size != 1 or value.ndim > y.rank:
            return None
        else:
            table = np.asarray(value).reshape(())
            axes = y.shape[-max(value.ndim, 1) :]
        tables.append(table)
    ordered = pending.kind == "mul" or any(not is_symbolic(n) and n > 1 for n in axes)
    return (base, tables) if base and ordered else None


def make_average(state: State, pending: Pending, y: Scaling, output: str) -> bool:
    """Makes a pool of means, of windows or of whole images."""
    node, (x,) = pending.node, pending.codes
    if x.scaling.dtype != y.dtype:
        return False
    low, high = pending.limits(y)
    state.emit(
        f"q{node.op}",
        node.name,
        [x.tensor],
        output,
        **{k: v for k, v in node.attributes.items() if k != "activation"},
        x_zero=x.scaling.zero,
        x_scale=float(x.scaling.scale),
        y_scale=float(y.scale),
        zero=y.zero,
        shift=shift_of(y),
        low=low,
        high=high,
    )
    return True


def make_concat(state: State, pending: Pending, y: Scaling, output: str) -> bool:
    """Makes tensors side by side, each with the scale of the whole."""
    low, high = pending.limits(y)
    parts = []
    for code in pending.codes:
        base, inner = state.root(code.tensor)
        table = np.clip(y.bytes_of(code.scaling.values()), low, high)
        if np.array_equal(table, BYTES):
            parts.append(code.tensor)
            continue
        part = state.unique(f"{output}/part")
        state.table(pending.node.name, base, table[inner], part)
        parts.append(part)
    axis = pending.node["axis"]
    state.emit("concat", pending.node.name, parts, output, axis=axis)
    return True


MAKERS: dict[Kind, Callable[[State, Pending, Scaling, str], bool]] = {
    "product": make_product,
    "add": make_pair,
    "mul": make_pair,
    "average": make_average,
    "concat": make_concat,
}
