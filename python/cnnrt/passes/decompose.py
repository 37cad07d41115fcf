"""Rules that split one operator into others that have kernels, or that do less."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..dtypes import BOOL, INT64, DType
from ..graph import Array, Node, TensorType
from ..ops.windows import resolve_windows
from ..weights.lazy import lazy
from .fold_norm import scale_and_shift
from .rules import Context, Rule


def _power(node: Node, c: Context) -> bool:
    """Powers of a few constants are products and roots."""
    x, types = node.inputs[0], c.graph.types
    exponent = c.scalar(node.inputs[1])
    if exponent is None or types[x].dtype != np.float32:
        return False
    if types[x].rank < types[node.inputs[1]].rank:
        return False
    if exponent == 2:
        c.become(node, "mul", [x, x])
    elif exponent == 3:
        square = Node("mul", f"{node.name}.square", [x, x], [f"{node.outputs[0]}.square"])
        cube = Node("mul", node.name, [square.outputs[0], x], list(node.outputs))
        for made in (square, cube):
            ops.complete(made)
        types[square.outputs[0]] = types[x]
        c.replaced[id(node)] = [square, cube]
    elif exponent in ROOTS:
        c.become(node, ROOTS[exponent], [x])
    else:
        return False
    return True


def _cast(node: Node, c: Context) -> bool:
    """cast_like needs only the type of its second input."""
    dtype = c.graph.types[node.outputs[0]].dtype
    c.become(node, "cast", node.inputs[:1], to=dtype.name)
    return True


ROOTS = {1.0: "identity", 0.5: "sqrt", -1.0: "reciprocal"}


def _normalise(node: Node, c: Context) -> bool:
    """Batch normalisation that no convolution could take becomes a convolution, 1x1 and
    depthwise; in float64 it becomes a product and a sum."""
    statistics = [c.graph.constants.get(name) for name in node.inputs[1:5]]
    if any(s is None for s in statistics) or node["training_mode"]:
        return False
    factor, shift = scale_and_shift([s for s in statistics if s is not None], node["epsilon"])
    x = c.graph.types[node.inputs[0]]
    if x.dtype == np.float64:
        _scale_and_add(node, factor, shift, c)
        return True
    if x.rank < 3 or x.dtype != np.float32:
        return False
    weight = factor.astype(np.float32).reshape(-1, *[1] * (x.rank - 1))
    names = [
        c.new_constant(node, "factor", weight),
        c.new_constant(node, "shift", shift.astype(np.float32)),
    ]
    c.become(node, "conv", [node.inputs[0], *names], group=x.shape[1])
    return True


def _scale_and_add(node: Node, factor: Array, shift: Array, c: Context) -> None:
    """Replaces a normalisation of doubles by elementwise operators."""
    x, y = node.inputs[0], node.outputs[0]
    per_channel = (-1, *[1] * (c.graph.types[x].rank - 2))
    names = [
        c.new_constant(node, name, np.asarray(value, np.float64).reshape(per_channel))
        for name, value in (("factor", factor), ("shift", shift))
    ]
    scaled = Node("mul", f"{node.name}.scaled", [x, names[0]], [f"{y}.scaled"])
    total = Node("add", node.name, [scaled.outputs[0], names[1]], [y])
    for made in (scaled, total):
        ops.complete(made)
    c.graph.types[scaled.outputs[0]] = c.graph.types[x]
    c.replaced[id(node)] = [scaled, total]


def _crop_taps(node: Node, c: Context) -> bool:
    """Taps of a dilated convolution that only ever meet padding are cut off the weight.

    DeepLab dilates 3x3 windows by 24 and 36 over images of 16 pixels: only the middle tap is left.
    """
    weight = c.graph.constants.get(node.inputs[1])
    if weight is None or len(node.inputs) > 3 or node["auto_pad"] != "NOTSET":
        return False
    if weight.size == weight.shape[0] * weight.shape[1]:  # a single tap
        return False
    w = resolve_windows(node, c.graph.types[node.inputs[0]].shape[2:], kernel=weight.shape[2:])
    if w.all_live:
        return False
    axes = list(zip(w.kernel, w.dilation, w.begin, w.stride, w.size, w.out, strict=True))
    ranges = [_live_taps(*axis) for axis in axes]
    begin = [b - k0 * d for b, d, (k0, _) in zip(w.begin, w.dilation, ranges, strict=True)]
    end = [
        e - (k - k1) * d
        for e, k, d, (_, k1) in zip(w.end, w.kernel, w.dilation, ranges, strict=True)
    ]
    whole = all((k0, k1) == (0, k) for k, (k0, k1) in zip(w.kernel, ranges, strict=True))
    if whole or min(*begin, *end) < 0:
        return False
    shape = (*weight.shape[:2], *(k1 - k0 for k0, k1 in ranges))
    cropped = lazy(shape, weight.dtype, _cropped, weight, tuple(ranges))
    node.inputs = [node.inputs[0], c.new_constant(node, "cropped", cropped), *node.inputs[2:]]
    node.attributes = {**node.attributes, "pads": begin + end, "kernel_shape": None}
    return True


def _cropped(weight: Array, ranges: tuple[tuple[int, int], ...]) -> Array:
    index = (slice(None), slice(None), *(slice(*r) for r in ranges))
    return np.ascontiguousarray(weight[index])


def _live_taps(
    kernel: int, dilation: int, begin: int, stride: int, size: int, out: int
) -> tuple[int, int]:
    """The range of taps of one axis that meet the image at some output; at least one."""
    live = []
    for k in range(kernel):
        start = k * dilation - begin  # where the tap is at output 0
        first = max(0, -(start // stride))  # the first output at which it has reached the image
        if first < out and first * stride + start < size:
            live.append(k)
    return (live[0], live[-1] + 1) if live else (0, 1)


def _repeat_channels(node: Node, c: Context) -> bool:
    """A convolution with 2 to 4 outputs of each channel is depthwise on channels repeated as often.

    The kernel of groups multiplies each output by the channels of all groups of its block of 16.
    Two outputs of each of 64 channels, 56 x 56 pixels, take 1.09 ms so. A copy and a depthwise
    convolution take 0.20.
    """
    x, weight = c.graph.types[node.inputs[0]], c.graph.types[node.inputs[1]]
    group, times = node["group"], weight.shape[0] // max(node["group"], 1)
    if not (1 < group == x.shape[1] and 2 <= times <= 4) or x.dtype != np.float32:
        return False
    if len(node.inputs) > 4:  # weights scaled by image
        return False
    n, channels, *size = x.shape
    nodes, name = [], node.inputs[0]
    for i, (op, shape) in enumerate(
        (
            ("reshape", (n, channels, 1, *size)),
            ("expand", (n, channels, times, *size)),
            ("reshape", (n, channels * times, *size)),
        )
    ):
        sizes = c.new_constant(node, f"repeated{i}.shape", np.array(shape, np.int64))
        made = f"{node.outputs[0]}.repeated{i}"
        nodes.append(Node(op, f"{node.name}.repeated{i}", [name, sizes], [made]))
        ops.complete(nodes[-1])
        c.graph.types[made] = TensorType(shape, x.dtype)
        name = made
    node.inputs = [name, *node.inputs[1:]]
    node.attributes = {**node.attributes, "group": group * times}
    c.replaced[id(node)] = [*nodes, node]
    return True


def _einsum(node: Node, c: Context) -> bool:
    """A product of two tensors is a matmul if every letter is kept or in both.

    Letters are sorted into those of both tensors and the result (the batch), those summed over, and
    those of one tensor. Each sort becomes one axis.
    """
    terms, arrow, result = node["equation"].replace(" ", "").partition("->")
    names = terms.split(",")
    if not arrow or len(names) != 2 or "." in terms + result:
        return False
    left, right = names
    every = set(left) | set(right)
    if any(len(set(t)) != len(t) for t in (left, right, result)) or not set(result) <= every:
        return False
    shapes = [c.graph.types[name].shape for name in node.inputs]
    sizes: dict[str, int] = {}
    for term, shape in zip((left, right), shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            if sizes.setdefault(letter, size) != size:  # one of them broadcasts
                return False
    batch = [i for i in result if i in left and i in right]
    summed = [i for i in left if i in right and i not in result]
    rows = [i for i in left if i not in right]
    columns = [i for i in right if i not in left]
    if not set(rows + columns) <= set(result):
        return False
    dtype = c.graph.types[node.outputs[0]].dtype
    nodes: list[Node] = []

    def add(op: str, x: str, name: str, letters: Sequence[int], **attributes: object) -> str:
        to = f"{node.outputs[0]}.{name}"
        inputs = [x]
        if op == "reshape":
            shape = c.new_constant(node, f"{name}.shape", np.array(letters, np.int64))
            inputs.append(shape)
        new = Node(op, f"{node.name}.{name}", inputs, [to], dict(attributes))
        ops.complete(new)
        c.graph.types[to] = TensorType(tuple(letters), dtype)
        nodes.append(new)
        return to

    def operand(i: int, *groups: list[str]) -> str:
        """An input with the axes (batch, group, group), each group of letters as one axis."""
        term, name, order = names[i], node.inputs[i], [*batch, *groups[0], *groups[1]]
        if order != list(term):
            perm = [term.index(letter) for letter in order]
            name = add("transpose", name, f"{i}.t", [sizes[a] for a in order], perm=perm)
        if all(len(group) == 1 for group in groups):
            return name
        shape = [sizes[a] for a in batch] + [math.prod(sizes[a] for a in g) for g in groups]
        return add("reshape", name, f"{i}.r", shape)

    a, b = operand(0, rows, summed), operand(1, summed, columns)
    order = [*batch, *rows, *columns]
    product = Node("matmul", node.name, [a, b], list(node.outputs))
    ops.complete(product)
    whole = len(rows) == len(columns) == 1
    if whole and order == list(result):
        c.replaced[id(node)] = [*nodes, product]
        return True
    joined = [math.prod(sizes[i] for i in group) for group in (rows, columns)]
    made = product.outputs[0] = f"{node.outputs[0]}.product"
    c.graph.types[made] = TensorType((*(sizes[i] for i in batch), *joined), dtype)
    nodes.append(product)
    if not whole:
        made = add("reshape", made, "split", [sizes[i] for i in order])
    if order != list(result):
        perm = [order.index(i) for i in result]
        add("transpose", made, "perm", [sizes[i] for i in result], perm=perm)
    nodes[-1].outputs = list(node.outputs)
    c.replaced[id(node)] = nodes
    return True


def _hot(node: Node, c: Context) -> bool:
    """A one-hot vector is where 0, 1, 2, ... equal the index, which may count from the end."""
    x, depth, values = node.inputs
    index, size = c.graph.types[x], c.graph.constants.get(depth)
    if size is None or index.dtype.kind not in "iu":
        return False
    count, axis = int(size.reshape(())), node["axis"] % (index.rank + 1)
    if count > np.iinfo(index.dtype.numpy).max:
        return False
    nodes: list[Node] = []

    def add(op: str, inputs: Sequence[str], name: str, type_: TensorType) -> str:
        to = f"{node.outputs[0]}.{name}"
        nodes.append(Node(op, f"{node.name}.{name}", list(inputs), [to], {}))
        ops.complete(nodes[-1])
        c.graph.types[to] = type_
        return to

    def constant(name: str, value: Any, dtype: DType = index.dtype) -> str:
        return c.new_constant(node, name, np.array(value, dtype.numpy))

    if index.dtype.kind == "i":
        below = add("less", [x, constant("zero", 0)], "below", TensorType(index.shape, BOOL))
        wrapped = add("add", [x, constant("size", count)], "wrapped", index)
        x = add("where", [below, wrapped, x], "index", index)
    shape = (*index.shape[:axis], 1, *index.shape[axis:])
    split = constant("shape", shape, INT64)
    x = add("reshape", [x, split], "column", TensorType(shape, index.dtype))
    numbers = np.arange(count).reshape(-1, *[1] * (index.rank - axis))
    hot = c.graph.types[node.outputs[0]]
    equal = add("equal", [x, constant("numbers", numbers)], "equal", TensorType(hot.shape, BOOL))
    given = c.graph.constants.get(values)
    ends = []
    for i, name in enumerate(("off", "on")):
        if given is not None:
            ends.append(c.new_constant(node, name, np.asarray(given)[i]))
            continue
        place = constant(f"{name}.place", i, INT64)
        ends.append(add("gather", [values, place], name, TensorType((), hot.dtype)))
    c.become(node, "where", [equal, ends[1], ends[0]])
    c.replaced[id(node)] = [*nodes, node]
    return True


def _compress(node: Node, c: Context) -> bool:
    """Elements chosen by a constant condition are gathered at constant places."""
    x, condition = node.inputs
    holds, type_ = c.graph.constants.get(condition), c.graph.types[x]
    if holds is None or not np.any(holds):
        return False
    places = c.new_constant(node, "places", np.flatnonzero(holds))
    if node["axis"] is not None:
        c.become(node, "gather", [x, places], axis=node["axis"])
        return True
    flat = f"{node.outputs[0]}.flat"
    shape = c.new_constant(node, "shape", np.array([type_.size]))
    reshape = Node("reshape", f"{node.name}.flat", [x, shape], [flat])
    gather = Node("gather", node.name, [flat, places], list(node.outputs), {"axis": 0})
    for made in (reshape, gather):
        ops.complete(made)
    c.graph.types[flat] = TensorType((type_.size,), type_.dtype)
    c.replaced[id(node)] = [reshape, gather]
    return True


RULES: dict[str, list[Rule]] = {
    "one_hot": [_hot],
    "compress": [_compress],
    "cast_like": [_cast],
    "pow": [_power],
    "batch_normalization": [_normalise],
    "einsum": [_einsum],
    "conv": [_crop_taps, _repeat_channels],
}
