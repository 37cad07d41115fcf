"""The reductions, against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError

torch = pytest.importorskip("torch")

PEERS = {
    "reduce_sum": torch.sum,
    "reduce_mean": torch.mean,
    "reduce_max": torch.amax,
    "reduce_min": torch.amin,
    "reduce_l1": lambda x, **k: torch.sum(x.abs(), **k),
    "reduce_l2": torch.linalg.vector_norm,
    "reduce_sum_square": lambda x, **k: torch.sum(x * x, **k),
    "reduce_log_sum": lambda x, **k: torch.sum(x, **k).log(),
    "reduce_log_sum_exp": torch.logsumexp,
}


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[0], [-1], [2, 3], [0, -2], [0, 1, 2, 3]])
@pytest.mark.parametrize("name", PEERS)
def test_reduce(
    run: Any, rng: np.random.Generator, name: str, axes: list[int], keepdims: int
) -> None:
    x = rng.uniform(0.1, 2, (2, 3, 4, 5))
    want = PEERS[name](torch.tensor(x), dim=axes, keepdim=bool(keepdims)).numpy()
    (by_input,) = run(name, x, np.array(axes), keepdims=keepdims)
    (by_attribute,) = run(name, x, axes=axes, keepdims=keepdims)
    np.testing.assert_allclose(by_input, want, rtol=1e-12)
    np.testing.assert_array_equal(by_input, by_attribute)


def test_without_axes(run: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3))
    np.testing.assert_allclose(run("reduce_prod", x, keepdims=0)[0], x.prod(), rtol=1e-12)
    (same,) = run("reduce_sum_square", x, np.array([], np.int64), noop_with_empty_axes=1)
    np.testing.assert_array_equal(same, x * x)


def test_of_nothing(run: Any) -> None:
    empty = np.zeros((2, 0), np.float32)
    assert run("reduce_max", empty, axes=[1])[0].tolist() == [[-np.inf]] * 2
    assert run("reduce_min", empty.astype(np.int8), axes=[1])[0].tolist() == [[127]] * 2
    assert run("reduce_log_sum_exp", empty, axes=[1])[0].tolist() == [[-np.inf]] * 2


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_index_of_extremum(run: Any, name: str, axis: int) -> None:
    x = np.array([[3, 1, 3], [1, 1, 3]])
    find = getattr(np, name)
    np.testing.assert_array_equal(run(name, x, axis=axis, keepdims=0)[0], find(x, axis))
    (last,) = run(name, x, axis=axis, select_last_index=1)
    np.testing.assert_array_equal(
        last, x.shape[axis] - 1 - find(np.flip(x, axis), axis, keepdims=True)
    )


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("reduce_sum", [np.zeros((2, 3)), np.array([2])], {}),
        ("reduce_sum", [np.zeros((2, 3)), np.array([0, -2])], {}),
        ("reduce_sum", [np.zeros((2, 3)), np.array([0.0])], {}),
        ("reduce_sum", [np.zeros((2, 3))], {"axes": [5]}),
        ("argmax", [np.zeros((2, 0))], {"axis": 1}),
        ("argmax", [np.zeros(())], {}),
    ],
)
def test_errors(run: Any, op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    with pytest.raises(CnnrtError, match=f"the_{op}"):
        run(op, *inputs, **attributes)
