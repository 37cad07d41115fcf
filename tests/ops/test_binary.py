"""The operators of several inputs, against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError

torch = pytest.importorskip("torch")

ARITHMETIC = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": lambda a, b: torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc"),
    "min": torch.minimum,
    "max": torch.maximum,
    "equal": torch.eq,
    "less": torch.lt,
    "less_or_equal": torch.le,
    "greater": torch.gt,
    "greater_or_equal": torch.ge,
    "mod": torch.remainder,
}
SHAPES = [((), ()), ((3,), ()), ((2, 3), (3,)), ((2, 1, 4), (3, 1)), ((2, 3, 4, 5), (3, 1, 1))]


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("dtype", ["float64", "int64"])
@pytest.mark.parametrize("name", ARITHMETIC)
def test_binary(
    run: Any,
    rng: np.random.Generator,
    name: str,
    dtype: str,
    a: tuple[int, ...],
    b: tuple[int, ...],
) -> None:
    left = np.asarray(rng.integers(-9, 9, a), dtype)
    right = np.asarray(rng.integers(1, 4, b) * rng.choice([-1, 1], b), dtype)
    want = ARITHMETIC[name](torch.tensor(left), torch.tensor(right)).numpy()
    np.testing.assert_allclose(run(name, left, right)[0], want, rtol=1e-14)


def test_variadic(run: Any) -> None:
    parts = [np.array([1.0, 5.0]), np.array([[4.0], [0.0]]), np.array(2.0)]
    assert run("max", *parts)[0].tolist() == [[4, 5], [2, 5]]
    assert run("min", *parts)[0].tolist() == [[1, 2], [0, 0]]
    assert run("sum", *parts)[0].tolist() == [[7, 11], [3, 7]]
    np.testing.assert_allclose(run("mean", *parts)[0], np.array([[7, 11], [3, 7]]) / 3)
    assert run("max", parts[0])[0].tolist() == [1, 5]


def test_prelu_and_where(run: Any, rng: np.random.Generator) -> None:
    x, slope = rng.normal(size=(2, 3, 4)), rng.normal(size=(3, 1))
    want = torch.nn.functional.prelu(torch.tensor(x), torch.tensor(slope[:, 0])).numpy()
    np.testing.assert_array_equal(run("prelu", x, slope)[0], want)
    np.testing.assert_array_equal(run("where", x > 0, x, -x)[0], np.abs(x))


def test_pow_keeps_the_dtype_of_its_base(run: Any) -> None:
    assert run("pow", np.array([2, 3]), np.array([0.5, 2.0]))[0].tolist() == [1, 9]
    assert run("pow", np.array([2.0, 4.0]), np.array([2, -1]))[0].tolist() == [4, 0.25]


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("add", [np.zeros((2, 3)), np.zeros(2)]),
        ("add", [np.zeros(2), np.zeros(2, np.float32)]),
        ("add", [np.zeros(2)]),
        ("add", [np.zeros(2), None]),
        ("max", []),
        ("prelu", [np.zeros(2), np.zeros((2, 2))]),
        ("where", [np.zeros(2), np.zeros(2), np.zeros(2)]),
    ],
)
def test_errors(run: Any, op: str, inputs: list[Any]) -> None:
    with pytest.raises(CnnrtError, match=f"the_{op}"):
        run(op, *inputs)
