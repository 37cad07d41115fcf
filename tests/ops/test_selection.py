"""The operators that select by value, in C++, against their references in NumPy."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from cnnrt import ops
from cnnrt.errors import ShapeError
from cnnrt.graph import Array, Node, Value


def evaluated(op: str, *inputs: Any, **attributes: Any) -> tuple[list[Value], list[Value]]:
    """The results of the operator between two stages, and those of its reference."""
    node = Node(op, "n", [f"x{i}" for i in range(len(inputs))], ["y"], attributes)
    ops.complete(node)
    entry = ops.op(node)

    def run(*_: Any) -> list[Value]:
        raise AssertionError("it has no subgraphs")

    return entry.evaluate(node, inputs, run), list(entry.reference(node, *inputs))


def boxes_of(generator: np.random.Generator, images: int, count: int, dtype: Any) -> Array:
    """Opposite corners in either order, on a coarse grid so that many overlap alike."""
    corner = generator.integers(0, 12, (images, count, 2))
    size = generator.integers(0, 9, (images, count, 2)) - 2
    return np.concatenate([corner, corner + size], axis=2).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 33, 200])
def test_suppression(count: int, centred: int, dtype: Any) -> None:
    generator = np.random.default_rng(count)
    boxes = boxes_of(generator, 2, count, dtype)
    scores = np.round(generator.random((2, 3, count)), 2).astype(dtype)
    for most in (0, 1, 20, 1 << 40):
        for overlap in (0.0, 0.3, 1.0):
            for least in (None, -1.0, 0.5, 2.0):
                limits: list[Any] = [np.int64(most), np.float32(overlap)]
                limits += [] if least is None else [np.float32(least)]
                got, want = evaluated(
                    "non_max_suppression",
                    boxes,
                    scores,
                    *map(np.asarray, limits),
                    center_point_box=centred,
                )
                assert got[0].dtype == np.int64
                assert np.array_equal(got[0], want[0]), (most, overlap, least)


def test_suppression_of_boxes_and_scores_that_are_no_numbers() -> None:
    generator = np.random.default_rng(0)
    boxes = boxes_of(generator, 1, 60, np.float32)
    scores = generator.choice(
        np.float32([0.25, 0.5, -0.0, 0.0, np.nan, np.inf, -np.inf]), (1, 2, 60)
    )
    boxes[0, ::7, 1] = np.nan
    boxes[0, 3::9, 2] = np.inf
    limits = [np.asarray(60), np.float32(0.4).reshape(())]
    with np.errstate(invalid="ignore"):
        for least in ([], [np.float32([0.1])]):
            got, want = evaluated("non_max_suppression", boxes, scores, *limits, *least)
            assert np.array_equal(got[0], want[0])


def test_suppression_names_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"takes boxes \(N, B, 4\)"):
        evaluated("non_max_suppression", np.zeros((1, 5, 4)), np.zeros((1, 2, 6)))


DTYPES = [np.bool_, *"bhilBHILefd", ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("shape", [(0,), (1,), (15,), (300,), (7, 0, 2), (3, 16), (2, 5, 3, 33)])
def test_places_of_what_is_not_zero(shape: tuple[int, ...], dtype: Any) -> None:
    generator = np.random.default_rng(1)
    for share in (0.0, 0.02, 0.6, 1.0):
        x = (generator.random(shape) < share) * generator.integers(1, 100, shape)
        x = x.astype(dtype)
        got, want = evaluated("non_zero", x)
        assert got[0].dtype == np.int64
        assert got[0].shape == want[0].shape
        assert np.array_equal(got[0], want[0]), share


def test_minus_zero_is_zero_and_nan_is_not() -> None:
    for dtype in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16):
        x = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, 1e-7]).astype(dtype)
        assert evaluated("non_zero", x)[0][0].tolist() == [[2, 3, 4, 5]]


def test_places_of_views_and_of_a_scalar() -> None:
    x = np.arange(24).reshape(4, 6)[::-1, ::2] % 4
    got, want = evaluated("non_zero", x)
    assert np.array_equal(got[0], want[0])
    assert evaluated("non_zero", np.array(3))[0][0].shape == (0, 1)


def test_an_interrupt_stops_a_suppression_that_would_take_minutes() -> None:
    count = 400_000
    line = np.arange(count, dtype=np.float32)
    boxes = np.stack([line * 2, line * 0, line * 2 + 1, line * 0 + 1], axis=1)[None]
    limits = [np.asarray(count), np.float32([0.5])]
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    start = time.perf_counter()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        evaluated("non_max_suppression", boxes, line[None, None], *limits)
    timer.join()
    assert time.perf_counter() - start < 5
