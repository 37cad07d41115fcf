"""Linear layers, norms, sums and activations."""

from __future__ import annotations

import numpy as np

from ..errors import ShapeError
from ..graph import Array
from .activations import activate
from .running import ActivationLike, run
from .running import activation as activation_of


def add(
    a: Array,
    b: Array,
    activation: ActivationLike = None,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """activation(a + b), with broadcasting."""
    y = run("add", ["a", "b"], {"a": a, "b": b}, {}, threads=threads, isa=isa)
    return y if activation is None else activate(y, activation, threads=threads, isa=isa)


def linear(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    activation: ActivationLike = None,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """activation(x weight^T + bias) for x (..., K), weight (M, K), bias (M,) -> (..., M)."""
    constants = {"weight": weight} | ({} if bias is None else {"bias": bias})
    return run(
        "linear",
        ["x", *constants],
        {"x": x},
        {"activation": activation_of(activation)},
        constants,
        threads=threads,
        isa=isa,
    )


def softmax(
    x: Array, dim: int = -1, *, threads: int | None = None, isa: str | None = None
) -> Array:
    """exp(x) / sum of exp(x) along the axis `dim`."""
    return run("softmax", ["x"], {"x": x}, {"axis": dim}, threads=threads, isa=isa)


def log_softmax(
    x: Array, dim: int = -1, *, threads: int | None = None, isa: str | None = None
) -> Array:
    """The logarithm of `softmax`."""
    return run("log_softmax", ["x"], {"x": x}, {"axis": dim}, threads=threads, isa=isa)


def batch_norm(
    x: Array,
    running_mean: Array,
    running_var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """(x - running_mean) / sqrt(running_var + eps) * weight + bias per channel, as after training.

    Args:
        x: (N, C, ...).
        running_mean: (C,).
        running_var: (C,).
        weight: (C,); None: ones.
        bias: (C,); None: zeros.
    """
    channels = _channels("batch_norm", x)
    named = {"scale": weight, "bias": bias, "mean": running_mean, "variance": running_var}
    constants = {
        name: np.full(channels, name == "scale", np.float32) if value is None else value
        for name, value in named.items()
    }
    for name, value in constants.items():
        if np.shape(value) != (channels,):
            raise ShapeError(
                f"batch_norm: {name} has shape {np.shape(value)}; expected ({channels},), a number "
                f"for each channel of x {np.shape(x)}"
            )
    names = ["x", *constants]
    attributes = {"epsilon": eps}
    return run(
        "batch_normalization", names, {"x": x}, attributes, constants, threads=threads, isa=isa
    )


def layer_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """x less its mean over its deviation along the last axis, times weight, plus bias.

    Args:
        x: (..., K).
        weight: (K,); None: ones.
        bias: (K,); None: zeros.
    """
    size = np.shape(x)[-1]
    constants = {"scale": np.ones(size, np.float32) if weight is None else weight}
    if bias is not None:
        constants["bias"] = bias
    names = ["x", *constants]
    attributes = {"axis": -1, "epsilon": eps}
    return run(
        "layer_normalization", names, {"x": x}, attributes, constants, threads=threads, isa=isa
    )


def _channels(function: str, x: Array) -> int:
    """The size of the axis of channels."""
    shape = np.shape(x)
    if len(shape) < 2:
        raise ShapeError(
            f"{function}: x has shape {shape}; expected (N, C, ...): for one image of one channel "
            "give x[None, None]"
        )
    return int(shape[1])
