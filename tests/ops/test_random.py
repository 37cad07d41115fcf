"""Random numbers: their distributions, their seeds, and that nothing folds them away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt.errors import CnnrtError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

N = 40_000


def model(op: str, *, constant: bool = False, kind: int = TensorProto.FLOAT, **rest: Any) -> Any:
    """A model of x and of y, which a node makes from x or from its attributes alone."""
    like = op in ("RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
    name = "c" if constant else "x"
    nodes = [helper.make_node(op, [name] if like else [], ["y"], **rest)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m"])],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.zeros((4, N), np.float32), "c")],
    )
    opsets = [helper.make_opsetid("", 22)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


X = np.zeros((4, N), np.float32)


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("op", ["RandomNormal", "RandomNormalLike"])
def test_normal(op: str, constant: bool) -> None:
    more = {} if op.endswith("Like") else {"shape": [4, N]}
    y = cnnrt.load(model(op, constant=constant, mean=2.0, scale=3.0, **more))(X)
    assert y.shape == (4, N)
    assert y.dtype == np.float32
    assert abs(y.mean() - 2) < 0.05
    assert abs(y.std() - 3) < 0.05
    assert abs(np.corrcoef(y)[0, 1]) < 0.05


@pytest.mark.parametrize("op", ["RandomUniform", "RandomUniformLike"])
def test_uniform(op: str) -> None:
    more = {} if op.endswith("Like") else {"shape": [4, N]}
    y = cnnrt.load(model(op, low=-1.0, high=3.0, **more))(X)
    assert -1 <= y.min() < -0.99
    assert 2.99 < y.max() < 3
    assert abs(y.mean() - 1) < 0.05


def test_bernoulli() -> None:
    p = np.repeat(np.float32([[0], [0.2], [0.7], [1]]), N, axis=1)
    y = cnnrt.load(model("Bernoulli"))(p)
    assert set(np.unique(y)) == {0, 1}
    np.testing.assert_allclose(y.mean(axis=1), [0, 0.2, 0.7, 1], atol=0.02)
    kind = TensorProto.INT64
    assert cnnrt.load(model("Bernoulli", kind=kind, dtype=kind))(p).dtype == np.int64


def test_multinomial() -> None:
    weights = np.float32([[0.1, 0.2, 0.7], [1, 0, 0]])
    with np.errstate(divide="ignore"):
        y = cnnrt.load(model("Multinomial", kind=TensorProto.INT32, sample_size=N))(np.log(weights))
    assert y.shape == (2, N)
    assert y.dtype == np.int32
    np.testing.assert_allclose(np.bincount(y[0]) / N, weights[0], atol=0.02)
    assert not y[1].any()


@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
@pytest.mark.parametrize("constant", [False, True])
def test_seeds(op: str, constant: bool) -> None:
    x = np.full((4, N), 0.5, np.float32)
    free = cnnrt.load(model(op, constant=constant and op != "Bernoulli"))
    assert not np.array_equal(free(x), free(x))
    one, same, other = (cnnrt.load(model(op, seed=seed)) for seed in (3.0, 3.0, 4.5))
    np.testing.assert_array_equal(one(x), one(x))
    np.testing.assert_array_equal(one(x), same(x))
    assert not np.array_equal(one(x), other(x))


def test_none_of_it() -> None:
    for op in ("RandomNormalLike", "Bernoulli"):
        assert cnnrt.load(model(op))(X[:0]).shape == (0, N)
    with pytest.raises(CnnrtError, match="rows of classes"):
        cnnrt.load(model("Multinomial", kind=TensorProto.INT32))(X[:, :0])
