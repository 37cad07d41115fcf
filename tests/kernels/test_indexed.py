"""Gathering and scattering at indices that are computed, or constant and without order."""

from __future__ import annotations

import numpy as np
import pytest

from checks import Random, assert_close
from cnnrt import Model
from cnnrt.errors import IndexOutOfRange
from networks import by_kernels, by_reference, network, operator


def indices_of(*shape: int, size: int, dtype: type = np.int64, seed: int = 0) -> np.ndarray:
    """Random indices, some of which count from the end."""
    return np.random.default_rng(seed).integers(-size, size, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(5, 1, 3), (3, 70, 16), (4, 7, 17), (1, 9, 5000)])
def test_gather(
    shape: tuple[int, ...], axis: int, dtype: type, isa: str, threads: int, random: Random
) -> None:
    x, indices = random(*shape), indices_of(3, 5, size=shape[axis], dtype=dtype)
    for computed in ([1], [1, 0], []):
        graph, inputs = operator("gather", x, indices, computed=computed, axis=axis)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert np.array_equal(got, np.take(x, indices, axis=axis))


def test_gather_from_a_constant_table(isa: str, random: Random) -> None:
    table, tokens = random(50, 24), indices_of(3, 11, size=50)
    graph = network({"t": tokens}, {"w": table}, ("y", "gather", "w t", {"axis": 0}))
    assert np.array_equal(by_kernels(graph, {"t": tokens}, isa=isa)[0], table[tokens])


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.int32, np.int64, np.bool_])
def test_gather_moves_any_dtype(dtype: type, isa: str, random: Random) -> None:
    x, indices = (100 * random(6, 5)).astype(dtype), indices_of(4, size=6)
    made = {"x": x, "i": indices}
    graph = network(made, {}, ("y", "gather", "x i", {"axis": 0}))
    assert np.array_equal(by_kernels(graph, made, isa=isa)[0], x[indices])
    each = indices_of(4, 5, size=6)
    made = {"x": x, "i": each}
    graph = network(made, {}, ("y", "gather_elements", "x i", {"axis": 0}))
    assert np.array_equal(by_kernels(graph, made, isa=isa)[0], x[each % 6, np.arange(5)])


def test_gather_nd(isa: str, threads: int, random: Random) -> None:
    for batch, shape in ((0, (7, 5, 3)), (1, (4, 7, 33)), (2, (2, 3, 6))):
        x = random(*shape)
        indices = indices_of(*shape[:batch], 9, 2, 1, size=shape[batch])
        graph, inputs = operator("gather_nd", x, indices, computed=[1], batch_dims=batch)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert np.array_equal(got, by_reference(graph, inputs)[0].astype(np.float32))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_constant_tuples_of_narrow_integers(dtype: type, isa: str, random: Random) -> None:
    """The axes have more elements than these integers can count."""
    x = random(300, 301, 2)
    indices = np.array([[0, 1], [127, 126], [7, 0]]).astype(dtype)
    if dtype != np.uint8:
        indices[1] = -1
    graph, inputs = operator("gather_nd", x, indices)
    (got,) = by_kernels(graph, inputs, isa=isa)
    assert np.array_equal(got, x[tuple(indices.astype(int).T)])


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
@pytest.mark.parametrize("inner", [1, 3, 16, 17, 50])
def test_scatter(reduction: str, inner: int, isa: str, threads: int, random: Random) -> None:
    """Rows at several indices, some of them equal."""
    x, updates, indices = random(9, inner), random(20, inner), indices_of(20, 1, size=9)
    if reduction == "none":
        indices = np.random.default_rng(1).permutation(9)[:7, None]
        updates = updates[:7]
    graph, inputs = operator(
        "scatter_nd", x, indices, updates, computed=[1, 2], reduction=reduction
    )
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    assert_close(got, by_reference(graph, inputs)[0], 1e-6, reduction)
    assert np.array_equal(x, inputs["x0"])


@pytest.mark.parametrize("reduction", ["none", "add", "max"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scatter_elements(
    reduction: str, axis: int, isa: str, threads: int, random: Random
) -> None:
    x = random(3, 5, 18)
    shape = [4 if a == axis else n for a, n in enumerate(x.shape)]
    indices = indices_of(*shape, size=x.shape[axis])
    if reduction == "none":  # where two write to one place, either may be last
        order = np.random.default_rng(2).permuted(np.indices(x.shape)[axis], axis=axis)
        shape[axis] = 3
        indices = np.take(order, range(3), axis=axis)
    updates = random(*shape)
    graph, inputs = operator(
        "scatter_elements", x, indices, updates, computed=[1, 2], axis=axis, reduction=reduction
    )
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    assert_close(got, by_reference(graph, inputs)[0], 1e-6, reduction)


def test_scatter_reads_expanded_indices_by_the_row(isa: str, random: Random) -> None:
    """Rows indexed as by PyTorch's scatter_add over the nodes of a graph."""
    x, updates, rows = random(6, 40), random(11, 40), indices_of(11, 1, size=6)
    made = {"x": x, "u": updates, "i": rows}
    graph = network(
        made,
        {"shape": np.array([11, 40])},
        ("e", "expand", "i shape"),
        ("y", "scatter_elements", "x e u", {"axis": 0, "reduction": "add"}),
    )
    (got,) = by_kernels(graph, made, isa=isa)
    assert_close(got, by_reference(graph, made)[0], 1e-6)
    whole, *_ = (by_kernels(graph, made, isa=isa, threads=2),)
    assert np.array_equal(got, whole[0])


@pytest.mark.parametrize("bad", [5, -6, 1 << 40])
@pytest.mark.parametrize("op", ["gather", "scatter_nd"])
def test_an_index_beyond_the_axis_names_the_node(
    op: str, bad: int, isa: str, threads: int, random: Random
) -> None:
    x, indices = random(5, 8000), np.array([[1], [bad], [2]])
    made = {"x": x, "i": indices, "u": random(3, 8000)}
    inputs = "x i" if op == "gather" else "x i u"
    made = {name: made[name] for name in inputs.split()}
    graph = network(
        made, {}, ("a", "relu", "x"), ("y", op, inputs), ("z", "abs", "y"), outputs=["z"]
    )
    model = Model(graph, threads=threads, isa=isa)
    with pytest.raises(IndexOutOfRange, match=rf"'y'.* {bad} .* 5 elements"):
        model.run(made)
    indices[1] = 3
    assert np.isfinite(model.run(made)).all()


def test_gather_nd_of_constant_tuples(isa: str, threads: int, random: Random) -> None:
    x = random(6, 5, 2, 9)
    tuples = np.stack([indices_of(4, 3, size=6), indices_of(4, 3, size=5, seed=1)], axis=-1)
    graph, inputs = operator("gather_nd", x, tuples)
    (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
    assert np.array_equal(got, x[tuples[..., 0], tuples[..., 1]])


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.int64, np.bool_])
@pytest.mark.parametrize(
    "condition, a, b",
    [
        ((4, 1, 7), (4, 5, 7), (1,)),
        ((), (3, 4), (3, 4)),
        ((5000,), (1,), (2, 1)),
        ((2, 3), (3,), (2, 1)),
        ((1,), (), ()),
    ],
)
def test_where(
    condition: tuple[int, ...],
    a: tuple[int, ...],
    b: tuple[int, ...],
    dtype: type,
    isa: str,
    threads: int,
    random: Random,
) -> None:
    made = {
        "c": np.asarray(random(*condition) > 0),
        "a": np.asarray(9 * random(*a)).astype(dtype),
        "b": np.asarray(9 * random(*b)).astype(dtype),
    }
    graph = network(made, {}, ("y", "where", "c a b"))
    (got,) = by_kernels(graph, made, isa=isa, threads=threads)
    assert np.array_equal(got, np.where(made["c"], made["a"], made["b"]))
