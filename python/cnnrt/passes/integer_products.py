"""Rules for products of integers whose zero points are known only at run time.

Let x be u8 inputs with zero point z. A product of x - z with weights is that of x less z times the
weights that meet the image. The first is a kernel's, the second a constant times a scalar.
"""

from __future__ import annotations

import numpy as np

from .. import ops
from ..dtypes import DTYPES, FLOAT32, INT32, UINT8, DType
from ..graph import Array, Node, TensorType
from ..ops.conv import Conv
from ..ops.quantize import CONV_ATTRIBUTES
from ..ops.requantised import SUMS
from ..weights.lazy import lazy
from ..weights.widen import less_128
from .quantised.values import FLIPPED, SIGN
from .quantised.weights import Weight, bounds, less_zero, signed
from .rules import Context, Rule

ROWS = 256
"""Rows of a weight that are split into parts at a time."""


class _Sequence:
    """The nodes that take the place of one."""

    def __init__(self, node: Node, context: Context) -> None:
        self.node, self.context = node, context
        self.nodes: list[Node] = []

    def add(
        self, op: str, inputs: list[str], shape: tuple[int, ...], dtype: DType, **attributes: object
    ) -> str:
        """Appends a node with one output; the name of that."""
        name = f"{self.node.outputs[0] or self.node.name}.{len(self.nodes)}"
        made = Node(op, f"{self.node.name}.{len(self.nodes)}", inputs, [name], dict(attributes))
        ops.complete(made)
        self.context.graph.types[name] = TensorType(shape, dtype)
        self.nodes.append(made)
        return name

    def constant(self, name: str, value: Array) -> str:
        return self.context.new_constant(self.node, name, value)

    def finish(self, *outputs: tuple[str, str]) -> bool:
        """Gives the tensors (made, wanted) the names of the outputs."""
        names = dict(outputs)
        for made in self.nodes:
            made.inputs = [names.get(x, x) for x in made.inputs]
            made.outputs = [names.get(y, y) for y in made.outputs]
        self.context.replaced[id(self.node)] = self.nodes
        return True


def _dynamic_quantize(node: Node, c: Context) -> bool:
    """The range of x and 0, by reductions, and the rest element by element."""
    x = node.inputs[0]
    type_ = c.graph.types[x]
    if type_.dtype != np.float32 or not type_.size:
        return False
    s, zero_dim = _Sequence(node, c), ()
    naught = s.constant("zero", np.float32(0).reshape(()))
    one = s.constant("one", np.float32(1).reshape(()))
    most = s.constant("most", np.float32(255).reshape(()))
    low = s.add("reduce_min", [x], zero_dim, FLOAT32, keepdims=0)
    low = s.add("min", [low, naught], zero_dim, FLOAT32)
    high = s.add("reduce_max", [x], zero_dim, FLOAT32, keepdims=0)
    high = s.add("max", [high, naught], zero_dim, FLOAT32)
    step = s.add("sub", [high, low], zero_dim, FLOAT32)
    step = s.add("div", [step, most], zero_dim, FLOAT32)
    empty = s.add("equal", [step, naught], zero_dim, DTYPES["bool"])
    scale = s.add("where", [empty, one, step], zero_dim, FLOAT32)
    zero = s.add("neg", [low], zero_dim, FLOAT32)
    zero = s.add("div", [zero, scale], zero_dim, FLOAT32)
    zero = s.add("round", [zero], zero_dim, FLOAT32)
    zero = s.add("clip", [zero, naught, most], zero_dim, FLOAT32)
    q = s.add("div", [x, scale], type_.shape, FLOAT32)
    q = s.add("round", [q], type_.shape, FLOAT32)
    q = s.add("add", [q, zero], type_.shape, FLOAT32)
    q = s.add("clip", [q, naught, most], type_.shape, FLOAT32)
    q = s.add("cast", [q], type_.shape, UINT8, to="uint8")
    zero = s.add("cast", [zero], zero_dim, UINT8, to="uint8")
    made = zip((q, scale, zero), node.outputs, strict=False)
    return s.finish(*((mine, wanted) for mine, wanted in made if wanted))


class _Input:
    """The input of an integer product as bytes, and its zero point."""

    def __init__(self, s: _Sequence, x: str, zero: str) -> None:
        graph = s.context.graph
        type_ = graph.types[x]
        self.shift = SIGN if type_.dtype == np.int8 else 0
        self.tensor = x
        if self.shift:
            table = s.constant("flip", FLIPPED)
            self.tensor = s.add("table", [x, table], type_.shape, UINT8)
        value = graph.constants.get(zero)
        self.constant = None if zero and value is None else self.shift
        if value is not None:
            self.constant = int(np.asarray(value).reshape(())) + self.shift
        self.zero = zero

    def subtract(self, s: _Sequence, sums: str, share: Array) -> str:
        """Sums less the share of a zero point that is computed."""
        shape = s.context.graph.types[sums].shape
        factor = s.add("cast", [self.zero], (), INT32, to="int32")
        if s.context.graph.types[self.zero].rank:
            empty = s.constant("scalar", np.zeros(0, np.int64))
            factor = s.add("reshape", [factor, empty], (), INT32)
        if self.shift:
            sign = s.constant("sign", np.int32(SIGN).reshape(()))
            factor = s.add("add", [factor, sign], (), INT32)
        weights = s.constant("share", share)
        part = s.add("mul", [weights, factor], share.shape, INT32)
        return s.add("sub", [sums, part], shape, INT32)


def _weight(node: Node, c: Context, axis: int) -> Weight | None:
    """The constant factor of an integer product; None if a zero point does not fit one kernel."""
    constants, types = c.graph.constants, c.graph.types
    values, zero = constants.get(node.inputs[1]), constants.get(node.input(3))
    if values is None or (node.input(3) and zero is None) or not values.size:
        return None
    if types[node.inputs[0]].dtype.itemsize != 1 or values.dtype.itemsize != 1:
        return None
    if node.input(2) and types[node.inputs[2]].size != 1:
        return None
    if zero is not None and zero.size not in (1, values.shape[axis]):
        return None
    zeros = None if zero is None else np.asarray(zero).reshape(-1)
    return Weight(node.inputs[1], values, np.ones(1, np.float32), zeros, axis)


def _parts(s: _Sequence, name: str, weight: Weight) -> list[str]:
    """Constants of int8 whose sum is a constant, that weight less its zero point."""
    whole = s.context.graph.constants[name]
    if whole.dtype == np.int8:
        return [name]
    low, high = bounds(weight)
    given = (weight.values, weight.zeros(), weight.axis)
    return [
        s.constant(f"part {i}", lazy(whole.shape, np.int8, _part, *given, i))
        for i in range(max(1, -(low // 128), -(-high // 127)))
    ]


def _part(values: Array, zeros: tuple[int, ...], axis: int, index: int) -> Array:
    """One of the summands of weights less their zero points, each as large as int8 takes it."""
    values = np.asarray(values)
    part = np.empty(values.shape, np.int8)
    for begin in range(0, len(values), ROWS):  # so that no copy of two bytes is as large as all
        rows = slice(begin, begin + ROWS)
        whole = less_zero(values[rows], zeros[rows] if axis == 0 and zeros[1:] else zeros, axis)
        whole -= np.clip(whole, -128 * index, 127 * index)
        part[rows] = np.clip(whole, -128, 127)
    return part


def _added(
    s: _Sequence,
    op: str,
    x: str,
    weights: list[str],
    shape: tuple[int, ...],
    attributes: dict[str, object],
) -> str:
    """The sum of the products of x with some weights."""
    sums = ""
    for weight in weights:
        more = s.add(op, [x, weight], shape, INT32, **attributes)
        sums = s.add("add", [sums, more], shape, INT32) if sums else more
    return sums


def _conv_integer(node: Node, c: Context) -> bool:
    """ConvInteger by a constant weight."""
    weight = _weight(node, c, 0)
    x, y = c.graph.types[node.inputs[0]], c.graph.types[node.outputs[0]]
    if weight is None or not 3 <= x.rank <= 5 or not x.size or not y.size:
        return False
    s = _Sequence(node, c)
    name = _signed(c, weight)
    if name is None:
        return False
    given = _Input(s, node.inputs[0], node.input(2))
    attributes = {key: node[key] for key in CONV_ATTRIBUTES}
    # One kernel takes weights of 9 bits, but not in groups.
    parts = _parts(s, name, weight) if node["group"] > 1 else [name]
    more: dict[str, object] = {**attributes, "x_zero": given.constant or 0, "floats": SUMS}
    sums = _added(s, "qconv", given.tensor, parts, y.shape, more)
    if given.constant is None:
        # The share of each tap, summed over its channels: padding has none.
        share = np.asarray(c.graph.constants[name]).sum(axis=1, dtype=np.float64)
        windows = Conv().windows(node, x.shape, weight.values.shape)
        for axis in range(len(windows.kernel)):
            live = windows.live(axis)
            same = (live == live[:1]).all()  # no output of this axis meets padding, or all do
            share = np.tensordot(share, live[:1] if same else live, axes=(1, 1))
        share = share[None].astype(np.int32)
        sums = given.subtract(s, sums, share)
    return s.finish((sums, node.outputs[0]))


def _matmul_integer(node: Node, c: Context) -> bool:
    """MatMulInteger by a constant matrix."""
    b = c.graph.types[node.inputs[1]]
    weight = _weight(node, c, 1) if b.rank == 2 else None
    x, y = c.graph.types[node.inputs[0]], c.graph.types[node.outputs[0]]
    if weight is None or x.rank < 2 or not x.size or not y.size:
        return False
    weight = weight.transposed()
    name = _signed(c, weight)
    if name is None:
        return False
    s = _Sequence(node, c)
    given = _Input(s, node.inputs[0], node.input(2))
    attributes: dict[str, object] = {"x_zero": given.constant or 0, "floats": SUMS}
    if c.graph.constants[name].dtype == np.int8:
        sums = s.add("qlinear", [given.tensor, name], y.shape, INT32, **attributes)
    else:
        sums = _of_nine_bits(s, given.tensor, weight, y.shape, attributes)
    if given.constant is None:
        share = np.asarray(weight.values).sum(axis=1, dtype=np.int32)
        if weight.zero is not None:
            share -= weight.zero.astype(np.int32) * weight.values.shape[1]
        sums = given.subtract(s, sums, share)
    return s.finish((sums, node.outputs[0]))


def _of_nine_bits(
    s: _Sequence, x: str, weight: Weight, shape: tuple[int, ...], attributes: dict[str, object]
) -> str:
    """The product by a matrix that is no int8 less its zero point.

    It is the product by the bytes as int8, and the sum of each row of x times what they lack. So
    the weights take a byte, not two.
    """
    values, flat = weight.values, np.array(weight.zeros() or (0,), np.int32)
    lack = -flat
    if values.dtype == np.uint8:
        values, lack = lazy(values.shape, np.int8, less_128, values), SIGN - flat
    matrix = s.constant("bytes", values)
    sums = s.add("qlinear", [x, matrix], shape, INT32, **attributes)
    ones = s.constant("ones", np.ones((1, values.shape[1]), np.int8))
    total = s.add("qlinear", [x, ones], (*shape[:-1], 1), INT32, **attributes)
    more_shape = (*shape[:-1], lack.size)
    more = s.add("mul", [total, s.constant("lack", lack)], more_shape, INT32)
    return s.add("add", [sums, more], shape, INT32)


def _signed(c: Context, weight: Weight) -> str | None:
    """`signed`, with the type of what it makes."""
    name = signed(c.graph, weight)
    if name is not None:
        value = c.graph.constants[name]
        c.graph.types[name] = TensorType(value.shape, value.dtype)
    return name


RULES: dict[str, list[Rule]] = {
    "dynamic_quantize_linear": [_dynamic_quantize],
    "conv_integer": [_conv_integer],
    "matmul_integer": [_matmul_integer],
}
