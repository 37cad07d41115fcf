"""Random numbers: normal, uniform, Bernoulli and multinomial.

With a `seed` a node gives the same numbers at every run, without one it gives new ones each time.
They are NumPy's (PCG64); another runtime has other numbers of the same distribution.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import DType
from ..graph import Array, Node, TensorType
from . import REQUIRED, Op, register, shape_error
from .common import Inputs, at_least, check_kind, dtype_of, operands


def generator(node: Node) -> np.random.Generator:
    """A source of random numbers, of which each node has its own."""
    seed = node["seed"]
    return np.random.default_rng(None if seed is None else int(np.float32(seed).view(np.uint32)))


class Chance(Op):
    """An operator whose results are not the same at every run."""

    pure = False

    def dtype(self, node: Node, x: DType | np.dtype[Any]) -> DType:
        return dtype_of(node, "dtype", x)


class Distribution(Chance):
    """Independent numbers of one distribution."""

    def draw(self, node: Node, shape: tuple[int, ...]) -> Array:
        """Numbers of this shape, in float64."""
        raise NotImplementedError


class OfShape(Distribution):
    """Numbers of the shape that the attribute `shape` states."""

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        operands(node, inputs, 0, 0)
        shape = tuple(node["shape"])
        if any(size < 0 for size in shape):
            raise shape_error(node, inputs, f"shape {list(shape)}")
        return [TensorType(shape, self.dtype(node, np.dtype(np.float32)))]

    def reference(self, node: Node, *_: Any) -> tuple[Array, ...]:
        y = self.draw(node, tuple(node["shape"]))
        return (y.astype(self.dtype(node, np.dtype(np.float32))),)


class Like(Distribution):
    """Numbers of the shape of the input, and of its dtype unless `dtype` is given."""

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        return [TensorType(x.shape, self.dtype(node, x.type.dtype))]

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        return (self.draw(node, x.shape).astype(self.dtype(node, x.dtype)),)


class Normal(Distribution):
    """Normal numbers of the given mean and standard deviation."""

    attributes = {"dtype": None, "mean": 0.0, "scale": 1.0, "seed": None}

    def draw(self, node: Node, shape: tuple[int, ...]) -> Array:
        return np.asarray(generator(node).normal(node["mean"], node["scale"], shape))


class Uniform(Distribution):
    """Numbers between two bounds, the upper one excluded."""

    attributes = {"dtype": None, "high": 1.0, "low": 0.0, "seed": None}

    def draw(self, node: Node, shape: tuple[int, ...]) -> Array:
        return np.asarray(generator(node).uniform(node["low"], node["high"], shape))


@register
class RandomNormal(Normal, OfShape):
    """Normal numbers of a stated shape."""

    name = "random_normal"
    attributes = {**Normal.attributes, "shape": REQUIRED}


@register
class RandomNormalLike(Normal, Like):
    """Normal numbers of the input's shape."""

    name = "random_normal_like"


@register
class RandomUniform(Uniform, OfShape):
    """Uniform numbers of a stated shape."""

    name = "random_uniform"
    attributes = {**Uniform.attributes, "shape": REQUIRED}


@register
class RandomUniformLike(Uniform, Like):
    """Uniform numbers of the input's shape."""

    name = "random_uniform_like"


@register
class Bernoulli(Chance):
    """One with the probability that x states, else zero."""

    name = "bernoulli"
    attributes = {"dtype": None, "seed": None}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        check_kind(node, inputs, x, "f", "floats")
        return [TensorType(x.shape, self.dtype(node, x.type.dtype))]

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        return ((generator(node).random(x.shape) < x).astype(self.dtype(node, x.dtype)),)


@register
class Multinomial(Chance):
    """`sample_size` classes for each row of x (N, classes), which has logarithms of weights."""

    name = "multinomial"
    attributes = {"dtype": None, "sample_size": 1, "seed": None}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        check_kind(node, inputs, x, "f", "floats")
        count = at_least(node, "sample_size", 1)
        if x.rank != 2 or x.shape[1] < 1:
            raise shape_error(node, inputs, "takes rows of classes")
        return [TensorType((x.shape[0], count), self.dtype(node, np.dtype(np.int32)))]

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        wide = x.astype(np.float64)
        sums = np.exp(wide - wide.max(axis=1, keepdims=True)).cumsum(axis=1)
        places = generator(node).random((x.shape[0], node["sample_size"])) * sums[:, -1:]
        # The class is the number of sums that the place is beyond.
        y = np.zeros(places.shape, np.int64)
        for row, (steps, at) in enumerate(zip(sums, places, strict=True)):
            y[row] = np.minimum(np.searchsorted(steps, at, side="right"), x.shape[1] - 1)
        return (y.astype(self.dtype(node, np.dtype(np.int32))),)
