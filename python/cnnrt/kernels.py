"""Each kernel alone, on NumPy arrays, with names and arguments as in PyTorch's functional API.

A call makes a graph of one operator and runs it the way a network is run: same plan, same kernels.
Weights are packed anew by every call, so this is for learning and testing, not for speed.

All arrays are float32, N C H W, in and out. `activation` is the name of one of `ACTIVATIONS`, or a
tuple (name, alpha, beta). `threads` and `isa` choose the number of threads and the instruction-set
tier.

Raises (all functions):
    ShapeError: the arrays do not fit each other or the arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _core, ops
from .graph import Array, Graph, Node, TensorSpec
from .ops.activation import Activation

ACTIVATIONS: tuple[str, ...] = _core.activations
"""The activations that a kernel can apply to its result."""

Pair = int | Sequence[int]
ActivationLike = str | Sequence[Any] | None


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
    residual: Array | None = None,
    activation: ActivationLike = None,
    algorithm: str = "auto",
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """activation(conv(x, weight) + bias + residual).

    Args:
        x: (N, C, H, W).
        weight: (M, C / groups, kernel height, kernel width).
        bias: (M,).
        padding: zeros around x, or "same" or "valid".
        residual: (N, M, out height, out width), added before the activation.
        algorithm: "auto", "im2col", "winograd2" or "winograd4". The latter two are for kernels of
            3x3, 1x3, 3x1 or, in one dimension, 3, at stride 1. Kernels of 5x5 have "winograd2".

    Returns:
        (N, M, out height, out width) with out = floor((in + 2 p - d (k - 1) - 1) / s) + 1.
    """
    rank = np.ndim(x) - 2
    attributes: dict[str, Any] = {
        "strides": _per_axis(stride, rank),
        "dilations": _per_axis(dilation, rank),
        "group": groups,
        "activation": _activation(activation),
    }
    if padding == "same":
        attributes["auto_pad"] = "SAME_UPPER"
    elif padding != "valid":
        attributes["pads"] = _per_axis(padding, rank) * 2
    constants = {"weight": weight} | ({} if bias is None else {"bias": bias})
    inputs = {"x": x} | ({} if residual is None else {"residual": residual})
    names = ["x", "weight", "" if bias is None else "bias", "" if residual is None else "residual"]
    return _run(
        "conv", names, inputs, attributes, constants, threads=threads, isa=isa, algorithm=algorithm
    )


def max_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """The maximum of each window of x (N, C, H, W); `stride` defaults to `kernel_size`."""
    attributes = _pool(x, kernel_size, stride, padding, ceil_mode)
    attributes["dilations"] = _per_axis(dilation, np.ndim(x) - 2)
    return _run("max_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """The mean of each window of x (N, C, H, W); `stride` defaults to `kernel_size`."""
    attributes = _pool(x, kernel_size, stride, padding, ceil_mode)
    attributes["count_include_pad"] = int(count_include_pad)
    return _run("average_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def adaptive_avg_pool2d(
    x: Array, output_size: Pair, *, threads: int | None = None, isa: str | None = None
) -> Array:
    """The means of x (N, C, H, W) over output_size windows that cover it evenly."""
    attributes = {"output_size": _per_axis(output_size, np.ndim(x) - 2)}
    return _run("adaptive_average_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def add(
    a: Array,
    b: Array,
    activation: ActivationLike = None,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """activation(a + b), with broadcasting."""
    y = _run("add", ["a", "b"], {"a": a, "b": b}, {}, threads=threads, isa=isa)
    chosen = _activation(activation)
    return y if chosen is None else _activate(y, chosen, threads=threads, isa=isa)


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
    return _run(
        "linear",
        ["x", *constants],
        {"x": x},
        {"activation": _activation(activation)},
        constants,
        threads=threads,
        isa=isa,
    )


def softmax(
    x: Array, dim: int = -1, *, threads: int | None = None, isa: str | None = None
) -> Array:
    """exp(x) / sum of exp(x) along the axis `dim`."""
    return _run("softmax", ["x"], {"x": x}, {"axis": dim}, threads=threads, isa=isa)


def activate(
    x: Array,
    activation: ActivationLike,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """An activation of `ACTIVATIONS` on every element of x."""
    chosen = _activation(activation) or Activation("none")
    return _activate(np.asarray(x, np.float32), chosen, threads=threads, isa=isa)


def _activate(x: Array, activation: Activation, *, threads: int | None, isa: str | None) -> Array:
    attributes = {"activation": activation}
    return _run("activate", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def _run(
    op: str,
    names: list[str],
    inputs: dict[str, Array],
    attributes: dict[str, Any],
    constants: dict[str, Array] | None = None,
    *,
    threads: int | None,
    isa: str | None,
    algorithm: str = "auto",
) -> Array:
    from .model import Model  # noqa: PLC0415  (which imports this package's other modules)

    arrays = {k: np.ascontiguousarray(v, np.float32) for k, v in inputs.items()}
    node = Node(op, op, names, ["y"], attributes)
    ops.complete(node)
    graph = Graph(
        inputs=[TensorSpec(k, v.shape) for k, v in arrays.items()],
        outputs=[TensorSpec("y", ())],
        nodes=[node],
        constants={k: np.ascontiguousarray(v, np.float32) for k, v in (constants or {}).items()},
        name=op,
    )
    model = Model(graph, threads=threads, algorithm=algorithm, isa=isa)
    result: Array = model.run(arrays)
    return result


def _per_axis(value: Any, rank: int) -> list[int]:
    return [int(value)] * rank if isinstance(value, int) else [int(v) for v in value]


def _pool(
    x: Array, kernel_size: Pair, stride: Pair | None, padding: Pair, ceil_mode: bool
) -> dict[str, Any]:
    rank = np.ndim(x) - 2
    return {
        "kernel_shape": _per_axis(kernel_size, rank),
        "strides": _per_axis(kernel_size if stride is None else stride, rank),
        "pads": _per_axis(padding, rank) * 2,
        "ceil_mode": int(ceil_mode),
    }


def _activation(value: ActivationLike) -> Activation | None:
    if value is None:
        return None
    activation = Activation(value) if isinstance(value, str) else Activation(*value)
    if activation.name not in ACTIVATIONS:
        raise ValueError(
            f"activation {activation.name!r}; expected one of {', '.join(ACTIVATIONS)}"
        )
    return activation
