"""Unique slices, beside NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from cnnrt.graph import Node
from cnnrt.ops import complete, op
from cnnrt.ops.search import distinct_slices


@pytest.mark.parametrize(
    "shape", [(5, 3), (40, 2), (7, 2, 2), (1, 9), (30, 1), (6, 0), (3, 4, 5), (2, 50), (9, 9)]
)
@pytest.mark.parametrize("dtype", ["int64", "float32", "bool", "uint8"])
def test_slices(shape: tuple[int, ...], dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    for axis in range(x.ndim):
        if not shape[axis]:
            continue
        _, first, inverse, counts = np.unique(
            x, return_index=True, return_inverse=True, return_counts=True, axis=axis
        )
        found = distinct_slices(x, axis)
        for mine, wanted in zip(found, (first, inverse.reshape(-1), counts), strict=True):
            assert np.array_equal(mine, wanted)


def test_no_slices() -> None:
    assert [a.size for a in distinct_slices(np.zeros((0, 4)), 0)] == [0, 0, 0]


@pytest.mark.parametrize("dtype", ["int64", "float32", "uint8"])
def test_the_elements_alone_are_those_with_their_places(dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 40, (9, 11)).astype(dtype)
    if dtype == "float32":
        x[3, :2] = np.nan
    alone, beside = (Node("unique", "u", ["x"], [*"yfic"][:count]) for count in (1, 4))
    for node in (alone, beside):
        complete(node)
    (y,), several = op(alone).reference(alone, x), op(beside).reference(beside, x)
    np.testing.assert_array_equal(y, several[0])
    np.testing.assert_array_equal(x.reshape(-1)[several[1]], y)
