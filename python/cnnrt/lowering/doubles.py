"""Products of float64: layers and convolutions as one product of matrices and a program.

Networks of doubles are rare, so there is one algorithm for each. Patches are gathered in memory
(im2col) and multiplied; a pointwise program follows the product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import _core
from ..graph import Node, TensorType
from ..layout.strides import Strided
from ..layout.tensors import At, Plain, row_major
from ..ops import complete
from ..ops.activation import Activation
from ..ops.pointwise import Program, takes
from ..ops.windows import Windows
from .builder import PlanBuilder
from .pointwise import lower_program

MAX_PATCHES = 64 << 20
"""Bytes of patches; more of them go through the reference, some rows at a time."""


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
    nbytes = n * c * taps * pixels * type_.dtype.itemsize
    rank = len(w.kernel)
    if weight is None or node.input(4) or not _can_finish(node, builder) or nbytes > MAX_PATCHES:
        return False
    patches = _patches(builder.plain(node.inputs[0]), w, builder)
    depth, rows = c // group * taps, type_.shape[1] // group
    memory = builder.constant_memory(key, "plain", weight)
    target = _product_of(node, builder)
    product_step(
        builder,
        Strided(memory, [0, rows * depth, depth, 1]),
        Strided(patches, [c * taps * pixels, depth * pixels, pixels, 1]),
        target.at,
        (rows, depth, pixels),
        (n, group),
    )
    _finish(node, builder, [type_.shape[1], *[1] * rank])
    return True


def _patches(x: Plain, w: Windows, builder: PlanBuilder) -> At:
    """The patches of an image (N, C, *size): (N, C, *kernel, *out), row-major."""
    n, c = x.type.shape[:2]
    item = x.type.dtype.itemsize
    ends = [
        (o - 1) * s + (k - 1) * d + 1
        for o, s, k, d in zip(w.out, w.stride, w.kernel, w.dilation, strict=True)
    ]
    padded = [max(b + size, e) for b, size, e in zip(w.begin, w.size, ends, strict=True)]
    at, strides = x.at, x.strides()
    if padded != list(w.size):
        whole = (n, c, *padded)
        at, strides = At(builder.new_buffer(math.prod(whole) * item), 0), row_major(whole)
        zero = _core.Memory(np.zeros(1, x.type.dtype.numpy))
        builder.copy_strided(zero, at, whole, [0] * len(whole), strides, item, "zero border")
        inside = sum(b * s for b, s in zip(w.begin, strides[2:], strict=True))
        builder.copy_strided(
            x.at, At(at.buffer, inside * item), x.type.shape, x.strides(), strides, item
        )
    if math.prod(w.kernel) == 1 and set(w.stride) == {1}:
        return at
    shape = (n, c, *w.kernel, *w.out)
    taps = [d * s for d, s in zip(w.dilation, strides[2:], strict=True)]
    steps = [m * s for m, s in zip(w.stride, strides[2:], strict=True)]
    made = At(builder.new_buffer(math.prod(shape) * item), 0)
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
