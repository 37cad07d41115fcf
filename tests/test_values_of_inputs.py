"""Networks whose shapes depend on the values of inputs: a plan per value, or a clear error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt import ops
from cnnrt.errors import ShapeError, UnsupportedOperator, ValueNeeded
from cnnrt.graph import Graph, Node, TensorSpec
from cnnrt.planning.plan_cache import MAX_PLANS

INT64 = np.dtype(np.int64)


def network(inputs: list[TensorSpec], *nodes: Node, **constants: Any) -> cnnrt.Model:
    """A model that ends at the last node's first output."""
    for node in nodes:
        ops.complete(node)
    output = TensorSpec(nodes[-1].outputs[0], ())
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    return cnnrt.Model(Graph(inputs, [output], list(nodes), arrays))


def reshaping() -> cnnrt.Model:
    """relu(reshape(x, 2 * sizes))."""
    return network(
        [TensorSpec("x", (2, 12)), TensorSpec("sizes", ("rank",), INT64)],
        Node("mul", "double", ["sizes", "two"], ["double"]),
        Node("reshape", "reshape", ["x", "double"], ["reshaped"]),
        Node("relu", "relu", ["reshaped"], ["y"]),
        two=np.int64(2),
    )


def test_a_shape_that_is_given_at_run_time() -> None:
    model = reshaping()
    x = np.random.default_rng(0).standard_normal((2, 12), dtype=np.float32)
    for sizes in ([2, 3], [3, 2], [1, 3, 1], [2, 3], [12]):
        shape = [2 * n for n in sizes]
        y = model({"x": x, "sizes": np.int64(sizes)})
        np.testing.assert_array_equal(y, np.maximum(x, 0).reshape(shape))
    assert "relu" in model.describe({"x": x, "sizes": np.int64([2, 3])})


def test_plans_per_value_are_bounded_and_the_caller_may_change_the_array() -> None:
    model = reshaping()
    x = np.ones((2, 12), np.float32)
    sizes = np.int64([3, 2])
    assert model({"x": x, "sizes": sizes}).shape == (6, 4)
    sizes[:] = 2, 3
    assert model({"x": x, "sizes": sizes}).shape == (4, 6)
    sizes[:] = 3, 2
    assert model({"x": x, "sizes": sizes}).shape == (6, 4)
    for rank in range(1, 3 * MAX_PLANS):
        values = np.int64([12, *[1] * rank]) // 1
        with pytest.raises(ShapeError, match=r"24 elements do not make .*'sizes': \(\d+,\)"):
            model({"x": x, "sizes": values})
    assert len(model._plans) <= MAX_PLANS


def test_without_the_value_there_is_no_plan() -> None:
    with pytest.raises(ValueNeeded, match="give the values of sizes"):
        reshaping().describe()


def test_what_is_there_depends_on_small_inputs() -> None:
    model = network(
        [TensorSpec("x", ("n",))],
        Node("non_zero", "where", ["x"], ["places"]),
    )
    for x in ([0, 1, 0, 2], [3, 0, 0, 0], [0, 0, 0, 0]):
        np.testing.assert_array_equal(model(np.float32(x)), [np.flatnonzero(x)])


def test_only_the_shape_of_an_image_matters_to_shape_arithmetic() -> None:
    """An image of any size may be asked for its shape: that needs no value."""
    model = network(
        [TensorSpec("image", (1, 3, "h", "w")), TensorSpec("rows", (1,), INT64)],
        Node("shape", "shape", ["image"], ["shape"]),
        Node("gather", "height", ["shape", "two"], ["height"]),
        Node("concat", "sizes", ["rows", "height"], ["sizes"], {"axis": 0}),
        Node("concat", "all", ["sizes", "rest"], ["all"], {"axis": 0}),
        Node("reshape", "reshape", ["image", "all"], ["y"]),
        two=np.int64([2]),
        rest=np.int64([-1]),
    )
    for height, width in ((64, 80), (33, 100)):
        image = np.random.default_rng(0).standard_normal((1, 3, height, width), dtype=np.float32)
        y = model({"image": image, "rows": np.int64([3])})
        np.testing.assert_array_equal(y, image.reshape(3, height, width))


def test_training_that_is_asked_for_at_run_time() -> None:
    model = network(
        [TensorSpec("x", (4,)), TensorSpec("training", (), np.dtype(bool))],
        Node("dropout", "dropout", ["x", "", "training"], ["y", "mask"]),
    )
    x = np.ones(4, np.float32)
    np.testing.assert_array_equal(model({"x": x, "training": np.array(False)}), x)
    with pytest.raises(UnsupportedOperator, match="training is not supported"):
        model({"x": x, "training": np.array(True)})


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32"])
def test_an_activation_after_an_addition_of_other_dtypes(dtype: str) -> None:
    """Only kernels, which are for float32, carry activations."""
    model = network(
        [TensorSpec("x", (5,), np.dtype(dtype))],
        Node("add", "add", ["x", "x"], ["sum"]),
        Node("relu", "relu", ["sum"], ["y"]),
    )
    x = np.arange(-2, 3).astype(dtype)
    y = model(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.maximum(2 * x, 0))
