"""Operators on bytes that the pass `quantised` makes of quantised networks.

A tensor of bytes is uint8. Only the operators that read it know its zero point and scale, which are
their attributes. A result is saturated into [low, high]. Sums are exact in int32, and the rounding
is that of ONNX Runtime on x86-64. So every result is the same to the bit on every instruction set,
for any number of threads, and however operators are fused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..dtypes import FLOAT32, INT32, UINT8
from ..graph import Array, Node, TensorType
from . import OPS, NodeTypes, Op, register, shape_error
from .axes import ALL, AxesMapping, Links, aligned, every, follow
from .common import Inputs, broadcast, operands
from .conv import Conv, channel_link, direct_macs, weight_links
from .dense import product_macs
from .elementwise import activated
from .pool import AveragePool, GlobalAveragePool
from .qlinear import constant_of_sum, first_is_single
from .quantize import CONV_ATTRIBUTES

BYTE_MAX = 255
SUMS = 2
"""The value of `floats` that asks for the int32 sums."""


class Addition(NamedTuple):
    """How a residual is added to a result.

    Let r be the bytes of the residual less `shift`, and v the result over its scale. The sum is
    fma(v, mine, fma(r, other, constant)), rounded to even, plus shift. If `first`, r and v change
    places.
    """

    mine: float
    other: float
    constant: float
    first: bool = False
    middle: tuple[int, int, int] | None = None
    """Zero point, low and high of the bytes to which v is rounded before the addition. Shift is
    then subtracted from them. None: v is not rounded."""
    shift: int = 0
    """128 for tensors that the file has as int8: they are added as the numbers that they were."""


def fma(a: Array, b: float, c: Any) -> Array:
    """a * b + c in float32, rounded once."""
    wide = np.longdouble
    product = np.asarray(a).astype(wide) * wide(np.float32(b))
    return np.asarray(product + np.asarray(c).astype(wide), dtype=np.float32)


def clamped(node: Node, values: Array) -> Array:
    """Whole numbers as bytes within [low, high]."""
    return np.clip(values, node["low"], node["high"]).astype(np.uint8)


class Requantising(Op):
    """A product of integers whose sums become bytes, or floats if `floats` is 1. If it is 2, they
    stay as they are.

    Inputs: x (uint8), weight (int8, or int16 if a difference from its zero point needs 9 bits),
    bias, scale (float32), residual (uint8), table (uint8). The last two may be absent. A bias of
    int32 is added to the sums. One of floats, if the result is of floats, is added at the end.

    With sums of x - x_zero, the result is round(sum * scale) + zero, by two roundings. A residual
    is added as `Addition` says. At last bytes go through the table.
    """

    all_pairs = True
    settings = (3,)
    attributes = {
        "x_zero": 0,
        "zero": 0,
        "low": 0,
        "high": BYTE_MAX,
        "floats": 0,
        "addition": None,
        "activation": None,
    }

    def checked(
        self, node: Node, inputs: Inputs, shape: tuple[int, ...], channels: int
    ) -> TensorType:
        """The type of the result.

        Raises:
            ShapeError: an input does not fit.
        """
        x, weight, bias, scale, residual, table = operands(node, inputs, 2, 6)
        if x.type.dtype != UINT8 or weight.type.dtype.kind != "i":
            raise shape_error(node, inputs, "x must be uint8, weight of signed integers")
        for v in (bias, scale):
            if v and v.shape != (channels,):
                raise shape_error(node, inputs, f"{v.name!r} must have shape ({channels},)")
        if residual and residual.shape != shape:
            raise shape_error(node, inputs, f"residual must have shape {shape}")
        if table and table.shape != (BYTE_MAX + 1,):
            raise shape_error(node, inputs, "the table must have 256 entries")
        if scale is None and node["floats"] != SUMS:
            raise shape_error(node, inputs, "sums alone need no scale")
        return TensorType(shape, (UINT8, FLOAT32, INT32)[node["floats"]])

    def finish(self, node: Node, sums: Array, inputs: Any, axis: int) -> tuple[Array, ...]:
        """The result of exact sums, held in float64, whose channels are along an axis."""
        _, _, bias, scale, residual, table = (*inputs, *[None] * 4)[:6]
        channels = [1] * sums.ndim
        channels[axis] = -1
        added_last = bias is not None and bias.dtype.kind == "f"
        if bias is not None and not added_last:
            sums = sums + bias.reshape(channels)
        if node["floats"] == SUMS:
            return (sums.astype(np.int64).astype(np.int32),)
        v = sums.astype(np.float32) * scale.reshape(channels)
        if node["floats"]:
            if added_last:
                v = v + bias.reshape(channels)
            return (activated(node, v),)
        if residual is None:
            y = np.rint(v) + node["zero"]
        else:
            y = self.added(node["addition"], v, residual)
        q = clamped(node, y)
        return (q if table is None else table[q],)

    @staticmethod
    def added(how: Addition, v: Array, residual: Array) -> Array:
        """A residual added to a result over its scale, rounded."""
        if how.middle is not None:
            zero, low, high = how.middle
            v = np.clip(np.rint(v) + zero, low, high).astype(np.float32) - how.shift
        r = residual.astype(np.float32) - how.shift
        constant = np.float32(how.constant)
        if how.first:
            total = fma(r, how.other, fma(v, how.mine, constant))
        else:
            total = fma(v, how.mine, fma(r, how.other, constant))
        return np.asarray(np.rint(total) + how.shift)


@register
class QConv(Requantising):
    """A convolution of bytes."""

    name = "qconv"
    attributes = {**CONV_ATTRIBUTES, **Requantising.attributes}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, weight, *_ = operands(node, inputs, 2, 6)
        try:
            (made,) = Conv().infer(node, (x, weight))
        except ValueError as error:
            raise shape_error(node, inputs, str(error)) from None
        return [self.checked(node, inputs, made.shape, weight.shape[0])]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        x, weight = types.shape(0), types.shape(1)
        made: list[Links] = [
            (
                follow(0),
                channel_link(node, x[1], weight[0]),
                *Conv().windows(node, x, weight).links(),
            ),
            weight_links(len(weight)),
            every(types, 2, follow(1)),
            every(types, 3, follow(1)),
            [follow(axis) for axis in range(len(x))] if types.has(4) else None,
            every(types, 5),
        ]
        return AxesMapping(made[: len(types.inputs)])

    def macs(self, node: Node, types: NodeTypes) -> int:
        return direct_macs(types, 1)

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        x, weight = inputs[:2]
        plain = Node("conv", node.name, [], [], {**node.attributes, "activation": None})
        centred = x.astype(np.float64) - node["x_zero"]
        sums = OPS["conv"].reference(plain, centred, weight.astype(np.float64))[0]
        return self.finish(node, sums, inputs, 1)


@register
class QLinear(Requantising):
    """The product of the last axis of x with a matrix of bytes, of shape (columns, depth)."""

    name = "qlinear"

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, weight, *_ = operands(node, inputs, 2, 6)
        if x.rank < 1 or weight.rank != 2 or weight.shape[1] != x.shape[-1]:
            raise shape_error(node, inputs, "weight must have shape (N, K) with K the last of x")
        shape = (*x.shape[:-1], weight.shape[0])
        return [self.checked(node, inputs, shape, weight.shape[0])]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        last = types.rank(0) - 1
        made: list[Links] = [
            [follow(axis) for axis in range(last)] + [ALL],
            (follow(last), ALL),
            every(types, 2, follow(last)),
            every(types, 3, follow(last)),
            aligned(types, 4, last + 1),
            every(types, 5),
        ]
        return AxesMapping(made[: len(types.inputs)])

    def macs(self, node: Node, types: NodeTypes) -> int:
        return product_macs(types)

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        x, weight = inputs[:2]
        sums = (x.astype(np.float64) - node["x_zero"]) @ weight.astype(np.float64).T
        return self.finish(node, sums, inputs, sums.ndim - 1)


class ByteBinary(Op):
    """Two tensors of bytes, which broadcast to each other."""

    attributes: ClassVar[dict[str, Any]] = {"low": 0, "high": BYTE_MAX, "shift": 0}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        a, b = operands(node, inputs, 2, 2)
        if a.type.dtype != UINT8 or b.type.dtype != UINT8:
            raise shape_error(node, inputs, "both must be uint8")
        return [TensorType(broadcast(node, inputs, a.shape, b.shape), UINT8)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        rank = max(types.rank(0), types.rank(1))
        return AxesMapping([aligned(types, 0, rank), aligned(types, 1, rank)])


class Sum(NamedTuple):
    """How two tensors of bytes are added."""

    exchanged: bool
    """True if the second operand comes first."""
    constant: float


@register
class QAdd(ByteBinary):
    """fma(a, a_ratio, fma(b, b_ratio, constant)), rounded to even, plus shift.

    a and b are bytes less shift, which is 128 for what the file has as int8. The constant makes up
    for the zero points. If a is one number along the innermost axis, a and b change places (see
    `first_is_single`).
    """

    name = "qadd"
    attributes = {
        **ByteBinary.attributes,
        "a_ratio": 1.0,
        "b_ratio": 1.0,
        "a_zero": 0,
        "b_zero": 0,
        "zero": 0,
    }

    @staticmethod
    def sum_of(node: Node, a: Sequence[int], b: Sequence[int]) -> Sum:
        """The order of two operands of these shapes, and the constant that belongs to it."""
        exchanged, shift = first_is_single(a, b), node["shift"]
        ratios = [np.float32(node[name]) for name in ("a_ratio", "b_ratio")]
        zeros = [node[name] - shift for name in ("a_zero", "b_zero")]
        if exchanged:
            ratios.reverse()
            zeros.reverse()
        return Sum(exchanged, constant_of_sum(ratios, zeros, node["zero"] - shift))

    def reference(self, node: Node, a: Any, b: Any) -> tuple[Array, ...]:
        shift = node["shift"]
        exchanged, constant = self.sum_of(node, a.shape, b.shape)
        terms = [
            (v.astype(np.float32) - shift, node[ratio])
            for v, ratio in ((a, "a_ratio"), (b, "b_ratio"))
        ]
        (first, ratio), (second, other) = terms[::-1] if exchanged else terms
        total = fma(first, ratio, fma(second, other, np.float32(constant)))
        return (clamped(node, np.rint(total) + shift),)


@register
class QMul(ByteBinary):
    """(a - a_zero) (b - b_zero) in float32, times ratio, plus zero - shift, rounded to even, plus
    shift."""

    name = "qmul"
    attributes = {**ByteBinary.attributes, "a_zero": 0, "b_zero": 0, "ratio": 1.0, "zero": 0}

    def reference(self, node: Node, a: Any, b: Any) -> tuple[Array, ...]:
        product = (a.astype(np.int32) - node["a_zero"]) * (b.astype(np.int32) - node["b_zero"])
        shift = node["shift"]
        scaled = product.astype(np.float32) * np.float32(node["ratio"])
        return (clamped(node, np.rint(scaled + np.float32(node["zero"] - shift)) + shift),)


AVERAGE: dict[str, Any] = {
    "x_zero": 0,
    "x_scale": 1.0,
    "y_scale": 1.0,
    "zero": 0,
    "shift": 0,
    "low": 0,
    "high": BYTE_MAX,
}


@register
class QAveragePool(AveragePool):
    """average_pool of bytes: x_scale (x - x_zero), added pixel by pixel in float32, over the count,
    over y_scale, plus zero - shift, rounded to even, plus shift."""

    name = "qaverage_pool"
    attributes: ClassVar[dict[str, Any]] = {**AveragePool.attributes, **AVERAGE}

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        w = self.windows(node, x.shape)
        wide = np.float32(node["x_scale"]) * (x.astype(np.int32) - node["x_zero"]).astype(
            np.float32
        )
        taps = w.patches(wide)
        total = np.zeros((*x.shape[:2], *w.out), np.float32)
        for place in np.ndindex(*w.kernel):  # in this order: that decides the last bit
            at: Any = (Ellipsis, *place)
            total = total + taps[at]
        y = total / self.counts(node, w).astype(np.float32) / np.float32(node["y_scale"])
        rounded = np.rint(y + np.float32(node["zero"] - node["shift"])) + node["shift"]
        return (clamped(node, rounded),)


@register
class QGlobalAveragePool(GlobalAveragePool):
    """The mean over all pixels: the int32 sum in float32 times x_scale / (y_scale * pixels)."""

    name = "qglobal_average_pool"
    attributes: ClassVar[dict[str, Any]] = {**AVERAGE}

    def factor(self, node: Node, pixels: int) -> np.float32:
        """The factor of a sum."""
        y_scale = np.float32(node["y_scale"])
        factor: np.float32 = np.float32(node["x_scale"]) / (y_scale * np.float32(pixels))
        return factor

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        pixels = math.prod(x.shape[2:])
        axes = tuple(range(2, x.ndim))
        total = x.sum(axis=axes, keepdims=True, dtype=np.int32) - np.int32(node["x_zero"]) * pixels
        y = np.rint(total.astype(np.float32) * self.factor(node, pixels))
        return (clamped(node, y + node["zero"]),)


@register
class Table(Op):
    """Each byte of x replaced by its entry in a table of 256, whose dtype the result has.

    An element of int8 is taken as the byte of the same bits.
    """

    name = "table"

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, table = operands(node, inputs, 2, 2)
        if x.type.dtype.itemsize != 1 or table.shape != (BYTE_MAX + 1,):
            raise shape_error(node, inputs, "x must be of bytes, the table have 256 entries")
        return [TensorType(x.shape, table.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return AxesMapping([[follow(axis) for axis in range(types.rank(0))], every(types, 1)])

    def reference(self, node: Node, x: Any, table: Any) -> tuple[Array, ...]:
        return (np.asarray(table[np.asarray(x).view(np.uint8)]),)
