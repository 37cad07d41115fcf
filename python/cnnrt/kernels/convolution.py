"""Convolutions and transposed convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph import Array
from .running import ActivationLike, Size, filters, per_axis, run, spatial
from .running import activation as activation_of


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    residual: Array | None = None,
    activation: ActivationLike = None,
    algorithm: str = "auto",
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """activation(conv(x, weight) + bias + residual).

    As in every framework, the filter is not flipped: this is cross-correlation. Images with one or
    three spatial axes are accepted too, as by `conv1d` and `conv3d`.

    Args:
        x: (N, C, H, W).
        weight: (M, C / groups, kernel height, kernel width).
        bias: (M,).
        padding: zeros around x, or "same" or "valid".
        residual: (N, M, out height, out width), added before the activation.
        algorithm: "auto", "im2col", "winograd2", "winograd4" or "winograd6". Winograd's are for
            kernels of 3x3 at stride 1. At stride 2, and for 1x3, 3x1 and, in one dimension, 3 at
            stride 1, there are the first two of them. 5x5 at stride 1 has "winograd2". Seven
            columns of taps at stride 2 on at most 15 channels are F(4, 7) along rows, unless
            "im2col" is asked for.

    Returns:
        (N, M, out height, out width) with out = floor((in + 2 p - d (k - 1) - 1) / s) + 1.
    """
    return _conv(
        ("conv2d", spatial("conv2d", x)),
        *(x, weight, bias, stride, padding, dilation, groups, residual, activation, algorithm),
        threads=threads,
        isa=isa,
    )


def conv1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    residual: Array | None = None,
    activation: ActivationLike = None,
    algorithm: str = "auto",
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """`conv2d` in one dimension.

    Args:
        x: (N, C, L).
        weight: (M, C / groups, k).

    Returns:
        (N, M, out).
    """
    return _conv(
        ("conv1d", spatial("conv1d", x, 1)),
        *(x, weight, bias, stride, padding, dilation, groups, residual, activation, algorithm),
        threads=threads,
        isa=isa,
    )


def conv3d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    residual: Array | None = None,
    activation: ActivationLike = None,
    algorithm: str = "auto",
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """`conv2d` in three dimensions.

    Args:
        x: (N, C, D, H, W).
        weight: (M, C / groups, kernel depth, kernel height, kernel width).

    Returns:
        (N, M, out depth, out height, out width).
    """
    return _conv(
        ("conv3d", spatial("conv3d", x, 3)),
        *(x, weight, bias, stride, padding, dilation, groups, residual, activation, algorithm),
        threads=threads,
        isa=isa,
    )


def conv_transpose1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """`conv_transpose2d` with x (N, C, L) and weight (C, M / groups, k).

    Returns:
        (N, M, out).
    """
    return _transposed(
        ("conv_transpose1d", 1),
        *(x, weight, bias, stride, padding, output_padding, groups, dilation),
        threads=threads,
        isa=isa,
    )


def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """A transposed convolution: each element of x adds weight, times itself, to the output.

    Args:
        x: (N, C, H, W).
        weight: (C, M / groups, kernel height, kernel width).
        bias: (M,).
        padding: elements cut off from each end of the output.
        output_padding: elements added at the far end of the output.

    Returns:
        (N, M, out height, out width) with out = (in - 1) s - 2 p + d (k - 1) + output_padding + 1.
    """
    return _transposed(
        ("conv_transpose2d", 2),
        *(x, weight, bias, stride, padding, output_padding, groups, dilation),
        threads=threads,
        isa=isa,
    )


def conv_transpose3d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """`conv_transpose2d` with x (N, C, D, H, W) and weight (C, M / groups, ...).

    Returns:
        (N, M, out depth, out height, out width).
    """
    return _transposed(
        ("conv_transpose3d", 3),
        *(x, weight, bias, stride, padding, output_padding, groups, dilation),
        threads=threads,
        isa=isa,
    )


def _conv(
    called: tuple[str, int],
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
    residual: Array | None,
    activation: ActivationLike,
    algorithm: str,
    *,
    threads: int | None,
    isa: str | None,
) -> Array:
    """A convolution; `called` is the function's name and its number of spatial axes."""
    function, rank = called
    filters(function, x, weight, groups)
    attributes: dict[str, Any] = {
        "strides": per_axis(stride, rank),
        "dilations": per_axis(dilation, rank, "dilation"),
        "group": groups,
        "activation": activation_of(activation),
    }
    if padding == "same":
        attributes["auto_pad"] = "SAME_UPPER"
    elif isinstance(padding, str) and padding != "valid":
        raise ValueError(
            f"padding {padding!r}; expected a number, one for each axis, 'same' or 'valid'"
        )
    elif padding != "valid":
        attributes["pads"] = per_axis(padding, rank, "padding") * 2
    constants = {"weight": weight} | ({} if bias is None else {"bias": bias})
    inputs = {"x": x} | ({} if residual is None else {"residual": residual})
    names = ["x", "weight", "" if bias is None else "bias", "" if residual is None else "residual"]
    return run(
        "conv", names, inputs, attributes, constants, threads=threads, isa=isa, algorithm=algorithm
    )


def _transposed(
    called: tuple[str, int],
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Size,
    padding: Size,
    output_padding: Size,
    groups: int,
    dilation: Size,
    *,
    threads: int | None,
    isa: str | None,
) -> Array:
    function, rank = called
    spatial(function, x, rank)
    channels, shape = np.shape(x)[1], np.shape(weight)
    if len(shape) != rank + 2 or shape[0] != channels:
        raise ShapeError(
            f"{function}: weight has shape {shape}; expected (C, M / groups, ...) with "
            f"{rank + 2} axes and C = {channels}, the channels of x"
        )
    constants = {"weight": weight} | ({} if bias is None else {"bias": bias})
    attributes = {
        "strides": per_axis(stride, rank),
        "pads": per_axis(padding, rank, "padding") * 2,
        "output_padding": per_axis(output_padding, rank, "output_padding"),
        "dilations": per_axis(dilation, rank, "dilation"),
        "group": groups,
    }
    names = ["x", *constants]
    return run("conv_transpose", names, {"x": x}, attributes, constants, threads=threads, isa=isa)
