"""Operators on quantised tensors whose rounding is ONNX Runtime's, to the bit.

Each tensor comes with a scale and a zero point, one each: x = (q - zero) * scale. Source: the
operators of the domain com.microsoft, as ONNX Runtime computes them on x86-64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from . import NodeTypes, Op, register, shape_error
from .axes import AxesMapping, aligned, along, every, follow, others
from .common import Inputs, axis_of, broadcast, check_kind, operands
from .pool import AveragePool
from .quantize import saturate

FLOAT32 = np.float32


def scalar(value: Any) -> Any:
    """The one element of an array, or 0 if it is absent."""
    return np.int32(0) if value is None else np.asarray(value).reshape(())[()]


def check_scalars(node: Node, inputs: Inputs) -> None:
    """Checks that scales and zero points have one element each.

    Raises:
        ShapeError: one has several elements or none.
    """
    tensors = {0, 3} if len(inputs) > 5 else {0}
    for i, x in enumerate(inputs):
        if x and i not in tensors and x.type.size != 1:
            raise shape_error(node, inputs, f"{x.name!r} must have one element")
        if x and i in tensors:
            check_kind(node, inputs, x, "iu", "integers")


class Pair(Op):
    """Inputs a, its scale and zero point, b, its scale and zero point, y's scale and zero point."""

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        a, _, _, b, *_ = operands(node, inputs, 7, 8)
        check_scalars(node, inputs)
        if a.type.dtype != b.type.dtype:
            raise shape_error(node, inputs, "both must have the same dtype")
        return [TensorType(broadcast(node, inputs, a.shape, b.shape), a.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        rank = max(types.rank(0), types.rank(3))
        made = [aligned(types, i, rank) if i in (0, 3) else every(types, i) for i in range(8)]
        return AxesMapping(made[: len(types.inputs)])


def constant_of_sum(ratios: Sequence[Any], zeros: Sequence[int], y_zero: int) -> float:
    """The number that is added to the products of two tensors with their ratios.

    It is y_zero - fma(ratio_a, zero_a, ratio_b * zero_b), as compilers contract that expression in
    ONNX Runtime. With two roundings, one sum in 500,000 is one more or one less.
    """
    second = FLOAT32(FLOAT32(ratios[1]) * FLOAT32(zeros[1]))
    both = FLOAT32(np.float64(ratios[0]) * zeros[0] + np.float64(second))
    return float(FLOAT32(FLOAT32(y_zero) - both))


def first_is_single(a: Sequence[int], b: Sequence[int]) -> bool:
    """True if the first of two tensors is one number along the innermost axis that counts.

    That is the last axis that both have and that is longer than 1 in one of them. ONNX Runtime then
    adds the first to the second, which decides how a tie is rounded.
    """
    common = list(zip(reversed(a), reversed(b), strict=False))
    if not common:
        return not a or a[-1] == 1
    return next((m for m, n in common if m > 1 or n > 1), 1) == 1


@register
class QLinearAdd(Pair):
    """a + b, as fma(a, a_scale / y_scale, fma(b, b_scale / y_scale, constant)), rounded to even.

    If `first_is_single`, a and b change places.
    """

    name = "qlinear_add"

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (*inputs, None)[:8]
        if first_is_single(a.shape, b.shape):
            a, a_scale, a_zero, b, b_scale, b_zero = b, b_scale, b_zero, a, a_scale, a_zero
        ratios = [FLOAT32(scalar(s) / scalar(y_scale)) for s in (a_scale, b_scale)]
        constant = constant_of_sum(ratios, (scalar(a_zero), scalar(b_zero)), scalar(y_zero))
        # Products of 8 by 24 bits are exact in float64: one rounding each, as fma has.
        inner = (b * np.float64(ratios[1]) + constant).astype(FLOAT32)
        y = (a * np.float64(ratios[0]) + inner).astype(FLOAT32)
        return (saturate(y, a.dtype),)


@register
class QLinearMul(Pair):
    """a * b: the product of integers in float32, times a_scale * b_scale / y_scale, plus y's zero
    point, rounded to even."""

    name = "qlinear_mul"

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (*inputs, None)[:8]
        product = (a.astype(np.int32) - scalar(a_zero)) * (b.astype(np.int32) - scalar(b_zero))
        ratio = FLOAT32(scalar(a_scale) * scalar(b_scale) / scalar(y_scale))
        y = product.astype(FLOAT32) * ratio + FLOAT32(scalar(y_zero))
        return (saturate(y, a.dtype),)


class Single(Op):
    """Inputs x, its scale and zero point, y's scale and zero point."""

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, *_ = operands(node, inputs, 4, 5)
        check_scalars(node, inputs)
        return [x.type]


@register
class QLinearGlobalAveragePool(Single):
    """The mean over all pixels: the int32 sum in float32 times x_scale / (y_scale * pixels)."""

    name = "qlinear_global_average_pool"

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = super().infer(node, inputs)
        if x.rank < 3 or 0 in x.shape[2:]:
            raise shape_error(node, inputs, "takes images (N, C, ...) with pixels")
        return [TensorType((*x.shape[:2], *[1] * (x.rank - 2)), x.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return along(types, *range(2, types.rank(0)))

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        x, scale, zero, y_scale, y_zero = (*inputs, None)[:5]
        count = math.prod(x.shape[2:])
        axes = tuple(range(2, x.ndim))
        total = x.sum(axis=axes, keepdims=True, dtype=np.int32) - np.int32(scalar(zero)) * count
        factor = scalar(scale) / (scalar(y_scale) * FLOAT32(count))
        y = np.rint(total.astype(FLOAT32) * FLOAT32(factor))
        return (saturate(y + int(scalar(y_zero)), x.dtype),)


@register
class QLinearAveragePool(Single):
    """average_pool: widened, added pixel by pixel in float32, divided, rounded to even."""

    name = "qlinear_average_pool"
    attributes = AveragePool.attributes

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        super().infer(node, inputs)
        return AveragePool().infer(node, inputs[:1])

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        links = AveragePool().windows(node, types.shape(0)).links()
        return AxesMapping([(follow(0), follow(1), *links), *others(types, 1)])

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        x, scale, zero, y_scale, y_zero = (*inputs, None)[:5]
        pool = AveragePool()
        w = pool.windows(node, x.shape)
        wide = FLOAT32(scalar(scale)) * (x.astype(np.int32) - scalar(zero)).astype(FLOAT32)
        taps = w.patches(wide)
        total = np.zeros((*x.shape[:2], *w.out), FLOAT32)
        for place in np.ndindex(*w.kernel):  # in this order: that decides the last bit
            at: Any = (Ellipsis, *place)
            total = total + taps[at]
        y = total / pool.counts(node, w).astype(FLOAT32) / FLOAT32(scalar(y_scale))
        return (saturate(y + FLOAT32(scalar(y_zero)), x.dtype),)


@register
class QLinearSoftmax(Single):
    """softmax along `axis`: exponentials from a table of 256, added and divided in float32."""

    name = "qlinear_softmax"
    python_loop = True
    attributes = {"axis": -1}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = super().infer(node, inputs)
        axis_of(node, inputs, node["axis"], x.rank)
        return [x]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return along(types, node["axis"])

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        x, scale, _, y_scale, y_zero = (*inputs, None)[:5]
        rows = np.moveaxis(x, node["axis"], -1)
        step, count = np.float64(scalar(scale)), rows.shape[-1]
        if not x.size:
            return (x,)
        # The largest exponential is so large that the sum of a row just fits into float32.
        room = math.log(float(np.finfo(FLOAT32).max) / count) - 5
        places = np.arange(256) - 255 + max(0.0, room) / step
        table = np.exp(places * step).astype(FLOAT32)
        below = rows.max(axis=-1, keepdims=True).astype(np.int32) - rows
        powers = table[255 - below]
        total = np.zeros(rows.shape[:-1], FLOAT32)
        for i in range(count):  # one by one, in this order: that decides the last bit
            total = total + powers[..., i]
        levels = np.floor(FLOAT32(1) / FLOAT32(scalar(y_scale)))
        y = np.rint(powers * levels / total[..., None]).astype(np.int64) + int(scalar(y_zero))
        return (np.ascontiguousarray(np.moveaxis(saturate(y, x.dtype), -1, node["axis"])),)
