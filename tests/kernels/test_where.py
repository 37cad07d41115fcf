"""Elements chosen by a condition, with broadcasting and views. All are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checks import Random
from cnnrt.graph import Array
from networks import by_kernels, by_reference, network, operator


def condition(*shape: int) -> Array:
    return np.random.default_rng(1).random(shape) < 0.5


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "float16"])
@pytest.mark.parametrize(
    ("c", "a", "b"),
    [
        ((37,), (37,), (37,)),
        ((3, 40), (3, 40), (40,)),
        ((3, 1), (1,), (3, 40)),
        ((40,), (), ()),
        ((1,), (2, 3, 17), (3, 1)),
        ((2, 1, 5), (2, 3, 5), (3, 1)),
        ((9000,), (9000,), (1,)),
        ((0, 3), (3,), (1,)),
        ((), (), ()),
    ],
)
def test_where(c: Any, a: Any, b: Any, dtype: str, isa: str, threads: int, random: Random) -> None:
    yes, no = (50 * np.abs(random(*shape)) for shape in (a, b))  # uint8 holds them
    values = [np.asarray(v).astype(dtype) for v in (yes, no)]
    for computed in ([1, 2], [1], []):
        graph, inputs = operator("where", condition(*c), *values, computed=computed)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        want = by_reference(graph, inputs)[0]
        assert got.dtype == dtype
        assert np.array_equal(got, want.astype(dtype))


def test_where_of_views(isa: str, random: Random) -> None:
    x = random(4, 6, 5)
    c = condition(5, 4, 6)
    graph = network(
        {"x": x, "c": c},
        {"zero": np.float32(0)},
        ("t", "transpose", "x", {"perm": [2, 0, 1]}),
        ("y", "where", "c t zero"),
    )
    (got,) = by_kernels(graph, {"x": x, "c": c}, isa=isa)
    assert np.array_equal(got, np.where(c, x.transpose(2, 0, 1), 0))


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (2, 33, 17), (2, 3, 20, 20)])
@pytest.mark.parametrize("k", [None, 0, 1, -3, 40, -40])
def test_trilu(
    shape: tuple[int, ...], k: int | None, upper: int, isa: str, threads: int, random: Random
) -> None:
    x = random(*shape)
    x[..., 0, 0] = np.nan  # cut off, it leaves no trace
    given = [] if k is None else [np.array(k)]
    for array in (x, (9 * np.nan_to_num(x)).astype(np.int32)):
        graph, inputs = operator("trilu", array, *given, upper=upper)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        want = by_reference(graph, inputs)[0].astype(array.dtype)
        assert np.array_equal(got, want, equal_nan=array.dtype == np.float32)
