"""Resizing by every mode, in one to three dimensions, against the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checks import Random, assert_close, reference
from cnnrt import Model, ops
from cnnrt.graph import Graph, Node, TensorSpec
from networks import by_kernels, by_reference, network, operator


def resize(x: np.ndarray, sizes: np.ndarray, isa: str, threads: int, **attributes: Any) -> Model:
    node = Node("resize", "resize", ["x", "", "", "sizes"], ["y"], attributes)
    ops.complete(node)
    graph = Graph([TensorSpec("x", x.shape)], [TensorSpec("y", ())], [node], {"sizes": sizes})
    return Model(graph, isa=isa, threads=threads)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]
)
def test_modes(mode: str, coordinates: str, isa: str, threads: int, random: Random) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates}
    for shape, size in (
        ((2, 20, 5, 7), (9, 14)),
        ((1, 16, 8, 8), (3, 20)),
        ((1, 3, 4, 4), (1, 1)),
        ((1, 3, 15, 33), (31, 17)),
        ((3, 1, 16, 16), (16, 47)),
        ((2, 15, 7), (48,)),
        ((1, 2, 3, 4, 17), (5, 4, 33)),
        ((2, 17, 9), (20,)),
        ((1, 16, 3, 4, 5), (6, 4, 9)),
    ):
        x, sizes = random(*shape), np.array([*shape[:2], *size])
        model = resize(x, sizes, isa, threads, **attributes)
        assert "no kernel" not in model.describe()
        want = reference("resize", x, None, None, sizes.astype(np.float64), **attributes)
        assert_close(model(x), want, 2e-6, (shape, size))


@pytest.mark.parametrize("channels", [3, 16])
def test_antialias(channels: int, isa: str, random: Random) -> None:
    x, sizes = random(1, channels, 32, 30), np.array([1, channels, 7, 9])
    for mode in ("linear", "cubic"):
        want = reference("resize", x, None, None, sizes.astype(np.float64), mode=mode, antialias=1)
        assert_close(resize(x, sizes, isa, 2, mode=mode, antialias=1)(x), want, 2e-6)


@pytest.mark.parametrize("channels", [3, 16])
def test_the_same_bits_for_any_threads_and_batch(channels: int, isa: str, random: Random) -> None:
    x, sizes = random(3, channels, 13, 18), np.array([3, channels, 20, 31])
    whole = resize(x, sizes, isa, 1, mode="linear")(x)
    np.testing.assert_array_equal(resize(x, sizes, isa, 2, mode="linear")(x), whole)
    for i in range(3):
        one = resize(x[i : i + 1], np.array([1, *sizes[1:]]), isa, 2, mode="linear")
        np.testing.assert_array_equal(one(x[i : i + 1]), whole[i : i + 1])


def test_what_reaches_outside_runs_by_its_reference(random: Random) -> None:
    x = random(1, 4, 5, 5)
    node = Node(
        "resize",
        "resize",
        ["x", "roi", "", "sizes"],
        ["y"],
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
    )
    ops.complete(node)
    constants = {
        "roi": np.float32([0, 0, -0.2, 0, 1, 1, 1.1, 1]),
        "sizes": np.array([1, 4, 6, 7]),
    }
    graph = Graph([TensorSpec("x", x.shape)], [TensorSpec("y", ())], [node], constants)
    model = Model(graph)
    assert "no kernel" in model.describe()
    (want,) = ops.op(node).reference(node, x, constants["roi"], None, constants["sizes"])
    assert_close(model(x), want, 1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "bool", "int32", "int64", "float64", "float32"])
@pytest.mark.parametrize("nearest", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_nearest_elements_of_every_type(
    dtype: str, nearest: str, isa: str, threads: int, random: Random
) -> None:
    for shape, size in (
        ((2, 20, 5, 7), (2, 20, 10, 14)),  # by whole factors
        ((1, 3, 17, 33), (1, 3, 51, 132)),
        ((1, 16, 8, 12), (1, 16, 4, 4)),
        ((2, 5, 7, 9), (2, 5, 11, 6)),  # by others, larger and smaller
        ((1, 6, 5, 3), (1, 12, 7, 3)),  # channels last
        ((4, 5), (3, 11)),
        ((3, 2, 1, 1), (3, 2, 6, 5)),
        ((2, 2, 3, 4, 5), (2, 2, 6, 3, 10)),
        ((1, 3, 4, 4), (1, 3, 4, 4)),  # nothing changes
    ):
        x, sizes = (100 * random(*shape)).astype(dtype), np.array(size)
        for coordinates in ("half_pixel", "asymmetric"):
            attributes = {
                "mode": "nearest",
                "nearest_mode": nearest,
                "coordinate_transformation_mode": coordinates,
            }
            graph, inputs = operator("resize", x, None, None, sizes, **attributes)
            (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
            (want,) = by_reference(graph, inputs)
            assert got.dtype == dtype
            np.testing.assert_array_equal(got, want, f"{shape} {size} {coordinates}")


def test_nearest_elements_at_free_sizes(random: Random) -> None:
    node = Node("resize", "r", ["x", "", "scales"], ["y"], {"mode": "nearest"})
    ops.complete(node)
    scales = {"scales": np.float32([1, 1, 2, 1.5])}
    spec = TensorSpec("x", (1, 2, "h", "w"), np.dtype("uint8"))
    model = Model(Graph([spec], [TensorSpec("y", (), np.dtype("uint8"))], [node], scales))
    for size in range(4, 12):
        x = (100 * random(1, 2, size, 2 * size)).astype(np.uint8)
        assert "no kernel" not in model.describe(x)
        columns = np.ceil((np.arange(3 * size) + 0.5) / 1.5 - 1).astype(int)
        np.testing.assert_array_equal(model(x), x.repeat(2, 2)[..., columns])


@pytest.mark.parametrize("mode", ["linear", "cubic", "nearest"])
def test_results_that_only_the_caller_reads(mode: str, isa: str, random: Random) -> None:
    """They are made row-major, and are those of a blocked result."""
    x, weight = random(2, 20, 9, 11), random(20, 20, 3, 3)
    nodes = [
        ("c", "conv", "x w", {"pads": [1] * 4}),
        ("r", "resize", "c  s", {"mode": mode}),
        ("y", "conv", "r w", {"pads": [1] * 4}),
    ]
    constants = {"w": weight, "s": np.array([1, 1, 3, 2.5], np.float32)}
    alone = Model(network({"x": x}, constants, *nodes[:2], outputs=["r"]), isa=isa)
    read = Model(network({"x": x}, constants, *nodes, outputs=["r", "y"]), isa=isa)
    planar, blocked = alone(x), read.run(x)["r"]
    assert "resize_planar" in alone.describe() or mode == "nearest"
    assert "resize_planar" not in read.describe()
    np.testing.assert_array_equal(planar, blocked)
