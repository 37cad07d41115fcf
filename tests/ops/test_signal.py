"""The Fourier transforms, against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError

torch = pytest.importorskip("torch")


def parts(y: Any) -> np.ndarray:
    """Complex numbers of PyTorch as a last axis of two."""
    return np.asarray(torch.view_as_real(y.resolve_conj()).numpy())


@pytest.mark.parametrize("length", [None, 5, 12])
@pytest.mark.parametrize("axis", [0, 1, -2])
def test_dft(run: Any, rng: np.random.Generator, length: int | None, axis: int) -> None:
    real, complex_ = rng.normal(size=(4, 8, 1)), rng.normal(size=(4, 8, 2))
    at = axis if axis >= 0 else 1
    t, z = torch.tensor(real[..., 0]), torch.view_as_complex(torch.tensor(complex_))
    n = None if length is None else np.int64(length)
    fft = torch.fft
    for x, attributes, want in (
        (real, {}, parts(fft.fft(t, length, at))),
        (real, {"onesided": 1}, parts(fft.rfft(t, length, at))),
        (complex_, {}, parts(fft.fft(z, length, at))),
        (complex_, {"inverse": 1}, parts(fft.ifft(z, length, at))),
        (complex_, {"inverse": 1, "onesided": 1}, fft.irfft(z, length, at).numpy()[..., None]),
    ):
        (y,) = run("dft", x, n, np.int64(axis), **attributes)
        np.testing.assert_allclose(y, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize("onesided", [0, 1])
def test_stft(run: Any, rng: np.random.Generator, window: bool, onesided: int) -> None:
    x, weights = rng.normal(size=(2, 50, 1)), rng.normal(size=12)
    inputs = (x, np.int64(5), weights if window else None, np.int64(12))
    (y,) = run("stft", *inputs, onesided=onesided)
    want = torch.stft(
        torch.tensor(x[..., 0]),
        12,
        5,
        window=torch.tensor(weights if window else np.ones(12)),
        center=False,
        onesided=bool(onesided),
        return_complex=True,
    )
    np.testing.assert_allclose(y, parts(want).swapaxes(1, 2), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("dft", [np.zeros((4, 3))], {}),
        ("dft", [np.zeros((4, 1)), None, np.int64(1)], {}),
        ("dft", [np.zeros((4, 1)), np.int64(0)], {}),
        ("dft", [np.zeros((4, 2))], {"onesided": 1}),
        ("dft", [np.zeros((4, 1))], {"onesided": 1, "inverse": 1}),
        ("dft", [np.zeros((0, 1))], {}),
        ("stft", [np.zeros((1, 8, 1)), np.int64(0)], {}),
        ("stft", [np.zeros((1, 8, 1)), np.int64(1), None, np.int64(9)], {}),
        ("stft", [np.zeros((1, 8, 1)), np.int64(1), np.zeros(4), np.int64(5)], {}),
        ("stft", [np.zeros((1, 8, 2)), np.int64(1)], {"onesided": 1}),
        ("bit_cast", [np.zeros(3, np.float32)], {"to": "int64"}),
    ],
)
def test_errors(run: Any, op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    with pytest.raises(CnnrtError, match=f"the_{op}"):
        run(op, *inputs, **attributes)


def test_bit_cast(run: Any) -> None:
    (y,) = run("bit_cast", np.float32([[1, -2]]), to="uint32")
    assert y.tolist() == [[0x3F800000, 0xC0000000]]
    assert run("bit_cast", np.array(True), to="uint8")[0].tolist() == 1
