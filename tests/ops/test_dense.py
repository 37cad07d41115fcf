"""The matrix products, against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("lead", [(), (5,), (2, 5)])
@pytest.mark.parametrize("activation", [None, ["relu", 0.0, 0.0], ["silu", 0.0, 0.0]])
def test_linear(
    run: Any, rng: np.random.Generator, lead: tuple[int, ...], activation: list[Any] | None
) -> None:
    x, weight, bias = rng.normal(size=(*lead, 7)), rng.normal(size=(4, 7)), rng.normal(size=4)
    residual = rng.normal(size=(*lead, 4))
    want = torch.nn.functional.linear(*map(torch.tensor, (x, weight, bias)))
    want = want + torch.tensor(residual)
    if activation:
        want = getattr(torch.nn.functional, activation[0])(want)
    (y,) = run("linear", x, weight, bias, residual, activation=activation)
    np.testing.assert_allclose(y, want.numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(run("linear", x, weight)[0], x @ weight.T, rtol=1e-12)


@pytest.mark.parametrize("c", [None, (), (4,), (3, 1), (3, 4)])
@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(
    run: Any, rng: np.random.Generator, c: tuple[int, ...] | None, trans_a: int, trans_b: int
) -> None:
    a, b = rng.normal(size=(3, 5)), rng.normal(size=(5, 4))
    bias = None if c is None else rng.normal(size=c)
    want = 0.5 * a @ b + (0 if bias is None else 2 * bias)
    left, right = (a.T if trans_a else a), (b.T if trans_b else b)
    (y,) = run("gemm", left, right, bias, alpha=0.5, beta=2.0, transA=trans_a, transB=trans_b)
    np.testing.assert_allclose(y, want, rtol=1e-12)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((4,), (4,)),
        ((4,), (4, 3)),
        ((2, 4), (4,)),
        ((2, 4), (4, 3)),
        ((5, 2, 4), (4, 3)),
        ((5, 1, 2, 4), (6, 4, 3)),
        ((4,), (5, 4, 3)),
        ((5, 2, 4), (4,)),
    ],
)
def test_matmul(run: Any, rng: np.random.Generator, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = rng.normal(size=a), rng.normal(size=b)
    want = torch.matmul(torch.tensor(x), torch.tensor(y)).numpy()
    np.testing.assert_allclose(run("matmul", x, y)[0], want, rtol=1e-12)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
        ("...ij,...jk->...ik", [(7, 1, 2, 3), (6, 3, 4)]),
        ("...i->...", [(2, 3, 4)]),
        ("ii->i", [(3, 3)]),
        ("ij->", [(2, 3)]),
        ("i,j,k->kji", [(2,), (3,), (4,)]),
        ("b i j -> b j i", [(2, 3, 4)]),
        ("ij,kl,m->ijkl", [(300, 3), (300, 3), (0,)]),
        ("ij,kl,m->ijklm", [(3000, 3), (3000, 3), (0,)]),
    ],
)
def test_einsum(
    run: Any, rng: np.random.Generator, equation: str, shapes: list[tuple[int, ...]]
) -> None:
    inputs = [rng.normal(size=s) for s in shapes]
    want = torch.einsum(equation, *map(torch.tensor, inputs)).numpy()
    np.testing.assert_allclose(run("einsum", *inputs, equation=equation)[0], want, rtol=1e-12)


@pytest.mark.parametrize(
    ("op", "shapes", "attributes"),
    [
        ("linear", [(2, 3), (4, 2)], {}),
        ("linear", [(2, 3), (4, 3), (3,)], {}),
        ("linear", [(2, 3), (4, 3), (4,), (4,)], {}),
        ("linear", [(), (4, 3)], {}),
        ("gemm", [(2, 3), (4, 2)], {}),
        ("gemm", [(2, 3, 1), (3, 2)], {}),
        ("gemm", [(2, 3), (3, 2), (3,)], {}),
        ("matmul", [(2, 3), (2, 3)], {}),
        ("matmul", [(), (3,)], {}),
        ("matmul", [(2, 2, 3), (3, 3, 4)], {}),
        ("einsum", [(2, 3)], {"equation": "ij,jk"}),
        ("einsum", [(2, 3)], {"equation": "i->i"}),
        ("einsum", [(2, 3)], {"equation": "ij->k"}),
        ("einsum", [(2, 3)], {"equation": "ii->i"}),
    ],
)
def test_errors(
    run: Any, op: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any]
) -> None:
    with pytest.raises(CnnrtError, match=f"the_{op}"):
        run(op, *map(np.zeros, shapes), **attributes)
