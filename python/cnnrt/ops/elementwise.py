"""Elementwise operators of one input: activations and other functions, clip, cast, dropout.

`ACTIVATIONS` is the NumPy definition of each activation of cpp/kernels/activations.def. The unary
operators use the same functions, and so does whatever carries an activation fused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UnsupportedOperator
from ..graph import Array, Node, TensorType
from . import REQUIRED, NodeTypes, register, shape_error
from .activation import Activation
from .axes import AxesMapping, elementwise
from .common import (
    Elementwise,
    Inputs,
    SameType,
    choice,
    dry_run,
    dtype_of,
    family,
    operands,
    value_of,
)
from .narrow import NARROW


@dataclass(frozen=True)
class Function:
    """A function of every element: (x, alpha, beta) -> y."""

    compute: Callable[[Any, float, float], Any]
    costly: bool = False
    """True if it takes much longer than reading and writing the values."""

    def __call__(self, x: Any, alpha: float, beta: float) -> Any:
        return self.compute(x, alpha, beta)


def erf(x: Array) -> Array:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), dtype=x.dtype)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softplus(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def elu(x: Array, alpha: float) -> Array:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)


def gelu_tanh(x: Array) -> Array:
    inner = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
    return np.asarray(0.5 * x * (1 + inner))


ACTIVATIONS: dict[str, Function] = {
    "none": Function(lambda x, *_: x),
    "relu": Function(lambda x, *_: np.maximum(x, 0)),
    "clip": Function(lambda x, a, b: np.minimum(np.maximum(x, a), b)),
    "leaky_relu": Function(lambda x, a, _: np.where(x < 0, a * x, x)),
    "sigmoid": Function(lambda x, *_: sigmoid(x), costly=True),
    "silu": Function(lambda x, *_: x * sigmoid(x), costly=True),
    "tanh": Function(lambda x, *_: np.tanh(x), costly=True),
    "hard_sigmoid": Function(lambda x, a, b: np.clip(a * x + b, 0, 1)),
    "hard_swish": Function(lambda x, *_: x * np.clip(x / 6 + 0.5, 0, 1)),
    "gelu": Function(lambda x, *_: 0.5 * x * (1 + erf(x * math.sqrt(0.5))), costly=True),
    "gelu_tanh": Function(lambda x, *_: gelu_tanh(x), costly=True),
    "elu": Function(lambda x, a, _: elu(x, a), costly=True),
    "selu": Function(lambda x, a, b: b * elu(x, a), costly=True),
    "celu": Function(
        lambda x, a, _: np.where(x < 0, a * np.expm1(np.minimum(x, 0) / a), x), costly=True
    ),
    "softplus": Function(lambda x, *_: softplus(x), costly=True),
    "mish": Function(lambda x, *_: x * np.tanh(softplus(x)), costly=True),
    "softsign": Function(lambda x, *_: x / (1 + np.abs(x))),
    "abs": Function(lambda x, *_: np.abs(x)),
    "neg": Function(lambda x, *_: np.negative(x)),
    "exp": Function(lambda x, *_: np.exp(x), costly=True),
    "log": Function(lambda x, *_: np.log(x), costly=True),
    "sqrt": Function(lambda x, *_: np.sqrt(x)),
    "reciprocal": Function(lambda x, *_: 1 / x),
    "erf": Function(lambda x, *_: erf(x), costly=True),
    "floor": Function(lambda x, *_: np.floor(x)),
    "round": Function(lambda x, *_: np.rint(x)),
    "thresholded_relu": Function(lambda x, a, _: np.where(x > a, x, 0)),
    "affine": Function(lambda x, a, b: a * x + b),
    "atan": Function(lambda x, *_: np.arctan(x), costly=True),
    "asin": Function(lambda x, *_: np.arcsin(x), costly=True),
    "acos": Function(lambda x, *_: np.arccos(x), costly=True),
}

UNFUSED: dict[str, Callable[[Any, float, float], Any]] = {
    "identity": lambda x, *_: x,
    "ceil": lambda x, *_: np.ceil(x),
    "sign": lambda x, *_: np.sign(x),
    "sin": lambda x, *_: np.sin(x),
    "cos": lambda x, *_: np.cos(x),
    "tan": lambda x, *_: np.tan(x),
    "sinh": lambda x, *_: np.sinh(x),
    "cosh": lambda x, *_: np.cosh(x),
    "asinh": lambda x, *_: np.arcsinh(x),
    "acosh": lambda x, *_: np.arccosh(x),
    "atanh": lambda x, *_: np.arctanh(x),
    "swish": lambda x, a, _: x * sigmoid(a * x),
    "shrink": lambda x, lambd, bias: np.where(
        x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)
    ),
    "bitwise_not": lambda x, *_: np.invert(x),
    "not": lambda x, *_: np.logical_not(x),
    "is_nan": lambda x, *_: np.isnan(x),
    "is_inf": lambda x, negative, positive: (
        (np.isneginf(x) & bool(negative)) | (np.isposinf(x) & bool(positive))
    ),
}


def apply(activation: Activation, x: Array) -> Array:
    """`activation` on every element of x, in the dtype of x."""
    with np.errstate(all="ignore"):
        y = ACTIVATIONS[activation.name](x, activation.alpha, activation.beta)
    return np.asarray(y, dtype=x.dtype)


def activated(node: Node, y: Array) -> Array:
    """The activation that the node carries, if any, applied to its result."""
    activation = node.attributes.get("activation")
    return y if activation is None else apply(Activation(*activation), y)


class Unary(Elementwise, SameType):
    """y = f(x, alpha, beta) for every element; alpha and beta are the attributes, in order."""

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        types = super().infer(node, inputs)
        dry_run(self, node, inputs)
        return types

    def function(self, node: Node) -> Activation:
        """The name of the function in `ACTIVATIONS` or `UNFUSED`, and its parameters."""
        return Activation(self.name, *(float(node[name]) for name in self.attributes))

    def activation(self, node: Node) -> Activation | None:
        """The form in which another operator can carry this one, if it can."""
        function = self.function(node)
        return function if function.name in ACTIVATIONS else None

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        function = self.function(node)
        if function.name in ACTIVATIONS:
            return (apply(function, x),)
        with np.errstate(all="ignore"):
            y = UNFUSED[function.name](x, function.alpha, function.beta)
        return (np.asarray(y, dtype=x.dtype),)


family(
    Unary,
    (
        *("relu", "sigmoid", "silu", "tanh", "hard_swish", "softplus", "mish", "softsign"),
        *("abs", "neg", "exp", "log", "sqrt", "reciprocal", "erf"),
        *("floor", "ceil", "round", "sign", "identity", "bitwise_not"),
        *("sin", "cos", "tan", "asin", "acos", "atan"),
        *("sinh", "cosh", "asinh", "acosh", "atanh"),
    ),
    {
        "leaky_relu": {"alpha": 0.01},
        "hard_sigmoid": {"alpha": 0.2, "beta": 0.5},
        "elu": {"alpha": 1.0},
        "selu": {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
        "celu": {"alpha": 1.0},
        "thresholded_relu": {"alpha": 1.0},
        "shrink": {"lambd": 0.5, "bias": 0.0},
    },
)


@register
class Gelu(Unary):
    """x times the normal distribution's Phi(x), by erf or (`approximate` = "tanh") by tanh."""

    name = "gelu"
    attributes = {"approximate": "none"}

    def function(self, node: Node) -> Activation:
        approximate = choice(node, "approximate", ("none", "tanh"))
        return Activation("gelu" if approximate == "none" else "gelu_tanh")


@register
class Swish(Unary):
    """x sigmoid(alpha x); with alpha = 1 it is silu."""

    name = "swish"
    attributes = {"alpha": 1.0}

    def function(self, node: Node) -> Activation:
        alpha = float(node["alpha"])
        return Activation("silu") if alpha == 1 else Activation("swish", alpha)


class Predicate(Unary):
    """A truth value for every element."""

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = super().infer(node, inputs)
        return [TensorType(x.shape, np.dtype(bool))]

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        function = self.function(node)
        y = UNFUSED[function.name](x, function.alpha, function.beta)
        return (np.asarray(y, dtype=bool),)


family(Predicate, ("not", "is_nan"), {"is_inf": {"detect_negative": 1, "detect_positive": 1}})


@register
class Clip(Elementwise):
    """min(max(x, low), high); `low` and `high` are optional scalars of the dtype of x."""

    name = "clip"
    settings = (1, 2)

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, low, high = operands(node, inputs, 1, 3)
        for bound in (low, high):
            if bound and (bound.type.size != 1 or bound.type.dtype != x.type.dtype):
                raise shape_error(node, inputs, "min and max must be scalars of the dtype of x")
        return [x.type]

    def reference(self, node: Node, x: Any, low: Any = None, high: Any = None) -> tuple[Array, ...]:
        y = x if low is None else np.maximum(x, low.reshape(()))
        y = y if high is None else np.minimum(y, high.reshape(()))
        return (np.asarray(y, dtype=x.dtype),)


def clip_bounds(node: Node, constants: Mapping[str, Array]) -> Activation | None:
    """The activation that a clip node computes; None unless its bounds are constant."""
    values = [-np.inf, np.inf]
    for i, name in enumerate(node.inputs[1:3]):
        if name:
            value = constants.get(name)
            if value is None:
                return None
            values[i] = float(value.reshape(()))
    return Activation("clip", *values)


@register
class Cast(Elementwise):
    """Conversion to the dtype named by `to` ("float32", "int64", ...).

    Floats lose their fraction on the way to integers. For dtypes that NumPy does not have
    (`narrow.NARROW`) the result holds the values. `saturate` and `round_mode` concern these alone.
    """

    name = "cast"
    attributes = {"to": REQUIRED, "saturate": 1, "round_mode": "up"}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        choice(node, "round_mode", ("up", "down", "nearest"))
        narrow = NARROW.get(node["to"])
        return [TensorType(x.shape, narrow.carrier if narrow else dtype_of(node, "to"))]

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        narrow, saturate = NARROW.get(node["to"]), bool(node["saturate"])
        if narrow:
            return (narrow.cast(x, saturate=saturate, round_mode=node["round_mode"]),)
        with np.errstate(all="ignore"):
            return (x.astype(dtype_of(node, "to")),)


@register
class BitCast(Elementwise):
    """The same bits as another dtype of the same size."""

    name = "bit_cast"
    attributes = {"to": REQUIRED}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        (x,) = operands(node, inputs, 1, 1)
        dtype = dtype_of(node, "to")
        if dtype.itemsize != x.type.dtype.itemsize:
            raise shape_error(node, inputs, f"{dtype} has another size than {x.type.dtype}")
        return [TensorType(x.shape, dtype)]

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        return (x.view(dtype_of(node, "to")),)


@register
class CastLike(Elementwise):
    """Conversion to the dtype of the second input."""

    name = "cast_like"
    attributes = {"saturate": 1, "round_mode": "up"}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, like = operands(node, inputs, 2, 2)
        return [TensorType(x.shape, like.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return AxesMapping([elementwise(types).first[0], None])  # only its dtype matters

    def reference(self, node: Node, x: Any, like: Any) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (x.astype(like.dtype),)


@register
class Dropout(Elementwise):
    """Inference: the input, and on demand a mask of ones. `training_mode` must be false."""

    name = "dropout"
    settings = (1, 2)
    attributes = {"seed": None}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, _, training = operands(node, inputs, 1, 3)
        if training and value_of(node, inputs, training).any():
            raise UnsupportedOperator(f"node {node.name!r} (dropout): training is not supported")
        return [x.type, TensorType(x.shape, np.dtype(bool))][: len(node.outputs)]

    def reference(self, node: Node, x: Any, *_: Any) -> tuple[Array, ...]:
        return (x, np.ones(x.shape, bool))[: len(node.outputs)]


@register
class Activate(Elementwise, SameType):
    """y = the fused activation of x, by itself, for `cnnrt.kernels.activate`."""

    name = "activate"
    attributes = {"activation": REQUIRED}

    def reference(self, node: Node, x: Any) -> tuple[Array, ...]:
        return (activated(node, x),)
