"""Small stages that run without a plan: the tails of detectors, with any number of boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt.errors import IndexOutOfRange, MemoryLimitError, ShapeError
from cnnrt.graph import Array, Graph
from cnnrt.planning import interpreter
from networks import by_reference, network


def tail() -> Graph:
    """Boxes whose score is above a half, best first, as corners, with their overlaps."""
    return network(
        {"boxes": np.zeros((60, 4), np.float32), "scores": np.zeros(60, np.float32)},
        {
            "half": np.float32(0.5),
            "zero": np.array([0]),
            "two": np.array([2]),
            "four": np.array([4]),
            "one": np.array([1]),
            "last": np.array([-1]),
            "least": np.float32(0),
        },
        ("over", "greater", "scores half"),
        ("where", "non_zero", "over"),
        ("rows", "transpose", "where", {"perm": [1, 0]}),
        ("kept", "gather_nd", "boxes rows"),
        ("score", "gather_nd", "scores rows"),
        ("shape", "shape", "score"),
        ("best order", "topk", "score shape"),
        ("sorted", "gather", "kept order", {"axis": 0}),
        ("centre", "slice", "sorted zero two one"),
        ("size", "slice", "sorted two four one"),
        ("low", "sub", "centre size"),
        ("high", "add", "centre size"),
        ("corners", "concat", "low high", {"axis": 1}),
        ("a", "unsqueeze", "high one"),
        ("b", "unsqueeze", "high zero"),
        ("apart", "sub", "a b"),
        ("overlap", "max", "apart least"),
        ("count", "size", "best"),
        outputs=("corners", "overlap", "count"),
    )


def picture(count: int, seed: int = 0) -> dict[str, Array]:
    """60 boxes, `count` of them with a score above a half."""
    generator = np.random.default_rng(seed)
    scores = generator.random(60).astype(np.float32) * 0.4
    scores[generator.permutation(60)[:count]] += 0.55
    return {"boxes": generator.random((60, 4), np.float32), "scores": scores}


def bits(outputs: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(k, v.shape, v.dtype, v.tobytes()) for k, v in outputs.items()]


def test_each_number_of_boxes_is_run_without_a_plan() -> None:
    graph = tail()
    model = cnnrt.Model(graph)
    for count in [*range(0, 61, 5), 1]:
        feed = picture(count, seed=count)
        got = model(feed)
        for value, want in zip(got.values(), by_reference(graph, feed), strict=True):
            np.testing.assert_allclose(value, want, rtol=1e-6, atol=1e-6)
        assert got["count"] == count
    assert len(model.memory().plans) == 1
    text = model.describe(picture(7))
    assert "gather_nd on few elements: not planned" in text


def test_the_bits_are_those_of_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = (0, 1, 9, 60)
    model = cnnrt.Model(tail())
    without = [bits(model(picture(count))) for count in counts]
    monkeypatch.setattr(interpreter, "MAX_INPUT", -1)
    planned = cnnrt.Model(tail())
    assert [bits(planned(picture(count))) for count in counts] == without
    assert "not planned" not in planned.describe(picture(9))


def test_sizes_that_come_often_are_planned() -> None:
    model = cnnrt.Model(tail())
    feeds = [picture(9, seed=seed) for seed in range(3)]
    first = [bits(model(feed)) for feed in feeds]
    assert "not planned" in model.describe(feeds[0])
    for _ in range(interpreter.RUNS):
        model(feeds[0])
    assert "not planned" not in model.describe(feeds[0])
    assert [bits(model(feed)) for feed in feeds] == first
    model(picture(10))
    assert "not planned" in model.describe(picture(10))
    for _ in range(2):
        for count in range(interpreter.MAX_SIZES + 1):
            model(picture(count))
    assert len(model.memory().plans) <= 1 + interpreter.MAX_SIZES
    assert bits(model(feeds[0])) == first[0]


def test_profiles_and_summaries_of_what_has_no_plan() -> None:
    model = cnnrt.Model(tail())
    feed = picture(20)
    profile = model.profile(feed, seconds=0.02)
    assert sum(layer.nanoseconds for layer in profile.layers) > 0
    assert model.summary(feed).layers


def after_non_zero(*nodes: Any, constants: dict[str, Any] | None = None, output: str = "y") -> Any:
    """The nodes read `i`, the places of what is not zero in x."""
    made = network(
        {"x": np.zeros(8, np.float32)},
        {"all": np.array([-1]), **(constants or {})},
        ("p", "non_zero", "x"),
        ("i", "reshape", "p all"),
        *nodes,
        outputs=(output,),
    )
    return cnnrt.Model(made)


def test_sums_of_floats_are_planned() -> None:
    """NumPy adds in another order than the kernel."""
    model = after_non_zero(
        ("v", "gather", "x i", {"axis": 0}), ("y", "reduce_sum", "v", {"keepdims": 0})
    )
    x = np.float32([0, 1, 2, 0, 0, 5, 0, 0])
    assert model(x) == 8
    assert "not planned" not in model.describe(x)


def test_a_result_is_not_a_view_of_a_constant() -> None:
    table = np.arange(8, dtype=np.float32)
    model = after_non_zero(("y", "identity", "table"), constants={"table": table})
    model(np.ones(8, np.float32))[:] = 7
    assert np.array_equal(model(np.ones(8, np.float32)), np.arange(8))


def test_sizes_that_values_ask_for_are_held_to_the_memory_limit() -> None:
    model = after_non_zero(
        ("n", "reduce_max", "i", {"keepdims": 1}),
        ("m", "mul", "n factor"),
        ("y", "expand", "x4 m"),
        constants={"factor": np.array([10**8, 16, 16]), "x4": np.ones((1, 1, 1), np.float32)},
    )
    with pytest.raises(MemoryLimitError):
        model(np.float32([0, 0, 0, 1, 0, 0, 0, 0]))
    assert model(np.float32([1, 0, 0, 0, 0, 0, 0, 0])).shape == (0, 0, 0)


def test_errors_name_the_node() -> None:
    model = after_non_zero(("j", "add", "i i"), ("y", "gather", "x j", {"axis": 0}))
    with pytest.raises(IndexOutOfRange, match="gather"):
        model(np.ones(8, np.float32))
    model = after_non_zero(("y", "reshape", "i s"), constants={"s": np.array([2, 2])})
    assert model(np.float32([1, 1, 1, 1, 0, 0, 0, 0])).shape == (2, 2)
    with pytest.raises(ShapeError, match="reshape"):
        model(np.ones(8, np.float32))
