"""A residual that no later node reads gives its memory to the sum. The bits stay the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt.graph import Array, Graph
from networks import by_kernels, by_reference, network

KEPT = ("y", "a0", "a1")
"""Outputs among which are the residuals: their memory is not free."""


def blocks(shape: Sequence[int], channels: int, kernel: int, group: int, after: int) -> Graph:
    """Two residual blocks, each with a convolution of 3x3 before one of this kernel and groups.

    Args:
        after: the kernel of the convolution that reads the result; 3 asks for a border around it.
    """
    rng = np.random.default_rng(channels)

    def weights(c: int, k: int) -> Array:
        value = rng.standard_normal((channels, c, k, k), dtype=np.float32)
        return value / np.float32(k * np.sqrt(c))

    constants = {"w": weights(shape[1], 1), "last": weights(channels, after)}
    nodes: list[Any] = [("a0", "conv", "x w")]
    for i in range(2):
        constants[f"u{i}"] = weights(channels, 3)
        constants[f"v{i}"] = weights(channels // group, kernel)
        nodes += [
            (f"b{i}", "conv", f"a{i} u{i}", {"pads": [1] * 4}),
            (f"c{i}", "conv", f"b{i} v{i}", {"pads": [kernel // 2] * 4, "group": group}),
            (f"s{i}", "add", f"c{i} a{i}"),
            (f"a{i + 1}", "relu", f"s{i}"),
        ]
    nodes.append(("y", "conv", "a2 last", {"pads": [after // 2] * 4}))
    return network({"x": np.zeros(shape, np.float32)}, constants, *nodes)


def layers(rows: int, width: int) -> Graph:
    """Fully connected layers with residuals."""
    rng = np.random.default_rng(width)
    constants = {
        name: rng.standard_normal((width, width), dtype=np.float32) / np.float32(width**0.5)
        for name in ("w", "v0", "v1")
    }
    nodes: list[Any] = [("a0", "matmul", "x w")]
    for i in range(2):
        nodes += [(f"c{i}", "matmul", f"a{i} v{i}"), (f"a{i + 1}", "add", f"c{i} a{i}")]
    nodes.append(("y", "relu", "a2"))
    return network({"x": np.zeros((rows, width), np.float32)}, constants, *nodes)


def check(graph: Graph, isa: str, threads: int) -> None:
    x = np.random.default_rng(7).standard_normal(graph.inputs[0].shape, dtype=np.float32)
    y = by_kernels(graph, {"x": x}, isa=isa, threads=threads)[0]
    apart = network({"x": x}, graph.constants, *map(as_tuple, graph.nodes), outputs=KEPT)
    np.testing.assert_array_equal(y, by_kernels(apart, {"x": x}, isa=isa, threads=threads)[0])
    want = by_reference(graph, {"x": x})[0]
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-4 * np.abs(want).max())


def as_tuple(node: Any) -> tuple[Any, ...]:
    return node.outputs[0], node.op, " ".join(node.inputs), node.attributes


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize(("kernel", "group"), [(1, 1), (3, 1), (1, 2), (3, 4), (3, 16)])
@pytest.mark.parametrize("size", [(9, 31), (1, 14)])
def test_convolutions(
    size: tuple[int, int], kernel: int, group: int, after: int, isa: str, threads: int
) -> None:
    check(blocks((2, 3, *size), 32, kernel, group, after), isa, threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 3, 70])
@pytest.mark.parametrize("width", [33, 300])
def test_linear_layers(rows: int, width: int, isa: str, threads: int) -> None:
    check(layers(rows, width), isa, threads)


def test_the_sum_takes_no_memory_of_its_own() -> None:
    """Live at once are the residual and what the last convolution of a block reads."""
    graph = blocks((1, 3, 40, 40), 64, 1, 1, 1)
    model = cnnrt.Model(graph, threads=1)
    model(np.zeros(graph.inputs[0].shape, np.float32))
    (plan,) = model.memory().plans
    assert plan.live == 2 * 64 * 40 * 40 * 4
