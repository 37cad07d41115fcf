"""Products of float64: layers and convolutions as one product of matrices and a program.

Networks of doubles are rare, so there is one algorithm for each. Patches are gathered in memory
(im2col), some rows of the result at a time, and multiplied. A pointwise program follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import _core
from ..graph import Node, TensorType
from ..layout.strides import Strided
from ..layout.tensors import At, Plain, ceil_div, row_major
from ..ops import complete
from ..ops.activation import Activation
from ..ops.pointwise import Program, takes
from ..ops.windows import Windows
from .builder import PlanBuilder
from .pointwise import lower_program

MAX_PATCHES = 64 << 20
"""Bytes of patches of one row of outputs; more of them go through the reference."""

BAND, MAX_BANDS = 2 << 20, 64
"""Bytes of patches that are gathered at a time, and the number of such bands of rows from which on
they are larger. A band stays in cache until it is multiplied. 32 filters of 3x3 over 32 channels at
96x96 took 4.5 ms on a Zen 4, and 6.9 with all patches at once."""


def product_step(
    builder: PlanBuilder,
    a: Strided,
    b: Strided,
    y: At,
    sizes: tuple[int, int, int],
    batch: Sequence[int],
) -> None:
    """y = a b of (rows, depth, columns) for each element of a batch.

    The last two strides of a and b are those of their matrices; y is row-major.
    """
    rows, depth, columns = sizes
    builder.step(
        "matmul_double",
        a=a.at,
        b=b.at,
        y=y,
        rows=rows,
        depth=depth,
        columns=columns,
        a_row=a.strides[-2],
        b_row=b.strides[-2],
        b_column=b.strides[-1],
        dims=max(len(batch), 1),
        shape=list(batch) or [1],
        a_stride=list(a.strides[:-2]) or [0],
        b_stride=list(b.strides[:-2]) or [0],
        note="matmul of float64",
        cost_ns=math.prod(batch) * rows * depth * columns / builder.machine.macs_of_doubles,
    )


def lower_linear_double(node: Node, builder: PlanBuilder) -> bool:
    """y = x weight^T + bias + residual, with a constant weight (columns, depth)."""
    key = node.inputs[1]
    weight = builder.constant(key)
    type_ = builder.type(node.outputs[0])
    if weight is None or weight.size == 0 or not _can_finish(node, builder):
        return False
    columns, depth = weight.shape
    x = builder.plain(node.inputs[0])
    # The kernel packs sixteen columns in each run, and copies those that lie side by side at once.
    memory = builder.constant_memory(key, "transposed", weight.T)
    target = _product_of(node, builder)
    product_step(
        builder,
        Strided(x.at, [depth, 1]),
        Strided(memory, [columns, 1]),
        target.at,
        (type_.size // columns, depth, columns),
        (),
    )
    _finish(node, builder, [columns])
    return True


def lower_conv_double(node: Node, builder: PlanBuilder, w: Windows) -> bool:
    """A convolution as a product of its weight and the patches of each image and group."""
    key, group = node.inputs[1], node["group"]
    weight = builder.constant(key)
    type_ = builder.type(node.outputs[0])
    n, c = builder.type(node.inputs[0]).shape[:2]
    pixels, taps = math.prod(w.out), math.prod(w.kernel)
    item, rank = type_.dtype.itemsize, len(w.kernel)
    row = n * c * taps * math.prod(w.out[1:]) * item
    if weight is None or node.input(4) or not _can_finish(node, builder) or row > MAX_PATCHES:
        return False
    x = _padded(builder.plain(node.inputs[0]), w, builder)
    m = type_.shape[1]
    depth, columns = c // group * taps, m // group
    memory = Strided(builder.constant_memory(key, "plain", weight), [0, columns * depth, depth, 1])
    target = _product_of(node, builder)

    def product(patches: At, y: At, pixels: int) -> None:
        strides = [c * taps * pixels, depth * pixels, pixels, 1]
        sizes = columns, depth, pixels
        product_step(builder, memory, Strided(patches, strides), y, sizes, (n, group))

    if taps == 1 and set(w.stride) == {1}:
        product(x.at, target.at, pixels)
    elif row * w.out[0] <= BAND:
        product(_patches(x, w, 0, w.out[0], builder), target.at, pixels)
    else:
        fewer = min(ceil_div(w.out[0], MAX_BANDS), MAX_PATCHES // row)
        rows, plane = int(max(1, BAND // row, fewer)), math.prod(w.out[1:])
        for first in range(0, w.out[0], rows):
            count = min(rows, w.out[0] - first)
            shape = (n, m, count * plane)
            made = At(builder.new_buffer(math.prod(shape) * item), 0)
            product(_patches(x, w, first, count, builder), made, count * plane)
            at = At(target.buffer, target.at.offset + first * plane * item)
            whole = (m * pixels, pixels, 1)
            builder.copy_strided(
                made, at, shape, row_major(shape), whole, item, "rows of the result"
            )
    _finish(node, builder, [m, *[1] * rank])
    return True


def _padded(x: Plain, w: Windows, builder: PlanBuilder) -> Plain:
    """The images (N, C, *size) with the zeros that windows reach into; x itself if there are
    none."""
    n, c = x.type.shape[:2]
    item = x.type.dtype.itemsize
    ends = [
        (o - 1) * s + (k - 1) * d + 1
        for o, s, k, d in zip(w.out, w.stride, w.kernel, w.dilation, strict=True)
    ]
    padded = [max(b + size, e) for b, size, e in zip(w.begin, w.size, ends, strict=True)]
    if padded == list(w.size):
        return x
    whole = TensorType((n, c, *padded), x.type.dtype)
    y = Plain(builder.new_buffer(whole.nbytes), whole)
    strides = y.strides()
    zero = _core.Memory(np.zeros(1, x.type.dtype.numpy))
    builder.copy_strided(
        zero, y.at, whole.shape, [0] * (2 + len(padded)), strides, item, "zero border"
    )
    inside = sum(b * s for b, s in zip(w.begin, strides[2:], strict=True))
    at = At(y.buffer, inside * item)
    builder.copy_strided(x.at, at, x.type.shape, x.strides(), strides, item)
    return y


def _patches(x: Plain, w: Windows, first: int, count: int, builder: PlanBuilder) -> At:
    """The patches of some rows of outputs, of padded images: (N, C, *kernel, count, ...),
    row-major."""
    item, strides = x.type.dtype.itemsize, x.strides()
    shape = (*x.type.shape[:2], *w.kernel, count, *w.out[1:])
    taps = [d * s for d, s in zip(w.dilation, strides[2:], strict=True)]
    steps = [m * s for m, s in zip(w.stride, strides[2:], strict=True)]
    made = At(builder.new_buffer(math.prod(shape) * item), 0)
    at = At(x.buffer, x.at.offset + first * steps[0] * item)
    views = (*strides[:2], *taps, *steps)
    builder.copy_strided(at, made, shape, views, row_major(shape), item, "patches")
    return made


def _can_finish(node: Node, builder: PlanBuilder) -> bool:
    """True if what follows the product can be a program."""
    bias, activation = node.input(2), node.attributes.get("activation")
    if bias and builder.constant(bias) is None:
        return False
    type_ = builder.type(node.outputs[0])
    if activation is None:
        return True
    follows = Node("activate", "", ["x"], ["y"], {"activation": activation})
    return takes(follows, {"x": type_, "y": type_})


def _product_of(node: Node, builder: PlanBuilder) -> Plain:
    """Room for the product: that of the result itself, if nothing follows."""
    y = node.outputs[0]
    if not node.input(2) and not node.input(3) and node.attributes.get("activation") is None:
        return builder.new_plain(y)
    name, type_ = f"{y}/product", builder.type(y)
    builder.graph.types[name] = type_
    product = Plain(builder.new_buffer(type_.nbytes), type_)
    builder.tensors.plain[name] = product
    return product


def _finish(node: Node, builder: PlanBuilder, bias_shape: Sequence[int]) -> None:
    """The step that adds bias and residual to the product, and applies the activation."""
    types, y = builder.graph.types, node.outputs[0]
    product, nodes, inputs = f"{y}/product", [], [f"{y}/product"]
    if product not in builder.tensors.plain:
        return
    last, terms = product, [node.input(3)] if node.input(3) else []
    if node.input(2):
        bias = f"{y}/bias"
        value = np.asarray(builder.graph.constants[node.inputs[2]]).reshape(bias_shape)
        builder.graph.constants[bias] = value
        builder.graph.varying.add(bias)
        types[bias] = TensorType(value.shape, value.dtype)
        terms.insert(0, bias)
    for i, term in enumerate(terms):
        made = f"{y}/sum{i}"
        nodes.append(Node("add", node.name, [last, term], [made]))
        inputs.append(term)
        last, types[made] = made, types[y]
    activation = node.attributes.get("activation")
    if activation is not None:
        attributes = {"activation": Activation(*activation)}
        nodes.append(Node("activate", node.name, [last], [y], attributes))
    else:
        nodes[-1].outputs = [y]
    for part in nodes:
        complete(part)
    lower_program(Program(tuple(inputs), tuple(nodes), (y,)), builder)
    del builder.tensors.plain[product]
