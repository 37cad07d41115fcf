"""Quantised weights in the form that operators on bytes take: signed integers without a zero
point."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ...graph import Array, Graph, Node
from ...ops import OPS
from ...weights.lazy import lazy
from .values import Scaling

MAX_SUM = float(1 << 31)
"""Sums stay below it, in int32 and as multiples of the result's scale."""


class Weight(NamedTuple):
    """A constant that is dequantised: (values - zero) * scale."""

    name: str
    values: Array
    scale: Array
    zero: Array | None
    axis: int
    """The axis that scale and zero point belong to, if they have several elements."""

    def zeros(self) -> tuple[int, ...]:
        """The zero points, one or one for each element of the axis; none if they are 0."""
        return () if self.zero is None else tuple(self.zero.reshape(-1).tolist())

    def transposed(self) -> Weight:
        """The same matrix, transposed."""
        turned = lazy(self.values.shape[::-1], self.values.dtype, np.transpose, self.values)
        return self._replace(name=f"{self.name}.T", values=turned, axis=1 - self.axis)


def weight_of(
    name: str, producers: Mapping[str, Node], constants: Mapping[str, Array]
) -> Weight | None:
    """The `Weight` behind a tensor, or None."""
    node = producers.get(name)
    if node is None:
        return None
    if node.op == "transpose":
        inner = weight_of(node.inputs[0], producers, constants)
        if inner is None or inner.values.ndim != 2:
            return None
        return inner.transposed() if node["perm"] in (None, [1, 0], (1, 0)) else inner
    if node.op != "dequantize_linear" or node["block_size"]:
        return None
    values = _quantised(node.inputs[0], producers, constants)
    scale = constants.get(node.inputs[1])
    zero = constants.get(node.input(2))
    if values is None or scale is None or (node.input(2) and zero is None):
        return None
    if scale.dtype != np.float32 or values.dtype.kind not in "iu" or values.dtype.itemsize > 4:
        return None
    axis = node["axis"] % max(values.ndim, 1)
    zeros = None if zero is None else np.asarray(zero)
    return Weight(node.inputs[0], values, np.asarray(scale).reshape(-1), zeros, axis)


def _quantised(
    name: str, producers: Mapping[str, Node], constants: Mapping[str, Array]
) -> Array | None:
    """A constant of integers, or one of floats behind QuantizeLinear."""
    if name in constants:
        return constants[name]
    node = producers.get(name)
    if node is None or node.op != "quantize_linear":
        return None
    inputs = [constants.get(x) if x else None for x in node.inputs]
    if any(v is None for x, v in zip(node.inputs, inputs, strict=True) if x):
        return None
    arrays = [None if v is None else np.asarray(v) for v in inputs]
    return OPS["quantize_linear"].reference(node, *arrays)[0]


class Factors(NamedTuple):
    """The constants of a product of bytes, by name."""

    weight: str
    bias: str
    scale: str


def per_channel(values: Array, axis: int, weight: Weight, channels: int) -> Array | None:
    """One value for each output channel, from one for all or one for each; None: others."""
    if values.size == 1:
        return np.repeat(values.reshape(-1), channels)
    return values.reshape(-1) if values.size == channels and weight.axis == axis else None


def signed(graph: Graph, weight: Weight) -> str | None:
    """The name of a constant of the weight less its zero point, channels first; None: too large."""
    values, zero = weight.values, weight.zero
    if values.dtype == np.int8 and (zero is None or not zero.any()):
        if graph.constants.get(weight.name) is not values:
            name = f"{weight.name}/signed"
            graph.constants[name] = values
            return name
        return weight.name
    if values.dtype.itemsize > 1:
        return None
    name = f"{weight.name}/signed"
    if name in graph.constants:
        return name
    low, high = bounds(weight)
    small = low >= -128 and high <= 127
    # Made anew when it is packed: a network's weights are never in memory in two forms.
    dtype = np.int8 if small else np.int16
    graph.constants[name] = lazy(
        values.shape, dtype, less_zero, values, weight.zeros(), weight.axis
    )
    return name


def less_zero(values: Array, zeros: tuple[int, ...], axis: int) -> Array:
    """Weights of 8 bits less their zero point: one for all, or one for each channel of an axis."""
    wide = np.asarray(values).astype(np.int16)
    if zeros:
        shape = [1] * wide.ndim
        if len(zeros) > 1:
            shape[axis] = -1
        wide -= np.array(zeros, np.int16).reshape(shape)
    return wide


def bounds(weight: Weight) -> tuple[int, int]:
    """The least and the greatest of the weights less their zero point, and 0."""
    values = np.asarray(weight.values)
    zeros = np.zeros(1, np.int64) if weight.zero is None else weight.zero.astype(np.int64)
    zeros = zeros.reshape(-1)
    # Of the bytes as they are: less the zero point they would take twice the memory.
    axes = tuple(i for i in range(values.ndim) if len(zeros) == 1 or i != weight.axis)
    low = values.min(axes, initial=np.iinfo(values.dtype).max) - zeros
    high = values.max(axes, initial=np.iinfo(values.dtype).min) - zeros
    return min(0, int(low.min(initial=0))), max(0, int(high.max(initial=0)))


def factors(
    graph: Graph,
    key: str,
    weight: Weight,
    bias: Array | Weight | None,
    x: Scaling,
    y: Scaling | None,
    limits: tuple[int, int] | None = None,
) -> Factors | None:
    """The constants of a product whose weight has its output channels first.

    Args:
        graph: gets the constants.
        key: the name of the result, with which those of its constants begin.
        weight: with at most 8 bits.
        bias: of floats, or of integers at the scale of the sums; None: 0.
        x: the scaling of the input.
        y: the scaling of the result; None: floats.
        limits: the least and the greatest byte of the result; None: something is added to it first.

    Returns None if a sum might not fit into int32, or a result not before it is saturated.
    """
    channels = weight.values.shape[0]
    w_scale = per_channel(weight.scale, 0, weight, channels)
    name = signed(graph, weight)
    if w_scale is None or name is None or not channels:
        return None
    sums = (x.scale * w_scale).astype(np.float32)
    ratio = sums if y is None else (sums / y.scale).astype(np.float32)
    added = _bias(bias, sums, y is None)
    if added is None or not np.isfinite(ratio).all() or (ratio < 0).any():
        return None
    stored, unit = graph.constants[name], ratio if y is not None else np.zeros_like(ratio)
    if added.dtype != np.int32:  # added to floats, not to the sums
        if _fitting(_exact_range(stored, x.zero), np.zeros(channels, np.int32), unit, None) is None:
            return None
    else:
        wanted = None if y is None or limits is None else (limits[0] - y.zero, limits[1] - y.zero)
        fitting = _fitting(_wide_range(stored), added, unit, None)
        if fitting is None:
            fitting = _fitting(_exact_range(stored, x.zero), added, unit, wanted)
        if fitting is None:
            return None
        added = fitting
    names = Factors(name, f"{key}/bias", f"{key}/scale")
    graph.constants[names.bias] = added
    graph.constants[names.scale] = ratio
    return names


def _wide_range(weight: Array) -> tuple[Array, Array]:
    """Bounds of each output's sum without its bias, without a look at the weights."""
    largest = np.full(weight.shape[0], 2.0 ** (8 * weight.dtype.itemsize + 7))
    largest *= math.prod(weight.shape[1:])
    return -largest, largest


def _exact_range(weight: Array, zero: int) -> tuple[Array, Array]:
    """The least and the greatest sum of each output without its bias, for bytes less `zero`."""
    flat = np.asarray(weight).reshape(weight.shape[0], -1)
    up = np.maximum(flat, 0).sum(axis=1, dtype=np.float64)
    down = flat.sum(axis=1, dtype=np.float64) - up
    return down * (255 - zero) - up * zero, up * (255 - zero) - down * zero


def _fitting(
    span: tuple[Array, Array], bias: Array, ratio: Array, limits: tuple[int, int] | None
) -> Array | None:
    """A bias with which all sums fit into int32 and the results are the same; None: there is none.

    ONNX Runtime's quantiser makes the weights of channels that hardly matter so small that their
    bias just fits into int32. Their results are one limit whatever the input is, and a bias nearer
    to 0 leaves that so.

    Args:
        span: the least and the greatest sum of each output without its bias.
        ratio: factors of the sums, or 0 if the results are not rounded.
        limits: the results are saturated to these, as multiples of the result's scale; None: not.
    """
    low, high = span
    moved = np.clip(bias.astype(np.float64), -MAX_SUM - low, MAX_SUM - 1 - high)
    least, most = low + moved, high + moved
    if (least < -MAX_SUM).any() or (np.maximum(-least, most) * ratio >= MAX_SUM / 2).any():
        return None
    same = moved == bias
    if limits is not None:
        same |= (moved > bias) & (most * ratio <= limits[0] - 1)
        same |= (moved < bias) & (least * ratio >= limits[1] + 1)
    return moved.astype(np.int32) if same.all() else None


def _bias(bias: Array | Weight | None, sums: Array, floats: bool) -> Array | None:
    """A bias as int32 at the scales of the sums, or as floats if the result is of floats."""
    if bias is None:
        return np.zeros(len(sums), np.int32)
    if isinstance(bias, Weight):
        values = np.asarray(bias.values).reshape(-1)
        zero = 0 if bias.zero is None else bias.zero.astype(np.int64).reshape(-1)
        whole = values.astype(np.int64) - zero
        if np.allclose(bias.scale, sums, rtol=1e-4, atol=0) and _fits(whole, sums):
            return whole.astype(np.int32)
        exact: Array = (whole * bias.scale.astype(np.float64)).reshape(-1)
    else:
        exact = np.asarray(bias).astype(np.float64).reshape(-1)
    if exact.shape != sums.shape or not np.isfinite(exact).all():
        return None
    if floats:
        return exact.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # In float32, as ONNX Runtime divides a bias of floats: next to a half that decides.
        units = np.rint(exact.astype(np.float32) / sums)
    return units.astype(np.int32) if _fits(units, sums) else None


def _fits(values: Array, sums: Array) -> bool:
    """True if there is an int32 for each sum."""
    return values.shape == sums.shape and bool(((values >= -MAX_SUM) & (values < MAX_SUM)).all())
