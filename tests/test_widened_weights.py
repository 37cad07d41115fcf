"""Weights of 8 bits that a network widens: packed once for all sizes, and never kept in floats."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt.graph import Graph
from networks import by_reference, network
from test_plan_templates import Planner

WIDE = 256
"""Channels of a layer whose weights have more than 64 KiB in float32."""
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def integers(seed: int, *shape: int, dtype: Any = np.uint8) -> Any:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(dtype)


def recurrent(op: str) -> Graph:
    """A recurrent layer of any length whose weights are cast, shifted, scaled and turned."""
    rows = GATES[op] * WIDE
    constants = {
        "w": integers(0, 1, WIDE, rows),
        "r": integers(1, 1, WIDE, rows),
        "zero": np.full((1, 1, rows), 117, np.int32),
        "scale": np.random.default_rng(2).uniform(1e-4, 1e-3, (1, 1, rows)).astype(np.float32),
    }
    nodes: list[Any] = []
    for n in "wr":
        nodes += [
            (f"{n}1", "cast", n, {"to": "int32"}),
            (f"{n}2", "sub", f"{n}1 zero"),
            (f"{n}3", "cast", f"{n}2", {"to": "float32"}),
            (f"{n}4", "mul", f"{n}3 scale"),
            (f"{n}5", "transpose", f"{n}4", {"perm": [0, 2, 1]}),
        ]
    nodes.append(("y", op, "x w5 r5", {"hidden_size": WIDE}))
    graph = network({"x": np.zeros((1, 1, WIDE), np.float32)}, constants, *nodes)
    (spec,) = graph.inputs
    graph.inputs = [dataclasses.replace(spec, shape=("t", 1, WIDE))]
    return graph


@pytest.mark.parametrize("op", GATES)
def test_all_sizes_share_widened_weights(op: str) -> None:
    graph = recurrent(op)
    stored = sum(graph.constants[n].nbytes for n in "wr")
    model = cnnrt.Model(graph, threads=1)
    held: list[Any] = []
    for length in (3, 5, 4):
        x = np.random.default_rng(length).standard_normal((length, 1, WIDE)).astype(np.float32)
        expected = by_reference(graph, {"x": x})[0]
        np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
        table = model._packed._table
        held.append({key: entry.memory for key, entry in table.items()})
        large = sum(e.memory.nbytes for e in table.values() if e.memory.nbytes > 1 << 16)
        assert large == 4 * stored  # in float32, and once
    for other in held[1:]:
        assert all(other[key] is memory for key, memory in held[0].items())
    for plan in model._plans.plans():
        kept = [v for v in plan.graph.constants.values() if isinstance(v, np.ndarray)]
        assert sum(v.nbytes for v in kept if v.dtype == np.float32) < stored


def product() -> Graph:
    """A product of any number of rows by a matrix that is widened, and read elsewhere too."""
    constants = {"w": integers(0, WIDE, WIDE), "scale": np.float32(0.01)}
    graph = network(
        {"x": np.zeros((1, WIDE), np.float32)},
        constants,
        ("f", "cast", "w", {"to": "float32"}),
        ("m", "mul", "f scale"),
        ("z", "matmul", "x m"),
        ("s", "reduce_sum", "m", {"axes": [0], "keepdims": 0}),
        ("y", "add", "z s"),
    )
    (spec,) = graph.inputs
    graph.inputs = [dataclasses.replace(spec, shape=("n", WIDE))]
    return graph


@pytest.mark.parametrize("make", [lambda: recurrent("lstm"), product], ids=["lstm", "matmul"])
def test_templates_stay_valid(make: Callable[[], Graph]) -> None:
    graph = make()
    rest = graph.inputs[0].shape[1:]
    planner = Planner(graph, {"x": (3, *rest)})
    for n in (3, 5, 4, 7, 9, 6):
        planner.check({"x": (n, *rest)})
    assert planner.used
    assert any(template.valid() for template in planner.templates)


def test_a_widened_weight_that_is_an_output_too() -> None:
    graph = recurrent("lstm")
    graph.outputs = [*graph.outputs, dataclasses.replace(graph.outputs[0], name="w5")]
    x = np.random.default_rng(0).standard_normal((2, 1, WIDE)).astype(np.float32)
    found = cnnrt.Model(graph).run({"x": x})
    y, w = by_reference(graph, {"x": x})
    np.testing.assert_allclose(found["y"], y, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["w5"], w, rtol=1e-6)


def test_sums_of_a_tensor_and_itself_are_computed_once() -> None:
    """Each is twice the one before: computed anew for each reader they would take days."""
    steps = 28
    nodes: list[Any] = [(f"w{i + 1}", "add", f"w{i} w{i}") for i in range(steps)]
    nodes.append(("y", "linear", f"x w{steps}"))
    weight = {"w0": np.eye(WIDE, dtype=np.float32) / 2**steps}
    graph = network({"x": np.ones((1, WIDE), np.float32)}, weight, *nodes)
    expected = 1.0
    y = cnnrt.Model(graph)(np.ones((1, WIDE), np.float32))
    np.testing.assert_allclose(y, np.full((1, WIDE), np.float32(expected)))


KINDS = list(
    itertools.product((np.uint8, np.int8), (np.uint8, np.int8), (1, "channels"), ("", "x_zero"))
)


@pytest.mark.parametrize(("of_x", "of_w", "zeros", "x_zero"), KINDS)
@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 1, 1), (5, 70, 33), (2, 130, 16)])
def test_products_by_bytes_less_a_zero_point(
    of_x: Any, of_w: Any, zeros: Any, x_zero: str, rows: int, depth: int, columns: int
) -> None:
    """Less their zero point the weights have nine bits."""
    x, w = integers(0, 3, rows, depth, dtype=of_x), integers(1, depth, columns, dtype=of_w)
    w.flat[0], w.flat[-1] = np.iinfo(of_w).min, np.iinfo(of_w).max
    w_zero = integers(2, 1 if zeros == 1 else columns, dtype=of_w)
    inputs = {"x": x, "x_zero": np.array(3, of_x)} if x_zero else {"x": x}
    constants = {"w": w, "w_zero": w_zero.reshape(()) if zeros == 1 else w_zero}
    graph = network(inputs, constants, ("y", "matmul_integer", f"x w {x_zero} w_zero"))
    wide = x.astype(np.int64) - (3 if x_zero else 0)
    expected = wide @ (w.astype(np.int64) - w_zero.astype(np.int64))
    for threads in (1, 2):
        model = cnnrt.Model(graph, threads=threads)
        np.testing.assert_array_equal(model.run(inputs), expected)
        assert "no kernel" not in model.describe()
