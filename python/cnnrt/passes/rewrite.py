"""Patterns of several operators, as exporters write them, into the one operator they mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .. import ops
from ..graph import Array, Graph, Node, TensorType
from ..ops.windows import resolve_windows
from ..weights.lazy import lazy
from .fold_norm import scale_and_shift


def rewrite(graph: Graph) -> None:
    """Applies the rules that need sizes."""
    _apply(graph, RULES)


def rewrite_once(graph: Graph) -> None:
    """Applies the rules that need no sizes."""
    _apply(graph, RULES_ONCE)


def _apply(graph: Graph, rules: Mapping[str, Sequence[Rule]]) -> None:
    """Applies rules to every node, in order; producers are rewritten before consumers."""
    context = _Context(graph)
    for node in list(graph.nodes):
        op = node.op
        for rule in rules.get(op, []):
            if rule(node, context) and node.op != op:
                break
    graph.nodes = [n for old in graph.nodes for n in context.replaced.get(id(old), [old])]


class _Context:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()
        self.readers = graph.reader_counts()
        self.replaced: dict[int, list[Node]] = {}

    def made_by(self, name: str, op: str) -> Node | None:
        """The node that makes a tensor, if it is of this operator."""
        node = self.producers.get(name)
        return node if node is not None and node.op == op else None

    def scalar(self, name: str) -> float | None:
        value = self.graph.constants.get(name)
        return float(value.reshape(())) if value is not None and value.size == 1 else None

    def become(self, node: Node, op: str, inputs: list[str], **attributes: object) -> None:
        node.op, node.inputs, node.attributes = op, inputs, dict(attributes)
        ops.complete(node)

    def new_constant(self, node: Node, name: str, value: Array) -> str:
        """A new constant of this node."""
        full = f"{node.name}.{name}"
        self.graph.constants[full] = value
        self.graph.types[full] = TensorType(value.shape, value.dtype)
        self.graph.varying.add(full)
        return full


Rule = Callable[[Node, _Context], bool]


def _swish(node: Node, c: _Context) -> bool:
    """x * sigmoid(x) is silu; x * hard_sigmoid(x) with 1/6 and 1/2 is hard_swish."""
    for x, gate in (node.inputs, node.inputs[::-1]):
        sigmoid = c.made_by(gate, "sigmoid")
        if sigmoid is not None and sigmoid.inputs[0] == x:
            c.become(node, "silu", [x])
            return True
        hard = c.made_by(gate, "hard_sigmoid")
        if (
            hard is not None
            and hard.inputs[0] == x
            and math.isclose(hard["alpha"], 1 / 6, rel_tol=1e-5)
            and hard["beta"] == 0.5
        ):
            c.become(node, "hard_swish", [x])
            return True
    return False


def _gelu(node: Node, c: _Context) -> bool:
    """0.5 * x * (1 + erf(x / sqrt(2))), in any order of the factors, is gelu."""
    factors, half = _factors(node.outputs[0], c), 1.0
    tensors = []
    for name in factors:
        value = c.scalar(name)
        if value is None:
            tensors.append(name)
        else:
            half *= value
    if len(tensors) != 2 or not math.isclose(half, 0.5, rel_tol=1e-5):
        return False
    for x, one_plus in (tensors, tensors[::-1]):
        add = c.made_by(one_plus, "add")
        if add is None:
            continue
        for one, erf_name in (add.inputs, add.inputs[::-1]):
            erf = c.made_by(erf_name, "erf")
            if c.scalar(one) != 1 or erf is None:
                continue
            if _scaled(erf.inputs[0], x, c):
                c.become(node, "gelu", [x])
                return True
    return False


def _factors(name: str, c: _Context) -> list[str]:
    """The factors of a product, through multiplications that nobody else reads."""
    node = c.made_by(name, "mul")
    if node is None:
        return [name]
    factors = []
    for i in node.inputs:
        nested = c.made_by(i, "mul")
        factors += _factors(i, c) if nested is not None and c.readers.get(i) == 1 else [i]
    return factors


def _scaled(name: str, x: str, c: _Context) -> bool:
    """True if a tensor is x / sqrt(2)."""
    div, mul = c.made_by(name, "div"), c.made_by(name, "mul")
    if div is not None and div.inputs[0] == x:
        value = c.scalar(div.inputs[1])
        return value is not None and math.isclose(value, math.sqrt(2), rel_tol=1e-5)
    if mul is not None and x in mul.inputs:
        value = c.scalar(next((i for i in mul.inputs if i != x), ""))
        return value is not None and math.isclose(value, math.sqrt(0.5), rel_tol=1e-5)
    return False


def _power(node: Node, c: _Context) -> bool:
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


ROOTS = {1.0: "identity", 0.5: "sqrt", -1.0: "reciprocal"}


def _spatial_mean(node: Node, c: _Context) -> bool:
    """reduce_mean over all spatial axes, keeping them, is global_average_pool."""
    rank = c.graph.types[node.inputs[0]].rank
    axes = node.attributes.get("axes")
    if node.input(1):
        value = c.graph.constants.get(node.inputs[1])
        axes = None if value is None else value.tolist()
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


def _normalise(node: Node, c: _Context) -> bool:
    """Batch normalisation that no convolution could take: one of its own, 1x1 and depthwise."""
    statistics = [c.graph.constants.get(name) for name in node.inputs[1:5]]
    if any(s is None for s in statistics) or node["training_mode"]:
        return False
    factor, shift = scale_and_shift([s for s in statistics if s is not None], node["epsilon"])
    x = c.graph.types[node.inputs[0]]
    if x.rank < 3 or x.dtype != np.float32:
        return False
    weight = factor.astype(np.float32).reshape(-1, *[1] * (x.rank - 1))
    names = [
        c.new_constant(node, "factor", weight),
        c.new_constant(node, "shift", shift.astype(np.float32)),
    ]
    c.become(node, "conv", [node.inputs[0], *names], group=x.shape[1])
    return True


def _pad_into_window(node: Node, c: _Context) -> bool:
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


def _crop_taps(node: Node, c: _Context) -> bool:
    """Taps of a dilated convolution that only ever meet padding are cut off the weight.

    DeepLab dilates 3x3 windows by 24 and 36 over images of 16 pixels: only the middle tap is left.
    """
    weight = c.graph.constants.get(node.inputs[1])
    if weight is None or len(node.inputs) > 3 or node["auto_pad"] != "NOTSET":
        return False
    if weight.size == weight.shape[0] * weight.shape[1]:  # a single tap
        return False
    w = resolve_windows(node, c.graph.types[node.inputs[0]].shape[2:], kernel=weight.shape[2:])
    axes = list(zip(w.kernel, w.dilation, w.begin, w.stride, w.size, w.out, strict=True))
    if all(_all_live(*axis) for axis in axes):
        return False
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


def _all_live(kernel: int, dilation: int, begin: int, stride: int, size: int, out: int) -> bool:
    """True for ordinary windows, each tap of which meets the image; False if that is not plain."""
    return (
        0 <= (kernel - 1) * dilation - begin < size
        and begin <= (out - 1) * stride
        and stride <= size
    )


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


def _add_before_reshape(node: Node, c: _Context) -> bool:
    """reshape(reshape(x) + constant) is x + constant, if x's first axis was cut in two meanwhile.

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
"""Elements of a mask with the batch's copies; a larger one is added as the file says."""


def _join_constants(node: Node, c: _Context) -> bool:
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


def _einsum(node: Node, c: _Context) -> bool:
    """A product of two tensors, every letter of which is kept or in both, is a matmul.

    Letters are sorted into those of both tensors and the result (the batch), those summed over,
    and those of one tensor; each sort becomes one axis.
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


RULES_ONCE: dict[str, list[Rule]] = {"mul": [_swish, _gelu]}
RULES: dict[str, list[Rule]] = {
    "pow": [_power],
    "reduce_mean": [_spatial_mean],
    "batch_normalization": [_normalise],
    "add": [_join_constants],
    "reshape": [_add_before_reshape],
    "einsum": [_einsum],
    "conv": [_pad_into_window, _crop_taps],
}
