"""Fully connected layers by weights of two bytes or one, which are widened in registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from checks import Random, assert_close, exact_tolerance, reference
from cnnrt import Model
from cnnrt.dtypes import as_dtype
from cnnrt.graph import Array
from cnnrt.lowering.dense import NARROW_ROWS
from cnnrt.weights.lazy import lazy
from cnnrt.weights.widen import WIDENED, from_int8, transpose
from networks import operator

TYPES = ["float16", "bfloat16", "int8 by 32", "int8 by 64", "int8 by row"]
SHAPES = ((1, 1), (16, 16), (17, 33), (31, 64), (40, 100), (65, 129), (100, 10), (300, 80))
"""Depth and columns: around tiles, blocks of 16 outputs and blocks of 32 factors."""


def stored(weight: Array, kind: str) -> Array:
    """A weight (M, K) rounded to a narrow type, as a lazy array that widens it."""
    if kind == "float16":
        return lazy(weight.shape, np.float32, WIDENED[as_dtype(kind)], weight.astype(np.float16))
    if kind == "bfloat16":
        bits = (weight.view(np.uint32) >> 16).astype(np.uint16)
        return lazy(weight.shape, np.float32, WIDENED[as_dtype(kind)], bits)
    depth = weight.shape[1]
    block = depth if kind.endswith("row") else int(kind.rpartition(" ")[2])
    starts = range(0, depth, block)
    factors = np.stack([np.abs(weight[:, k : k + block]).max(1) for k in starts], 1) / 127
    factors = factors.astype(np.float32)
    wide = np.repeat(factors, block, axis=1)[:, :depth]
    values = np.rint(weight / wide).astype(np.int8)
    return lazy(weight.shape, np.float32, from_int8, values, factors, block)


def model(
    x: Array,
    weight: Array,
    *others: Array | None,
    isa: str,
    threads: int,
    computed: Sequence[int] = (),
    activation: Any = None,
) -> Model:
    """A linear layer whose weight stays lazy."""
    graph, _ = operator("linear", x, weight, *others, computed=computed, activation=activation)
    graph.constants["x1"] = weight
    return Model(graph, isa=isa, threads=threads)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 13, NARROW_ROWS, NARROW_ROWS + 1])
def test_the_bits_are_those_of_the_widened_weights(
    kind: str, rows: int, isa: str, threads: int, random: Random
) -> None:
    for depth, columns in SHAPES:
        x, bias = random(rows, depth), random(columns)
        weight = stored(random(columns, depth), kind)
        wide = np.asarray(weight)
        narrow = model(x, weight, bias, isa=isa, threads=threads)
        got = narrow(x)
        assert ("linear_narrow" in narrow.describe(x)) == (rows <= NARROW_ROWS)
        want = reference("linear", x, wide, bias)
        assert_close(got, want, exact_tolerance(depth), (rows, depth, columns))
        same = model(x, wide, bias, isa=isa, threads=threads)
        assert "linear_narrow" not in same.describe(x)
        np.testing.assert_array_equal(got, same(x), f"{depth} > {columns}")


@pytest.mark.parametrize("kind", TYPES)
def test_depth_beyond_one_part(kind: str, isa: str, threads: int, random: Random) -> None:
    """With a residual, an activation, and more parts than one; a row is the same in any batch."""
    depth, columns = 4117, 75
    weight = stored(random(columns, depth), kind)
    x, bias, residual = random(11, depth), random(columns), random(11, columns)
    options: dict[str, Any] = {"isa": isa, "threads": threads, "activation": ("relu", 0.0, 0.0)}
    narrow = model(x, weight, bias, residual, computed=[3], **options)
    got = narrow({"x0": x, "x3": residual})
    wide = np.asarray(weight)
    want = np.maximum(reference("linear", x, wide, bias, residual), 0)
    assert_close(got, want, exact_tolerance(depth))
    same = model(x, wide, bias, residual, computed=[3], **options)
    np.testing.assert_array_equal(got, same({"x0": x, "x3": residual}))
    for rows in (slice(0, 1), slice(4, 7)):
        some = model(x[rows], weight, bias, residual[rows], computed=[3], **options)
        np.testing.assert_array_equal(
            got[rows], some({"x0": x[rows], "x3": residual[rows]}), str(rows)
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_value_of_two_bytes(dtype: str, isa: str) -> None:
    """Infinities, NaN and subnormal numbers are what they are as floats. Runs take floats below
    the normal ones for zero, which those of float16 are not."""
    bits = np.arange(1 << 16, dtype=np.uint16).reshape(-1, 1)
    values = bits.view(np.float16) if dtype == "float16" else bits
    weight = lazy(values.shape, np.float32, WIDENED[as_dtype(dtype)], values)
    x = np.ones((1, 1), np.float32)
    got = model(x, weight, isa=isa, threads=1)(x)[0]
    want = np.asarray(weight)[:, 0]
    normal = ~(np.abs(want) < np.finfo(np.float32).tiny)
    np.testing.assert_array_equal(got[normal], want[normal])
    same = model(x, want[:, None], isa=isa, threads=1)
    np.testing.assert_array_equal(got, same(x)[0])


@pytest.mark.parametrize("kind", TYPES)
def test_a_matmul_reads_the_transpose_as_it_is_stored(kind: str, isa: str, random: Random) -> None:
    weight = stored(random(48, 70), kind)
    x = random(2, 3, 70)
    graph, _ = operator("matmul", x, np.zeros((70, 48), np.float32))
    graph.constants["x1"] = transpose(weight)
    narrow = Model(graph, isa=isa, threads=1)
    assert "linear_narrow" in narrow.describe(x)
    same, _ = operator("matmul", x, np.asarray(weight).T)
    np.testing.assert_array_equal(narrow(x), Model(same, isa=isa, threads=1)(x))


def test_one_pixel_of_a_convolution(isa: str, random: Random) -> None:
    x, weight = random(1, 40, 1, 1), random(24, 40, 1, 1).astype(np.float16)
    graph, _ = operator("conv", x, weight.astype(np.float32), random(24))
    want = Model(graph, isa=isa)(x)
    graph.constants["x1"] = lazy(weight.shape, np.float32, WIDENED[as_dtype("float16")], weight)
    narrow = Model(graph, isa=isa)
    assert "linear_narrow" in narrow.describe(x)
    np.testing.assert_array_equal(narrow(x), want)


def test_the_weights_take_half_or_a_quarter_of_the_memory(random: Random) -> None:
    x, weight = random(1, 512), random(256, 512)
    packed = {}
    for kind in TYPES[:3]:
        narrow = model(x, stored(weight, kind), isa="portable", threads=1)
        narrow(x)
        packed[kind] = narrow.memory().packed
    bias = 256 * 4
    assert packed["float16"] == packed["bfloat16"] == weight.nbytes // 2 + bias
    assert packed["int8 by 32"] == weight.nbytes // 4 + weight.nbytes // 32 + bias
