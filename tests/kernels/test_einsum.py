"""Einstein sums of two tensors, as products of matrices."""

from __future__ import annotations

import numpy as np
import pytest

from checks import Random, assert_close
from networks import by_kernels, by_reference, operator

SIZES = {"b": 2, "g": 3, "h": 4, "i": 5, "j": 6, "d": 17, "e": 1}


@pytest.mark.parametrize(
    "equation",
    [
        "ij, jd -> id",
        "b g h i d, b g h j d -> b g h i j",
        "b g h i j, b g h j d -> b g h i d",
        "bhid,bhjd->bhij",
        "bid,hd->bih",
        "dbi,dbj->jib",
        "bij,bjgd->gbdi",
        "i,j->ij",
        "i,i->",
        "bi,bi->b",
        "bihd,jhd->bji",
        "eij,ejd->eid",
    ],
)
def test_agrees_with_the_reference(equation: str, isa: str, threads: int, random: Random) -> None:
    left, right = equation.replace(" ", "").partition("->")[0].split(",")
    a, b = (random(*(SIZES[i] for i in term)) for term in (left, right))
    graph, inputs = operator("einsum", a, b, computed=[1], equation=equation)
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    want = np.einsum(equation, a.astype(np.float64), b.astype(np.float64))
    assert_close(got, want, 1e-5)
    assert_close(by_reference(graph, inputs)[0].astype(np.float32), want, 1e-6)
