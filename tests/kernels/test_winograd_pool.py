"""The 2x2 max pool after a Winograd convolution, done while its output tile is at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checks import THREADS, WINOGRAD_TOLERANCE, Random, assert_close, assert_deterministic
from cnnrt import Model
from cnnrt.graph import Graph, TensorSpec
from networks import by_reference, network


def pooled(
    x: np.ndarray,
    random: Random,
    m: int,
    act: str = "relu",
    *,
    residual: bool = False,
    taps: int = 3,
    **pool: Any,
) -> tuple[Graph, dict[str, np.ndarray]]:
    """conv, addition, activation and max pool of 2x2 windows (1x2x2 in three dimensions)."""
    rank = x.ndim - 2
    planes = [1] * (rank - 2)
    window = {"kernel_shape": [*planes, 2, 2], "strides": [*planes, 2, 2], **pool}
    inputs = {"x": x}
    nodes: list[tuple[Any, ...]] = [("c", "conv", "x w b", {"pads": [taps // 2] * (2 * rank)})]
    last = "c"
    if residual:
        inputs["r"] = random(x.shape[0], m, *x.shape[2:])
        nodes.append(("a", "add", "c r"))
        last = "a"
    if act:
        nodes.append(("z", act, last))
        last = "z"
    nodes.append(("y", "max_pool", last, window))
    constants = {"w": random(m, x.shape[1], *[taps] * rank), "b": random(m)}
    return network(inputs, constants, *nodes), inputs


def pools(model: Model) -> int:
    """The number of steps that are pools."""
    return [line.split()[1] for line in model.describe().splitlines()].count("pool")


def check(graph: Graph, inputs: dict[str, np.ndarray], case: object, **options: Any) -> np.ndarray:
    """One step does both, close to the reference, with the bits of two steps."""
    model = Model(graph, **options)
    assert pools(model) == 0, model.describe()
    got: np.ndarray = model.run(inputs)
    tolerance = WINOGRAD_TOLERANCE[options["algorithm"]]
    assert_close(got, by_reference(graph, inputs)[0], tolerance, case)
    inner = graph.nodes[-1].inputs[0]  # on request it is made
    apart = Model(graph, **options).run(inputs, outputs=[inner, "y"])
    assert np.array_equal(got, apart["y"]), case
    return got


# Tiles of 2 and 4 pixels, rows and columns that no whole window has, one window alone.
@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4", "winograd6"])
@pytest.mark.parametrize("size", [(2, 3), (4, 4), (5, 7), (8, 6), (13, 18)])
def test_sizes(
    algorithm: str, size: tuple[int, int], isa: str, threads: int, random: Random
) -> None:
    place = {"algorithm": algorithm, "isa": isa, "threads": threads}
    for m in (16, 33):
        graph, inputs = pooled(random(2, 20, *size), random, m)
        check(graph, inputs, (size, m), **place)
        if algorithm == "winograd2" and min(size) > 2:  # else taps see padding only
            graph, inputs = pooled(random(2, 20, *size), random, m, taps=5)
            check(graph, inputs, (size, m, "5x5"), **place)


@pytest.mark.parametrize("act", ["", "relu", "silu"])
@pytest.mark.parametrize("residual", [False, True])
def test_what_comes_before_the_pool(
    act: str, residual: bool, isa: str, threads: int, random: Random
) -> None:
    graph, inputs = pooled(random(1, 16, 9, 10), random, 32, act, residual=residual)
    check(graph, inputs, act, algorithm="winograd4", isa=isa, threads=threads)


def test_three_dimensions_and_shared_transforms(isa: str, random: Random) -> None:
    graph, inputs = pooled(random(1, 16, 3, 6, 9), random, 20)
    check(graph, inputs, "3D", algorithm="winograd2", isa=isa, threads=2)
    # 9 MB of transformed weights: the threads share the transformed input.
    graph, inputs = pooled(random(1, 256, 5, 6), random, 272)
    model = Model(graph, algorithm="winograd4", isa=isa, threads=2)
    assert "winograd_output" in model.describe()
    check(graph, inputs, "halves", algorithm="winograd4", isa=isa, threads=2)


def test_into_a_concatenation_and_with_a_border(isa: str, random: Random) -> None:
    """The pooled tensor lies where its reader wants it: in a part of another, inside zeros."""
    x = random(2, 16, 12, 10)
    constants = {"w": random(32, 16, 3, 3), "v": random(8, 48, 5, 5)}
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    graph = network(
        {"x": x},
        constants,
        ("c", "conv", "x w", {"pads": [1] * 4}),
        ("p", "max_pool", "c", window),
        ("q", "average_pool", "x", window),
        ("j", "concat", "p q", {"axis": 1}),
        ("y", "conv", "j v", {"pads": [2] * 4}),
    )
    model = Model(graph, algorithm={"c": "winograd4"}, isa=isa, threads=2)
    assert pools(model) == 1, model.describe()
    assert_close(model(x), by_reference(graph, {"x": x})[0], WINOGRAD_TOLERANCE["winograd4"])


def test_other_pools_are_steps_of_their_own(random: Random) -> None:
    x = random(1, 16, 9, 9)
    for pool in (
        {"ceil_mode": 1},  # windows of one row, or column, at the end
        {"pads": [1] * 4},
        {"dilations": [2, 2]},
        {"kernel_shape": [3, 3]},
        {"strides": [1, 1]},
    ):
        graph, inputs = pooled(x, random, 16, **pool)
        model = Model(graph, algorithm="winograd4")
        assert pools(model) == 1, pool
        want = by_reference(graph, inputs)[0]
        assert_close(model(x), want, WINOGRAD_TOLERANCE["winograd4"], pool)
    graph, inputs = pooled(x, random, 16)
    assert pools(Model(graph, algorithm="im2col")) == 1
    even, _ = pooled(random(1, 16, 8, 8), random, 16, ceil_mode=1)  # as without
    assert pools(Model(even, algorithm="winograd4")) == 0


def test_infinity_and_nan(isa: str, random: Random) -> None:
    """Tiles that are done again directly are pooled again; NaN wins every window it is in."""
    x = random(1, 16, 12, 12)
    x[0, 1, 2, 3], x[0, 4, 7, 7], x[0, 9, 11, 0] = np.inf, -np.inf, np.nan
    graph, inputs = pooled(x, random, 32, "")
    for algorithm in ("winograd2", "winograd4", "winograd6"):
        got = Model(graph, algorithm=algorithm, isa=isa)(x)
        want = by_reference(graph, inputs)[0]
        for kind in (np.isnan, np.isposinf, np.isneginf):
            assert np.array_equal(kind(got), kind(want)), (algorithm, kind)
        finite = np.isfinite(want)
        tolerance = WINOGRAD_TOLERANCE[algorithm]
        assert np.abs(got[finite] - want[finite]).max() <= tolerance * np.abs(want[finite]).max()


def test_the_same_bits_for_any_threads_and_batch(isa: str, random: Random) -> None:
    graph, _ = pooled(random(1, 16, 10, 14), random, 33)
    graph.inputs[0] = TensorSpec("x", ("n", 16, 10, 14))
    models = [Model(graph, algorithm="winograd4", isa=isa, threads=n) for n in THREADS]
    assert_deterministic(models, random(8, 16, 10, 14), "pooled")
