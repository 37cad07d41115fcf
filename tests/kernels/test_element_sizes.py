"""Reorder and border of blocked tensors, for elements of every size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt import _core
from cnnrt.graph import Array
from cnnrt.planning.plan import EXTERNAL

TYPES = (np.uint8, np.int16, np.float32, np.int64)


def _run(isa: str, threads: int, kernel: str, fields: dict[str, Any], *arrays: Array) -> None:
    core = _core.Plan(isa)
    core.add(kernel, fields)
    core.finish(0, [], [(x.shape, x.dtype) for x in arrays], threads)
    core.run_steps(core.workspace(), list(arrays), 0, 1)


def _random(shape: tuple[int, ...], dtype: type) -> Array:
    return np.random.default_rng(3).integers(1, 120, shape).astype(dtype)


def _view(at: int, space: int, strides: tuple[int, ...], itemsize: int) -> tuple[Any, ...]:
    return ((EXTERNAL + space, at * itemsize), *strides)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("c", "h", "w"),
    [
        *[(1, 1, 1), (16, 1, 1), (3, 5, 7), (35, 3, 17), (20, 4, 16)],
        *[(1, 2, 33), (2, 16, 1), (3, 4, 47), (4, 3, 31)],
    ],
)
@pytest.mark.parametrize("border", [0, 1])
def test_there_and_back(
    isa: str, threads: int, dtype: type, c: int, h: int, w: int, border: int
) -> None:
    n, blocks, size = 2, -(-c // 16), np.dtype(dtype).itemsize
    plain = _random((n, c, h, w), dtype)
    blocked = np.full((n, blocks, h + border, w + border, 16), 99, dtype)
    strides = tuple(s // size for s in blocked.strides[:3])
    fields = {
        "plain": (EXTERNAL, 0),
        "blocked": _view(0, 1, (*strides[:2], strides[1], strides[2]), size),
        "image": c * h * w,
        "channel": h * w,
        **{"n": n, "c": c, "d": 1, "h": h, "w": w, "element": size},
    }
    _run(isa, threads, "reorder", {**fields, "to_blocked": 1}, plain, blocked)
    want = np.zeros((n, blocks * 16, h, w), dtype)
    want[:, :c] = plain
    want = want.reshape(n, blocks, 16, h, w).transpose(0, 1, 3, 4, 2)
    np.testing.assert_array_equal(blocked[:, :, :h, :w], want)
    assert np.all(blocked[:, :, h:] == 99)
    back = np.zeros_like(plain)
    _run(isa, threads, "reorder", {**fields, "to_blocked": 0}, back, blocked)
    np.testing.assert_array_equal(back, plain)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("value", [0, 113])
def test_border(isa: str, threads: int, dtype: type, value: int) -> None:
    n, blocks, h, w, size = 2, 3, 5, 4, np.dtype(dtype).itemsize
    # A border of 1: a row holds it once, before the next row; so does a plane.
    row, plane = (w + 1) * 16, (h + 1) * (w + 1) * 16
    first = plane // (h + 1) + 16
    y = _random((first + n * blocks * plane,), dtype)
    before = y.copy()
    bits = int.from_bytes(np.array([value], dtype).tobytes(), "little")
    fields = {
        "y": _view(first, 0, (blocks * plane, plane, plane, row), size),
        **{"n": n, "blocks": blocks, "d": 1, "h": h, "w": w},
        **{"border_d": 0, "border_h": 1, "border_w": 1, "element": size, "fill": bits},
    }
    _run(isa, threads, "border", fields, y)
    inside = np.zeros(y.shape, bool)
    for block in range(n * blocks):
        for i in range(h):
            at = first + block * plane + i * row
            inside[at : at + w * 16] = True
    np.testing.assert_array_equal(y[inside], before[inside])
    assert np.all(y[~inside] == value)
