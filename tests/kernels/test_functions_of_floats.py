"""Powers and functions of angles, to a unit in the last place over the whole range of floats.

Subnormal numbers are zero inside a run: as operands, and as results.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cnnrt import Model
from cnnrt.graph import Array, Graph
from networks import by_kernels, operator

COUNT = 65536


def any_floats(seed: int) -> Array:
    """Floats of any bits: every exponent is as likely, and infinities and NaN are there."""
    bits = np.random.default_rng(seed).integers(0, 1 << 32, COUNT, np.uint32, endpoint=False)
    return flushed(bits.view(np.float32))


TINY = np.finfo(np.float32).tiny


def flushed(x: Array) -> Array:
    """Floats with zeros of the same signs in the place of subnormal numbers."""
    return np.where(np.abs(x) < TINY, np.copysign(np.float32(0), x), x)


def off_by(got: Array, want: Array) -> Array:
    """Errors in units in the last place of what float32 makes of a wider result; none if both are
    subnormal or next to it, infinite if one of both is not finite and the other differs."""
    with np.errstate(all="ignore"):
        rounded = want.astype(np.float32)
        small = (np.abs(rounded) <= TINY) & (np.abs(got) <= TINY)
        same = small | (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        unit = np.spacing(np.minimum(np.abs(rounded), np.float32(3e38))).astype(np.longdouble)
        apart = np.abs(got.astype(np.longdouble) - want) / unit
    finite = np.isfinite(got) & np.isfinite(rounded)
    return np.where(
        same, np.where(finite, np.minimum(apart, 0.5), 0), np.where(finite, apart, np.inf)
    )


def power(a: Array, b: Array, isa: str, threads: int = 1) -> Array:
    graph, inputs = operator("pow", a, b, computed=[1])
    return by_kernels(graph, inputs, isa=isa, threads=threads)[0]


def pairs() -> list[tuple[Array, Array]]:
    rng = np.random.default_rng(0)
    a, b = any_floats(1), any_floats(2)
    with np.errstate(all="ignore"):
        size = np.abs(any_floats(3))
        in_range = (rng.uniform(-150, 150, COUNT) / np.log2(size)).astype(np.float32)
    near_one = (1 + rng.uniform(-1e-3, 1e-3, COUNT)).astype(np.float32)
    large = rng.uniform(-9e4, 9e4, COUNT).astype(np.float32)
    whole = rng.integers(-20, 21, COUNT).astype(np.float32)
    return [(a, b), (size, in_range), (near_one, large), (-np.abs(near_one) * 3, whole)]


@pytest.mark.parametrize("number", range(4))
def test_powers(number: int, isa: str) -> None:
    """Within 0.51 ulp by vectors, and within 1 by the C library on the portable tier."""
    a, b = pairs()[number]
    with np.errstate(all="ignore"):
        want = np.power(a.astype(np.longdouble), b.astype(np.longdouble))
        # musl's powl forgets the sign of an infinity.
        want = np.where(np.isinf(want), np.power(a.astype("d"), b.astype("d")), want)
    error = off_by(power(a, b, isa), want)
    worst = int(error.argmax())
    assert error[worst] <= (1 if isa == "portable" else 0.51), (a[worst], b[worst])


SPECIAL = (0.0, 0.5, 1.0, 2.0, 3.0, 2.5, 1e30, 16777215.0, 16777216.0, 2e-38, 3.4e38, np.inf)


def test_special_powers(isa: str) -> None:
    """The cases of IEEE 754, bit by bit: zeros, infinities, NaN, negative bases."""
    numbers = [sign * x for x in SPECIAL for sign in (1, -1)] + [np.nan]
    a, b = (np.array(x, np.float32) for x in zip(*itertools.product(numbers, numbers), strict=True))
    with np.errstate(all="ignore"):
        want = flushed(np.power(a.astype("d"), b.astype("d")).astype(np.float32))
    got = power(a, b, isa)
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got[~nan].view(np.uint32), want[~nan].view(np.uint32))


@pytest.mark.parametrize("exponent", [2, 3, 0.5, -1.25])
@pytest.mark.parametrize("count", [1, 15, 17, 63, 65, 1025, 16387])
def test_one_exponent_for_all(exponent: float, count: int, isa: str, threads: int) -> None:
    """A computed exponent gives the same bits alone as among others."""
    a = any_floats(4)[:count]
    alone = np.array(exponent, np.float32)
    got = power(a, alone, isa, threads)
    mixed = np.full(2 * count, exponent, np.float32)
    mixed[count:] = 0.75
    beside = power(np.concatenate([a, a]), mixed, isa)[:count]
    np.testing.assert_array_equal(got.view(np.uint32), beside.view(np.uint32))


@pytest.mark.parametrize("exponent", [2, 3, 0.5])
def test_powers_of_doubles(exponent: float, isa: str) -> None:
    """One exponent for all gives the bits that it gives among others."""
    a = np.abs(np.random.default_rng(5).standard_normal(1025)) * 9
    got = power(a, np.array(exponent), isa)
    np.testing.assert_allclose(got, a**exponent, rtol=4e-16)
    mixed = np.resize([exponent, 0.75], 2050)
    np.testing.assert_array_equal(power(np.repeat(a, 2), mixed, isa)[::2], got)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint16"])
def test_powers_of_integers(dtype: str, isa: str) -> None:
    rng = np.random.default_rng(1)
    low = 0 if dtype.startswith("u") else -9
    a, b = rng.integers(low, 10, 1025).astype(dtype), rng.integers(0, 9, 1025).astype(dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(power(a, b, isa), np.power(a, b))
    np.testing.assert_array_equal(power(a, np.array(2, dtype), isa), a * a)
    if low:
        ones = np.array([1, -1, -1, 2, -3], dtype)
        down = np.array([-3, -3, -2, -1, -2], dtype)
        np.testing.assert_array_equal(power(ones, down, isa), [1, -1, 1, 0, 0])


def angles() -> Array:
    """Any floats, small angles, and floats next to multiples of pi / 2, as far as 2^20 and on."""
    rng = np.random.default_rng(2)
    multiples = np.float32(np.pi / 2 * rng.integers(0, 700000, COUNT))
    small = rng.uniform(-10, 10, COUNT).astype(np.float32)
    ends = np.array([0, -0.0, 2**20, 2**20 + 1, -(2**20), np.inf, -np.inf, np.nan], np.float32)
    return np.concatenate([any_floats(5), multiples, small, ends])


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_angles(name: str, isa: str, threads: int) -> None:
    """Within 0.51 ulp up to 2^20, and within 1 beyond, where the C library computes."""
    x = angles()
    graph, inputs = operator(name, x)
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    with np.errstate(all="ignore"):
        error = off_by(got, getattr(np, name)(x.astype(np.longdouble)))
    worst = int(error.argmax())
    assert error[worst] <= 1, x[worst]
    near = np.where(np.abs(x) <= 2**20, error, 0)
    assert near.max() <= 0.51, x[near.argmax()]
    zero = got[x == 0]
    assert name == "cos" or np.array_equal(np.signbit(zero), np.signbit(x[x == 0]))


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_neighbours_do_not_matter(name: str, isa: str) -> None:
    """An angle that is left to the C library changes nothing for the others of its vector."""
    x = np.random.default_rng(3).uniform(-1e4, 1e4, 1025).astype(np.float32)
    among = np.repeat(x, 2)
    among[1::2] = 1e30

    def run(values: Array) -> Array:
        graph, inputs = operator(name, values)
        return by_kernels(graph, inputs, isa=isa)[0]

    np.testing.assert_array_equal(run(x), run(among)[::2])


def test_powers_in_a_program_and_with_other_types() -> None:
    """An exponent of integers, and one that broadcasts along channels, are read by the program."""
    a = np.abs(np.random.default_rng(4).standard_normal((2, 20, 5, 7))).astype(np.float32)
    for b in (
        np.array(2, np.int64),
        np.arange(20, dtype=np.int32).reshape(20, 1, 1),
        np.linspace(-2, 2, 20).astype(np.float32).reshape(20, 1, 1),
    ):
        graph, inputs = operator("pow", a, b, computed=[1])
        assert isinstance(graph, Graph)
        (got,) = by_kernels(graph, inputs)
        np.testing.assert_allclose(got, np.power(a.astype("d"), b), rtol=1e-6, atol=TINY)
        constant, inputs = operator("pow", a, b)
        np.testing.assert_allclose(Model(constant).run(inputs), got, rtol=2e-7, atol=TINY)
