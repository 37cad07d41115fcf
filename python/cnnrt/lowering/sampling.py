"""Images read between their pixels: grid_sample and roi_align."""

from __future__ import annotations

import math

import numpy as np

from ..graph import Node, TensorType
from ..layout.tensors import BLOCK, NOWHERE, Blocked, Plain, ViewAt
from .builder import PlanBuilder
from .conv_lowering import three
from .registry import ALL_TYPES, lowers

MAX_RATIO = 1024
"""Points along a side of a bin of roi_align; the reference runs larger ratios."""

MAX_PLANAR = 4
"""Channels of plain images up to which they are not made blocked to be sampled. Blocks of three are
five times as large as the picture. Four faces of 192 x 192 out of 480 x 640 took 1.1 ms on one
thread of Zen 4, and 7.8 in blocks."""


@lowers("grid_sample")
def lower_grid_sample(node: Node, builder: PlanBuilder) -> bool:
    x_type, y_type = builder.type(node.inputs[0]), builder.type(node.outputs[0])
    rank = x_type.rank - 2
    if rank > 3 or 0 in x_type.shape or 0 in y_type.shape:
        return False
    grid = builder.plain(node.inputs[1])
    taps = {"nearest": 1, "linear": 2, "cubic": 4}[node["mode"]] ** rank
    channels = x_type.shape[1]
    sizes = {"in": three(x_type.shape[2:], 1), "out": three(y_type.shape[2:], 1)}
    fields = {
        "grid": grid.at,
        "mode": node["mode"],
        "padding": node["padding_mode"],
        "align_corners": int(bool(node["align_corners"])),
        "rank": rank,
        "n": y_type.shape[0],
        "note": f"{node['mode']}, {taps} taps",
        **{
            f"{k}_{axis}": n
            for k, size in sizes.items()
            for axis, n in zip("dhw", size, strict=True)
        },
    }
    points = y_type.shape[0] * math.prod(y_type.shape[2:])
    if channels <= MAX_PLANAR and not builder.is_blocked(node.inputs[0]):
        images, distance = _plain_images(builder, node.inputs[0])
        builder.step(
            "grid_sample_planar",
            x=images.at,
            y=builder.new_plain(node.outputs[0]).at,
            image=distance,
            channels=channels,
            cost_ns=points * (4 + channels * taps / 4),  # 7.3 ns a point of 3 channels, bilinear
            **fields,
        )
        return True
    x = _images(builder, node.inputs[0])
    y = builder.new_blocked(node.outputs[0])
    builder.step(
        "grid_sample",
        x=x,
        y=y.view(),
        blocks=y.blocks,
        cost_ns=points * (30 + y.blocks * taps * BLOCK / 30),
        **fields,
    )
    return True


def _images(builder: PlanBuilder, name: str) -> ViewAt:
    """Blocked images; one if all are repetitions of it."""
    view = builder.tensors.views.get(name)
    if view is None or view.strides[0] != 0:
        return builder.blocked(name).view()
    plain, _ = _plain_images(builder, name)
    x = Blocked(NOWHERE, plain.type)
    x.buffer = builder.new_buffer(x.nbytes)
    builder.reorder(plain, x, to_blocked=True)
    return x.view()._replace(image=0)


def _plain_images(builder: PlanBuilder, name: str) -> tuple[Plain, int]:
    """Row-major images, and the floats from one to the next.

    If all are one image, repeated by `expand`, that alone is there: the frame of a video, from
    which each face is cut.
    """
    type_ = builder.type(name)
    view = builder.tensors.views.get(name)
    if view is None or type_.shape[0] == 1 or view.strides[0] != 0:
        return builder.plain(name), math.prod(type_.shape[1:])
    one = TensorType((1, *type_.shape[1:]), type_.dtype)
    plain = Plain(view.at.buffer, one, view.at.offset)
    if tuple(view.strides[1:]) != tuple(plain.strides()[1:]):
        plain = Plain(builder.new_buffer(one.nbytes), one)
        builder.copy_strided(
            view.at, plain.at, one.shape, view.strides, plain.strides(), one.dtype.itemsize
        )
    return plain, 0


@lowers("roi_align", types=ALL_TYPES)
def lower_roi_align(node: Node, builder: PlanBuilder) -> bool:
    x_name, regions_name, images_name = node.inputs
    x_type, y_type = builder.type(x_name), builder.type(node.outputs[0])
    if (
        any(builder.type(name).dtype != np.float32 for name in (x_name, regions_name))
        or builder.type(images_name).dtype != np.int64
        or 0 in (*x_type.shape, *y_type.shape)
        or node["sampling_ratio"] > MAX_RATIO
    ):
        return False
    regions, images = builder.plain(regions_name), builder.plain(images_name)
    x, y = builder.blocked(x_name), builder.new_blocked(node.outputs[0])
    points = (node["sampling_ratio"] or 2) ** 2
    builder.step(
        "roi_align",
        x=x.view(),
        y=y.view(),
        regions=regions.at,
        images=images.at,
        mode="max" if node["mode"] == "max" else "average",
        count=y.n,
        n=x.n,
        blocks=y.blocks,
        in_h=x_type.shape[2],
        in_w=x_type.shape[3],
        out_h=y_type.shape[2],
        out_w=y_type.shape[3],
        ratio=node["sampling_ratio"],
        half_pixel=int(node["coordinate_transformation_mode"] == "half_pixel"),
        scale=node["spatial_scale"],
        note=f"{node['mode']} of {y.n} regions",
        cost_ns=y.n * math.prod(y.spatial) * points * (10 + y.blocks * y.itemsize * BLOCK / 30),
    )
    return True
