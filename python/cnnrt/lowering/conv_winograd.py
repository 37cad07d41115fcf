"""Convolution by Winograd's algorithm, with a 2x2 max pool of its result in the same step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import _core
from ..cost import ConvShape, tiles_of_kernel, winograd_batch
from ..graph import Array, Node
from ..layout.tensors import BLOCK, At, Blocked, ceil_div
from ..ops.windows import Windows, resolve_windows
from .builder import PlanBuilder
from .conv_lowering import ConvLowering, conv_shape, three

SHARED_WEIGHTS = 8 << 20
"""Bytes of transformed weights above which threads share the transformed input. Otherwise each
thread would read all the weights."""

MANY_THREADS, FULL_ROWS, LARGE_WEIGHTS = 4, 7, 512 << 10
"""With more threads than this, they share the transformed input of some smaller weights too. Each
would have fewer tiles than fill the rows of a register tile, and the weights do not stay in L2.
There must be products for three quarters of the threads. Simulated on 16 cores, ResNet-18's layers
of 128 channels take 0.45 of the time."""

ROOT_2 = math.sqrt(2.0)
WINOGRAD_G: dict[tuple[int, int, int], Array] = {
    # Weight transforms G of F(m, r) at a stride. F(2, 3) has the points 0, +-1; F(4, 3) and F(2, 5)
    # have 0, +-sqrt(1/2), +-sqrt(2); F(6, 3) has 0, +-1, +-2, +-1/2. At stride 2 the even taps have
    # F(2, 2) with 0, 1, and F(4, 2) with +-1/2, +-3/2. The odd tap is there once for each output.
    # An axis with one tap has no transform. The matching transforms of inputs and outputs are in
    # cpp/kernels/winograd_transforms.h.
    (1, 1, 1): np.ones((1, 1)),
    (2, 3, 1): np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    (4, 3, 1): np.array(
        [
            [1, 0, 0],
            [-2 / 3, -ROOT_2 / 3, -1 / 3],
            [-2 / 3, ROOT_2 / 3, -1 / 3],
            [1 / 6, ROOT_2 / 6, 1 / 3],
            [1 / 6, -ROOT_2 / 6, 1 / 3],
            [0, 0, 1],
        ]
    ),
    (6, 3, 1): np.array(
        [
            [1, 0, 0],
            [-2 / 9, -2 / 9, -2 / 9],
            [-2 / 9, 2 / 9, -2 / 9],
            [1 / 90, 2 / 90, 4 / 90],
            [1 / 90, -2 / 90, 4 / 90],
            [32 / 45, 16 / 45, 8 / 45],
            [32 / 45, -16 / 45, 8 / 45],
            [0, 0, 1],
        ]
    ),
    (2, 5, 1): np.array(
        [
            [1, 0, 0, 0, 0],
            [-2 / 3, -ROOT_2 / 3, -1 / 3, -ROOT_2 / 6, -1 / 6],
            [-2 / 3, ROOT_2 / 3, -1 / 3, ROOT_2 / 6, -1 / 6],
            [1 / 6, ROOT_2 / 6, 1 / 3, ROOT_2 / 3, 2 / 3],
            [1 / 6, -ROOT_2 / 6, 1 / 3, -ROOT_2 / 3, 2 / 3],
            [0, 0, 0, 0, 1],
        ]
    ),
    (2, 3, 2): np.array([[1, 0, 0], [1, 0, 1], [0, 0, 1], [0, 1, 0], [0, 1, 0]]),
    (4, 3, 2): np.array(
        [
            [-1 / 2, 0, -1 / 4],
            [1 / 2, 0, -1 / 4],
            [1 / 6, 0, 1 / 4],
            [-1 / 6, 0, 1 / 4],
            [0, 0, 1],
            *[[0, 1, 0]] * 4,
        ]
    ),
}


def winograd_tiles(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """Outputs along an axis of the tiles with which Winograd's algorithm can do a convolution.

    With 3 taps on one of the last two axes and 1 or 3 on the other, they are 2 and 4. With 3 on
    both it is 6 too, and with 5 on both it is 2. At stride 2 on both, 3 taps on both have 2 and 4
    if there is no dilation. With other strides of the last two axes there are none, nor at a
    dilation of the first of three.
    """
    _, step_h, step_w = three(tuple(stride), 1)
    apart_d, apart_h, apart_w = three(tuple(dilation), 1)
    if step_h != step_w or apart_d != 1 or (step_h > 1 and max(apart_h, apart_w) > 1):
        return ()
    _, *taps = three(tuple(kernel), 1)
    return tiles_of_kernel((taps[0], taps[1]), step_h)


def pool_of_tile(node: Node, builder: PlanBuilder) -> Node | None:
    """The max pool that alone reads a convolution, if it takes whole windows of 2x2 pixels that do
    not overlap. Each then lies inside an output tile of Winograd's algorithms."""
    pool = builder.tensors.sole_reader(node.outputs[0])
    if pool is None or pool.op != "max_pool" or len(pool.outputs) > 1:
        return None
    size = builder.type(node.outputs[0]).shape[2:]
    p = resolve_windows(pool, size, pool["kernel_shape"], ceil_mode=bool(pool["ceil_mode"]))
    planes = (1,) * (len(size) - 2)
    fits = (
        p.kernel == p.stride == (*planes, 2, 2)
        and set(p.dilation) == {1}
        and not any((*p.begin, *p.end))
        and p.out == (*size[:-2], size[-2] // 2, size[-1] // 2)
        and pool.attributes.get("activation") is None
    )
    return pool if fits else None


def _packed(
    kernel: tuple[int, int, int], stride: int, team: _core.Threads, tile: int, weight: Array
) -> Any:
    """The transformed weights of a kernel for tiles of `tile` outputs along an axis."""
    axes = [(1, 1, 1) if taps == 1 else (tile, taps, stride) for taps in kernel[1:]]
    down, across = (WINOGRAD_G[axis] for axis in axes)
    return _core.pack_winograd(weight.reshape(*weight.shape[:2], *kernel), down, across, team)


def winograd(conv: ConvLowering, tile: int) -> None:
    """Appends one step, or two if the threads share the transformed input.

    Args:
        tile: outputs of a tile along an axis with several taps; it may depend on sizes.
    """
    node, builder, w = conv.node, conv.builder, conv.windows
    x = builder.blocked(node.inputs[0])
    shape = conv_shape(w, x.c, conv.m)
    tile_h, tile_w = shape.tile(tile)
    dilated = max(shape.dilation) > 1
    pool = pool_of_tile(node, builder) if tile_h == tile_w and not dilated else None
    note = f"{conv.note}; on {shape.phases} phases" if dilated else conv.note
    if pool is not None:
        builder.tensors.mark_made(pool)
        note += "; 2x2 max pool"
    y = builder.new_blocked((pool or node).outputs[0])
    _append(conv, tile, w, shape, x, y, note, pooled=pool is not None)


def _append(
    conv: ConvLowering,
    tile: int,
    w: Windows,
    shape: ConvShape,
    x: Blocked,
    y: Blocked,
    note: str,
    pooled: bool = False,
) -> None:
    """Appends the steps from x to y."""
    builder, (tile_h, tile_w) = conv.builder, shape.tile(tile)
    (kernel_d, kernel_h, kernel_w), positions = shape.kernel, shape.positions(tile)
    floats = positions * kernel_d * x.c * y.blocks * BLOCK
    pack = partial(_packed, shape.kernel, shape.stride, builder.team)
    kind = "winograd" if shape.stride == 1 else f"winograd_stride{shape.stride}_"
    packed = builder.weight(conv.weight_name, kind, floats, pack, variant=tile)
    (in_d, in_h, in_w), (out_d, out_h, out_w) = x.spatial, w.in_3d.out
    pad_d, pad_h, pad_w = w.in_3d.begin
    batch = winograd_batch(builder.machine, shape, tile)
    fields: dict[str, Any] = {
        "x": x.view(),
        "y": y.view(),
        "weight": packed,
        "taps": max(kernel_h, kernel_w),
        "tile_h": tile_h,
        "tile_w": tile_w,
        "batch": batch,
        "n": y.n,
        "c": x.c,
        "in_d": in_d,
        "in_h": in_h,
        "in_w": in_w,
        "out_d": out_d,
        "out_h": out_h,
        "out_w": out_w,
        "blocks": y.blocks,
        "kernel_d": kernel_d,
        "pad_d": pad_d,
        "pad_h": pad_h,
        "pad_w": pad_w,
        "stride_d": w.in_3d.stride[0],
        "stride": shape.stride,
        "dilation_h": shape.dilation[0],
        "dilation_w": shape.dilation[1],
        "pooled": int(pooled),
        **conv.epilogue(),
    }
    tiles = y.n * shape.tiles(tile)
    batches = ceil_div(tiles, batch)
    rows, tasks = tiles * out_d, y.blocks * batches
    if not _shares_input(builder.threads, floats * x.itemsize, rows, tasks):
        builder.step("winograd", note=note, cost_ns=conv.cost_ns, **fields)
        return
    plane = x.blocks * in_d * batch * BLOCK + BLOCK
    fields["transformed"] = At(builder.new_buffer(batches * positions * plane * x.itemsize), 0)
    first = {name: value for name, value in fields.items() if name != "residual"}
    builder.step("winograd_input", note=note, cost_ns=1e4, **first)
    builder.step("winograd_output", note=note, cost_ns=conv.cost_ns, **fields)


def _shares_input(threads: int, weights: int, rows: int, tasks: int) -> bool:
    """True if the threads transform the input together, and then each multiplies all of it by the
    weights of some outputs.

    Args:
        weights: bytes of transformed weights.
        rows: tiles, at all depths.
        tasks: into which the products can be divided.
    """
    if threads == 1 or weights > SHARED_WEIGHTS:
        return threads > 1
    few = threads > MANY_THREADS and rows < threads * FULL_ROWS
    return few and weights > LARGE_WEIGHTS and 4 * tasks >= 3 * threads
