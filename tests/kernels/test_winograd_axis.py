"""Winograd's algorithm on one axis: kernels of 3, 1x3 and 3x1, around every edge of a tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnrt
from checks import (
    WINOGRAD_TOLERANCE,
    Random,
    activation,
    assert_close,
    assert_deterministic,
    by_algorithm,
)
from checks import reference as by_definition
from cnnrt.graph import Array, Node, TensorSpec
from cnnrt.lowering.conv_winograd import winograd_tiles
from cnnrt.model import plan_for
from networks import network, operator

TILES = ("winograd2", "winograd4")
KERNELS = {"3": (3,), "1x3": (1, 3), "3x1": (3, 1), "2x1x3": (2, 1, 3)}


def shape_of(kernel: tuple[int, ...], c: int, size: int, n: int = 1, other: int = 3) -> list[int]:
    """An input of `size` pixels along the axis of three taps, `other` along those before it."""
    along = len(kernel) - 1 - kernel[::-1].index(3)
    return [n, c, *(size if axis == along else other for axis in range(len(kernel)))]


def run(
    x: Array, weight: Array, algorithm: str, isa: str, threads: int, **attributes: Any
) -> Array:
    cut = max(x.shape[2:]) < 4
    return by_algorithm(x, weight, algorithm, isa, threads, cut=cut, **attributes)


@pytest.mark.parametrize("algorithm", TILES)
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_size(
    kernel: tuple[int, ...], algorithm: str, isa: str, threads: int, random: Random
) -> None:
    # A batch is of 14 tiles, in two rounds of the loop over it or more, and of fewer at its end.
    for size in (*range(1, 20), 28, 29, 55, 56, 57, 113):
        x, weight = random(*shape_of(kernel, 16, size)), random(20, 16, *kernel)
        for begin, end in ((1, 1), (0, 2), (2, 0), (2, 2), (0, 0)):
            if size + begin + end < 3 or (size > 12 and begin == end != 1):
                continue
            pads = [begin if k == 3 else k - 1 for k in kernel] + [
                end if k == 3 else 0 for k in kernel
            ]
            got = run(x, weight, algorithm, isa, threads, pads=pads)
            want = by_definition("conv", x, weight, pads=pads)
            assert_close(got, want, WINOGRAD_TOLERANCE[algorithm], (kernel, size, pads))


@pytest.mark.parametrize("algorithm", TILES)
@pytest.mark.parametrize("kernel", [(3,), (1, 3), (3, 1)], ids=str)
def test_channels(
    kernel: tuple[int, ...], algorithm: str, isa: str, threads: int, random: Random
) -> None:
    for c, m in ((17, 31), (32, 33), (33, 16), (48, 1), (64, 64), (20, 100)):
        x, weight = random(*shape_of(kernel, c, 23, n=2)), random(m, c, *kernel)
        pads = [k // 2 for k in kernel] * 2
        got = run(x, weight, algorithm, isa, threads, pads=pads)
        want = by_definition("conv", x, weight, pads=pads)
        assert_close(got, want, WINOGRAD_TOLERANCE[algorithm], (kernel, c, m))


@pytest.mark.parametrize("kernel", [(3,), (3, 1)], ids=str)
def test_threads_share_the_transformed_input_where_weights_are_many(
    kernel: tuple[int, ...], isa: str, random: Random
) -> None:
    x, weight = random(*shape_of(kernel, 592, 9, n=2)), random(608, 592, *kernel)
    pads = [k // 2 for k in kernel] * 2
    graph, inputs = operator("conv", x, weight, pads=pads)
    model = cnnrt.Model(graph, algorithm="winograd4", isa=isa, threads=2)
    assert "winograd_input" in [
        step.kernel for step in plan_for(model, list(inputs.values())).describe()
    ]
    want = by_definition("conv", x, weight, pads=pads)
    assert_close(model.run(inputs), want, WINOGRAD_TOLERANCE["winograd4"], kernel)


@pytest.mark.parametrize("algorithm", TILES)
@pytest.mark.parametrize("kernel", [(3,), (1, 3), (3, 1)], ids=str)
def test_bias_residual_and_activation(
    kernel: tuple[int, ...], algorithm: str, isa: str, threads: int, random: Random
) -> None:
    shape = shape_of(kernel, 16, 30)
    x, weight, bias = random(*shape), random(24, 16, *kernel), random(24)
    residual = random(1, 24, *shape[2:])
    sums = by_definition("conv", x, weight, bias, pads=[k // 2 for k in kernel] * 2) + residual
    for act in (None, "relu", ("clip", -0.5, 0.75), "silu", ("leaky_relu", 0.1)):
        graph = network(
            {"x": x, "residual": residual},
            {"w": weight, "b": bias},
            (
                "y",
                "conv",
                "x w b residual",
                {"pads": [k // 2 for k in kernel] * 2, "activation": activation(act)},
            ),
        )
        model = cnnrt.Model(graph, algorithm=algorithm, isa=isa, threads=threads)
        got = model.run({"x": x, "residual": residual})
        want = sums if act is None else by_definition("activate", sums, activation=activation(act))
        scale = float(np.abs(sums).max())
        assert_close(got, want, WINOGRAD_TOLERANCE[algorithm], (kernel, act), scale)


@pytest.mark.parametrize("kernel", [(3,), (1, 3), (3, 1)], ids=str)
def test_the_result_does_not_depend_on_threads_or_batch(
    kernel: tuple[int, ...], isa: str, random: Random
) -> None:
    shape = shape_of(kernel, 24, 61, n=8)
    images, weight = random(*shape), random(40, 24, *kernel)
    images[2, 3], images[5, 7] = np.inf, np.nan
    node = ("y", "conv", "x w", {"pads": [k // 2 for k in kernel] * 2})
    graph = network({"x": images}, {"w": weight}, node)
    graph.inputs[0] = TensorSpec("x", ("n", *shape[1:]))
    for algorithm in TILES:
        models = [
            cnnrt.Model(graph, algorithm=algorithm, isa=isa, threads=threads)
            for threads in (1, 2, 3)
        ]
        assert_deterministic(models, images, (kernel, algorithm))


def test_a_tensor_with_the_border_of_another_reader(isa: str, random: Random) -> None:
    # The 5x5 reads the same tensor, and wants two pixels of zeros around it.
    x = random(1, 16, 6, 11)
    graph = network(
        {"x": x},
        {"a": random(32, 16, 1, 1), "b": random(16, 32, 1, 3), "c": random(16, 32, 5, 5)},
        ("made", "conv", "x a"),
        ("narrow", "conv", "made b", {"pads": [0, 1, 0, 1]}),
        ("wide", "conv", "made c", {"pads": [2] * 4}),
        ("y", "add", "narrow wide"),
    )
    made = by_definition("conv", x, graph.constants["a"])
    want = by_definition("conv", made, graph.constants["b"], pads=[0, 1, 0, 1])
    want = want + by_definition("conv", made, graph.constants["c"], pads=[2] * 4)
    got = cnnrt.Model(graph, algorithm="winograd4", isa=isa)(x)
    assert_close(got, want, WINOGRAD_TOLERANCE["winograd4"], isa)


@pytest.mark.parametrize(
    ("kernel", "strides", "dilations", "tiles"),
    [
        ((3,), [1], [1], (2, 4)),
        ((3, 3), [1, 1], [1, 1], (2, 4, 6)),
        ((1, 3, 3), [1, 1, 1], [1, 1, 1], (2, 4, 6)),
        ((1, 3), [1, 1], [1, 1], (2, 4)),
        ((3, 1), [1, 1], [1, 1], (2, 4)),
        ((5, 1, 3), [1, 1, 1], [1, 1, 1], (2, 4)),
        ((3,), [2], [1], ()),
        ((3,), [1], [2], (2, 4)),
        ((3, 3, 3), [1, 1, 1], [1, 2, 2], (2, 4, 6)),
        ((3, 3, 3), [1, 1, 1], [2, 1, 1], ()),
        ((5,), [1], [1], ()),
        ((3, 1, 1), [1, 1, 1], [1, 1, 1], ()),
        ((5, 5), [1, 1], [1, 1], (2,)),
        ((5, 5), [2, 2], [1, 1], ()),
        ((3, 3), [2, 2], [1, 1], (2, 4)),
        ((3, 3, 3), [1, 2, 2], [1, 1, 1], (2, 4)),
        ((3, 3), [2, 1], [1, 1], ()),
        ((3, 3), [2, 2], [2, 2], ()),
        ((1, 3), [1, 2], [1, 1], ()),
        ((3, 5), [1, 1], [1, 1], ()),
    ],
)
def test_what_it_fits(
    kernel: tuple[int, ...], strides: list[int], dilations: list[int], tiles: tuple[int, ...]
) -> None:
    assert winograd_tiles(kernel, strides, dilations) == tiles
    shape = (1, 16, *[9] * len(kernel))
    node = Node("conv", "y", ["x", "w"], ["y"], {"strides": strides, "dilations": dilations})
    graph, _ = operator(
        "conv",
        np.zeros(shape, np.float32),
        np.zeros((16, 16, *kernel), np.float32),
        **node.attributes,
    )
    for tile in (2, 4, 6):
        text = str(cnnrt.Model(graph, algorithm=f"winograd{tile}").describe())
        assert (f"winograd{tile}: asked for" in text) is (tile in tiles), text


@pytest.mark.parametrize(
    ("c", "m", "size", "tasks"), [(64, 96, 20, 12), (112, 80, 13, 5), (64, 72, 7, 5)]
)
def test_many_threads_share_the_transformed_input(
    c: int, m: int, size: int, tasks: int, isa: str, random: Random
) -> None:
    """Each would have few tiles. They divide the outputs, block by block, and round alike."""
    x, weight = random(1, c, size, size), random(m, c, 3, 3)
    graph, inputs = operator("conv", x, weight, pads=[1, 1, 1, 1])
    outputs = []
    for threads in (1, 4, 5, 12, 16, 24):
        model = cnnrt.Model(graph, algorithm="winograd4", isa=isa, threads=threads)
        outputs.append(model.run(inputs))
        kernels = [step.kernel for step in plan_for(model, [x]).describe()]
        assert ("winograd_output" in kernels) == (4 < threads <= 4 * tasks / 3), (threads, kernels)
    want = by_definition("conv", x, weight, pads=[1, 1, 1, 1])
    assert_close(outputs[0], want, WINOGRAD_TOLERANCE["winograd4"], (c, m, size))
    assert all(np.array_equal(y, outputs[0]) for y in outputs)
