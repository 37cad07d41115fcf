"""Products of two computed matrices: tile edges, batches that broadcast, transposed operands."""

from __future__ import annotations

import numpy as np
import pytest

from checks import Random, assert_close, exact_tolerance
from networks import by_kernels, by_reference, network, operator

SIZES = [
    (1, 1, 1),
    (1, 40, 33),
    (14, 16, 32),
    (15, 17, 16),
    (57, 64, 47),
    (29, 5, 100),
    (3, 130, 1),
    (6, 30, 300),
    (2, 70, 519),
]


@pytest.mark.parametrize(("rows", "depth", "columns"), SIZES)
def test_sizes(rows: int, depth: int, columns: int, isa: str, threads: int, random: Random) -> None:
    a, b = random(rows, depth), random(depth, columns)
    graph, inputs = operator("matmul", a, b, computed=[1])
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    assert_close(got, by_reference(graph, inputs)[0], exact_tolerance(depth))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 20, 8), (3, 8, 17)),
        ((3, 20, 8), (8, 17)),
        ((20, 8), (3, 8, 17)),
        ((2, 1, 5, 8), (1, 3, 8, 6)),
        ((2, 3, 5, 8), (3, 8, 6)),
        ((8,), (8, 5)),
        ((5, 8), (8,)),
        ((2, 5, 8), (8,)),
        ((8,), (2, 8, 5)),
        ((8,), (8,)),
    ],
)
def test_batches(
    a: tuple[int, ...], b: tuple[int, ...], isa: str, threads: int, random: Random
) -> None:
    graph, inputs = operator("matmul", random(*a), random(*b), computed=[1])
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    assert_close(got, by_reference(graph, inputs)[0], 1e-6)


@pytest.mark.parametrize("perm", [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
def test_transposed_operands(perm: list[int], isa: str, random: Random) -> None:
    sizes_a, sizes_b = (3, 20, 24), (3, 24, 18)
    inverse = np.argsort(perm)
    a = random(*(sizes_a[i] for i in inverse))
    b = random(*(sizes_b[i] for i in inverse))
    inputs = {"a": a, "b": b}
    graph = network(
        inputs,
        {},
        ("at", "transpose", "a", {"perm": perm}),
        ("bt", "transpose", "b", {"perm": perm}),
        ("y", "matmul", "at bt"),
    )
    (got,) = by_kernels(graph, inputs, isa=isa)
    assert_close(got, by_reference(graph, inputs)[0], 1e-6, perm)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("c", [None, (18,), (20, 1), (20, 18)])
def test_gemm(
    trans_a: int, trans_b: int, c: tuple[int, ...] | None, isa: str, random: Random
) -> None:
    a = random(24, 20) if trans_a else random(20, 24)
    b = random(18, 24) if trans_b else random(24, 18)
    given = [] if c is None else [random(*c)]
    graph, inputs = operator("gemm", a, b, *given, computed=[1, 2], transA=trans_a, transB=trans_b)
    (got,) = by_kernels(graph, inputs, isa=isa)
    assert_close(got, by_reference(graph, inputs)[0], 1e-6)


def test_threads_and_batch_do_not_matter(isa: str, random: Random) -> None:
    a, b = random(5, 60, 33), random(5, 33, 40)
    graph, inputs = operator("matmul", a, b, computed=[1])
    (whole,) = by_kernels(graph, inputs, isa=isa)
    assert np.array_equal(whole, by_kernels(graph, inputs, isa=isa, threads=2)[0])
    alone, inputs = operator("matmul", a[3:4, 7:30], b[3:4], computed=[1])
    assert np.array_equal(whole[3:4, 7:30], by_kernels(alone, inputs, isa=isa)[0])
