"""Dtypes that NumPy does not have: their values, held in a dtype that it has.

These are floats of 16 bits and fewer and integers of 4 and 2 bits. A tensor of one of them is a
tensor of its carrier, float32, int8 or uint8, that holds no other values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..graph import Array


class Narrow(Protocol):
    """A dtype that NumPy does not have."""

    @property
    def carrier(self) -> np.dtype[Any]:
        """The dtype that its values are held in."""

    def cast(self, x: Array, *, saturate: bool = True, round_mode: str = "up") -> Array:
        """The values of x in this dtype."""

    def quantize(self, x: Array, *, saturate: bool = True) -> Array:
        """x, already divided by its scale and moved by its zero point, rounded to this dtype."""


@dataclass(frozen=True)
class Minifloat:
    """A float of few bits, rounded to even. https://onnx.ai/onnx/technical/float8.html"""

    mantissa: int
    """Bits behind the point."""
    least_exponent: int
    """Below 2 to this power, values are as far apart as just above it."""
    largest: float
    beyond: float
    """Result of a value beyond the largest, without saturation."""
    negative_zero: bool = True

    carrier = np.dtype(np.float32)

    def cast(self, x: Array, *, saturate: bool = True, round_mode: str = "up") -> Array:
        del round_mode
        with np.errstate(all="ignore"):
            wide = x.astype(np.float64)
            exponent = np.frexp(wide)[1] - 1
            step = np.ldexp(1.0, np.maximum(exponent, self.least_exponent) - self.mantissa)
            y = np.where(np.isfinite(wide), np.rint(wide / step) * step, wide)
            over = np.abs(y) > self.largest
            limit = self.largest if saturate else self.beyond
            y = np.where(over, np.copysign(limit, y), y)
        y = y if self.negative_zero else y + 0.0
        return np.asarray(y, dtype=np.float32)

    def quantize(self, x: Array, *, saturate: bool = True) -> Array:
        return self.cast(x, saturate=saturate)


class PowerOfTwo:
    """float8_e8m0fnu: a power of two from 2^-127 to 2^127, or NaN."""

    carrier = np.dtype(np.float32)

    def cast(self, x: Array, *, saturate: bool = True, round_mode: str = "up") -> Array:
        bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
        exponent = (bits >> 23 & 0xFF).astype(np.int64)
        fraction = bits & 0x7FFFFF
        if round_mode == "nearest":  # a half goes up, but from 0
            up = (fraction > 0x400000) | ((fraction == 0x400000) & (exponent > 0))
        else:
            up = (fraction > 0) & (round_mode == "up")
        finite = exponent < 0xFF
        up = up & finite & ~((exponent == 0xFE) & bool(saturate))
        power = exponent + up
        with np.errstate(over="ignore"):
            y = np.ldexp(np.float64(1), power - 127)
        found: Array = np.where(power < 0xFF, y, np.nan).astype(np.float32).reshape(x.shape)
        return found

    def quantize(self, x: Array, *, saturate: bool = True) -> Array:
        return self.cast(x, saturate=saturate, round_mode="nearest")


@dataclass(frozen=True)
class NarrowInteger:
    """An integer of few bits; others are cut to their low bits, as NumPy does."""

    bits: int
    signed: bool

    @property
    def carrier(self) -> np.dtype[Any]:
        return np.dtype(np.int8 if self.signed else np.uint8)

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest value."""
        half = 1 << (self.bits - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    def cast(self, x: Array, *, saturate: bool = True, round_mode: str = "up") -> Array:
        del saturate, round_mode
        with np.errstate(all="ignore"):
            whole = x.astype(np.int64) & ((1 << self.bits) - 1)
        low, high = self.limits
        wrapped = np.where(whole > high, whole - (high - low + 1), whole)
        return np.asarray(wrapped, self.carrier)

    def quantize(self, x: Array, *, saturate: bool = True) -> Array:
        del saturate
        return np.asarray(np.clip(np.rint(x), *self.limits), self.carrier)


class BFloat16:
    """The upper half of a float32, rounded to even."""

    carrier = np.dtype(np.float32)

    def cast(self, x: Array, *, saturate: bool = True, round_mode: str = "up") -> Array:
        del saturate, round_mode
        x = np.ascontiguousarray(x, dtype=np.float32).reshape(x.shape)
        bits = x.view(np.uint32)
        rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
        return np.asarray(np.where(np.isnan(x), x, rounded.view(np.float32)))

    def quantize(self, x: Array, *, saturate: bool = True) -> Array:
        return self.cast(x, saturate=saturate)


NARROW: dict[str, Narrow] = {
    "bfloat16": BFloat16(),
    "float8_e4m3fn": Minifloat(3, -6, 448.0, np.nan),
    "float8_e4m3fnuz": Minifloat(3, -7, 240.0, np.nan, negative_zero=False),
    "float8_e5m2": Minifloat(2, -14, 57344.0, np.inf),
    "float8_e5m2fnuz": Minifloat(2, -15, 57344.0, np.nan, negative_zero=False),
    "float8_e8m0fnu": PowerOfTwo(),
    "float4_e2m1fn": Minifloat(1, 0, 6.0, 6.0),
    "int4": NarrowInteger(4, signed=True),
    "uint4": NarrowInteger(4, signed=False),
    "int2": NarrowInteger(2, signed=True),
    "uint2": NarrowInteger(2, signed=False),
}
"""The dtypes by name, spelt as in the package ml_dtypes."""
