"""Batches whose images are run one by one, and networks for which that would be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from cnnrt import Model, ops, passes
from cnnrt.errors import ShapeError
from cnnrt.graph import Array, Graph, Node, TensorSpec
from cnnrt.model import plan_for
from cnnrt.planning import batch as batches
from cnnrt.planning.batch import BatchPlan
from networks import by_reference, network
from test_random_graphs import QUICK, check, graphs

N = 5
rng = np.random.default_rng(0)


def w(*shape: int) -> Array:
    return rng.standard_normal(shape, dtype=np.float32) / 8


def i64(*values: int) -> Array:
    return np.array(values, np.int64)


def of_batch(*nodes: Any, outputs: Any = ("y",), shape: Any = (4, 6, 6), **constants: Any) -> Graph:
    """A network for x (N, *shape)."""
    return network({"x": w(N, *shape)}, constants, *nodes, outputs=outputs)


def treats_apart(graph: Graph) -> bool:
    sizes = {spec.name: spec.shape for spec in graph.inputs}
    prepared = passes.prepare(graph, [spec.name for spec in graph.outputs], sizes)
    one = {name: (1, *shape[1:]) for name, shape in sizes.items()}
    try:
        twin = passes.specialise(prepared, one)
    except ShapeError:
        return False
    return passes.dependence(passes.specialise(prepared, sizes), twin) is None


def apart() -> Iterator[tuple[str, Graph]]:
    yield "bias per channel", of_batch(("y", "add", "x c"), c=w(4, 1, 1))
    yield "residual", of_batch(("a", "relu", "x"), ("y", "add", "a x"))
    flat = ("a", "reshape", "x s")
    yield "flatten by reshape", of_batch(flat, ("y", "linear", "a m"), s=i64(-1, 144), m=w(3, 144))
    yield "softmax", of_batch(("y", "softmax", "x", {"axis": 1}))
    yield "concat", of_batch(("a", "relu", "x"), ("y", "concat", "x a", {"axis": 1}))
    yield "tokens", of_batch(("y", "transpose", "x", {"perm": [0, 2, 3, 1]}))
    yield "mean", of_batch(("y", "reduce_mean", "x a"), a=i64(2, 3))
    yield "slice", of_batch(("y", "slice", "x b e a"), b=i64(1), e=i64(3), a=i64(1))
    yield "pad", of_batch(("y", "pad", "x p"), p=i64(0, 0, 1, 1, 0, 0, 1, 1))
    yield (
        "products",
        of_batch(("t", "transpose", "x", {"perm": [0, 1, 3, 2]}), ("y", "matmul", "x t")),
    )
    yield (
        "resized to a size that says how many images",
        of_batch(
            ("n", "shape", "x", {"start": 0, "end": 1}),
            ("s", "concat", "n r", {"axis": 0}),
            ("y", "resize", "x   s", {"mode": "linear"}),
            r=i64(4, 12, 9),
        ),
    )
    yield (
        "a token for each image",
        of_batch(
            ("n", "shape", "x", {"start": 0, "end": 1}),
            ("s", "concat", "n r", {"axis": 0}),
            ("t", "expand", "c s"),
            ("y", "concat", "x t", {"axis": 1}),
            c=w(1, 1, 6, 6),
            r=i64(1, 6, 6),
        ),
    )

    yield "classes of pixels", of_batch(("y", "argmax", "x", {"axis": 1, "keepdims": 0}))
    yield "least", of_batch(("y", "argmin", "x", {"axis": 3}))
    yield "best five", of_batch(("v y", "topk", "x k", {"axis": 3}), outputs=("v", "y"), k=i64(5))
    yield "dtype of another", of_batch(("y", "cast_like", "x c"), c=np.zeros(1, np.float16))
    yield "gemm", of_batch(("y", "gemm", "x b c"), shape=(4,), b=w(4, 3), c=w(3))
    yield (
        "samples",
        of_batch(
            ("g", "slice", "x b e a", {}),
            ("t", "transpose", "g", {"perm": [0, 2, 3, 1]}),
            ("h", "tanh", "t"),
            ("y", "grid_sample", "x h"),
            b=i64(0),
            e=i64(2),
            a=i64(1),
        ),
    )
    yield "tiled", of_batch(("y", "tile", "x r"), r=i64(1, 2, 1, 3))
    yield "triangles", of_batch(("y", "trilu", "x"))
    rows = i64(*range(6)[::-1])
    yield (
        "elements",
        of_batch(
            ("s", "shape", "x"),
            ("i", "expand", "r s"),
            ("y", "gather_elements", "x i", {"axis": 3}),
            r=rows,
        ),
    )
    yield (
        "pairs",
        of_batch(
            ("t", "transpose", "x", {"perm": [1, 0, 2, 3]}),
            ("g", "gather_nd", "t i"),
            ("y", "transpose", "g", {"perm": [1, 0, 2, 3]}),
            i=i64(2, 0).reshape(2, 1),
        ),
    )
    yield (
        "updated rows",
        of_batch(
            ("t", "transpose", "x", {"perm": [1, 0, 2, 3]}),
            ("n", "shape", "t", {"start": 1}),
            ("m", "concat", "two n", {"axis": 0}),
            ("u", "expand", "c m"),
            ("g", "scatter_nd", "t i u"),
            ("y", "transpose", "g", {"perm": [1, 0, 2, 3]}),
            i=i64(2, 0).reshape(2, 1),
            two=i64(2),
            c=w(2, 1, 6, 6),
        ),
    )
    yield "standardised", of_batch(("y", "mean_variance_normalization", "x", {"axes": [2, 3]}))
    yield (
        "tokens of an embedding",
        of_batch(
            ("i", "argmax", "x", {"axis": 1, "keepdims": 0}), ("y", "gather", "e i"), e=w(4, 7)
        ),
    )
    for op, gates in (("rnn", 1), ("gru", 3), ("lstm", 4)):
        parameters = {"m": w(1, gates * 5, 3), "r": w(1, gates * 5, 5), "b": w(1, gates * 10)}
        yield op, of_batch(("y", op, "x m r b", {"layout": 1}), shape=(6, 3), **parameters)
        yield (
            f"{op} between transposes",
            of_batch(
                ("t", "transpose", "x", {"perm": [1, 0, 2]}),
                ("s", op, "t m r b"),
                ("y", "transpose", "s", {"perm": [2, 0, 1, 3]}),
                shape=(6, 3),
                **parameters,
            ),
        )


def mixing() -> Iterator[tuple[str, Graph]]:
    yield "constants of their own", of_batch(("y", "add", "x c"), c=w(N, 1, 1, 1))
    yield "mean over the batch", of_batch(("y", "reduce_mean", "x a"), a=i64(0))
    yield "mean over all axes", of_batch(("y", "reduce_mean", "x"))
    yield "softmax", of_batch(("y", "softmax", "x", {"axis": 0}))
    yield (
        "reversed",
        of_batch(("y", "slice", "x b e a s"), b=i64(-1), e=i64(-N - 1), a=i64(0), s=i64(-1)),
    )
    yield "reshaped to one image", of_batch(("y", "reshape", "x s"), s=i64(1, -1))
    yield "reshaped across", of_batch(("y", "reshape", "x s"), s=i64(4, N, 36))
    yield "transposed", of_batch(("y", "transpose", "x", {"perm": [1, 0, 2, 3]}))
    yield "another image", of_batch(("y", "gather", "x i", {"axis": 0}), i=i64(*range(N))[::-1])
    yield (
        "gram matrix",
        of_batch(("t", "transpose", "x", {"perm": [1, 0]}), ("y", "matmul", "x t"), shape=(4,)),
    )
    yield "broadcast across", of_batch(("y", "add", "x c"), shape=(), c=w(4, N))
    yield "best images", of_batch(("v y", "topk", "x k", {"axis": 0}), outputs=("v", "y"), k=i64(N))
    yield "triangle over images", of_batch(("y", "trilu", "x"), shape=(6,))
    yield "tiled images", of_batch(("y", "tile", "x r"), r=i64(2, 1, 1, 1))
    yield "steps", of_batch(("y", "rnn", "x m r"), shape=(6, 3), m=w(1, 5, 3), r=w(1, 5, 5))
    yield (
        "resized by a scale that keeps their number",
        of_batch(
            ("y", "resize", "x  s", {"mode": "linear"}), s=np.array([1.1, 1, 2, 2], np.float32)
        ),
    )
    yield "cumulative", of_batch(("y", "cumsum", "x a"), a=np.array(0))
    yield "padded at the ends", of_batch(("y", "pad", "x p"), p=i64(-1, 0, 0, 0, 1, 0, 0, 0))
    yield (
        "statistics of the batch",
        of_batch(
            ("y", "batch_normalization", "x a b a c", {"training_mode": 1}),
            **{"a": w(4), "b": w(4), "c": abs(w(4))},
        ),
    )


@pytest.mark.parametrize("case", list(apart()), ids=lambda c: c[0])
def test_images_stay_apart(case: tuple[str, Graph]) -> None:
    assert treats_apart(case[1])


@pytest.mark.parametrize("case", list(mixing()), ids=lambda c: c[0])
def test_images_are_mixed(case: tuple[str, Graph]) -> None:
    assert not treats_apart(case[1])


def test_recurrent_layers_take_all_images_at_once() -> None:
    """Images are independent, but each step would read the weights again for every image."""
    graph = of_batch(
        ("a", "conv", "x k", {"pads": [1, 1]}),
        ("t", "transpose", "a", {"perm": [2, 0, 1]}),
        ("s", "lstm", "t m r"),
        ("y", "transpose", "s", {"perm": [2, 0, 1, 3]}),
        shape=(16, 40),
        k=w(64, 16, 3),
        m=w(1, 4 * 32, 64),
        r=w(1, 4 * 32, 32),
    )
    assert treats_apart(graph)
    assert "one by one" not in Model(graph, threads=1).describe(w(N, 16, 40))


def test_describe_says_why_images_are_not_independent() -> None:
    graph = of_batch(
        ("a", "conv", "x k"),
        ("y", "softmax", "a", {"axis": 0}),
        shape=(16, 9, 9),
        k=w(16, 16, 3, 3),
    )
    text = Model(graph).describe(w(N, 16, 9, 9))
    assert text.endswith("all images at once: node 'y' (softmax) mixes the images of a batch")


@QUICK
@given(graphs(8))
def test_where_images_stay_apart_references_agree(case: tuple[Graph, dict[str, Any]]) -> None:
    graph, inputs = case
    n = len(inputs["x"])
    if n == 1 or not treats_apart(graph):
        return
    whole = by_reference(graph, inputs)
    for i in range(n):
        for y, alone in zip(whole, by_reference(graph, {"x": inputs["x"][i : i + 1]}), strict=True):
            np.testing.assert_allclose(y[i : i + 1], alone, 1e-9, 1e-9)


@QUICK
@given(graphs(8))
def test_random_graphs_image_by_image(isa: str, case: tuple[Graph, dict[str, Any]]) -> None:
    """Images run one by one wherever they stay apart, even if that is not thought to be faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "pays_one_by_one", lambda lowered, _options: lowered.all_kernels)
        check(*case, isa)


def classifier(hidden: int = 32) -> Graph:
    """Two convolutions, and two fully connected layers behind them."""
    graph = of_batch(
        ("a", "conv", "x k", {"pads": [1] * 4}),
        ("b", "conv", "a l", {"pads": [1] * 4}),
        ("c", "flatten", "b"),
        ("d", "linear", "c m"),
        ("y", "linear", "d n"),
        shape=(3, 32, 32),
        **{
            "k": w(16, 3, 3, 3),
            "l": w(16, 16, 3, 3),
            "m": w(hidden, 16 * 32 * 32),
            "n": w(9, hidden),
        },
    )
    graph.inputs = [TensorSpec("x", ("batch", 3, 32, 32))]
    return graph


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_classifier_is_cut_at_its_fully_connected_layers(isa: str, threads: int) -> None:
    graph = classifier()
    model = Model(graph, isa=isa, threads=threads)
    x = w(N, 3, 32, 32)
    plan = plan_for(model, [x])
    assert isinstance(plan, BatchPlan)
    head, tail = plan.parts
    assert head.images == N and tail.images == 1
    y = model(x)
    alone = np.concatenate([model(x[i : i + 1]) for i in range(N)])
    assert np.array_equal(y, alone)
    np.testing.assert_allclose(y, by_reference(graph, {"x": x})[0], rtol=0, atol=1e-4)


def test_the_weights_behind_the_cut_count_for_the_choice_of_algorithms(isa: str) -> None:
    """Weights of 10 MB do not stay in cache, nor do the others beside them, in a batch or alone."""
    model = Model(classifier(hidden=160), isa=isa, threads=1)
    alone, batch = (plan_for(model, [w(n, 3, 32, 32)]) for n in (1, N))
    assert isinstance(batch, BatchPlan)
    notes = [[s.note for s in plan.describe() if s.node in "ab"] for plan in (alone, batch)]
    assert notes[0] == notes[1]
    assert len({plan.describe()[1].cost_ns for plan in (alone, batch)}) == 1


def test_a_batch_plan_tells_as_much_as_any(isa: str) -> None:
    model = Model(classifier(), isa=isa, threads=2)
    x = w(N, 3, 32, 32)
    plan = plan_for(model, [x])
    assert "images" not in model.describe(x[:1])
    assert model.describe(x).endswith(f"{N} images, one by one, and from 'c' on all at once")
    model(x)
    steps = plan.describe()
    assert [s.node for s in steps if "linear" in s.kernel] == ["d", "y"]
    spans = plan.trace([x])
    assert spans.shape == (2, len(steps), 2) and (spans[..., 1].max(axis=0) >= 0).all()
    assert len(plan.time([x])) == len(steps)
    use = model.memory()
    assert use.plans[-1].shapes == ((N, 3, 32, 32),) and use.workspaces == 2
    head, tail = (part.memory().arena for part in plan.parts)
    assert 2 * head <= use.arena <= 2 * max(head, tail)
    assert f"{N}x3x32x32" in str(model.profile(x, seconds=0.05)).replace(", ", "x")
    model.trim()
    assert model.memory().activations == 0
    assert model(x).shape == (N, 9)


def test_an_inner_tensor_of_a_batch(isa: str) -> None:
    model = Model(classifier(), isa=isa, threads=2)
    x = w(N, 3, 32, 32)
    b, y = (model.run(x, outputs=["b", "y"])[name] for name in ("b", "y"))
    assert b.shape == (N, 16, 32, 32) and np.array_equal(y, model(x))


def test_a_free_batch_that_cannot_be_one() -> None:
    """The model loads; a size that does not fit is an error of the call."""
    node = Node("reshape", "pairs", ["x", "shape"], ["y"])
    ops.complete(node)
    spec = TensorSpec("x", ("batch", 4))
    graph = Graph([spec], [TensorSpec("y", ())], [node], {"shape": np.int64([2, -1, 4])})
    model = Model(graph)
    x = np.arange(16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_array_equal(model(x), x.reshape(2, 2, 4))
    with pytest.raises(ShapeError, match="4 elements do not make"):
        model(x[:1])
