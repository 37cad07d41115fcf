"""Pooling over windows, over the whole image, and over windows that cover it evenly."""

from __future__ import annotations

from typing import Any

from ..graph import Array
from .running import Size, per_axis, run, spatial


def max_pool2d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """The maximum of each window of x (N, C, H, W); `stride` defaults to `kernel_size`."""
    attributes = _windows("max_pool2d", 2, x, kernel_size, stride, padding, ceil_mode)
    attributes["dilations"] = per_axis(dilation, len(attributes["strides"]), "dilation")
    return run("max_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def max_pool1d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """The maximum of each window of x (N, C, L); `stride` defaults to `kernel_size`."""
    attributes = _windows("max_pool1d", 1, x, kernel_size, stride, padding, ceil_mode)
    attributes["dilations"] = per_axis(dilation, 1, "dilation")
    return run("max_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def max_pool3d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """The maximum of each window of x (N, C, D, H, W); `stride` defaults to `kernel_size`."""
    attributes = _windows("max_pool3d", 3, x, kernel_size, stride, padding, ceil_mode)
    attributes["dilations"] = per_axis(dilation, 3, "dilation")
    return run("max_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def avg_pool2d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """The mean of each window of x (N, C, H, W); `stride` defaults to `kernel_size`."""
    attributes = _windows("avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode)
    attributes["count_include_pad"] = int(count_include_pad)
    return run("average_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def avg_pool1d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """The mean of each window of x (N, C, L); `stride` defaults to `kernel_size`."""
    attributes = _windows("avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode)
    attributes["count_include_pad"] = int(count_include_pad)
    return run("average_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def avg_pool3d(
    x: Array,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    threads: int | None = None,
    isa: str | None = None,
) -> Array:
    """The mean of each window of x (N, C, D, H, W); `stride` defaults to `kernel_size`."""
    attributes = _windows("avg_pool3d", 3, x, kernel_size, stride, padding, ceil_mode)
    attributes["count_include_pad"] = int(count_include_pad)
    return run("average_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def adaptive_avg_pool2d(
    x: Array, output_size: Size, *, threads: int | None = None, isa: str | None = None
) -> Array:
    """The means of x (N, C, H, W) over `output_size` windows that cover it evenly."""
    attributes = _adaptive("adaptive_avg_pool2d", 2, x, output_size)
    return run("adaptive_average_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def adaptive_avg_pool1d(
    x: Array, output_size: Size, *, threads: int | None = None, isa: str | None = None
) -> Array:
    """The means of x (N, C, L) over `output_size` windows that cover it evenly."""
    attributes = _adaptive("adaptive_avg_pool1d", 1, x, output_size)
    return run("adaptive_average_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def adaptive_avg_pool3d(
    x: Array, output_size: Size, *, threads: int | None = None, isa: str | None = None
) -> Array:
    """The means of x (N, C, D, H, W) over `output_size` windows that cover it evenly."""
    attributes = _adaptive("adaptive_avg_pool3d", 3, x, output_size)
    return run("adaptive_average_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def adaptive_max_pool2d(
    x: Array, output_size: Size, *, threads: int | None = None, isa: str | None = None
) -> Array:
    """The maxima of x (N, C, H, W) over `output_size` windows that cover it evenly."""
    attributes = _adaptive("adaptive_max_pool2d", 2, x, output_size)
    return run("adaptive_max_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def adaptive_max_pool1d(
    x: Array, output_size: Size, *, threads: int | None = None, isa: str | None = None
) -> Array:
    """The maxima of x (N, C, L) over `output_size` windows that cover it evenly."""
    attributes = _adaptive("adaptive_max_pool1d", 1, x, output_size)
    return run("adaptive_max_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def adaptive_max_pool3d(
    x: Array, output_size: Size, *, threads: int | None = None, isa: str | None = None
) -> Array:
    """The maxima of x (N, C, D, H, W) over `output_size` windows that cover it evenly."""
    attributes = _adaptive("adaptive_max_pool3d", 3, x, output_size)
    return run("adaptive_max_pool", ["x"], {"x": x}, attributes, threads=threads, isa=isa)


def _windows(
    function: str,
    axes: int,
    x: Array,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    ceil_mode: bool,
) -> dict[str, Any]:
    rank = spatial(function, x, None if axes == 2 else axes)
    return {
        "kernel_shape": per_axis(kernel_size, rank, "kernel_size"),
        "strides": per_axis(kernel_size if stride is None else stride, rank),
        "pads": per_axis(padding, rank, "padding") * 2,
        "ceil_mode": int(ceil_mode),
    }


def _adaptive(function: str, axes: int, x: Array, output_size: Size) -> dict[str, Any]:
    rank = spatial(function, x, None if axes == 2 else axes)
    return {"output_size": per_axis(output_size, rank, "output_size")}
