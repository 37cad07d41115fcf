"""Rules that fuse patterns of several operators, as exporters write them, into one operator."""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from ..graph import Node, TensorType
from .rules import Context, Rule


def _spatial_mean(node: Node, c: Context) -> bool:
    """reduce_mean over all spatial axes, keeping them, is global_average_pool."""
    rank = c.graph.types[node.inputs[0]].rank
    if c.graph.types[node.inputs[0]].dtype != np.float32:
        return False
    axes = node.attributes.get("axes")
    if node.input(1):
        value = c.graph.constants.get(node.inputs[1])
        axes = None if value is None else value.reshape(-1).tolist()
    if not axes or rank not in (3, 4, 5):
        return False
    if sorted(a % rank for a in axes) != list(range(2, rank)):
        return False
    if node["keepdims"]:
        c.become(node, "global_average_pool", [node.inputs[0]])
        return True
    pooled = f"{node.outputs[0]}.pooled"
    shape = c.graph.types[node.outputs[0]].shape
    pool = Node("global_average_pool", node.name, [node.inputs[0]], [pooled])
    ops.complete(pool)
    c.graph.types[pooled] = TensorType((*shape, *[1] * (rank - 2)))
    flat = Node("flatten", f"{node.name}.flatten", [pooled], list(node.outputs), {"axis": 1})
    c.replaced[id(node)] = [pool, flat]
    return True


def _pad_into_window(node: Node, c: Context) -> bool:
    """Zero padding before a convolution becomes the convolution's own."""
    pad = c.made_by(node.inputs[0], "pad")
    if pad is None or c.readers.get(node.inputs[0]) != 1 or pad["mode"] != "constant":
        return False
    value = c.scalar(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] else 0.0
    amounts = c.graph.constants.get(pad.inputs[1])
    axes = len(pad.inputs) > 3 and pad.inputs[3]
    rank = c.graph.types[node.inputs[0]].rank
    if value != 0 or amounts is None or axes or node["auto_pad"] != "NOTSET":
        return False
    begin, end = amounts[:rank].tolist(), amounts[rank:].tolist()
    if any((*begin[:2], *end[:2])) or min(*begin, *end) < 0:
        return False
    own = node["pads"] or [0] * (2 * (rank - 2))
    pads = [a + b for a, b in zip(own, begin[2:] + end[2:], strict=True)]
    node.attributes = {**node.attributes, "pads": pads}
    node.inputs = [pad.inputs[0], *node.inputs[1:]]
    return True


def _add_before_reshape(node: Node, c: Context) -> bool:
    """reshape(reshape(x) + constant) is x + constant, if the first axis of x was only cut in two in
    between.

    So Swin adds the mask of its shifted windows to the scores of a batch of windows.
    """
    add = c.made_by(node.inputs[0], "add")
    x_type, types = c.graph.types[node.outputs[0]], c.graph.types
    if add is None or c.readers.get(node.inputs[0]) != 1:
        return False
    for cut_name, mask in (add.inputs, add.inputs[::-1]):
        cut, value = c.made_by(cut_name, "reshape"), c.graph.constants.get(mask)
        if cut is None or value is None or c.readers.get(cut_name) != 1:
            continue
        (first, *rest), shape = x_type.shape or (0,), types[cut_name].shape
        whole = types[cut.inputs[0]].shape == x_type.shape and list(shape[2:]) == rest
        fits = len(shape) == len(rest) + 2 and value.ndim == len(shape)
        if not (whole and fits) or first * math.prod(value.shape[2:]) > MAX_MASK:
            continue
        spread = np.broadcast_to(value, (*shape[:2], *value.shape[2:]))
        moved = c.new_constant(node, "mask", spread.reshape(first, *value.shape[2:]))
        c.become(node, "add", [cut.inputs[0], moved])
        _join_constants(node, c)
        return True
    return False


MAX_MASK = 1 << 24
"""Maximum elements of a mask with the batch's copies; a larger one is added as the file says."""


def _join_constants(node: Node, c: Context) -> bool:
    """(x + a) + b is x + (a + b), for constants of which one has the shape of the sum."""
    for inner_name, b in (node.inputs, node.inputs[::-1]):
        inner = c.made_by(inner_name, "add")
        if inner is None or b not in c.graph.constants or c.readers.get(inner_name) != 1:
            continue
        for x, a in (inner.inputs, inner.inputs[::-1]):
            if a not in c.graph.constants or x in c.graph.constants:
                continue
            total = np.add(c.graph.constants[a], c.graph.constants[b])
            shape = c.graph.types[node.outputs[0]].shape
            if c.graph.types[x].shape != shape or total.size > MAX_MASK:
                continue
            c.become(node, "add", [x, c.new_constant(node, "sum", total)])
            return True
    return False


def _one_hot(node: Node, c: Context) -> bool:
    """The product of a one-hot vector and a matrix is a row of the matrix.

    JAX and TensorFlow write a one-hot vector as the comparison of an index with 0, 1, 2, ... An
    index that is none of them chooses a row of zeros.
    """
    types, constants = c.graph.types, c.graph.constants
    cast = c.made_by(node.inputs[0], "cast")
    equal = c.made_by(cast.inputs[0], "equal") if cast else None
    weight = constants.get(node.inputs[1])
    if equal is None or weight is None or weight.ndim != 2 or weight.size > MAX_TABLE:
        return False
    bias = constants.get(node.input(2))
    if node.input(3) or node.attributes.get("activation") or (node.input(2) and bias is None):
        return False
    size, lead = weight.shape[1], types[node.outputs[0]].shape[:-1]
    for name, numbers in (equal.inputs, equal.inputs[::-1]):
        expand, value = c.made_by(name, "expand"), constants.get(numbers)
        index = types[expand.inputs[0] if expand else name]
        if value is None or index.shape != (*lead, 1) or index.dtype.name not in INDICES:
            continue
        if value.size != size or value.shape[-1] != size or (value != np.arange(size)).any():
            continue
        rows = np.zeros((size + 1, weight.shape[0]), weight.dtype)
        rows[:-1] = np.asarray(weight).T
        rows += 0 if bias is None else np.asarray(bias)
        table = c.new_constant(node, "rows", rows)
        ends = [np.array(end, index.dtype.numpy) for end in (-1, size)]  # both are the last row
        low, high = (c.new_constant(node, f"end{i}", end) for i, end in enumerate(ends))
        shape = c.new_constant(node, "shape", np.array(lead, np.int64))
        near, flat = (f"{node.outputs[0]}.{part}" for part in ("near", "flat"))
        source = expand.inputs[0] if expand else name
        made = [
            Node("clip", f"{node.name}.near", [source, low, high], [near]),
            Node("reshape", f"{node.name}.flat", [near, shape], [flat]),
            Node("gather", node.name, [table, flat], list(node.outputs), {"axis": 0}),
        ]
        for part in made:
            ops.complete(part)
        types[near], types[flat] = index, TensorType(lead, index.dtype)
        c.replaced[id(node)] = made
        return True
    return False


INDICES = ("int32", "int64")
MAX_TABLE = 1 << 22
"""Elements of a matrix of which another copy is made."""

RULES: dict[str, list[Rule]] = {
    "linear": [_one_hot],
    "reduce_mean": [_spatial_mean],
    "add": [_join_constants],
    "reshape": [_add_before_reshape],
    "conv": [_pad_into_window],
}
