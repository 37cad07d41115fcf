"""Plans from a template are those that planning alone makes, at every size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnrt import Model, _core
from cnnrt.cost import Algorithms
from cnnrt.errors import CnnrtError
from cnnrt.graph import Graph, TensorSpec
from cnnrt.lowering import Lowered, PlanOptions, lower
from cnnrt.passes import prepare, specialise
from cnnrt.planning.template import LEARN_FROM, MAX_TEMPLATES, PlanTemplates, same
from cnnrt.process.isa import default_isa
from cnnrt.weights.packed import Packed
from networks import network
from test_random_graphs import QUICK, graphs

Shapes = Mapping[str, tuple[int, ...]]


class Planner:
    """Plans a graph for many sizes, with templates and without."""

    def __init__(self, graph: Graph, shapes: Shapes, threads: int = 1) -> None:
        self.prepared = prepare(graph, [spec.name for spec in graph.outputs], shapes)
        self.options = PlanOptions(
            Packed(graph.constants.values()),
            _core.RunMemory(),
            threads,
            "pool",
            default_isa(),
            Algorithms("auto"),
            sum(value.nbytes for value in graph.constants.values()),
            1 << 30,
        )
        self.templates = PlanTemplates(self.prepared)

    @property
    def used(self) -> bool:
        return any(template.used for template in self.templates)

    def alone(self, shapes: Shapes) -> Lowered | CnnrtError:
        try:
            return lower(specialise(self.prepared, shapes, None, 1 << 30), self.options)
        except CnnrtError as error:
            return error

    def check(self, shapes: Shapes) -> None:
        wanted = self.alone(shapes)
        try:
            got: Lowered | CnnrtError = self.templates.lower(shapes, {}, self.options)
        except CnnrtError as error:
            got = error
        if isinstance(wanted, Lowered):
            assert isinstance(got, Lowered), got
            # Steps in NumPy have no template; there the graph is lowered as ever.
            assert got.all_kernels == wanted.all_kernels
            assert same(got, wanted) or not got.all_kernels, f"{shapes}\n{self.prepared}"
        else:
            assert (type(got), str(got)) == (type(wanted), str(wanted))


def pyramid() -> Graph:
    """A detector in small: convolutions, an enlarged map, anchors from the sizes of maps."""
    rng = np.random.default_rng(5)

    def weight(*shape: int) -> Any:
        return rng.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[1:]))

    constants = {
        "w0": weight(16, 3, 3, 3),
        "w1": weight(32, 16, 3, 3),
        "w2": weight(32, 32, 3, 3),
        "w3": weight(16, 48, 1, 1),
        "none": np.zeros(0, np.float32),
        "twice": np.array([1, 1, 2, 2], np.float32),
        "zero": np.int64(0),
        "one": np.int64(1),
        "width": np.array(3),
        "lead": np.array([1, 16]),
        "rest": np.array([-1]),
        "axis": np.array([0]),
    }
    same_size, half = {"pads": [1] * 4}, {"pads": [1] * 4, "strides": [2, 2]}
    graph = network(
        {"x": np.zeros((1, 3, 32, 32), np.float32)},
        constants,
        ("a", "conv", "x w0", same_size),
        ("b", "silu", "a"),
        ("c", "conv", "b w1", half),
        ("d", "relu", "c"),
        ("e", "conv", "d w2", same_size),
        ("f", "add", "e d"),
        ("p", "max_pool", "f", {"kernel_shape": [5, 5], "pads": [2] * 4}),
        ("g", "resize", "p none twice", {"mode": "nearest"}),
        ("h", "concat", "g b", {"axis": 1}),
        ("i", "conv", "h w3"),
        ("s", "shape", "i"),
        ("n", "gather", "s width"),
        ("r", "range", "zero n one"),
        ("k", "cast", "r", {"to": "float32"}),
        ("j", "add", "i k"),
        ("m", "unsqueeze", "n axis"),
        ("o", "concat", "lead rest m", {"axis": 0}),
        ("q", "reshape", "j o"),
        ("y", "softmax", "q", {"axis": -1}),
    )
    graph.inputs = [TensorSpec("x", (1, 3, "height", "width"))]
    return graph


SIZES = [(32 + 2 * (i * 7 % 19), 32 + 2 * (i * 5 % 23)) for i in range(20)]


def test_plans_of_a_detector_are_the_same() -> None:
    planner = Planner(pyramid(), {"x": (1, 3, 32, 32)})
    for height, width in SIZES:
        planner.check({"x": (1, 3, height, width)})
    assert planner.used
    assert 1 <= len(planner.templates) <= MAX_TEMPLATES


def test_a_template_serves_most_sizes() -> None:
    planner = Planner(pyramid(), {"x": (1, 3, 32, 32)}, threads=2)
    made = []
    for height, width in SIZES:
        before = len(planner.templates)
        planner.check({"x": (1, 3, height, width)})
        made.append(len(planner.templates) > before)
    assert made.index(True) == LEARN_FROM - 1
    assert sum(made) <= 2


def test_outputs_are_the_same_bits() -> None:
    graph = pyramid()
    model = Model(graph, threads=1)
    for height, width in SIZES:
        x = np.random.default_rng(height).standard_normal((1, 3, height, width), np.float32)
        alone = Model(graph, threads=1)
        np.testing.assert_array_equal(model(x), alone(x))
        assert model.describe(x) == alone.describe(x)


def test_sizes_that_the_network_refuses_are_refused_as_ever() -> None:
    planner = Planner(pyramid(), {"x": (1, 3, 32, 32)})
    for height, width in [*SIZES[:6], (33, 40), (40, 31), (0, 8), (1, 1), (2, 2), (40, 42)]:
        planner.check({"x": (1, 3, height, width)})
    assert planner.used


def test_other_algorithms_need_other_templates() -> None:
    model = Model(pyramid(), threads=1)
    images = [np.ones((1, 3, h, w), np.float32) for h, w in SIZES[:5]]
    assert any("winograd" in model.describe(x) for x in images)
    model._algorithms.update(dict.fromkeys(("a", "e", "c"), "im2col"))
    model._plans.replace()
    assert not any("winograd2:" in model.describe(x) for x in images)


def test_trim_forgets_templates_and_the_plans_stay_right() -> None:
    graph = pyramid()
    model = Model(graph, threads=1)
    for i, (height, width) in enumerate(SIZES[:10]):
        x = np.full((1, 3, height, width), 0.5, np.float32)
        np.testing.assert_array_equal(model(x), Model(graph, threads=1)(x))
        if i == 5:
            model.trim()


@QUICK
@given(graphs(8), st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=6, max_size=6))
def test_plans_of_random_graphs(case: tuple[Graph, Any], more: list[tuple[int, int, int]]) -> None:
    check_random(*case, more)


@settings(QUICK, max_examples=400)
@given(graphs(5), st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=8, max_size=8))
def test_templates_of_random_graphs_are_used(
    case: tuple[Graph, Any], more: list[tuple[int, int, int]]
) -> None:
    check_random(*case, more)


def check_random(graph: Graph, inputs: Mapping[str, Any], more: list[tuple[int, int, int]]) -> None:
    batch, channels, *spatial = inputs["x"].shape
    free = tuple(f"n{i}" for i in range(len(spatial)))
    graph.inputs = [TensorSpec("x", ("batch", channels, *free))]
    planner = Planner(graph, {"x": inputs["x"].shape})
    for added in more:
        sizes = [n + extra for n, extra in zip(spatial, added, strict=False)]
        planner.check({"x": (batch, channels, *sizes)})
