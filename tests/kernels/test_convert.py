"""Casts, quantisation and back, against NumPy in the same precision: all are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checks import Random
from cnnrt import ops
from cnnrt.graph import Array, Node
from networks import by_kernels, operator

INTEGERS = ["uint8", "int8", "uint16", "int16", "int32", "int64"]
SIZES = [0, 1, 15, 16, 17, 511, 513, 20_000]


def in_own_precision(op: str, *inputs: Any, **attributes: Any) -> Array:
    node = Node(op, op, [], ["y"], attributes)
    ops.complete(node)
    return ops.op(node).reference(node, *inputs)[0]


@pytest.mark.parametrize("to", ["bool", *INTEGERS, "float16", "float32", "float64"])
def test_from_float32(to: str, isa: str, threads: int, random: Random) -> None:
    for size in SIZES:
        x = 100 * random(size)
        x[::7] = 0
        if to.startswith("u"):
            x = np.abs(x) % 255
        elif to.startswith("int"):
            x = np.clip(x, -120, 120)
        graph, inputs = operator("cast", x, to=to)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert got.dtype == to
        assert np.array_equal(got, x.astype(to)), size


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS, "float16", "float64"])
def test_to_float32(dtype: str, isa: str, threads: int, random: Random) -> None:
    for size in SIZES:
        x = (100 * random(size)).astype(np.float64).astype("int64" if "u" in dtype else dtype)
        x = x.astype(dtype)
        graph, inputs = operator("cast", x, to="float32")
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert got.dtype == np.float32
        assert np.array_equal(got, x.astype(np.float32)), size


def test_all_halves_and_back(isa: str) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    halves = bits.view(np.float16)
    graph, inputs = operator("cast", halves, to="float32")
    (wide,) = by_kernels(graph, inputs, isa=isa)
    with np.errstate(invalid="ignore"):  # signalling NaN, where NumPy uses AArch64's instruction
        want = halves.astype(np.float32)
    assert np.array_equal(wide, want, equal_nan=True)
    graph, inputs = operator("cast", wide, to="float16")
    (back,) = by_kernels(graph, inputs, isa=isa)
    assert np.array_equal(back, halves, equal_nan=True)
    assert np.array_equal(np.signbit(back), np.signbit(halves))


def test_halves_are_rounded_to_even(isa: str) -> None:
    halves = np.arange(0x7C01, dtype=np.uint16).view(np.float16).astype(np.float32)
    middle = (halves[:-1] + halves[1:]) / 2
    x = np.concatenate([middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf), -middle])
    x = np.concatenate([x, np.float32([65519, 65520, 1e9, np.inf, -np.inf])])
    graph, inputs = operator("cast", x, to="float16")
    (got,) = by_kernels(graph, inputs, isa=isa)
    with np.errstate(over="ignore"):
        assert np.array_equal(got, x.astype(np.float16))


def test_out_of_range_is_the_nearest_end(isa: str) -> None:
    x = np.float32([3e9, -3e9, 1e20, -1e20, np.inf, -np.inf])
    for dtype in (np.int32, np.int64):
        graph, inputs = operator("cast", x, to=np.dtype(dtype).name)
        (got,) = by_kernels(graph, inputs, isa=isa)
        end = float(np.iinfo(dtype).max)
        np.testing.assert_allclose(got, np.clip(x.astype(np.float64), -end, end), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((2, 3, 40), None), ((2, 5, 33), 1), ((2, 3, 17), 2), ((4, 7), 0), ((70,), 0), ((0, 3), 1)],
)
def test_quantisation(
    shape: tuple[int, ...], axis: int | None, dtype: str, isa: str, threads: int, random: Random
) -> None:
    x = 40 * random(*shape)
    count = () if axis is None else (shape[axis],)
    scale = np.asarray(np.abs(random(*count)) + 0.1, np.float32)
    info = np.iinfo(dtype)
    for zero in (None, np.full(count, (int(info.max) + int(info.min)) // 2 + 3, dtype)):
        given = [scale] if zero is None else [scale, zero]
        attributes: dict[str, Any] = {"axis": axis or 0}
        if zero is None:
            attributes["output_dtype"] = dtype
        graph, inputs = operator("quantize_linear", x, *given, **attributes)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        want = in_own_precision("quantize_linear", x, *given, **attributes)
        assert got.dtype == want.dtype
        assert np.array_equal(got, want)
        graph, inputs = operator("dequantize_linear", want, *given, axis=axis or 0)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert np.array_equal(
            got, in_own_precision("dequantize_linear", want, *given, axis=axis or 0)
        )


def test_quantisation_saturates_and_rounds_to_even(isa: str) -> None:
    x = np.float32([-1e9, -0.5, 0.5, 1.5, 2.5, 254.5, 255.5, 1e9, -np.inf, np.inf])
    graph, inputs = operator("quantize_linear", x, np.float32(1), np.uint8(0))
    (got,) = by_kernels(graph, inputs, isa=isa)
    assert got.tolist() == [0, 0, 0, 2, 2, 254, 255, 255, 0, 255]
