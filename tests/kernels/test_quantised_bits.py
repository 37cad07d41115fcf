"""Random quantised operators give the bits that are written here, on every instruction set.

Where the suite runs under emulation, so do these: NEON with and without its products of bytes, and
an x86-64 without AVX, have the bits of VNNI.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnrt import ops
from cnnrt.graph import Array, Graph
from cnnrt.ops.requantised import Addition
from networks import by_kernels, network

CASES = 24
"""Random operators of each kind."""

Made = tuple[Graph, dict[str, Array]]


class Source:
    """Random numbers, the same on every machine."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high, endpoint=True))

    def one_of(self, *values: Any) -> Any:
        return values[self.integer(0, len(values) - 1)]

    def bytes_of(self, *shape: int) -> Array:
        return self.rng.integers(0, 256, shape, dtype=np.uint8)

    def weights(self, *shape: int) -> Array:
        """Weights of int8, or differences that need 9 bits."""
        high = self.one_of(127, 127, 255)
        values = self.rng.integers(-128, high, shape, endpoint=True)
        return values.astype(np.int8 if high == 127 else np.int16)

    def scales(self, n: int, depth: int) -> Array:
        """Fractions of few bits among others: many results are ties."""
        odd = self.rng.integers(1, 2**23, n) / 2**23 + 0.3
        even = 2.0 ** self.rng.integers(-2, 1, n)
        values = np.where(self.rng.integers(0, 2, n), odd, even)
        return (values / 2 ** round(math.log2(50 * math.sqrt(depth)))).astype(np.float32)


def product(s: Source, channels: int, depth: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The constants of a product besides its weight, and its attributes."""
    constants = {
        "b": s.rng.integers(-9000, 9000, channels, dtype=np.int32),
        "s": s.scales(channels, depth),
        "t": s.rng.permutation(256).astype(np.uint8),
    }
    given = {
        "x_zero": s.one_of(0, 1, 128, 255, 77),
        "zero": s.one_of(0, 128, 255, 31),
        "low": s.integer(0, 20),
        "high": s.integer(200, 255),
        "floats": s.one_of(0, 0, 0, 1),
    }
    return constants, given


def convolution(s: Source, *, depthwise: bool = False) -> Made:
    rank = s.one_of(1, 2, 2, 2, 3)
    groups = s.one_of(1, 1, 1, 2, 3)
    group = s.integer(2, 40) if depthwise else groups
    c = group if depthwise else group * s.integer(1, 40 // group)
    m = c if depthwise else group * s.integer(1, 40 // group)
    kernel = [s.one_of(1, 2, 3, 3, 5) for _ in range(rank)]
    size = [k + s.integer(0, 12 if rank < 3 else 4) for k in kernel]
    depth = c // group * math.prod(kernel)
    constants, given = product(s, m, depth)
    if depthwise:
        given["floats"] = 0
    pads = [s.integer(0, k // 2) for k in kernel]
    strides = [s.integer(1, 3) for _ in kernel]
    given |= {"strides": strides, "pads": pads * 2, "group": group}
    inputs = {"x": s.bytes_of(s.integer(1, 2), c, *size)}
    constants["w"] = s.weights(m, c // group, *kernel)
    names = "x w b s"
    if not given["floats"] and not depthwise and s.one_of(True, False):
        spatial = zip(size, pads, kernel, strides, strict=True)
        out = [(n + 2 * p - k) // step + 1 for n, p, k, step in spatial]
        inputs["r"] = s.bytes_of(len(inputs["x"]), m, *out)
        middle = s.one_of(None, (128, 10, 240))
        given["addition"] = Addition(0.75, 1.3125, -30.5, s.one_of(True, False), middle)
        names += " r"
    if not given["floats"] and s.one_of(True, False):
        names += " t" if " r" in names else "  t"
    return network(inputs, constants, ("y", "qconv", names, given)), inputs


def linear(s: Source) -> Made:
    rows, depth, columns = s.integer(1, 20), s.integer(1, 300), s.integer(1, 80)
    constants, given = product(s, columns, depth)
    constants["w"] = s.weights(columns, depth)
    inputs = {"x": s.bytes_of(rows, depth)}
    return network(inputs, constants, ("y", "qlinear", "x w b s", given)), inputs


def pair(s: Source) -> Made:
    shape = tuple(s.integer(1, 40) for _ in range(s.integer(1, 4)))
    other = tuple(s.one_of(n, n, 1) for n in shape)
    names = [f"{operand}_{of}" for operand in "ab" for of in ("zero", "ratio")]
    values = [s.integer(0, 255), s.integer(1, 96) / 64, s.integer(0, 255), s.integer(1, 999) / 700]
    given = {"zero": s.integer(0, 255), "shift": s.one_of(0, 128)}
    op = s.one_of("qadd", "qmul")
    if op == "qadd":
        given |= dict(zip(names, values, strict=True))
    else:
        given |= {"a_zero": values[0], "b_zero": values[2], "ratio": s.integer(1, 99) / 4096}
    inputs = {"a": s.bytes_of(*shape), "b": s.bytes_of(*other)}
    return network(inputs, {}, ("y", op, "a b", given)), inputs


def pool(s: Source) -> Made:
    rank = s.one_of(1, 2, 2, 3)
    kernel = [s.integer(1, 4) for _ in range(rank)]
    size = [k + s.integer(0, 8) for k in kernel]
    inputs = {"x": s.bytes_of(s.integer(1, 2), s.integer(1, 40), *size)}
    given: dict[str, Any] = {
        "x_zero": s.integer(0, 255),
        "x_scale": s.integer(1, 2**20) / 2**20,
        "y_scale": s.integer(2**19, 2**20) / 2**20,
        "zero": s.integer(0, 255),
        "shift": s.one_of(0, 128),
    }
    op = s.one_of("qaverage_pool", "qaverage_pool", "qglobal_average_pool", "max_pool")
    if op != "qglobal_average_pool":
        windows = {
            "kernel_shape": kernel,
            "strides": [s.integer(1, 3) for _ in kernel],
            "pads": [s.integer(0, k // 2) for k in kernel] * 2,
        }
        given = windows if op == "max_pool" else {**given, **windows}
    return network(inputs, {}, ("y", op, "x", given)), inputs


def table(s: Source) -> Made:
    inputs = {"x": s.bytes_of(*(s.integer(1, 30) for _ in range(s.integer(1, 4))))}
    constants = {"t": s.rng.permutation(256).astype(np.uint8)}
    return network(inputs, constants, ("y", "table", "x t")), inputs


KINDS: dict[str, tuple[Callable[[Source], Made], str]] = {
    "convolution": (convolution, "8bba66a723a2bada"),
    "depthwise": (lambda s: convolution(s, depthwise=True), "7e6c4b7c92cdc92d"),
    "linear": (linear, "47b0d0dd49bf3e37"),
    "pair": (pair, "6eb0e96e51ac4f8e"),
    "pool": (pool, "c4482e8a591aed1b"),
    "table": (table, "10ff84b642b9e68d"),
}
"""Each kind of operator, and the digest of the results."""


Run = Callable[[Graph, dict[str, Array]], list[Array]]


def digest_of(kind: str, run: Run) -> str:
    """The first digits of SHA-256 over shapes, dtypes and bytes of all results."""
    digest = hashlib.sha256()
    for seed in range(CASES):
        for y in run(*KINDS[kind][0](Source(seed))):
            digest.update(f"{y.shape} {y.dtype.name}".encode() + y.tobytes())
    return digest.hexdigest()[:16]


def by_reference(graph: Graph, inputs: dict[str, Array]) -> list[Array]:
    """The output of the only node."""
    (node,) = graph.nodes
    values = {**graph.constants, **inputs}
    return list(ops.op(node).reference(node, *(values[x] if x else None for x in node.inputs)))


@pytest.mark.parametrize("kind", list(KINDS))
def test_kernels(kind: str, isa_and_overlays: str, threads: int) -> None:
    run = functools.partial(by_kernels, isa=isa_and_overlays, threads=threads)
    assert digest_of(kind, run) == KINDS[kind][1]


@pytest.mark.parametrize("kind", list(KINDS))
def test_references(kind: str) -> None:
    assert digest_of(kind, by_reference) == KINDS[kind][1]
