"""Quantisation: to and from integers with a scale and a zero point, and operators on integers.

A scale is one for the tensor, one per element of `axis`, or one per block of `block_size` elements
along it. x = (q - zero_point) * scale; q is rounded to even and saturated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import INT32, UINT8, DType, as_dtype
from ..errors import UnsupportedOperator
from ..graph import Array, Node, TensorType
from . import OPS, NodeTypes, Op, register, shape_error
from .axes import ALL, AxesMapping, Links, every, follow, mixed, picked
from .common import Inputs, at_least, axis_of, check_kind, dtype_of, fits, operands
from .conv import Conv, channel_link, direct_macs, weight_links
from .dense import matmul_links, matmul_shape, product_macs
from .narrow import NARROW
from .products import product

CONV_ATTRIBUTES = {
    name: Conv.attributes[name]
    for name in ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
}


def saturate(x: Array, dtype: DType | np.dtype[Any]) -> Array:
    """x rounded to even, within the range of an integer dtype."""
    info = np.iinfo(dtype)
    return np.asarray(np.clip(np.rint(x), info.min, info.max), dtype=dtype)


def spread(node: Node, scale: Array, shape: tuple[int, ...]) -> Array:
    """A scale or zero point in the shape that broadcasts over x."""
    if scale.size == 1:
        return scale.reshape(())
    axis = node["axis"] % len(shape)
    if node["block_size"]:
        blocks = np.arange(shape[axis]) // node["block_size"]
        return np.asarray(np.take(scale, blocks, axis=axis))
    return scale.reshape(-1, *[1] * (len(shape) - 1 - axis))


def check_scale(node: Node, inputs: Inputs) -> None:
    """Checks that scale and zero point, the second and third input, fit the first.

    Raises:
        ShapeError: they do not.
    """
    x, scale, zero = operands(node, inputs, 2, 3)
    block = at_least(node, "block_size", 0)
    if zero and zero.shape != scale.shape and not zero.type.size == scale.type.size == 1:
        raise shape_error(node, inputs, "scale and zero point must have the same shape")
    if scale.type.size == 1 and not block:
        return
    axis = axis_of(node, inputs, node["axis"], x.rank)
    wanted: tuple[int, ...] = (x.shape[axis],)
    if block:
        wanted = (*x.shape[:axis], -(-x.shape[axis] // block), *x.shape[axis + 1 :])
    if scale.shape != wanted:
        raise shape_error(node, inputs, f"scale must have shape {wanted}")


def scaled_axes(node: Node, types: NodeTypes) -> AxesMapping:
    """The mapping of x with a scale and a zero point, each one, per element or per block."""
    rank = types.rank(0)
    x = [follow(axis) for axis in range(rank)]
    if types.operand(1).type.size == 1:  # the zero point may be of another rank then
        return AxesMapping([x, *(every(types, i) for i in range(1, len(types.inputs)))])
    scales: Links
    if node["block_size"]:
        axis = node["axis"] % rank
        scales = [picked(a) if a == axis else follow(a) for a in range(rank)]
    else:
        scales = (follow(node["axis"] % rank),)
    return AxesMapping([x, scales, scales if types.has(2) else None][: len(types.inputs)])


@register
class QuantizeLinear(Op):
    """saturate(x / scale + zero_point), in the dtype of the zero point (uint8 without one)."""

    name = "quantize_linear"
    settings = (1, 2)
    attributes = {"axis": 1, "block_size": 0, "output_dtype": None, "precision": 0, "saturate": 1}

    def dtype(self, node: Node, zero: DType | np.dtype[Any] | None) -> DType:
        if narrow := NARROW.get(node["output_dtype"]):
            return as_dtype(narrow.carrier)
        dtype = dtype_of(node, "output_dtype", UINT8 if zero is None else zero)
        if dtype.kind not in "iu":
            raise UnsupportedOperator(f"node {node.name!r} ({node.op}): quantisation to {dtype}")
        return dtype

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, scale, zero = operands(node, inputs, 2, 3)
        check_scale(node, inputs)
        check_kind(node, inputs, scale, "f", "floats")
        return [TensorType(x.shape, self.dtype(node, zero.type.dtype if zero else None))]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return scaled_axes(node, types)

    def reference(self, node: Node, x: Any, scale: Any, zero: Any = None) -> tuple[Array, ...]:
        dtype = self.dtype(node, None if zero is None else zero.dtype)
        narrow = NARROW.get(node["output_dtype"])
        q = x / spread(node, scale, x.shape)
        q = q if narrow and dtype.kind == "f" else np.rint(q)
        if zero is not None:
            q = q + spread(node, zero, x.shape).astype(q.dtype)
        if narrow:
            return (narrow.quantize(q, saturate=bool(node["saturate"])),)
        return (saturate(q, dtype),)


@register
class DequantizeLinear(Op):
    """(x - zero_point) * scale, in the dtype of the scale."""

    name = "dequantize_linear"
    settings = (1, 2)
    attributes = {"axis": 1, "block_size": 0, "output_dtype": None}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, scale, _ = operands(node, inputs, 2, 3)
        check_scale(node, inputs)
        check_kind(node, inputs, scale, "f", "floats")
        return [TensorType(x.shape, dtype_of(node, "output_dtype", scale.type.dtype))]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return scaled_axes(node, types)

    def reference(self, node: Node, x: Any, scale: Any, zero: Any = None) -> tuple[Array, ...]:
        # Differences of numbers of 16 bits fit into 32, which take half of the memory.
        wide = x if x.dtype.kind == "f" else x.astype(np.int32 if x.itemsize < 4 else np.int64)
        if zero is not None:
            wide = wide - spread(node, zero, x.shape).astype(wide.dtype)
        factor = spread(node, scale, x.shape)
        y = wide.astype(scale.dtype) * factor
        return (np.asarray(y, dtype=dtype_of(node, "output_dtype", scale.dtype)),)


@register
class DynamicQuantizeLinear(Op):
    """x as uint8, the scale and the zero point, for the range of x and 0."""

    name = "dynamic_quantize_linear"

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        check_kind(node, inputs, x, "f", "floats")
        scalars = [TensorType((), x.type.dtype), TensorType((), UINT8)]
        return [TensorType(x.shape, UINT8), *scalars][: len(node.outputs)]

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        low, high = x.min(initial=0), x.max(initial=0)
        scale = np.asarray((high - low) / 255 or 1, dtype=x.dtype)
        zero = saturate(-low / scale, UINT8)
        q = saturate(np.rint(x / scale) + zero.astype(x.dtype), UINT8)
        return (q, scale, zero)[: len(node.outputs)]


def along(values: Array, rank: int, axis: int) -> Array:
    """A scale or zero point, one or one per element of `axis`, to broadcast over `rank` axes."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim > 1:
        return values
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def check_along(node: Node, inputs: Inputs, values: Any, shape: tuple[int, ...], axis: int) -> None:
    """Checks that a scale or zero point is one, one per element of `axis`, or broadcasts.

    Raises:
        ShapeError: it does not fit `shape`.
    """
    if not values or values.type.size == 1:
        return
    if values.rank > 1:
        fits(node, inputs, values, shape, repr(values.name))
    elif values.shape != (shape[axis],):
        raise shape_error(node, inputs, f"{values.name!r} must be one or of shape ({shape[axis]},)")


def centred(x: Array, zero: Array | None, axis: int) -> Array:
    """x less its zero point, as int32."""
    wide = x.astype(np.int32)
    return wide if zero is None else wide - along(zero, x.ndim, axis).astype(np.int32)


def along_links(types: NodeTypes, index: int, axis: int, rank: int) -> Links:
    """The links of a scale or zero point to an output of `rank` axes; see `check_along`."""
    if not types.has(index) or types.operand(index).type.size == 1:
        return every(types, index)
    if types.rank(index) == 1:
        return (follow(axis),)
    shift = rank - types.rank(index)
    return [follow(a + shift) if a + shift >= 0 else ALL for a in range(types.rank(index))]


def integer_conv_axes(node: Node, types: NodeTypes, x: int, weight: int) -> AxesMapping:
    """The mapping of a quantised convolution, whose other inputs are per output channel."""
    sizes, kernel = types.shape(x), types.shape(weight)
    w = Conv().windows(node, sizes, kernel)
    made: list[Links] = [
        every(types, i, ALL if types.shape(i) != kernel[:1] else follow(1))
        if types.has(i)
        else None
        for i in range(len(types.inputs))
    ]
    made[x] = (follow(0), channel_link(node, sizes[1], kernel[0]), *w.links())
    made[weight] = weight_links(len(kernel))
    return AxesMapping(made)


def integer_matmul_axes(types: NodeTypes, a: int, b: int) -> AxesMapping:
    """The mapping of a quantised product; scales and zero points are per row or per column."""
    rank = types.output.rank
    made: list[Links] = [every(types, i, mixed(*range(rank))) for i in range(len(types.inputs))]
    for i, x in enumerate(types.inputs):
        if x is not None and x.type.size == 1:
            made[i] = every(types, i)
    made[a], made[b] = matmul_links(types.rank(a), types.rank(b))
    return AxesMapping(made)


def integer_conv(node: Node, x: Array, weight: Array) -> Array:
    """The convolution of int32 tensors."""
    return OPS["conv"].reference(node, x, weight)[0]


def conv_type(node: Node, inputs: Inputs, x: Any, weight: Any, bias: Any = None) -> TensorType:
    """The type of a convolution's result, apart from its dtype."""
    try:
        return OPS["conv"].infer(node, (x, weight, bias))[0]
    except ValueError as error:
        raise shape_error(node, inputs, str(error)) from None


@register
class ConvInteger(Op):
    """The convolution of x and weight, each less its zero point, as int32."""

    name = "conv_integer"
    all_pairs = True
    attributes = CONV_ATTRIBUTES

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, weight, x_zero, w_zero = operands(node, inputs, 2, 4)
        shape = conv_type(node, inputs, x, weight).shape
        check_along(node, inputs, x_zero, x.shape, 1)
        check_along(node, inputs, w_zero, weight.shape, 0)
        return [TensorType(shape, INT32)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return integer_conv_axes(node, types, 0, 1)

    def macs(self, node: Node, types: NodeTypes) -> int:
        return direct_macs(types, 1)

    def reference(
        self, node: Node, x: Any, weight: Any, x_zero: Any = None, w_zero: Any = None
    ) -> tuple[Array, ...]:
        return (integer_conv(node, centred(x, x_zero, 1), centred(weight, w_zero, 0)),)


@register
class QLinearConv(Op):
    """A convolution of quantised tensors: x, weight and y, each with a scale and a zero point.

    The weight's may be one per output channel. The bias is int32, at scale x_scale * w_scale.
    """

    name = "qlinear_conv"
    all_pairs = True
    settings = (1, 2, 4, 5, 6, 7)
    attributes = CONV_ATTRIBUTES

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, x_scale, x_zero, weight, w_scale, w_zero, y_scale, y_zero, bias = operands(
            node, inputs, 8, 9
        )
        shape = conv_type(node, inputs, x, weight, bias).shape
        check_along(node, inputs, x_zero, x.shape, 1)
        check_along(node, inputs, w_zero, weight.shape, 0)
        if w_scale.shape not in ((), (1,), weight.shape[:1]):
            raise shape_error(node, inputs, "the weight's scale must be one, or one per channel")
        if any(v.type.size != 1 for v in (x_scale, y_scale, y_zero)):
            raise shape_error(node, inputs, "x and y must have one scale each, y one zero point")
        check_kind(node, inputs, y_zero, "iu", "integers")
        return [TensorType(shape, y_zero.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return integer_conv_axes(node, types, 0, 3)

    def macs(self, node: Node, types: NodeTypes) -> int:
        return direct_macs(types, 3)

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        x, x_scale, x_zero, weight, w_scale, w_zero, y_scale, y_zero, bias = (*inputs, None)[:9]
        y = integer_conv(node, centred(x, x_zero, 1), centred(weight, w_zero, 0))
        channels = (-1, *[1] * (y.ndim - 2))
        if bias is not None:
            y = y + bias.reshape(channels)
        factor = (x_scale * w_scale / y_scale).reshape(channels)
        q = np.rint(y.astype(factor.dtype) * factor)  # two roundings, as in ONNX Runtime
        return (saturate(q + y_zero.reshape(()).astype(int), y_zero.dtype),)


@register
class MatMulInteger(Op):
    """The product of a and b, each less its zero point, as int32.

    The zero point of a may be one per row, that of b one per column.
    """

    name = "matmul_integer"
    all_pairs = True

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        a, b, a_zero, b_zero = operands(node, inputs, 2, 4)
        shape = matmul_shape(node, inputs, a.shape, b.shape)
        check_along(node, inputs, a_zero, a.shape, max(a.rank - 2, 0))
        check_along(node, inputs, b_zero, b.shape, b.rank - 1)
        return [TensorType(shape, INT32)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return integer_matmul_axes(types, 0, 1)

    def macs(self, node: Node, types: NodeTypes) -> int:
        return product_macs(types)

    def reference(
        self, node: Node, a: Any, b: Any, a_zero: Any = None, b_zero: Any = None
    ) -> tuple[Array, ...]:
        y = product(centred(a, a_zero, max(a.ndim - 2, 0)), centred(b, b_zero, b.ndim - 1))
        return (np.asarray(y, dtype=INT32),)


@register
class QLinearMatMul(Op):
    """A product of quantised tensors: a, b and y, each with a scale and a zero point.

    Those of a may be one per row, those of b one per column.
    """

    name = "qlinear_matmul"
    all_pairs = True
    settings = (1, 2, 4, 5, 6, 7)

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = operands(node, inputs, 8, 8)
        shape = matmul_shape(node, inputs, a.shape, b.shape)
        for values in (a_scale, a_zero):
            check_along(node, inputs, values, a.shape, max(a.rank - 2, 0))
        for values in (b_scale, b_zero):
            check_along(node, inputs, values, b.shape, b.rank - 1)
        if y_scale.type.size != 1 or y_zero.type.size != 1:
            raise shape_error(node, inputs, "y must have one scale and one zero point")
        check_kind(node, inputs, y_zero, "iu", "integers")
        return [TensorType(shape, y_zero.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return integer_matmul_axes(types, 0, 3)

    def macs(self, node: Node, types: NodeTypes) -> int:
        return product_macs(types)

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
        rows, columns = max(a.ndim - 2, 0), b.ndim - 1
        y = np.matmul(centred(a, a_zero, rows), centred(b, b_zero, columns))
        factor = along(a_scale, y.ndim, -2 if y.ndim > 1 else -1) * along(b_scale, y.ndim, -1)
        factor = factor / y_scale.reshape(())
        q = np.rint(y.astype(factor.dtype) * factor)  # two roundings, as in ONNX Runtime
        return (saturate(q + y_zero.reshape(()).astype(int), y_zero.dtype),)
