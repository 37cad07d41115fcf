"""Resize: nearest, linear and cubic interpolation along every axis in turn.

What an axis does is a table, `Taps`: each output is a weighted sum of a few inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import getitem
from typing import Any

import numpy as np

from ..errors import MemoryLimitError
from ..graph import Array, Node, TensorType
from ..symbolic import call, spread
from . import NodeTypes, Op, register, shape_error
from .axes import AxesMapping, Link, Links, every, follow, mixed, mixes_all_axes
from .common import Inputs, axes_of, check_kind, choice, integers, operands, value_of
from .shape import numbers

MAX_TAPS = 1 << 22
"""Entries of the table of one axis: an axis of a million pixels."""
TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
"""Inputs along an axis that an output depends on, by mode."""
COORDINATES = (
    *("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"),
    *("tf_crop_and_resize", "tf_half_pixel_for_nn"),
)
NEAREST: dict[str, Callable[[Any], Any]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


Scale = Fraction | np.float32 | float
"""Scale of an axis: the ratio of two sizes, or as the model states it. In the latter case nearest
elements are found in float32, as in PyTorch and ONNX Runtime. Element 3 of a scale of 0.6 then lies
at 5, not below."""


@dataclass(frozen=True)
class Taps:
    """How one axis is resized."""

    axis: int
    index: Array
    """Shape (out, taps): the inputs that each output takes."""
    weight: Array
    """Shape (out, taps), in float64: the weights of these inputs."""
    outside: Array
    """Shape (out): True if the output is the extrapolation value instead."""


def linear(t: Array) -> Array:
    """The kernel of linear interpolation at distance t."""
    return np.asarray(np.maximum(0, 1 - np.abs(t)))


def cubic(t: Array, a: float) -> Array:
    """Keys' kernel of cubic interpolation at distance t."""
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def source(mode: str, size: int, out: int, scale: Scale, roi: tuple[float, float]) -> Array:
    """The coordinates in an axis of `size` elements at which the `out` results are taken.

    They are in float32 if the scale is, else in float64.
    """
    x = np.arange(out, dtype=np.float32 if isinstance(scale, np.float32) else np.float64)
    exact = float(size * scale)  # what `out` is rounded from
    if mode == "align_corners":
        return x * 0 if exact == 1 else x * (size - 1) / x.dtype.type(exact - 1)
    if mode == "tf_crop_and_resize":
        start, end = roi
        if out == 1:
            return x + 0.5 * (start + end) * (size - 1)
        return start * (size - 1) + x * (end - start) * (size - 1) / (out - 1)
    if mode == "pytorch_half_pixel" and out == 1:
        return x * 0
    center = x if mode == "asymmetric" else x + x.dtype.type(0.5)
    if isinstance(scale, Fraction):  # one rounding: exact on the border between two elements
        center = center * scale.denominator / scale.numerator
    else:
        center = center / scale
    if mode in ("asymmetric", "tf_half_pixel_for_nn"):
        return center
    shift = size / 2 * (1 - out / exact) if mode == "half_pixel_symmetric" else 0.0
    return np.asarray(center - x.dtype.type(0.5 - shift))


@register
class Resize(Op):
    """Inputs x, roi, scales, sizes; either scales or sizes, for all axes or those of `axes`."""

    name = "resize"
    settings = (1, 2, 3)
    attributes = {
        "antialias": 0,
        "axes": None,
        "coordinate_transformation_mode": "half_pixel",
        "cubic_coeff_a": -0.75,
        "exclude_outside": 0,
        "extrapolation_value": 0.0,
        "keep_aspect_ratio_policy": "stretch",
        "mode": "nearest",
        "nearest_mode": "round_prefer_floor",
    }

    def sizes(
        self,
        node: Node,
        inputs: Inputs,
        shape: tuple[int, ...],
        scales: Sequence[float] | None,
        sizes: Sequence[int] | None,
    ) -> dict[int, tuple[int, Scale]]:
        """Size of the output and scale of each axis that is resized.

        Raises:
            ShapeError: scales or sizes do not fit x or each other.
        """
        given = range(len(shape)) if node["axes"] is None else node["axes"]
        axes = axes_of(node, inputs, given, len(shape))
        scales, sizes = (scales if scales else None), (sizes if sizes else None)
        if (scales is None) == (sizes is None):
            raise shape_error(node, inputs, "takes either scales or sizes")
        if len(scales or sizes or ()) != len(axes) or not axes:
            raise shape_error(node, inputs, f"scales or sizes for {len(axes)} axes of x")
        result: list[tuple[int, Scale]]
        if scales:
            if not all(0 < s < math.inf for s in scales):
                raise shape_error(node, inputs, f"scales {list(scales)}")
            stated = np.float32 if node["mode"] == "nearest" else float
            # As runtimes do, in float32: 10 elements times 0.7 are 7 of them.
            result = [
                (int(np.float32(shape[a]) * np.float32(s)), stated(s))
                for a, s in zip(axes, scales, strict=True)
            ]
        else:
            ratios = [
                Fraction(s, shape[a]) if shape[a] else Fraction(1)
                for a, s in zip(axes, sizes or (), strict=True)
            ]
            policy = choice(
                node, "keep_aspect_ratio_policy", ("stretch", "not_larger", "not_smaller")
            )
            if policy == "stretch":
                result = list(zip(sizes or (), ratios, strict=True))
            else:
                one = (min if policy == "not_larger" else max)(ratios)
                result = [(math.floor(one * shape[a] + Fraction(1, 2)), one) for a in axes]
        if any(
            n < min(shape[a], 1) or (n and not shape[a])
            for a, (n, _) in zip(axes, result, strict=True)
        ):
            raise shape_error(node, inputs, f"an output of {[n for n, _ in result]}")
        return dict(zip(axes, result, strict=True))

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, roi, scales, sizes = operands(node, inputs, 1, 4)
        choice(node, "mode", TAPS)
        check_kind(node, inputs, scales, "f", "floats")
        choice(node, "nearest_mode", NEAREST)
        mode = choice(node, "coordinate_transformation_mode", COORDINATES)
        if any(p is not None and p.type.size > 2 * x.rank for p in (roi, scales, sizes)):
            raise shape_error(node, inputs, f"takes roi, scales and sizes for {x.rank} axes")
        values = None if scales is None else spread(value_of(node, inputs, scales))
        factors = [] if values is None else list(values.reshape(-1))
        wanted = integers(node, inputs, sizes) or []

        def resized(*numbers: Any) -> tuple[int, ...]:
            shape, rest = numbers[: x.rank], list(numbers[x.rank :])
            scaled, sized = rest[: len(factors)], rest[len(factors) :]
            made = self.sizes(node, inputs, shape, scaled, sized)
            return tuple(made[i][0] if i in made else n for i, n in enumerate(shape))

        made = call(resized, *x.shape, *factors, *wanted)
        if mode == "tf_crop_and_resize":
            axes = x.rank if node["axes"] is None else len(node["axes"])
            if roi is None or roi.type.size != 2 * axes:
                raise shape_error(node, inputs, "takes a region of two values per axis")
            value_of(node, inputs, roi)
        sizes_made: list[Any] = [call(getitem, made, i) for i in range(x.rank)]
        return [TensorType(tuple(sizes_made), x.type.dtype)]

    def taps(
        self,
        node: Node,
        shape: tuple[int, ...],
        roi: Sequence[float] | None = None,
        scales: Sequence[float] | None = None,
        sizes: Sequence[int] | None = None,
    ) -> list[Taps]:
        """Taps along each axis that changes."""
        crop = node["coordinate_transformation_mode"] == "tf_crop_and_resize"
        tables = []
        resized = self.sizes(node, (), shape, scales, sizes)
        # Sizes that a scale does not change are kept, as by PyTorch and ONNX Runtime.
        kept = all(out == shape[axis] for axis, (out, _) in resized.items())
        kept = kept and node["mode"] != "cubic"
        for place, (axis, (out, scale)) in enumerate(resized.items()):
            size = shape[axis]
            if not size or (out == size and (scale == 1 or kept) and not crop):
                continue
            bounds = (0.0, 1.0)
            if crop and roi is not None:
                bounds = (roi[place], roi[len(resized) + place])
            tables.append(self.table(node, axis, size, out, scale, bounds))
        return tables

    def table(
        self, node: Node, axis: int, size: int, out: int, scale: Scale, roi: tuple[float, float]
    ) -> Taps:
        coordinates = node["coordinate_transformation_mode"]
        if out > MAX_TAPS:
            raise MemoryLimitError(
                f"node {node.name!r} ({node.op}): {out} results along one axis; at most {MAX_TAPS} "
                "are planned"
            )
        x = source(coordinates, size, out, scale, roi)
        if coordinates == "tf_crop_and_resize":
            outside = ~((x >= 0) & (x <= size - 1))  # so that NaN is, too
            x = np.where(outside, 0, x)
        else:
            outside = np.zeros(out, bool)
        if node["mode"] == "nearest":
            index = NEAREST[node["nearest_mode"]](x)[:, None]
            weight = np.ones((out, 1))
        else:
            squeeze = min(float(scale), 1.0) if node["antialias"] else 1.0
            reach = math.ceil((1 if node["mode"] == "linear" else 2) / squeeze)
            if out * 2 * reach > MAX_TAPS:
                raise MemoryLimitError(
                    f"node {node.name!r} ({node.op}): {out} results of {2 * reach} taps each along "
                    f"one axis; at most {MAX_TAPS} taps are planned"
                )
            index = np.floor(x)[:, None] + np.arange(1 - reach, reach + 1)
            distance = (index - x[:, None]) * squeeze
            if node["mode"] == "linear":
                weight = linear(distance)
            else:
                weight = cubic(distance, node["cubic_coeff_a"])
            if node["exclude_outside"]:
                weight = np.where((index < 0) | (index >= size), 0, weight)
            if node["antialias"] or node["exclude_outside"]:
                weight = weight / weight.sum(axis=1, keepdims=True)
        index = np.clip(index, 0, size - 1).astype(np.int64)
        return Taps(axis, index, weight, outside)

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        scales = types.operand(2).value if types.has(2) else None
        factors = None if scales is None else [float(v) for v in scales.reshape(-1)]
        if node["coordinate_transformation_mode"] == "tf_crop_and_resize":
            return mixes_all_axes(types)
        shape = types.shape(0)
        resized = self.sizes(node, (), shape, factors, types.integers(3))
        x = [follow(axis) for axis in range(len(shape))]
        for axis, (out, scale) in resized.items():
            x[axis] = self.link(node, axis, shape[axis], out, float(scale))
        # Sizes say no more than the type of the output does.
        made: list[Links] = [x, every(types, 1), every(types, 2), None]
        return AxesMapping(made[: len(types.inputs)])

    def link(self, node: Node, axis: int, size: int, out: int, scale: float) -> Link:
        """How an axis of `out` elements follows one of `size`."""
        if out == size and scale == 1:
            return follow(axis)
        if node["antialias"]:
            return mixed(axis)
        at = source(node["coordinate_transformation_mode"], size, out, scale, (0.0, 1.0))
        step = float(at[1] - at[0]) if out > 1 else 1 / scale
        return Link((axis,), TAPS[node["mode"]] - 1, step, float(at[0]), uniform=False)

    def reference(
        self, node: Node, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None
    ) -> tuple[Array, ...]:
        factors = None if scales is None else [float(v) for v in scales.reshape(-1)]
        region = None if roi is None else [float(v) for v in roi.reshape(-1)]
        lengths = None if sizes is None else numbers(sizes)
        tables = self.taps(node, x.shape, region, factors, lengths)
        y = x if node["mode"] == "nearest" else x.astype(np.result_type(x.dtype, np.float32))
        # Axes that shrink go first, and taps one by one: no more memory than x or y, a few times.
        for taps in sorted(tables, key=lambda t: len(t.index) / x.shape[t.axis]):
            lanes = np.moveaxis(y, taps.axis, -1)
            if node["mode"] == "nearest":
                lanes = lanes[..., taps.index[:, 0]]
            else:
                weight = taps.weight.astype(y.dtype)
                total = lanes[..., taps.index[:, 0]] * weight[:, 0]
                for k in range(1, weight.shape[1]):
                    total += lanes[..., taps.index[:, k]] * weight[:, k]
                lanes = total
            y = np.moveaxis(lanes, -1, taps.axis)
        for taps in tables:
            np.moveaxis(y, taps.axis, -1)[..., taps.outside] = node["extrapolation_value"]
        return (y.astype(x.dtype, copy=False),)
