"""Fourier transforms of signals: dft and stft.

Complex numbers are a last axis of two elements, real and imaginary part. With one element they are
real.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from . import NodeTypes, Op, register, shape_error
from .axes import AxesMapping, along, follow, mixed, mixes_all_axes, others
from .common import ByValue, Inputs, axis_of, check_kind, dtype_of, integers, operands

MAX_BANDS = 1 << 14
"""Maximum number of mel bands, and of twice the frequencies that make them."""


def to_complex(x: Array) -> Array:
    """(..., 1) or (..., 2) -> (...), complex."""
    wide = x.astype(np.promote_types(x.dtype, np.float32), copy=False)
    return np.asarray(wide[..., 0] + (1j * wide[..., 1] if x.shape[-1] == 2 else 0j))


def from_complex(y: Array, dtype: np.dtype[Any]) -> Array:
    """(...), complex -> (..., 2)."""
    return np.stack([y.real, y.imag], axis=-1).astype(dtype)


def scalar(node: Node, inputs: Inputs, x: Any, what: str, minimum: int) -> int | None:
    """The value of an optional constant scalar.

    Raises:
        ShapeError: it is not one integer of at least `minimum`.
    """
    value = integers(node, inputs, x)
    if value is None:
        return None
    if len(value) != 1 or value[0] < minimum:
        raise shape_error(node, inputs, f"{what} {value}; expected one, at least {minimum}")
    return value[0]


@register
class DFT(Op):
    """The discrete Fourier transform along an axis (the third input, or -2).

    `dft_length`, the second input, cuts the signal or extends it by zeros. With `onesided` the
    input is real and the result its first n // 2 + 1 values; with `inverse` the other way round.
    """

    name = "dft"
    attributes = {"inverse": 0, "onesided": 0}

    def length(self, node: Node, size: int, given: int | None) -> int:
        if given is not None:
            return given
        return 2 * (size - 1) if node["inverse"] and node["onesided"] else size

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, length, axis_input = operands(node, inputs, 1, 3)
        check_kind(node, inputs, x, "f", "floats")
        if x.rank < 2 or x.shape[-1] not in (1, 2):
            raise shape_error(node, inputs, "the last axis must have 1 or 2 elements")
        given = integers(node, inputs, axis_input)
        if given == []:
            raise shape_error(node, inputs, "the axis has no elements; expected one")
        axis = axis_of(node, inputs, -2 if given is None else given[0], x.rank)
        if axis == x.rank - 1:
            raise shape_error(node, inputs, "the last axis is that of complex numbers")
        wanted = scalar(node, inputs, length, "dft_length", 1)
        n = self.length(node, x.shape[axis], wanted)
        if n < 1 or x.shape[axis] < 1:
            raise shape_error(node, inputs, f"a transform of {n} elements")
        parts = 2
        if node["onesided"]:
            if x.shape[-1] != (2 if node["inverse"] else 1):
                what = "complex input if inverse=1" if node["inverse"] else "real input"
                raise shape_error(node, inputs, f"onesided=1 needs a {what}")
            n, parts = (n, 1) if node["inverse"] else (n // 2 + 1, 2)
        return [TensorType((*x.shape[:axis], n, *x.shape[axis + 1 : -1], parts), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        axis = types.integers(2) if types.has(2) else [-2]
        return mixes_all_axes(types) if axis is None else along(types, axis[0], -1)

    def reference(
        self, node: Node, x: Any, length: Any = None, axis: Any = None
    ) -> tuple[Array, ...]:
        at = (-2 if axis is None else int(axis.reshape(-1)[0])) % x.ndim
        n = self.length(node, x.shape[at], None if length is None else int(length.reshape(-1)[0]))
        signal = to_complex(x)
        if not node["inverse"]:
            one = np.fft.rfft(signal.real, n, axis=at) if node["onesided"] else None
            return (from_complex(np.fft.fft(signal, n, axis=at) if one is None else one, x.dtype),)
        if node["onesided"]:
            return (np.fft.irfft(signal, n, axis=at)[..., None].astype(x.dtype),)
        return (from_complex(np.fft.ifft(signal, n, axis=at), x.dtype),)


@register
class STFT(Op):
    """The transforms of the frames of a signal (N, L, 1 or 2) -> (N, frames, bins, 2).

    Further inputs: the step from frame to frame, the window that frames are multiplied by, their
    length. `onesided`: only the first n // 2 + 1 values.
    """

    name = "stft"
    attributes = {"onesided": 1}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, step_input, window, length_input = operands(node, inputs, 2, 4)
        check_kind(node, inputs, x, "f", "floats")
        if x.rank != 3 or x.shape[2] not in (1, 2):
            raise shape_error(node, inputs, "takes a signal of shape (N, L, 1) or (N, L, 2)")
        scalar(node, inputs, step_input, "frame_step", 1)
        step = integers(node, inputs, step_input) or [1]
        length = scalar(node, inputs, length_input, "frame_length", 1)
        n = length or (window.shape[0] if window and window.rank == 1 else x.shape[1])
        if not 0 < n <= x.shape[1] or (window and window.shape != (n,)):
            raise shape_error(node, inputs, f"frames and a window of {n} elements")
        if node["onesided"] and x.shape[2] == 2:
            raise shape_error(node, inputs, "onesided=1 needs a real input")
        frames = (x.shape[1] - n) // step[0] + 1
        bins = n // 2 + 1 if node["onesided"] else n
        return [TensorType((x.shape[0], frames, bins, 2), x.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return AxesMapping([(follow(0), mixed(1, 2), mixed(3)), *others(types, 1)])

    def reference(
        self, node: Node, x: Any, step: Any, window: Any = None, length: Any = None
    ) -> tuple[Array, ...]:
        n = x.shape[1] if window is None else window.size
        n = n if length is None else int(length.reshape(-1)[0])
        frames = np.lib.stride_tricks.sliding_window_view(to_complex(x), n, axis=1)
        frames = frames[:, :: int(step.reshape(-1)[0])]
        frames = frames if window is None else frames * window
        y = np.fft.rfft(frames.real, n) if node["onesided"] else np.fft.fft(frames, n)
        return (from_complex(y, x.dtype),)


@register
class MelWeightMatrix(ByValue):
    """The weights (dft_length // 2 + 1, bins) that make mel bands of a spectrum.

    Inputs: the number of bands, `dft_length`, the sample rate, the lowest and the highest
    frequency. Band i is a triangle over the frequencies i to i + 2 of those that are evenly spread
    in mels: 2595 log10(1 + f / 700).
    """

    name = "mel_weight_matrix"
    attributes = {"output_datatype": "float32"}
    arity = (5, 5)

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        count, length, rate = (int(np.asarray(v).reshape(())) for v in inputs[:3])
        low, high = (float(np.asarray(v).reshape(())) for v in inputs[3:])
        if count < 1 or length < 1 or rate < 1 or max(count, length) > MAX_BANDS:
            raise shape_error(node, (), f"{count} bands of {length} samples at {rate} Hz")
        ends = 2595 * np.log10(1 + np.array([low, high], np.float64) / 700)
        mels = ends[0] + np.arange(count + 2) * (ends[1] - ends[0]) / (count + 2)
        frequencies = 700 * (10 ** (mels / 2595) - 1)
        edges = ((length + 1) * frequencies // rate).astype(np.int64)
        bins = np.arange(length // 2 + 1)[:, None]
        start, center, end = edges[:-2], edges[1:-1], edges[2:]
        rising = (bins - start) / np.maximum(center - start, 1)
        falling = (end - bins) / np.maximum(end - center, 1)
        y = np.where((bins >= start) & (bins < center), rising, 0)
        y = np.where((bins > center) & (bins < end), falling, y)
        y = np.where(bins == center, 1, y)
        return (y.astype(dtype_of(node, "output_datatype")),)
