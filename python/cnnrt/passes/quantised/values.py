"""Scales, zero points and tables of the tensors of a quantised network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from ...graph import Array, Node
from ...ops import OPS
from ...ops.elementwise import ACTIVATIONS
from ...ops.quantize import saturate

ARITHMETIC = frozenset({"clip", "add", "sub", "mul", "div", "min", "max", "prelu"})
"""Operators whose results IEEE 754 defines to the bit."""

BYTES = np.arange(256)
SIGN = 128
"""Added to an element of int8 and to its zero point, it makes both those of uint8."""

FLIPPED = (BYTES ^ SIGN).astype(np.uint8)
"""The table that turns the bytes of int8 into those of uint8, and back."""


class Scaling(NamedTuple):
    """Scale and zero point of a tensor of bytes: x = (byte - zero) * scale."""

    scale: np.float32
    zero: int
    dtype: np.dtype[Any]
    """The dtype that the file has for the tensor. The zero point is that of uint8 all the same."""

    def values(self) -> Array:
        """The float that each byte stands for."""
        centred = (BYTES - self.zero).astype(np.float32)
        return np.asarray(centred * self.scale, dtype=np.float32)

    def bytes_of(self, values: Array) -> Array:
        """Floats as bytes, rounded as QuantizeLinear does."""
        with np.errstate(over="ignore", invalid="ignore"):
            q = np.rint(np.asarray(values, np.float32) / self.scale) + np.float32(self.zero)
        return saturate(q, np.dtype(np.uint8))


class Code(NamedTuple):
    """A tensor of floats that is a tensor of bytes, dequantised."""

    tensor: str
    scaling: Scaling


class Lookup(NamedTuple):
    """A tensor of floats that depends on the bytes of another, element by element."""

    base: str
    values: Array
    """The float for each byte."""
    code: Code | None = None
    """The bytes that it is, dequantised, if nothing was done to it since."""

    def changed(self, values: Array) -> Lookup:
        """Other floats for the same bytes."""
        same = np.array_equal(values, self.values)
        return Lookup(self.base, values, self.code if same else None)


Kind = Literal["product", "add", "mul", "average", "concat"]


@dataclass(frozen=True)
class Pending:
    """A tensor of floats that can be made as bytes once its scale is known."""

    kind: Kind
    node: Node
    codes: tuple[Code, ...]
    clamps: tuple[tuple[float, float], ...] = ()
    """Limits that were applied to it since, in order."""
    bias: str = ""
    """The name of the bias of a product."""
    residual: Code | None = None
    """Bytes that are added to a product before it is rounded."""
    moves: tuple[Node, ...] = ()
    """Operators that move its elements since, in order."""

    def with_bias(self, name: str) -> Pending:
        """The same product with a bias."""
        return replace(self, bias=name)

    def limits(self, scaling: Scaling) -> tuple[int, int]:
        """The limits as bytes. Rounding is monotonic: limited first or last is the same."""
        low, high = 0, 255
        for least, most in self.clamps:
            bottom, top = (int(b) for b in scaling.bytes_of(np.array([least, most])))
            low, high = (min(max(v, bottom), top) for v in (low, high))
        return low, high


def scalar(constants: Mapping[str, Array], name: str) -> Any:
    """The one element of a constant; None if it is not one."""
    value = constants.get(name)
    return None if value is None or value.size != 1 else np.asarray(value).reshape(())[()]


def scaling(
    constants: Mapping[str, Array], scale: str, zero: str, dtype: np.dtype[Any] | None
) -> Scaling | None:
    """The scale and zero point that two constants hold; None if the tensor is not of bytes.

    Args:
        constants: those of the graph.
        scale: the name of one float.
        zero: the name of one zero point; empty: 0.
        dtype: of the tensor if there is no zero point; None: not known.
    """
    s = scalar(constants, scale)
    if s is None or s.dtype != np.float32 or not 0 < s < np.inf:
        return None
    z: Any = 0
    if zero:
        z = scalar(constants, zero)
        if z is None:
            return None
        dtype = z.dtype
    if dtype == np.uint8:
        return Scaling(s, int(z), np.dtype(np.uint8))
    if dtype == np.int8:
        return Scaling(s, int(z) + SIGN, np.dtype(np.int8))
    return None


def function_values(node: Node, *inputs: Array) -> Array | None:
    """The results of an elementwise operator on floats; None if not all are numbers.

    Exponentials and the like in float64, rounded once: then the table does not depend on the CPU.
    """
    function = ACTIVATIONS.get(node.op)
    exact = function is not None and not function.costly
    dtype = np.float32 if exact or node.op in ARITHMETIC else np.float64
    with np.errstate(all="ignore"):
        y = OPS[node.op].reference(node, *(np.asarray(x).astype(dtype) for x in inputs))[0]
        values = np.broadcast_to(np.asarray(y), (256,)).astype(np.float32)
    return None if np.isnan(values).any() else values
