"""Normalisations, whose statistics come with the model (batch) or from the input, and softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from . import REQUIRED, NodeTypes, Op, register, shape_error
from .axes import AxesMapping, Link, aligned, along, every, follow, mixes_all_axes
from .common import Inputs, SameType, at_least, axes_of, axis_of, check_kind, family, fits, operands


def per_channel(vector: Array, rank: int) -> Array:
    """(C) -> (C, 1, ...), to broadcast along axis 1 of `rank`."""
    return vector.reshape(-1, *[1] * (rank - 2))


def check_channels(node: Node, inputs: Inputs, least_rank: int) -> None:
    """Checks that every input after the first has shape (C), C being axis 1 of the first.

    Raises:
        ShapeError: one has another shape.
    """
    x, *vectors = operands(node, inputs, len(inputs))
    if x.rank < least_rank:
        raise shape_error(node, inputs, f"x needs at least {least_rank} axes")
    if any(v.shape != x.shape[1:2] for v in vectors):
        raise shape_error(node, inputs, f"all but x must have shape ({x.shape[1]},)")


def per_channel_axes(types: NodeTypes, *axes: int) -> AxesMapping:
    """The mapping of statistics over `axes` of the first input, the others being per channel."""
    vectors = [every(types, i, follow(1)) for i in range(1, len(types.inputs))]
    return AxesMapping([along(types, *axes).first[0], *vectors])


def check_filled(node: Node, inputs: Inputs, sizes: Sequence[int]) -> None:
    """Checks that the axes of statistics that are outputs are not empty.

    Raises:
        ShapeError: one is empty.
    """
    if 0 in sizes:
        raise shape_error(node, inputs, "there are no statistics of nothing")


def standardise(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array, Array]:
    """(x - mean) / sqrt(variance + epsilon), the mean and the factor, in float32 or better."""
    wide = x.astype(np.promote_types(x.dtype, np.float32), copy=False)
    if not wide.size:  # no warning that there is no mean
        nothing = wide.sum(axis=axes, keepdims=True)
        return wide, nothing, nothing
    mean = wide.mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(wide.var(axis=axes, keepdims=True) + epsilon)
    return (wide - mean) * inverse, mean, inverse.astype(wide.dtype, copy=False)


@register
class BatchNormalization(Op):
    """scale (x - mean) / sqrt(variance + epsilon) + bias per channel, with the statistics given.

    With `training_mode` the statistics are those of the batch, and two outputs follow. They are the
    statistics given, times `momentum`, plus those of the batch, times 1 - `momentum`.
    """

    name = "batch_normalization"
    settings = (3, 4)  # running statistics: measured, not learnt
    attributes = {"epsilon": 1e-5, "momentum": 0.9, "training_mode": 0}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, _, _, mean, variance = operands(node, inputs, 5, 5)
        check_channels(node, inputs, 2)
        if not node["training_mode"]:
            return [x.type]
        check_filled(node, inputs, (x.shape[0], *x.shape[2:]))
        return [x.type, mean.type, variance.type][: len(node.outputs)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return mixes_all_axes(types) if node["training_mode"] else per_channel_axes(types)

    def reference(
        self, node: Node, x: Any, scale: Any, bias: Any, mean: Any, variance: Any
    ) -> tuple[Array, ...]:
        if node["training_mode"]:
            axes, keep = (0, *range(2, x.ndim)), node["momentum"]
            wide = x.astype(np.promote_types(x.dtype, np.float32), copy=False)
            given, (mean, variance) = (mean, variance), (wide.mean(axis=axes), wide.var(axis=axes))
            running = [
                (old * keep + new * (1 - keep)).astype(old.dtype, copy=False)
                for old, new in zip(given, (mean, variance), strict=True)
            ]
            plain = Node(node.op, node.name, [], [""], {**node.attributes, "training_mode": 0})
            return (*self.reference(plain, x, scale, bias, mean, variance), *running)[
                : len(node.outputs)
            ]
        factor = scale / np.sqrt(variance + node["epsilon"])
        y = (x - per_channel(mean, x.ndim)) * per_channel(factor, x.ndim)
        return ((y + per_channel(bias, x.ndim)).astype(x.dtype, copy=False),)


@register
class InstanceNormalization(Op):
    """Each channel of each image standardised, then scaled and shifted per channel."""

    name = "instance_normalization"
    attributes = {"epsilon": 1e-5}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, *_ = operands(node, inputs, 3, 3)
        check_channels(node, inputs, 3)
        return [x.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return per_channel_axes(types, *range(2, types.rank(0)))

    def reference(self, node: Node, x: Any, scale: Any, bias: Any) -> tuple[Array, ...]:
        y, *_ = standardise(x, tuple(range(2, x.ndim)), node["epsilon"])
        y = y * per_channel(scale, x.ndim) + per_channel(bias, x.ndim)
        return (y.astype(x.dtype, copy=False),)


@register
class GroupNormalization(Op):
    """Each group of channels of each image standardised, then scaled and shifted per channel.

    Scale and bias have shape (C), as since opset 21; before, they had one element per group.
    """

    name = "group_normalization"
    attributes = {"epsilon": 1e-5, "num_groups": REQUIRED, "stash_type": 1}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, *_ = operands(node, inputs, 3, 3)
        check_channels(node, inputs, 2)
        if x.shape[1] % at_least(node, "num_groups", 1):
            raise shape_error(node, inputs, f"{node['num_groups']} groups of {x.shape[1]} channels")
        return [x.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        one_each = node["num_groups"] == types.shape(0)[1]
        return per_channel_axes(types, *range(1 + one_each, types.rank(0)))

    def reference(self, node: Node, x: Any, scale: Any, bias: Any) -> tuple[Array, ...]:
        count = node["num_groups"]
        groups = x.reshape(x.shape[0], count, math.prod(x.shape[1:]) // count)
        y = standardise(groups, (2,), node["epsilon"])[0].reshape(x.shape)
        y = y * per_channel(scale, x.ndim) + per_channel(bias, x.ndim)
        return (y.astype(x.dtype, copy=False),)


def from_axis(node: Node, types: NodeTypes) -> AxesMapping:
    """The mapping of statistics over the axes from `axis` on, with factors that broadcast."""
    rank = types.rank(0)
    statistics = along(types, *range(node["axis"] % rank, rank)).first[0]
    return AxesMapping(
        [statistics, *(aligned(types, i, rank) for i in range(1, len(types.inputs)))]
    )


@register
class LayerNormalization(Op):
    """x standardised over the axes from `axis` on, then scaled and shifted elementwise.

    Two outputs more on demand: the means, and the inverses of the standard deviations.
    """

    name = "layer_normalization"
    attributes = {"axis": -1, "epsilon": 1e-5, "stash_type": 1}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, scale, bias = operands(node, inputs, 2, 3)
        axis = axis_of(node, inputs, node["axis"], x.rank)
        if len(node.outputs) > 1:
            check_filled(node, inputs, x.shape[axis:])
        fits(node, inputs, scale, x.shape, "scale")
        fits(node, inputs, bias, x.shape, "bias")
        shape = (*x.shape[:axis], *[1] * (x.rank - axis))
        statistic = TensorType(shape, np.promote_types(x.type.dtype, np.float32))
        return [x.type, statistic, statistic][: len(node.outputs)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return from_axis(node, types)

    def reference(self, node: Node, x: Any, scale: Any, bias: Any = None) -> tuple[Array, ...]:
        axes = tuple(range(node["axis"] % x.ndim, x.ndim))
        y, mean, inverse = standardise(x, axes, node["epsilon"])
        y = y.astype(x.dtype, copy=False) * scale
        y = y if bias is None else y + bias
        return (y.astype(x.dtype, copy=False), mean, inverse)[: len(node.outputs)]


@register
class ChannelNormalization(Op):
    """Each pixel standardised over its channels, then scaled and shifted per channel.

    An operator of cnnrt alone: the passes make it from a layer_normalization between two
    transposes. Shapes: x (N, C, ...), scale (C), bias (C).
    """

    name = "channel_normalization"
    attributes = {"epsilon": 1e-5}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, *_ = operands(node, inputs, 3, 3)
        check_channels(node, inputs, 2)
        return [x.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return per_channel_axes(types, 1)

    def reference(self, node: Node, x: Any, scale: Any, bias: Any) -> tuple[Array, ...]:
        y, *_ = standardise(x, (1,), node["epsilon"])
        y = y * per_channel(scale, x.ndim) + per_channel(bias, x.ndim)
        return (y.astype(x.dtype, copy=False),)


@register
class RMSNormalization(Op):
    """x divided by its root mean square over the axes from `axis` on, then scaled elementwise."""

    name = "rms_normalization"
    attributes = {"axis": -1, "epsilon": 1e-5, "stash_type": 1}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, scale = operands(node, inputs, 2, 2)
        axis_of(node, inputs, node["axis"], x.rank)
        fits(node, inputs, scale, x.shape, "scale")
        return [x.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return from_axis(node, types)

    def reference(self, node: Node, x: Any, scale: Any) -> tuple[Array, ...]:
        if not x.size:
            return (x,)
        axes = tuple(range(node["axis"] % x.ndim, x.ndim))
        wide = x.astype(np.promote_types(x.dtype, np.float32), copy=False)
        square = (wide * wide).mean(axis=axes, keepdims=True)
        y = (wide / np.sqrt(square + node["epsilon"])).astype(x.dtype, copy=False)
        return ((y * scale).astype(x.dtype, copy=False),)


@register
class LRN(Op):
    """x / (bias + alpha / size * sum of squares over `size` neighbouring channels) ^ beta."""

    name = "lrn"
    attributes = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0, "size": REQUIRED}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        at_least(node, "size", 1)
        if x.rank < 2:
            raise shape_error(node, inputs, "x needs at least 2 axes")
        return [x.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        size = node["size"]
        before, after = (size - 1) // 2, size // 2
        return along(types, 1, link=Link((1,), size - 1, 1, (after - before) / 2))

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        size = node["size"]
        # What a window reaches beyond all channels adds nothing.
        before, after = (min(n, x.shape[1]) for n in ((size - 1) // 2, size // 2))
        squares = np.pad(x * x, [(0, 0), (before, after), *[(0, 0)] * (x.ndim - 2)])
        total = sum(squares[:, i : i + x.shape[1]] for i in range(before + after + 1))
        y = x / (node["bias"] + node["alpha"] / size * total) ** node["beta"]
        return (y.astype(x.dtype, copy=False),)


@register
class MeanVarianceNormalization(SameType):
    """x less its mean, divided by its standard deviation, both over `axes`."""

    name = "mean_variance_normalization"
    attributes = {"axes": [0, 2, 3]}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        axes_of(node, inputs, node["axes"], x.rank)
        return [x.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return along(types, *node["axes"])

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        if not x.size:
            return (x,)
        axes = axes_of(node, (), node["axes"], x.ndim)
        y = (x - x.mean(axis=axes, keepdims=True)) / (x.std(axis=axes, keepdims=True) + 1e-9)
        return (y.astype(x.dtype, copy=False),)


class AlongAxis(SameType):
    """An operator that keeps the shape and works along `axis`."""

    attributes = {"axis": -1}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        axis_of(node, inputs, node["axis"], x.rank)
        check_kind(node, inputs, x, "f", "floats")
        return [x.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return along(types, node["axis"])


@register
class LpNormalization(AlongAxis):
    """x divided by its 1-norm or 2-norm along `axis`; zero where that is zero."""

    name = "lp_normalization"
    attributes = {"axis": -1, "p": 2}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        if node["p"] not in (1, 2):
            raise shape_error(node, inputs, f"p {node['p']}; it must be 1 or 2")
        return super().infer(node, inputs)

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        p = node["p"]
        length = (np.abs(x) ** p).sum(axis=node["axis"], keepdims=True) ** (1 / p)
        y = np.divide(x, length, out=np.zeros_like(x), where=length != 0)
        return (y.astype(x.dtype, copy=False),)


def softmax(x: Array, axis: int) -> Array:
    """exp(x) divided by its sum along `axis`."""
    powers = np.exp(x - x.max(axis=axis, keepdims=True, initial=-math.inf))
    return powers / powers.sum(axis=axis, keepdims=True)  # type: ignore[no-any-return]


def log_softmax(x: Array, axis: int) -> Array:
    """The logarithm of softmax."""
    low = x - x.max(axis=axis, keepdims=True, initial=-math.inf)
    return low - np.log(np.exp(low).sum(axis=axis, keepdims=True))  # type: ignore[no-any-return]


def hardmax(x: Array, axis: int) -> Array:
    """One at the first maximum along `axis`, zero elsewhere."""
    y = np.zeros(x.shape, x.dtype)  # not zeros_like, which writes each zero
    if x.size == 0:
        return y
    np.put_along_axis(y, x.argmax(axis=axis, keepdims=True), 1, axis=axis)
    return y


class Softmax(AlongAxis):
    """`softmax`, `log_softmax` and `hardmax`: weights along `axis`."""

    functions = {"softmax": softmax, "log_softmax": log_softmax, "hardmax": hardmax}

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self.functions[self.name](x, node["axis"]).astype(x.dtype, copy=False),)


family(Softmax, Softmax.functions)
