"""The walk through a quantised network, operator by operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...graph import Array, Node
from ...ops import OPS, complete
from ...ops.elementwise import Unary
from .makers import make
from .products import product, with_residual
from .qlinear import QLINEAR
from .state import State
from .values import Code, Kind, Lookup, Pending, Scaling, function_values, scalar, scaling

MOVES = frozenset(
    {
        *("reshape", "flatten", "squeeze", "unsqueeze", "transpose", "slice", "identity"),
        *("expand", "tile", "gather", "depth_to_space", "space_to_depth", "split", "pad"),
        *("max_pool", "global_max_pool", "resize"),
    }
)
"""Operators that give elements of their first input, or one of several that are compared."""

COMPARING = frozenset({"max_pool", "global_max_pool"})
LATER = MOVES - COMPARING - {"pad", "resize", "split"}
"""Moves that can be done to the bytes of what is pending."""
BINARY = frozenset({"add", "sub", "mul", "div", "min", "max", "pow", "prelu"})
PLAIN = (None, "uint8", "int8")
"""Dtypes that QuantizeLinear may make: those of bytes."""


def walk(state: State) -> None:
    """Goes through the nodes in order, and appends to the state what they become."""
    for node in state.graph.nodes:
        handler = HANDLERS.get(node.op)
        if handler is None and isinstance(OPS.get(node.op), Unary):
            handler = elementwise
        if handler is None or not handler(state, node):
            state.nodes.append(node)


def quantize(state: State, node: Node) -> bool:
    """QuantizeLinear: what came before is made as bytes."""
    x, q = node.inputs[0], node.outputs[0]
    if x in state.constants or node["block_size"] or node["output_dtype"] not in PLAIN:
        return False
    zero = node.input(2)
    dtype = None if zero else np.dtype(node["output_dtype"] or np.uint8)
    y = scaling(state.constants, node.inputs[1], zero, dtype)
    if y is None:
        return False
    requantise(state, node, x, y, state.output_of(q, y.dtype))
    return True


def requantise(state: State, node: Node, x: str, y: Scaling, output: str) -> None:
    """Makes the floats x as the bytes `output`."""
    found, pending = state.lookups.get(x), state.pending.get(x)
    if pending and state.sole(x) and make(state, pending, y, output):
        return
    if found is not None:
        state.table(node.name, found.base, y.bytes_of(found.values), output)
        return
    zero = state.constant(f"{output}/zero", np.uint8(y.zero).reshape(()))
    state.emit("quantize_linear", node.name, [x, node.inputs[1], zero], output)


def dequantize(state: State, node: Node) -> bool:
    """DequantizeLinear of bytes."""
    q, y = node.inputs[0], node.outputs[0]
    if q in state.constants or node["block_size"] or node["output_dtype"] not in (None, "float32"):
        return False
    x = state.scaling(node.inputs[1], node.input(2), q)
    if x is None:
        return False
    code = Code(state.as_bytes(q, x.dtype), x)
    state.lookups[y] = state.lookup(code)
    zero = state.constant(f"{y}/zero", np.uint8(x.zero).reshape(()))
    state.emit("dequantize_linear", node.name, [code.tensor, node.inputs[1], zero], y)
    return True


def elementwise(state: State, node: Node) -> bool:
    """An operator on one tensor: a table, or limits of what is pending."""
    x, y = node.inputs[0], node.outputs[0]
    limits = _limits(state, node)
    pending = state.pending.get(x)
    if pending and limits and state.sole(x):
        state.pending[y] = replace(pending, clamps=(*pending.clamps, limits))
    found = state.lookups.get(x)
    others = [state.constants.get(name) if name else None for name in node.inputs[1:]]
    known = all(v is not None and v.ndim == 0 for v in others)
    if found is not None and known:
        values = function_values(node, found.values, *(v for v in others if v is not None))
        if values is not None:
            state.lookups[y] = found.changed(values)
    return False


def clip(state: State, node: Node) -> bool:
    """Limits that are constant."""
    limits = _limits(state, node)
    if limits is None:
        return False
    x, y = node.inputs[0], node.outputs[0]
    pending, found = state.pending.get(x), state.lookups.get(x)
    if pending and state.sole(x):
        state.pending[y] = replace(pending, clamps=(*pending.clamps, limits))
    if found is not None:
        low, high = (np.float32(v) for v in limits)
        state.lookups[y] = found.changed(np.minimum(np.maximum(found.values, low), high))
    return False


def _limits(state: State, node: Node) -> tuple[float, float] | None:
    if node.op == "relu":
        return (0.0, np.inf)
    if node.op != "clip":
        return None
    bounds = []
    for index, unlimited in ((1, -np.inf), (2, np.inf)):
        name = node.input(index)
        value = scalar(state.constants, name) if name else unlimited
        if value is None or np.isnan(value):
            return None
        bounds.append(float(value))
    return (bounds[0], bounds[1])


def binary(state: State, node: Node) -> bool:
    """Two tensors: a sum or product of bytes, or a table if both depend on the same bytes."""
    a, b = node.inputs
    y = node.outputs[0]
    first, second = state.operand(a), state.operand(b)
    computed = state.code(a) or state.code(b)
    if first and second and computed and node.op in ("add", "mul"):
        kind: Kind = "add" if node.op == "add" else "mul"
        state.pending[y] = Pending(kind, node, (first, second))
    elif node.op == "add" and not with_residual(state, node):
        product(state, node)
    values = [_operand(state, a, y), _operand(state, b, y)]
    bases = {v.base for v in values if isinstance(v, Lookup)}
    if len(bases) == 1 and all(v is not None for v in values):
        made = function_values(node, *(_values(v) for v in values if v is not None))
        if made is not None:
            state.lookups[y] = Lookup(bases.pop(), made)
    return False


def _operand(state: State, name: str, y: str) -> Lookup | Array | None:
    """A table, or one number that does not change the shape of the result."""
    if name in state.lookups:
        return state.lookups[name]
    value = state.constants.get(name)
    if value is None or value.size != 1:
        return None
    type_ = state.types.get(y)
    rank = type_.rank if type_ else 1
    return np.asarray(value).reshape(()) if value.ndim <= rank else None


def move(state: State, node: Node) -> bool:
    """An operator that moves elements moves bytes."""
    x = node.inputs[0]
    pending = state.pending.get(x)
    if pending and node.op in LATER and state.sole(x):
        state.pending[node.outputs[0]] = replace(pending, moves=(*pending.moves, node))
    if x in state.uint8 and node.op != "pad":
        return _move_bytes(state, node)
    found = state.lookups.get(x)
    if found is None or (node.op == "resize" and node["mode"] != "nearest"):
        return False
    if node.op == "max_pool" and len(node.outputs) > 1:
        return False
    base, values = found.base, found.values
    if found.code:
        base, values = found.code.tensor, found.code.scaling.values()
    if node.op in COMPARING and (np.diff(values) < 0).any():
        return False
    inputs = [base, *node.inputs[1:]]
    if node.op == "pad" and node["mode"] == "constant":
        fill = scalar(state.constants, node.input(2)) if node.input(2) else 0.0
        if fill is None or not (values == fill).any():
            return False
        byte = np.uint8(np.argmax(values == fill))
        name = state.constant(f"{node.outputs[0]}/fill", byte.reshape(()))
        inputs[1:3] = [node.inputs[1], name]
    outputs = [state.unique(f"{y}/bytes") if y else "" for y in node.outputs]
    state.nodes.append(Node(node.op, node.name, inputs, outputs, dict(node.attributes)))
    for y, moved in zip(node.outputs, outputs, strict=True):
        if y:
            code = found.code and Code(moved, found.code.scaling)
            state.lookups[y] = Lookup(moved, values, code)
    return False


def _move_bytes(state: State, node: Node) -> bool:
    """The same for tensors of int8, of which only the form as uint8 is made."""
    if node.op == "resize" and node["mode"] != "nearest":
        return False
    if node.op == "max_pool" and len(node.outputs) > 1:
        return False
    inputs = [state.uint8[node.inputs[0]], *node.inputs[1:]]
    outputs = [state.output_of(y, np.dtype(np.int8)) if y else "" for y in node.outputs]
    state.nodes.append(Node(node.op, node.name, inputs, outputs, dict(node.attributes)))
    return True


def average(state: State, node: Node) -> bool:
    """A pool of means."""
    code = state.code(node.inputs[0])
    if code:
        state.pending[node.outputs[0]] = Pending("average", node, (code,))
    return False


def mean(state: State, node: Node) -> bool:
    """The mean of whole images, as exporters write a global average pool."""
    x, y = node.inputs[0], node.outputs[0]
    code, type_ = state.code(x), state.types.get(x)
    axes = node["axes"]
    if node.input(1):
        value = state.constants.get(node.inputs[1])
        axes = None if value is None else value.reshape(-1).tolist()
    if code is None or type_ is None or not axes or type_.rank not in (3, 4, 5):
        return False
    if sorted(axis % type_.rank for axis in axes) == list(range(2, type_.rank)):
        pool = Node("global_average_pool", node.name, [x], [y])
        flat = Node("flatten", node.name, [""], [y], {"axis": 1})
        complete(pool)
        state.pending[y] = Pending(
            "average", pool, (code,), moves=() if node["keepdims"] else (flat,)
        )
    return False


def concat(state: State, node: Node) -> bool:
    """Tensors of bytes side by side, or of int8."""
    if any(name in state.uint8 for name in node.inputs):
        types = [state.types.get(name) for name in node.inputs]
        if not all(t and t.dtype == np.int8 for t in types):
            return False
        inputs = [state.as_bytes(name, np.dtype(np.int8)) for name in node.inputs]
        output = state.output_of(node.outputs[0], np.dtype(np.int8))
        state.nodes.append(Node("concat", node.name, inputs, [output], dict(node.attributes)))
        return True
    codes = [state.code(name) for name in node.inputs]
    found = tuple(code for code in codes if code)
    if len(found) == len(codes):
        state.pending[node.outputs[0]] = Pending("concat", node, found)
    return False


def product_of(state: State, node: Node) -> bool:
    """A convolution or a product of matrices."""
    product(state, node)
    return False


def _values(operand: Lookup | Array) -> Array:
    return operand.values if isinstance(operand, Lookup) else operand


HANDLERS: dict[str, Callable[[State, Node], bool]] = {
    "quantize_linear": quantize,
    "dequantize_linear": dequantize,
    "clip": clip,
    "concat": concat,
    "average_pool": average,
    "global_average_pool": average,
    "reduce_mean": mean,
    **dict.fromkeys(BINARY, binary),
    **dict.fromkeys(MOVES, move),
    **dict.fromkeys(("conv", "gemm", "matmul"), product_of),
    **QLINEAR,
}
"""The handler of each operator. It returns True if what it appended replaces the node."""
