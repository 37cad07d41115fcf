"""Attention: tile edges, masks, shared heads, packed heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checks import Random, assert_close, exact_tolerance
from networks import by_kernels, by_reference, operator


def check(isa: str, threads: int, *arrays: Any, case: object = "", **attributes: Any) -> np.ndarray:
    graph, inputs = operator("attention", *arrays, computed=[1, 2], **attributes)
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    tokens = arrays[1].shape[-2]
    # A score of depth products is off by some 1e-6, and its exponential relatively by as much;
    # then comes a sum over the tokens.
    assert_close(got, by_reference(graph, inputs)[0], 2e-6 + exact_tolerance(tokens), case)
    return got


@pytest.mark.parametrize("tokens", [1, 2, 15, 16, 17, 49, 197])
def test_tokens(tokens: int, isa: str, threads: int, random: Random) -> None:
    for rows in (1, 14, 57, tokens):
        q, k, v = random(2, 3, rows, 24), random(2, 3, tokens, 24), random(2, 3, tokens, 24)
        check(isa, threads, q, k, v, case=rows)


@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (16, 32), (17, 5), (64, 64), (80, 48)])
def test_depths(depth: int, columns: int, isa: str, threads: int, random: Random) -> None:
    check(isa, threads, random(1, 2, 40, depth), random(1, 2, 50, depth), random(1, 2, 50, columns))


@pytest.mark.parametrize("mask", [(50,), (1, 50), (40, 50), (3, 1, 50), (2, 3, 40, 50)])
@pytest.mark.parametrize("computed", [False, True])
def test_added_mask(
    mask: tuple[int, ...], computed: bool, isa: str, threads: int, random: Random
) -> None:
    q, k, v = random(2, 3, 40, 16), random(2, 3, 50, 16), random(2, 3, 50, 16)
    graph, inputs = operator(
        "attention", q, k, v, random(*mask), computed=[1, 2, *([3] if computed else [])]
    )
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    assert_close(got, by_reference(graph, inputs)[0], 3e-6, mask)


def test_truth_values_causal_and_windows(isa: str, random: Random) -> None:
    q, k, v = random(2, 2, 30, 16), random(2, 2, 30, 16), random(2, 2, 30, 16)
    allowed = random(30, 30) > 0
    allowed[7] = False  # attends to nothing: zeros
    y = check(isa, 1, q, k, v, allowed)
    assert not y[:, :, 7].any()
    check(isa, 1, q, k, v, is_causal=1)
    check(isa, 1, q, k, v, left_window_size=3, right_window_size=2)


def test_scale_and_shared_heads(isa: str, threads: int, random: Random) -> None:
    q, k, v = random(2, 6, 20, 16), random(2, 2, 33, 16), random(2, 2, 33, 16)
    check(isa, threads, q, k, v, scale=0.7)


def test_packed_heads(isa: str, threads: int, random: Random) -> None:
    q, k, v = random(2, 20, 96), random(2, 33, 48), random(2, 33, 30)
    check(isa, threads, q, k, v, q_num_heads=6, kv_num_heads=3)


def test_large_scores_do_not_overflow(isa: str, random: Random) -> None:
    q, k, v = 30 * random(1, 1, 20, 64), 30 * random(1, 1, 40, 64), random(1, 1, 40, 16)
    graph, inputs = operator("attention", q, k, v, computed=[1, 2])
    (got,) = by_kernels(graph, inputs, isa=isa)
    # Scores of some 3000 are off by 1e-4 and more.
    assert_close(got, by_reference(graph, inputs)[0], 3e-3)


def test_threads_and_batch_do_not_matter(isa: str, random: Random) -> None:
    q, k, v = (random(3, 4, 70, 32) for _ in range(3))
    whole = check(isa, 1, q, k, v)
    assert np.array_equal(whole, check(isa, 2, q, k, v))
    alone = check(isa, 1, q[1:2, 2:3, 9:31], k[1:2, 2:3], v[1:2, 2:3])
    assert np.array_equal(whole[1:2, 2:3, 9:31], alone)
