"""Operators that only move data: views, and the copies that make tensors of them. All are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checks import Random
from cnnrt.graph import Array, Graph
from networks import by_kernels, by_reference, network, operator

INT = np.int64
IDENTITY = {"kernel_shape": [1, 1]}
"""Attributes of a pooling that only changes the layout: its result lies blocked."""


def same(graph: Graph, inputs: dict[str, Array], isa: str, threads: int = 1) -> None:
    got = by_kernels(graph, inputs, isa=isa, threads=threads)
    for y, want in zip(got, by_reference(graph, inputs), strict=True):
        assert y.shape == want.shape
        assert np.array_equal(y, want.astype(np.float32))


def ints(*values: int) -> Array:
    return np.array(values, INT)


@pytest.mark.parametrize(
    ("axis", "sizes"), [(0, (1, 2)), (1, (3, 0, 17)), (2, (5, 1, 1)), (-1, (8,))]
)
def test_split(axis: int, sizes: tuple[int, ...], isa: str, threads: int, random: Random) -> None:
    graph, inputs = operator(
        "split", random(3, 20, 7, 8), ints(*sizes), outputs=len(sizes), axis=axis
    )
    same(graph, inputs, isa, threads)


@pytest.mark.parametrize("sizes", [(16, 32), (32, 16), (16, 16, 16), (20, 28), (16, 5, 27)])
def test_split_of_blocked_channels(
    sizes: tuple[int, ...], isa: str, threads: int, random: Random
) -> None:
    """The parts are read blocked and plain, together and one by one."""
    x, names = random(2, 48, 5, 4), [f"s{i}" for i in range(len(sizes))]
    graph = network(
        {"x": x},
        {"sizes": ints(*sizes), "two": np.float32(2)},
        ("b", "max_pool", "x", IDENTITY),
        (" ".join(names), "split", "b sizes", {"axis": 1}),
        *[(f"r{i}", "relu", name) for i, name in enumerate(names)],
        ("y", "concat", " ".join(f"r{i}" for i in range(len(sizes))), {"axis": 1}),
        ("z", "mul", "s0 two"),
        outputs=["y", "z", "s1"],
    )
    same(graph, {"x": x}, isa, threads)


SLICES = [
    ((0,), (2,), None, None),
    ((1, 2), (3, -1), None, None),
    ((0,), (9,), (3,), (3,)),
    ((-1,), (-100,), (3,), (-1,)),
    ((7, 0), (1, 5), (3, 2), (-2, 2)),
    ((16,), (32,), (1,), None),
    ((3,), (20,), (1,), None),
    ((16, 1), (48, 3), (1, 2), None),
]


@pytest.mark.parametrize("cut", SLICES)
def test_slice(cut: Any, isa: str, threads: int, random: Random) -> None:
    x = random(3, 48, 5, 9)
    given = [None if v is None else ints(*v) for v in cut]
    graph, inputs = operator("slice", x, *given)
    same(graph, inputs, isa, threads)
    names = ["" if v is None else f"c{i}" for i, v in enumerate(cut)]
    constants = {f"c{i}": ints(*v) for i, v in enumerate(cut) if v is not None}
    graph = network(
        {"x": x},
        constants,
        ("b", "max_pool", "x", IDENTITY),
        ("s", "slice", " ".join(["b", *names])),
        ("y", "neg", "s"),
    )
    same(graph, {"x": x}, isa, threads)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    "indices",
    [3, -1, [2], [0, 1, 2], [0, 2, 4], [4, 3, 2], [2, 2, 2], [0, 1, 4, 3, 3, 0], [[0, 1], [3, 2]]],
)
def test_gather(axis: int, indices: Any, isa: str, threads: int, random: Random) -> None:
    graph, inputs = operator("gather", random(5, 6, 7), np.array(indices, INT), axis=axis)
    same(graph, inputs, isa, threads)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize(
    "pads", [(0, 0, 1, 2, 0, 0, 3, 1), (1, 2, 0, 0, 0, 1, 2, 3), (0, -1, 2, 0, 0, -2, -1, 3)]
)
def test_pad(mode: str, pads: tuple[int, ...], isa: str, threads: int, random: Random) -> None:
    x = random(3, 6, 5, 9)
    graph, inputs = operator("pad", x, ints(*pads), mode=mode)
    same(graph, inputs, isa, threads)
    if mode == "constant":
        graph, inputs = operator("pad", x, ints(*pads), np.float32(2.5))
        same(graph, inputs, isa, threads)
        graph, inputs = operator("pad", x, ints(1, 2), None, ints(2), mode=mode)
        same(graph, inputs, isa, threads)


@pytest.mark.parametrize("repeats", [(1, 1, 1), (2, 1, 3), (1, 4, 1), (0, 1, 2)])
def test_tile(repeats: tuple[int, ...], isa: str, threads: int, random: Random) -> None:
    graph, inputs = operator("tile", random(3, 5, 7), ints(*repeats))
    same(graph, inputs, isa, threads)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("op", ["depth_to_space", "space_to_depth"])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool", "int32", "int64", "float64"])
def test_blocks_of_pixels(
    op: str, mode: str, dtype: str, isa: str, threads: int, random: Random
) -> None:
    x = (100 * random(2, 36, 6, 12)).astype(dtype)
    graph, inputs = operator(op, x, blocksize=3, mode=mode)
    same(graph, inputs, isa, threads)


@pytest.mark.parametrize("perm", [[0, 2, 3, 1], [0, 3, 1, 2], [3, 2, 1, 0], [0, 1, 3, 2], None])
@pytest.mark.parametrize("channels", [16, 48, 20])
def test_transpose(
    perm: list[int] | None, channels: int, isa: str, threads: int, random: Random
) -> None:
    x = random(2, channels, 5, 7)
    graph, inputs = operator("transpose", x, perm=perm)
    same(graph, inputs, isa, threads)
    graph = network(
        {"x": x},
        {},
        ("b", "max_pool", "x", IDENTITY),
        ("t", "transpose", "b", {"perm": perm}),
        ("y", "relu", "t"),
        ("z", "max_pool", "t", IDENTITY),
        outputs=["y", "z", "t"],
    )
    same(graph, {"x": x}, isa, threads)


def test_expand_and_broadcast_views(isa: str, threads: int, random: Random) -> None:
    x, w = random(3, 1, 7), random(3, 4, 7)
    graph = network(
        {"x": x, "w": w},
        {"shape": ints(2, 3, 4, 7)},
        ("e", "expand", "x shape"),
        ("y", "add", "e w"),
        ("z", "concat", "e e", {"axis": 2}),
        outputs=["y", "z", "e"],
    )
    same(graph, {"x": x, "w": w}, isa, threads)


def test_channel_shuffle(isa: str, threads: int, random: Random) -> None:
    """Split, concatenate, and interleave the halves, as ShuffleNet does."""
    x = random(2, 40, 6, 5)
    graph = network(
        {"x": x},
        {"five": ints(2, 2, 20, 6, 5), "four": ints(2, 40, 6, 5), "w": random(20, 20, 1, 1)},
        ("a b", "split", "x", {"axis": 1}),
        ("r", "relu", "b"),
        ("c", "concat", "a r", {"axis": 1}),
        ("s", "reshape", "c five"),
        ("t", "transpose", "s", {"perm": [0, 2, 1, 3, 4]}),
        ("u", "reshape", "t four"),
        ("y z", "split", "u", {"axis": 1}),
        outputs=["y", "z", "c"],
    )
    same(graph, {"x": x}, isa, threads)


def test_a_view_keeps_what_it_looks_at(isa: str, random: Random) -> None:
    """Nothing overwrites a tensor that a view still reads."""
    x = random(4, 6)
    graph = network(
        {"x": x},
        {"zero": np.int64(0)},
        ("a", "neg", "x"),
        ("t", "transpose", "a"),
        ("row", "gather", "a zero"),
        ("r", "relu", "a"),
        ("s", "abs", "r"),
        ("y", "add", "t t"),
        ("z", "add", "row row"),
        outputs=["y", "z", "s"],
    )
    same(graph, {"x": x}, isa)


def test_reshape_of_views(isa: str, random: Random) -> None:
    """Shapes that strides can follow, and shapes that need a copy."""
    x = random(4, 6, 10)
    for perm in ([0, 2, 1], [1, 0, 2], [2, 1, 0]):
        shape = [x.shape[p] for p in perm]
        for new in (
            (shape[0] * shape[1], shape[2]),
            (shape[0], shape[1] * shape[2]),
            (2, shape[0] // 2, shape[1], 1, 2, shape[2] // 2),
            (-1,),
            (12, 20),
        ):
            graph = network(
                {"x": x},
                {"new": ints(*new)},
                ("t", "transpose", "x", {"perm": perm}),
                ("r", "reshape", "t new"),
                ("y", "neg", "r"),
                outputs=["y", "r"],
            )
            same(graph, {"x": x}, isa)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float16, np.float32, np.float64, INT])
@pytest.mark.parametrize(
    "shape",
    [(3, 5), (16, 16), (15, 17), (17, 33), (64, 15), (48, 80), (2, 70), (700, 3), (4, 1100),
     (513, 70), (70, 2100), (5, 33, 18), (2, 40, 50, 3), (2, 3, 40, 50)],
    ids=str,
)  # fmt: skip
def test_transposes_of_every_size(
    shape: tuple[int, ...], dtype: type, isa: str, threads: int
) -> None:
    """Around squares of 16, lines of 64 bytes, few channels, and several tasks."""
    x = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    axes = tuple(range(len(shape)))
    for perm in {axes[::-1], (*axes[1:], axes[0]), (axes[0], axes[-1], *axes[1:-1])}:
        graph, inputs = operator("transpose", x, perm=list(perm))
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert np.array_equal(got, x.transpose(perm))
