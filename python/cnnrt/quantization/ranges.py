"""Histograms of tensors, and the scales that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import CnnrtError
from ..graph import Array

HALF = 2048
"""Bins on each side of zero."""
SAMPLE = 1 << 17
"""Elements of a tensor that are counted per image; the minimum and maximum are of all."""
LEVELS = 255
"""Steps between the minimum and the maximum of 8 bits."""
TRIED = np.linspace(0.3, 1, 71)
"""Shares of a range that "mse" tries."""
PERCENTILE = 99.99
"""Per cent of the elements that "percentile" keeps within the range."""


class CalibrationError(CnnrtError, ValueError):
    """The images do not give what quantisation needs: there are none, or a tensor is not finite."""


@dataclass(frozen=True)
class Quantiser:
    """x = (q - zero) * scale, with q of uint8."""

    scale: float
    zero: int

    def of(self, x: Array) -> Array:
        """Rounds x to the nearest values that 8 bits can express."""
        q = np.rint(x / np.float32(self.scale)) + self.zero
        return np.asarray((np.clip(q, 0, LEVELS) - self.zero) * np.float32(self.scale))


class Histogram:
    """Counts of values, in bins of one width, which doubles whenever a value lies beyond."""

    def __init__(self) -> None:
        self.counts = np.zeros(2 * HALF, np.float64)
        self.width = 0.0
        self.low, self.high = 0.0, 0.0
        """The minimum and the maximum of the values so far, and 0."""

    def add(self, x: Array) -> None:
        """Counts the elements of a tensor, or a part of them that is spread evenly.

        Raises:
            CalibrationError: an element is not finite.
        """
        if not x.size:
            return
        low, high = float(x.min()), float(x.max())
        if not np.isfinite([low, high]).all():
            raise CalibrationError("it has values that are not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        largest = max(-low, high)
        if not self.width:
            self.width = (largest or 1.0) * (1 + 1e-6) / HALF
        while largest >= self.width * HALF:
            self._double()
        flat = x.reshape(-1)
        step = flat.size // SAMPLE | 1  # odd: it does not keep to one column of an image
        part = flat[::step]
        bins = np.floor(part * (1 / self.width)).astype(np.int64) + HALF
        found = np.bincount(np.clip(bins, 0, 2 * HALF - 1), minlength=2 * HALF)
        self.counts += found * (flat.size / part.size)

    def _double(self) -> None:
        pairs = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.zeros_like(self.counts)
        self.counts[HALF // 2 : HALF // 2 + HALF] = pairs
        self.width *= 2

    def merged(self, other: Histogram) -> Histogram:
        """The histogram of the values of both."""
        result = Histogram()
        result.counts, result.width = self.counts.copy(), self.width or other.width
        while other.width and result.width < other.width:
            result._double()
        centres, counts = other.values()
        if len(centres):
            bins = np.floor(centres / result.width).astype(np.int64) + HALF
            while bins.max() >= 2 * HALF or bins.min() < 0:
                result._double()
                bins = np.floor(centres / result.width).astype(np.int64) + HALF
            np.add.at(result.counts, bins, counts)
        result.low, result.high = min(self.low, other.low), max(self.high, other.high)
        return result

    def values(self) -> tuple[Array, Array]:
        """The centres of the bins that are not empty, and their counts."""
        full = np.flatnonzero(self.counts)
        return (full - HALF + 0.5) * self.width, self.counts[full]

    def inexact(self) -> tuple[Array, Array]:
        """Like `values`, without the bin of zero, which is exact whatever the range. After a ReLU
        it holds half of all elements."""
        centres, counts = self.values()
        away = centres != 0.5 * self.width
        return centres[away], counts[away]

    def error(self, low: float, high: float) -> float:
        """Mean squared error of the values rounded to 256 levels between `low` and `high`."""
        centres, counts = self.inexact()
        if not len(centres):
            return 0.0
        step = (high - low) / LEVELS or 1.0
        beyond = centres - np.clip(centres, low, high)
        total = np.where(beyond == 0, step**2 / 12, beyond**2) @ counts
        return float(total / self.counts.sum())


def quantiser(low: float, high: float) -> Quantiser:
    """The scale and the zero point for a range; zero is exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / LEVELS)) or 1.0
    if not np.isfinite(np.float32(1 / np.float32(scale))):  # denormal: nothing is there
        scale = 1.0
    return Quantiser(scale, int(np.clip(np.rint(-low / scale), 0, LEVELS)))


def _minmax(h: Histogram) -> tuple[float, float]:
    return h.low, h.high


def _mse(h: Histogram) -> tuple[float, float]:
    """The range of least squared error, found by shrinking both ends in turn."""
    low, high = h.low, h.high
    for _ in range(2):
        if high > 0:
            high = min(TRIED * h.high, key=lambda end: h.error(low, end))
        if low < 0:
            low = min(TRIED * h.low, key=lambda end: h.error(end, high))
    return float(low), float(high)


def _percentile(h: Histogram) -> tuple[float, float]:
    centres, counts = h.values()
    if not len(centres):
        return h.low, h.high
    shares = np.cumsum(counts) / counts.sum()
    tail = (1 - PERCENTILE / 100) / 2
    low = centres[np.searchsorted(shares, tail)] - h.width / 2
    last = min(int(np.searchsorted(shares, 1 - tail)), len(centres) - 1)
    high = centres[last] + h.width / 2
    return min(max(float(low), h.low), 0.0), max(min(float(high), h.high), 0.0)


def _entropy(h: Histogram) -> tuple[float, float]:
    """The range whose rounded distribution is nearest to the true one by Kullback and Leibler's
    divergence (Migacz, 8-bit inference with TensorRT, 2017)."""
    ends = [(float(share * h.low), float(share * h.high)) for share in TRIED]
    return min(ends, key=lambda end: _divergence(h, *end))


def _divergence(h: Histogram, low: float, high: float) -> float:
    """Divergence of the values rounded within a range from the values clamped to it."""
    centres, counts = h.inexact()
    if not len(centres) or high <= low:
        return 0.0
    bins = np.floor(np.clip(centres, low, high) / h.width).astype(int) + HALF
    within = (centres >= low) & (centres <= high)
    true = np.bincount(bins, counts, 2 * HALF)
    inside = np.bincount(bins, np.where(within, counts, 0), 2 * HALF)
    step = (high - low) / LEVELS
    levels = np.rint((np.arange(2 * HALF) - HALF + 0.5) * h.width / step).astype(int)
    levels -= levels.min()
    occupied = inside > 0
    totals = np.bincount(levels, inside)
    spread = np.bincount(levels, occupied)
    rounded = np.where(occupied, totals[levels] / np.maximum(spread[levels], 1), 0)
    p, q = true / true.sum(), rounded / max(rounded.sum(), 1e-300)
    some = p > 0
    return float(np.sum(p[some] * np.log(p[some] / np.maximum(q[some], 1e-12))))


METHODS: dict[str, Callable[[Histogram], tuple[float, float]]] = {
    "mse": _mse,
    "minmax": _minmax,
    "percentile": _percentile,
    "entropy": _entropy,
}
"""Functions from a histogram to a range: its minimum and its maximum."""
