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


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("batch", [0, 1])
def test_gather_nd_of_computed_tuples(
    batch: int, dtype: type, isa: str, threads: int, random: Random
) -> None:
    """Tuples of two and three indices, some of which count from the end."""
    x = random(2, 5, 7, 3, 4)
    for depth in (2, 3):
        sizes = x.shape[batch : batch + depth]
        lead = (*x.shape[:batch], 6)
        tuples = np.stack(
            [indices_of(*lead, size=n, dtype=dtype, seed=a) for a, n in enumerate(sizes)], axis=-1
        )
        graph, inputs = operator("gather_nd", x, tuples, computed=[1], batch_dims=batch)
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert np.array_equal(got, by_reference(graph, inputs)[0].astype(np.float32))


def places_of(shape: tuple[int, ...], count: int, apart: bool) -> np.ndarray:
    """Tuples (count, rank) of places, all different if `apart`."""
    generator = np.random.default_rng(5)
    size = int(np.prod(shape))
    flat = generator.permutation(size)[:count] if apart else generator.integers(0, size, count)
    tuples = np.stack(np.unravel_index(flat, shape), axis=-1)
    tuples[::2] -= shape  # from the end
    return tuples


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "min", "max"])
@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "float64"]
)
def test_scatter_of_every_type(reduction: str, dtype: str, isa: str, threads: int) -> None:
    """Rows at single indices, elements at tuples, and lines along an axis; integers wrap."""
    if dtype == "bool" and reduction != "none":
        return
    generator = np.random.default_rng(4)

    def numbers(*shape: int) -> np.ndarray:
        if dtype == "float64":
            return generator.standard_normal(shape)
        if dtype == "bool":
            return generator.random(shape) > 0.5
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)

    apart = reduction == "none"
    for inner in (1, 15, 16, 17):
        x = numbers(9, 5, inner)
        for depth in (1, 2):
            tuples = places_of(x.shape[:depth], 8 if depth == 1 else 20, apart)
            updates = numbers(len(tuples), *x.shape[depth:])
            graph, inputs = operator(
                "scatter_nd", x, tuples, updates, computed=[1, 2], reduction=reduction
            )
            (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
            assert got.dtype == x.dtype
            assert_same(got, by_reference(graph, inputs)[0])
        order = np.argsort(generator.random(x.shape), axis=1)[:, :4]
        graph, inputs = operator(
            "scatter_elements",
            x,
            order if apart else order % 2,
            numbers(*order.shape),
            computed=[1, 2],
            axis=1,
            reduction=reduction,
        )
        (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
        assert_same(got, by_reference(graph, inputs)[0])


def assert_same(got: np.ndarray, want: np.ndarray) -> None:
    """Integers are equal, doubles up to the order of a product's factors."""
    if got.dtype == np.float64:
        np.testing.assert_allclose(got, want, rtol=1e-12)
    else:
        assert np.array_equal(got, want)


@pytest.mark.parametrize("op", ["gather_nd", "scatter_nd"])
def test_a_tuple_beyond_an_axis_names_the_node(
    op: str, isa: str, threads: int, random: Random
) -> None:
    """The second index is beyond its axis, though the place would be within x."""
    x, tuples = random(3, 4, 5), np.array([[0, 1], [0, 4], [2, 2]])
    made = {"x": x, "i": tuples, "u": random(3, 5)}
    names = "x i" if op == "gather_nd" else "x i u"
    made = {name: made[name] for name in names.split()}
    graph = network(made, {}, ("y", op, names))
    with pytest.raises(IndexOutOfRange, match=r"'y'.* 4 .* 4 elements"):
        Model(graph, threads=threads, isa=isa).run(made)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_one_hot(axis: int, dtype: type, isa: str, threads: int) -> None:
    """Indices count from the end; those beyond it give a row without a one."""
    indices = np.random.default_rng(0).integers(0, 12, (3, 70)).astype(dtype)
    if dtype != np.uint8:
        indices[1] -= 12
    for values in (np.float32([0, 1]), np.array([7, -3]), np.array([True, False])):
        for computed in ((), (2,)):
            graph, inputs = operator(
                "one_hot", indices, np.array([9]), values, computed=computed, axis=axis
            )
            (got,) = by_kernels(graph, inputs, isa=isa, threads=threads)
            want = by_reference(graph, inputs)[0]
            assert got.dtype == values.dtype
            assert np.array_equal(got, want)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_compress_by_a_constant(axis: int | None, dtype: type, isa: str) -> None:
    """The condition may be shorter than the axis, and may choose a single slice."""
    x = np.random.default_rng(0).integers(0, 100, (7, 9, 5)).astype(dtype)
    count = x.size if axis is None else x.shape[axis]
    for length in (count, count - 2):
        for holds in (np.arange(length) % 3 != 1, np.arange(length) == 2):
            attributes = {} if axis is None else {"axis": axis}
            graph, inputs = operator("compress", x, holds, **attributes)
            (got,) = by_kernels(graph, inputs, isa=isa)
            assert np.array_equal(got, np.compress(holds, x, axis=axis))
