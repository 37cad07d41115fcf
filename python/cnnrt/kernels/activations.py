"""Activations, element by element."""

from __future__ import annotations

import numpy as np

from ..graph import Array
from ..ops.activation import Activation
from .running import ActivationLike, run
from .running import activation as activation_of


def activate(
    x: Array,
    activation: ActivationLike,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """An activation of `ACTIVATIONS` on every element of x."""
    chosen = activation_of(activation) or Activation("none")
    inputs = {"x": np.asarray(x, np.float32)}
    return run("activate", ["x"], inputs, {"activation": chosen}, threads=threads, isa=isa)


def relu(x: Array, *, threads: int | None = None, isa: str | None = None) -> Array:
    """max(x, 0)."""
    return activate(x, "relu", threads=threads, isa=isa)


def relu6(x: Array, *, threads: int | None = None, isa: str | None = None) -> Array:
    """min(max(x, 0), 6)."""
    return activate(x, ("clip", 0.0, 6.0), threads=threads, isa=isa)


def leaky_relu(
    x: Array, negative_slope: float = 0.01, *, threads: int | None = None, isa: str | None = None
) -> Array:
    """x, and negative_slope x below 0."""
    return activate(x, ("leaky_relu", negative_slope), threads=threads, isa=isa)


def elu(
    x: Array, alpha: float = 1.0, *, threads: int | None = None, isa: str | None = None
) -> Array:
    """x, and alpha (exp(x) - 1) below 0."""
    return activate(x, ("elu", alpha), threads=threads, isa=isa)


def selu(x: Array, *, threads: int | None = None, isa: str | None = None) -> Array:
    """ELU scaled so that means and variances stay (Klambauer et al., 2017)."""
    return activate(x, ("selu", 1.6732632423543772, 1.0507009873554805), threads=threads, isa=isa)


def sigmoid(x: Array, *, threads: int | None = None, isa: str | None = None) -> Array:
    """1 / (1 + exp(-x))."""
    return activate(x, "sigmoid", threads=threads, isa=isa)


def tanh(x: Array, *, threads: int | None = None, isa: str | None = None) -> Array:
    """The hyperbolic tangent of x."""
    return activate(x, "tanh", threads=threads, isa=isa)


def silu(x: Array, *, threads: int | None = None, isa: str | None = None) -> Array:
    """x sigmoid(x), which is also called Swish."""
    return activate(x, "silu", threads=threads, isa=isa)


def mish(x: Array, *, threads: int | None = None, isa: str | None = None) -> Array:
    """x tanh(log(1 + exp(x)))."""
    return activate(x, "mish", threads=threads, isa=isa)


def softplus(x: Array, *, threads: int | None = None, isa: str | None = None) -> Array:
    """log(1 + exp(x))."""
    return activate(x, "softplus", threads=threads, isa=isa)


def hardsigmoid(x: Array, *, threads: int | None = None, isa: str | None = None) -> Array:
    """min(max(x / 6 + 1 / 2, 0), 1)."""
    return activate(x, ("hard_sigmoid", 1 / 6, 0.5), threads=threads, isa=isa)


def hardswish(x: Array, *, threads: int | None = None, isa: str | None = None) -> Array:
    """x hardsigmoid(x)."""
    return activate(x, "hard_swish", threads=threads, isa=isa)


def gelu(
    x: Array, approximate: str = "none", *, threads: int | None = None, isa: str | None = None
) -> Array:
    """x times the normal distribution function of x; `approximate` is "none" or "tanh".

    Raises:
        ValueError: `approximate` is something else.
    """
    names = {"none": "gelu", "tanh": "gelu_tanh"}
    if approximate not in names:
        raise ValueError(f"approximate {approximate!r}; expected 'none' or 'tanh'")
    return activate(x, names[approximate], threads=threads, isa=isa)
