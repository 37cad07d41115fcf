"""The normalisations and softmax, against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError

torch = pytest.importorskip("torch")
F = torch.nn.functional


def close(got: np.ndarray, want: Any) -> None:
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-10, atol=1e-12)


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(2, 6, 4, 5)) * 3 + 1


def test_batch_normalization(run: Any, rng: np.random.Generator, x: np.ndarray) -> None:
    scale, bias, mean = rng.normal(size=(3, 6))
    variance = rng.uniform(0.1, 2, 6)
    (y,) = run("batch_normalization", x, scale, bias, mean, variance, epsilon=1e-3)
    close(y, F.batch_norm(*map(torch.tensor, (x, mean, variance, scale, bias)), eps=1e-3))


def test_batch_normalization_in_training(run: Any, rng: np.random.Generator, x: np.ndarray) -> None:
    scale, bias, mean = rng.normal(size=(3, 6))
    variance = rng.uniform(0.1, 2, 6)
    options = {"training_mode": 1, "momentum": 0.75, "epsilon": 1e-3}
    y, new_mean, new_variance = run(
        "batch_normalization", x, scale, bias, mean, variance, outputs=3, **options
    )
    running = [torch.tensor(v) for v in (mean, variance)]
    close(
        y,
        F.batch_norm(
            *(torch.tensor(x), *running, torch.tensor(scale), torch.tensor(bias)),
            training=True,
            momentum=0.25,
            eps=1e-3,
        ),
    )
    close(new_mean, running[0])
    n = x.size // 6
    # PyTorch's running variance is of the sample (n - 1), ONNX's of the population (n).
    np.testing.assert_allclose(
        new_variance, 0.75 * variance + (running[1].numpy() - 0.75 * variance) * (n - 1) / n
    )
    assert len(run("batch_normalization", x, scale, bias, mean, variance, **options)) == 1


def test_instance_and_group_normalization(
    run: Any, rng: np.random.Generator, x: np.ndarray
) -> None:
    scale, bias = rng.normal(size=(2, 6))
    t, s, b = map(torch.tensor, (x, scale, bias))
    close(run("instance_normalization", x, scale, bias)[0], F.instance_norm(t, weight=s, bias=b))
    for groups in (1, 2, 3, 6):
        (y,) = run("group_normalization", x, scale, bias, num_groups=groups)
        close(y, F.group_norm(t, groups, s, b))


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2])
def test_layer_and_rms_normalization(
    run: Any, rng: np.random.Generator, x: np.ndarray, axis: int
) -> None:
    shape = x.shape[axis:]
    scale, bias = rng.normal(size=(2, *shape))
    t, s, b = map(torch.tensor, (x, scale, bias))
    y, mean, inverse = run("layer_normalization", x, scale, bias, axis=axis, outputs=3)
    close(y, F.layer_norm(t, shape, s, b))
    close((x - mean) * inverse * scale + bias, F.layer_norm(t, shape, s, b))
    close(run("layer_normalization", x, scale, axis=axis)[0], F.layer_norm(t, shape, s))
    close(run("rms_normalization", x, scale, axis=axis)[0], F.rms_norm(t, shape, s, 1e-5))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_lrn(run: Any, x: np.ndarray, size: int) -> None:
    (y,) = run("lrn", x, size=size, alpha=0.1, beta=0.6, bias=2.0)
    close(y, F.local_response_norm(torch.tensor(x), size, 0.1, 0.6, 2.0))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_along_an_axis(run: Any, x: np.ndarray, axis: int) -> None:
    t = torch.tensor(x)
    close(run("softmax", x * 300, axis=axis)[0], F.softmax(t * 300, axis))
    close(run("log_softmax", x * 300, axis=axis)[0], F.log_softmax(t * 300, axis))
    (hard,) = run("hardmax", x, axis=axis)
    assert (hard.argmax(axis) == x.argmax(axis)).all()
    assert hard.sum() == hard.size / x.shape[axis]
    for p in (1, 2):
        close(run("lp_normalization", x, axis=axis, p=p)[0], F.normalize(t, p, axis))


def test_mean_variance_normalization(run: Any, x: np.ndarray) -> None:
    (y,) = run("mean_variance_normalization", x)
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.std((0, 2, 3)), 1, rtol=1e-8)


@pytest.mark.parametrize(
    ("op", "shapes", "attributes"),
    [
        ("batch_normalization", [(2, 6, 4), (6,), (6,), (6,), (5,)], {}),
        ("batch_normalization", [(2, 6, 4), (6,), (6,), (6,)], {}),
        ("batch_normalization", [(0, 6, 4), (6,), (6,), (6,), (6,)], {"training_mode": 1}),
        ("group_normalization", [(2, 6, 4), (6,), (6,)], {"num_groups": 4}),
        ("group_normalization", [(2, 6, 4), (6,), (6,)], {"num_groups": 0}),
        ("layer_normalization", [(2, 6), (6,)], {"axis": 2}),
        ("layer_normalization", [(2, 6), (5,)], {}),
        ("softmax", [(2, 6)], {"axis": -3}),
        ("lrn", [(2, 6)], {"size": 0}),
    ],
)
def test_errors(
    run: Any, op: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any]
) -> None:
    with pytest.raises(CnnrtError, match=f"the_{op}"):
        run(op, *map(np.zeros, shapes), **attributes)
