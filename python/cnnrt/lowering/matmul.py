"""Products of computed matrices, and attention, which is two of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import _core
from ..dtypes import FLOAT64
from ..graph import Node
from ..layout.strides import Strided, merge_axes
from ..layout.tensors import At, row_major
from ..ops import OPS
from ..ops.attention import Attention
from .builder import PlanBuilder
from .doubles import product_step
from .registry import FLOATS, lowers


@lowers("matmul", types=FLOATS)
def lower_matmul(node: Node, builder: PlanBuilder) -> bool:
    a, b = (_matrices(name, builder, rows=i == 0) for i, name in enumerate(node.inputs))
    y = builder.type(node.outputs[0])
    batch = np.broadcast_shapes(a[0][:-2], b[0][:-2])
    if y.size == 0 or 0 in a[0] or len(batch) > 6:
        return False
    _product(builder, node.outputs[0], *a, *b, batch)
    return True


@lowers("gemm", types=FLOATS)
def lower_gemm(node: Node, builder: PlanBuilder) -> bool:
    """Lowers gemm with computed factors; a constant b has become `linear`."""
    if node["alpha"] != 1 or (len(node.inputs) > 2 and node["beta"] != 1):
        return False
    y = builder.type(node.outputs[0])
    if y.dtype == FLOAT64 and node.input(2):
        return False
    (a_shape, a), (b_shape, b) = (
        _matrices(name, builder, rows=i == 0, transposed=bool(node[t]))
        for i, (name, t) in enumerate(zip(node.inputs, ("transA", "transB"), strict=False))
    )
    if y.size == 0 or 0 in a_shape:
        return False
    _product(builder, node.outputs[0], a_shape, a, b_shape, b, ())
    if node.input(2):
        c = builder.row_strided(node.inputs[2])
        c = c.broadcast(builder.type(node.inputs[2]).shape, y.shape)
        made = builder.plain(node.outputs[0])
        out = Strided(made.at, made.strides())
        builder.elementwise("add", y.shape, out, c, out)
    return True


def _matrices(
    name: str, builder: PlanBuilder, *, rows: bool, transposed: bool = False
) -> tuple[tuple[int, ...], Strided]:
    """Shape and strides of an operand of at least two axes, one of the last two contiguous.

    The contiguous axis of the left operand, with `rows`, is the last.
    """
    shape, view = builder.type(name).shape, builder.strided(name)
    strides = list(view.strides)
    if len(shape) == 1:
        shape = (1, *shape) if rows else (*shape, 1)
        strides = [0, *strides] if rows else [*strides, 0]
    if transposed:
        shape, strides = shape[::-1], strides[::-1]
    # An axis of one element can have any stride: it gets the required one.
    strides = [
        1 if n == 1 and i >= len(shape) - 2 else s
        for i, (n, s) in enumerate(zip(shape, strides, strict=True))
    ]
    if strides[-1] == 1 or (strides[-2] == 1 and not rows):
        return shape, Strided(view.at, strides)
    if transposed:  # not as it lies, so as a new tensor
        x = builder.plain(name)
        copied = At(builder.new_buffer(x.type.nbytes), 0)
        new, item = (shape[1], 1), x.type.dtype.itemsize
        builder.copy_strided(x.at, copied, shape, x.strides()[::-1], new, item, "transpose")
        return shape, Strided(copied, new)
    plain = builder.plain(name)
    missing = [1] * (len(shape) - len(plain.type.shape))
    strides = list(plain.strides())
    return shape, Strided(plain.at, [*missing, *strides] if rows else [*strides, *missing])


def _product(
    builder: PlanBuilder,
    name: str,
    a_shape: Sequence[int],
    a: Strided,
    b_shape: Sequence[int],
    b: Strided,
    batch: Sequence[int],
) -> None:
    """The step that makes `name`, of the axes (batch, rows, columns)."""
    rows, depth, columns = a_shape[-2], a_shape[-1], b_shape[-1]
    a_batch = Strided(a.at, a.strides[:-2]).broadcast(a_shape[:-2], batch)
    b_batch = Strided(b.at, b.strides[:-2]).broadcast(b_shape[:-2], batch)
    y = builder.new_plain(name)
    axes, (a_strides, b_strides) = merge_axes(batch, a_batch.strides, b_batch.strides)
    if y.type.dtype == FLOAT64:
        left = Strided(a.at, [*a_strides, *a.strides[-2:]])
        right = Strided(b.at, [*b_strides, *b.strides[-2:]])
        product_step(builder, left, right, y.at, (rows, depth, columns), axes)
        return
    builder.step(
        "matmul",
        a=a.at,
        b=b.at,
        y=y.at,
        rows=rows,
        depth=depth,
        columns=columns,
        a_row=a.strides[-2],
        b_row=b.strides[-2],
        b_column=b.strides[-1],
        dims=len(axes),
        shape=axes,
        a_stride=a_strides,
        b_stride=b_strides,
        note="matmul",
        cost_ns=math.prod(batch) * rows * depth * columns / builder.machine.macs[y.type.dtype],
    )


@lowers("attention")
def lower_attention(node: Node, builder: PlanBuilder) -> bool:
    op = OPS["attention"]
    assert isinstance(op, Attention)
    names = [*node.inputs, *[""] * 7][:7]
    mask = builder.constant(names[3]) if names[3] else None
    masked = node["is_causal"] or node["left_window_size"] >= 0 or node["right_window_size"] >= 0
    mixed = names[3] and mask is None and (masked or builder.type(names[3]).dtype != np.float32)
    if any(names[4:]) or any(node.outputs[1:]) or node["softcap"] > 0 or mixed:
        return False
    q_shape, q = _heads(names[0], node["q_num_heads"], builder)
    k_shape, k = _heads(names[1], node["kv_num_heads"], builder)
    v_shape, v = _heads(names[2], node["kv_num_heads"], builder)
    (n, heads, rows, depth), tokens, columns = q_shape, k_shape[2], v_shape[3]
    if 0 in q_shape or 0 in v_shape:
        return False
    scores = (n, heads, rows, tokens)
    bias: Strided | None = None
    if names[3] and mask is None:
        if builder.type(names[3]).shape[-1] != tokens:  # the missing keys would be masked out
            return False
        bias = builder.row_strided(names[3]).broadcast(builder.type(names[3]).shape, scores)
    elif mask is not None or masked:
        value = op.bias(node, scores, mask, 0, None, np.float32)
        shape = value.shape
        bias = Strided(_core.Memory(np.ascontiguousarray(value, np.float32)), row_major(shape))
        bias = bias.broadcast(shape, scores)
    y = _token_major(node.outputs[0], (n, heads, rows, columns), builder)
    macs = builder.machine.macs[builder.type(names[0]).dtype]
    builder.step(
        "attention",
        q=q.at,
        k=k.at,
        v=v.at,
        mask=bias.at if bias else None,
        y=y.at,
        n=n,
        heads=heads,
        group=heads // k_shape[1],
        rows=rows,
        tokens=tokens,
        depth=depth,
        columns=columns,
        q_stride=q.strides,
        k_stride=k.strides,
        v_stride=v.strides,
        mask_stride=bias.strides if bias else [0] * 4,
        y_stride=y.strides,
        scale=1 / math.sqrt(depth) if node["scale"] is None else node["scale"],
        note="attention",
        cost_ns=n * heads * rows * tokens * ((depth + columns) / macs + 0.15),
    )
    return True


def _heads(name: str, heads: int | None, builder: PlanBuilder) -> tuple[tuple[int, ...], Strided]:
    """Shape and strides of (N, heads, L, D), also for a tensor (N, L, heads * D)."""
    view, shape = builder.row_strided(name), builder.type(name).shape
    if len(shape) == 4:
        return shape, view
    count = heads or 1
    n, length, packed = shape
    depth = packed // count
    return (n, count, length, depth), Strided(view.at, [view.strides[0], depth, view.strides[1], 1])


def _token_major(name: str, shape: tuple[int, ...], builder: PlanBuilder) -> Strided:
    """Room for (N, heads, L, E) in the order (N, L, heads, E), which the next layer joins."""
    _, heads, length, columns = shape
    strides = (length * heads * columns, columns, heads * columns, 1)
    if builder.type(name).rank == 3:
        return Strided(builder.new_plain(name).at, strides)
    view = Strided(At(builder.new_buffer(builder.type(name).nbytes), 0), strides)
    builder.alias_strided(name, view)
    return view
