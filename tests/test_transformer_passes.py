"""The passes that turn the patterns that exporters write for transformers and ConvNeXt into few
operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checks import Random, assert_close
from cnnrt.graph import Array, Graph
from cnnrt.passes import prepare, specialise
from networks import by_kernels, by_reference, network


def operators(graph: Graph) -> list[str]:
    shapes: dict[str, Any] = {spec.name: spec.shape for spec in graph.inputs}
    done = specialise(prepare(graph, [spec.name for spec in graph.outputs]), shapes)
    return [node.op for node in done.nodes]


def same(graph: Graph, inputs: dict[str, Array]) -> None:
    for got, want in zip(by_kernels(graph, inputs), by_reference(graph, inputs), strict=True):
        assert_close(got, want, 3e-6)


def attention(random: Random, *scores: Any, **more: Any) -> tuple[Graph, dict[str, Array]]:
    """Projections of 3 heads apart, `scores` from q, kt to s, and the heads together again."""
    inputs = {"x": random(2, 10, 24)}
    constants = {
        "qkv": np.float32(0.2) * random(24, 72),
        "cut": np.array([2, 10, 3, 3, 8], np.int64),
        "joined": np.array([2, 10, 24], np.int64),
        **{f"i{i}": np.int64(i) for i in range(3)},
        **more,
    }
    graph = network(
        inputs,
        constants,
        ("p", "matmul", "x qkv"),
        ("c", "reshape", "p cut"),
        ("t", "transpose", "c", {"perm": [2, 0, 3, 1, 4]}),
        *[(name, "gather", f"t i{i}") for i, name in enumerate("qkv")],
        ("kt", "transpose", "k", {"perm": [0, 1, 3, 2]}),
        *scores,
        ("w", "softmax", "s"),
        ("a", "matmul", "w v"),
        ("h", "transpose", "a", {"perm": [0, 2, 1, 3]}),
        ("y", "reshape", "h joined"),
    )
    return graph, inputs


SCORES = {
    "plain": [("s", "matmul", "q kt")],
    "scaled": [("m", "matmul", "q kt"), ("s", "div", "m factor")],
    "both": [("u", "mul", "q factor"), ("r", "mul", "kt factor"), ("s", "matmul", "u r")],
    "masked": [("m", "matmul", "q kt"), ("n", "mul", "m factor"), ("s", "add", "n mask")],
    "mask first": [("u", "mul", "factor q"), ("m", "matmul", "u kt"), ("s", "add", "mask m")],
}


@pytest.mark.parametrize("kind", SCORES)
def test_attention(kind: str, random: Random) -> None:
    graph, inputs = attention(random, *SCORES[kind], factor=np.float32(0.4), mask=random(3, 1, 10))
    assert "attention" in operators(graph)
    assert not {"softmax", "matmul", "mul"} & set(operators(graph))
    same(graph, inputs)


def test_attention_is_left_where_its_scores_are_asked_for(random: Random) -> None:
    graph, inputs = attention(random, *SCORES["plain"])
    wanted = network({}, {}, outputs=["y", "s"])
    graph.outputs = wanted.outputs
    assert "attention" not in operators(graph)
    same(graph, inputs)


@pytest.mark.parametrize("first", [True, False])
def test_reshapes_before_a_residual_go_before_the_layer(first: bool, random: Random) -> None:
    inputs = {"x": random(1, 10, 24)}
    graph = network(
        inputs,
        {
            "w": random(24, 24),
            "flat": np.array([10, 24], np.int64),
            "apart": np.array([10, 1, 24], np.int64),
        },
        ("n", "neg", "x"),
        ("f", "reshape", "n flat"),
        ("p", "matmul", "f w"),
        ("u", "reshape", "p apart"),
        ("t", "transpose", "u", {"perm": [1, 0, 2]}),
        ("y", "add", "t x" if first else "x t"),
    )
    assert operators(graph) == ["neg", "reshape", "reshape", "linear"]
    same(graph, inputs)


def test_a_transpose_that_moves_rows_stays(random: Random) -> None:
    inputs = {"x": random(10, 2, 24), "r": random(2, 10, 24)}
    graph = network(
        inputs,
        {"w": random(24, 24)},
        ("p", "matmul", "x w"),
        ("t", "transpose", "p", {"perm": [1, 0, 2]}),
        ("y", "add", "t r"),
    )
    assert operators(graph) == ["linear", "transpose", "add"]
    same(graph, inputs)


def convnext_block(random: Random) -> tuple[Graph, dict[str, Array]]:
    inputs = {"x": random(2, 24, 6, 5)}
    constants = {
        "dw": random(24, 1, 3, 3),
        "scale": random(24),
        "bias": random(24),
        "up": random(24, 96),
        "up_bias": random(96),
        "down": random(96, 24),
        "down_bias": random(24),
        "layer_scale": random(24, 1, 1),
    }
    graph = network(
        inputs,
        constants,
        ("d", "conv", "x dw", {"group": 24, "pads": [1, 1, 1, 1]}),
        ("t", "transpose", "d", {"perm": [0, 2, 3, 1]}),
        ("n", "layer_normalization", "t scale bias"),
        ("u", "matmul", "n up"),
        ("v", "add", "u up_bias"),
        ("g", "gelu", "v"),
        ("e", "matmul", "g down"),
        ("f", "add", "e down_bias"),
        ("b", "transpose", "f", {"perm": [0, 3, 1, 2]}),
        ("m", "mul", "layer_scale b"),
        ("y", "add", "m x"),
    )
    return graph, inputs


def test_convnext_block(random: Random) -> None:
    graph, inputs = convnext_block(random)
    assert operators(graph) == ["conv", "channel_normalization", "conv", "conv"]
    (got,), (want,) = by_kernels(graph, inputs), by_reference(graph, inputs)
    assert_close(got, want, 3e-6)


def test_channels_last_stays_where_it_is_asked_for(random: Random) -> None:
    graph, inputs = convnext_block(random)
    graph.outputs += network({}, {}, outputs=["g"]).outputs
    assert "channel_normalization" not in operators(graph)
    same(graph, inputs)


@pytest.mark.parametrize(
    ("op", "shape"),
    [("add", (12, 1, 1)), ("mul", (1, 12, 1, 1)), ("mul", ()), ("sub", (1,)), ("div", (12, 1, 1))],
)
def test_constants_per_channel_fold(op: str, shape: tuple[int, ...], random: Random) -> None:
    inputs = {"x": random(2, 5, 6, 6)}
    c = np.asarray(random(*shape)) + np.float32(4)
    graph = network(
        inputs,
        {"w": random(12, 5, 3, 3), "b": random(12), "c": c},
        ("a", "conv", "x w b"),
        ("y", op, "a c"),
    )
    assert operators(graph) == ["conv"]
    same(graph, inputs)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (12, 4, 4), (1, 1, 1, 4), (2, 1, 1, 1)])
def test_other_constants_do_not_fold(shape: tuple[int, ...], random: Random) -> None:
    inputs = {"x": random(2, 5, 6, 6)}
    graph = network(
        inputs,
        {"w": random(12, 5, 3, 3), "c": random(*shape)},
        ("a", "conv", "x w"),
        ("y", "mul", "a c"),
    )
    assert operators(graph) == ["conv", "mul"]
    same(graph, inputs)


def test_a_constant_minus_a_layer_does_not_fold(random: Random) -> None:
    inputs = {"x": random(3, 5)}
    for op in ("sub", "div"):
        graph = network(
            inputs, {"w": random(5, 6), "c": random(6)}, ("a", "matmul", "x w"), ("y", op, "c a")
        )
        assert operators(graph) == ["linear", op]


def block(random: Random, *last: Any, **more: Any) -> tuple[Graph, dict[str, Array]]:
    """A pre-norm transformer block on x (2, 10, 24), and `last` from its result z to y."""
    scores = [("m", "matmul", "q kt"), ("s", "mul", "m factor")]
    graph, inputs = attention(random, *scores, factor=np.float32(0.3))
    end = network(
        inputs,
        {
            "scale": random(24),
            "up": np.float32(0.2) * random(24, 48),
            "down": np.float32(0.2) * random(48, 24),
            **more,
        },
        ("z1", "add", "y0 x"),
        ("n", "layer_normalization", "z1 scale"),
        ("u", "matmul", "n up"),
        ("g", "gelu", "u"),
        ("d", "matmul", "g down"),
        ("z", "add", "z1 d"),
        *last,
    )
    graph.nodes[-1].outputs = ["y0"]
    graph.nodes += end.nodes
    graph.constants |= end.constants
    return graph, inputs


LAST = {
    "token": (("y", "gather", "z first", {"axis": 1}),),
    "normalised": (
        ("zn", "layer_normalization", "z scale"),
        ("row", "gather", "zn first", {"axis": 1}),
        ("y", "neg", "row"),
    ),
    "few": (("y", "gather", "z some", {"axis": 1}),),
    "image": (("y", "gather", "z first", {"axis": 0}),),
}


@pytest.mark.parametrize("kind", LAST)
def test_rows_that_nobody_reads(kind: str, random: Random) -> None:
    """The same bits, from fewer rows."""
    graph, inputs = block(
        random, *LAST[kind], first=np.int64(1), some=np.array([3, 0, -1], np.int64)
    )
    same(graph, inputs)
    (narrow,) = by_kernels(graph, inputs)
    graph.outputs += network({}, {}, outputs=["z", "zn"] if kind == "normalised" else ["z"]).outputs
    assert np.array_equal(narrow, by_kernels(graph, inputs)[0])


def test_a_selection_reaches_the_queries(random: Random) -> None:
    graph, _ = block(random, *LAST["token"], first=np.int64(0))
    done = specialise(prepare(graph, ["y"]), {"x": (2, 10, 24)})
    shapes = {node.op: done.types[node.outputs[0]].shape for node in done.nodes}
    assert shapes["attention"] == (2, 3, 1, 8)
    assert all(
        done.types[n.outputs[0]].shape[:2] == (2, 1)
        for n in done.nodes
        if n.op in ("layer_normalization", "linear") and n.outputs != ["p"]
    )


@pytest.mark.parametrize(
    ("attributes", "rows"),
    [({}, 1), ({"is_causal": 1}, 6), ({"left_window_size": 2}, 6), ({"right_window_size": 1}, 6)],
)
def test_queries_whose_position_counts_are_not_selected(
    attributes: dict[str, int], rows: int, random: Random
) -> None:
    inputs = {name: random(1, 2, 6, 4) for name in "qkv"}
    graph = network(
        inputs,
        {"i": np.array([3], np.int64)},
        ("a", "attention", "q k v", attributes),
        ("y", "gather", "a i", {"axis": 2}),
    )
    done = specialise(prepare(graph, ["y"]), dict.fromkeys("qkv", (1, 2, 6, 4)))
    (attention,) = (node for node in done.nodes if node.op == "attention")
    assert done.types[attention.outputs[0]].shape[2] == rows
    same(graph, inputs)


@pytest.mark.parametrize(
    ("node", "constants"),
    [
        (("a", "softmax", "x", {"axis": 2}), {}),
        (("a", "concat", "x x", {"axis": 2}), {}),
        (("a", "max_pool", "x", {"kernel_shape": [3]}), {}),
        (("a", "instance_normalization", "x s s"), {"s": np.arange(1, 7, dtype=np.float32)}),
        (("a", "reduce_mean", "x axes"), {"axes": np.array([2], np.int64)}),
        (("a", "where", "c x zero"), {"c": np.eye(6, 8) == 0, "zero": np.zeros((), np.float32)}),
    ],
    ids=lambda case: case[1] if isinstance(case, tuple) else "",
)
def test_a_selection_passes_what_works_row_by_row(
    node: tuple[Any, ...], constants: dict[str, Array], random: Random
) -> None:
    inputs = {"x": random(2, 6, 8)}
    constants = {**constants, "i": np.array([4, 1], np.int64)}
    graph = network(inputs, constants, node, ("y", "gather", "a i", {"axis": 1}))
    done = specialise(prepare(graph, ["y"]), {"x": (2, 6, 8)})
    assert done.nodes[-1].op != "gather"
    same(graph, inputs)


def test_many_rows_are_not_narrowed(random: Random) -> None:
    graph, inputs = block(random, *LAST["few"], some=np.array([3, 0, -1, 4, 5, 6], np.int64))
    done = specialise(prepare(graph, ["y"]), {"x": (2, 10, 24)})
    assert done.nodes[-1].op == "gather"
    same(graph, inputs)


@pytest.mark.parametrize("order", [("m", "mask"), ("mask", "m")])
def test_the_mask_of_shifted_windows(order: tuple[str, str], random: Random) -> None:
    """Swin: a bias for all windows, then a mask for each, added between two reshapes."""
    q, k, v = random(8, 3, 6, 4), random(8, 3, 6, 4), random(8, 3, 6, 5)
    made = {"q": q, "k": k, "v": v}
    graph = network(
        made,
        {
            "bias": random(1, 3, 6, 6),
            "mask": np.where(random(1, 4, 1, 6, 6) > 0, np.float32(0), np.float32(-100)),
            "cut": np.array([-1, 4, 3, 6, 6]),
            "back": np.array([-1, 3, 6, 6]),
        },
        ("kt", "transpose", "k", {"perm": [0, 1, 3, 2]}),
        ("s", "matmul", "q kt"),
        ("b", "add", "s bias"),
        ("m", "reshape", "b cut"),
        ("n", "add", " ".join(order)),
        ("r", "reshape", "n back"),
        ("w", "softmax", "r"),
        ("y", "matmul", "w v"),
    )
    assert operators(graph).count("attention") == 1
    same(graph, made)


def test_attention_in_windows_of_several_images(random: Random) -> None:
    """MaxViT: five axes, and a bias for every head."""
    made = {"q": random(2, 4, 3, 6, 8), "k": random(2, 4, 3, 6, 8), "v": random(2, 4, 3, 6, 5)}
    graph = network(
        made,
        {"bias": random(1, 3, 6, 6), "factor": np.float32(0.3)},
        ("u", "mul", "k factor"),
        ("s", "einsum", "q u", {"equation": "B G H I D, B G H J D -> B G H I J"}),
        ("n", "add", "s bias"),
        ("w", "softmax", "n"),
        ("y", "einsum", "w v", {"equation": "B G H I J, B G H J D -> B G H I D"}),
    )
    assert operators(graph).count("attention") == 1
    same(graph, made)
