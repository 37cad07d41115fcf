"""Resize, against PyTorch's interpolate in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError

torch = pytest.importorskip("torch")
F = torch.nn.functional

# PyTorch's mode -> attributes
MODES = {
    "nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    "nearest-exact": {"nearest_mode": "round_prefer_ceil"},
    "bilinear": {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
    "bicubic": {"mode": "cubic", "coordinate_transformation_mode": "pytorch_half_pixel"},
}


@pytest.mark.parametrize("size", [(8, 10), (4, 15), (3, 3), (1, 1), (7, 5), (9, 4)])
@pytest.mark.parametrize("mode", MODES)
def test_sizes(run: Any, rng: np.random.Generator, mode: str, size: tuple[int, int]) -> None:
    x = rng.normal(size=(2, 3, 4, 5))
    if mode != "nearest" and size == (1, 1):  # to one pixel PyTorch takes the middle
        size = (1, 5)
    peer = {} if mode.startswith("nearest") else {"align_corners": False}
    attributes = dict(MODES[mode])
    if 1 in size and not mode.startswith("nearest"):
        attributes["coordinate_transformation_mode"] = "half_pixel"
    want = F.interpolate(torch.tensor(x), size, mode=mode, **peer).numpy()
    (y,) = run("resize", x, None, None, np.array(size), axes=[2, 3], **attributes)
    np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(8, 9), (3, 2), (4, 5)])
def test_align_corners(
    run: Any, rng: np.random.Generator, mode: str, size: tuple[int, int]
) -> None:
    x = rng.normal(size=(2, 3, 4, 5))
    want = F.interpolate(torch.tensor(x), size, mode=mode, align_corners=True).numpy()
    attributes = {**MODES[mode], "coordinate_transformation_mode": "align_corners"}
    (y,) = run("resize", x, None, None, np.array([2, 3, *size]), **attributes)
    np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("mode", "a"), [("bilinear", 0.0), ("bicubic", -0.5)])
@pytest.mark.parametrize("size", [(5, 6), (3, 4), (2, 11)])
def test_antialias(
    run: Any, rng: np.random.Generator, mode: str, a: float, size: tuple[int, int]
) -> None:
    x = rng.normal(size=(2, 3, 9, 11))
    want = F.interpolate(torch.tensor(x), size, mode=mode, antialias=True).numpy()
    (y,) = run(
        "resize",
        x,
        None,
        None,
        np.array([2, 3, *size]),
        mode=MODES[mode]["mode"],
        antialias=1,
        exclude_outside=1,
        cubic_coeff_a=a,
    )
    np.testing.assert_allclose(y, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(run: Any, rng: np.random.Generator, rank: int) -> None:
    x = rng.normal(size=(2, 3, *range(4, 4 + rank)))
    mode = "linear" if rank == 1 else "trilinear"
    want = F.interpolate(torch.tensor(x), scale_factor=2, mode=mode).numpy()
    (y,) = run("resize", x, None, np.array([1, 1] + [2] * rank, np.float32), mode="linear")
    np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-12)


def test_scales_multiply_in_float32(run: Any) -> None:
    assert run("resize", np.zeros((10,)), None, np.array([0.7], np.float32))[0].shape == (7,)


@pytest.mark.parametrize(
    ("scales", "sizes", "attributes"),
    [
        (None, None, {}),
        ([2.0, 2.0], [4, 4], {}),
        ([2.0], None, {}),
        ([0.0, 1.0], None, {}),
        ([-1.0, 1.0], None, {}),
        ([np.nan, 1.0], None, {}),
        (None, [0, 1], {}),
        (None, [4], {"axes": [2]}),
        (None, [4, 4], {"mode": "lanczos"}),
        (None, [4, 4], {"coordinate_transformation_mode": "tf_crop_and_resize"}),
    ],
)
def test_errors(
    run: Any, scales: list[float] | None, sizes: list[int] | None, attributes: dict[str, Any]
) -> None:
    s = None if scales is None else np.array(scales, np.float32)
    with pytest.raises(CnnrtError, match="the_resize"):
        run("resize", np.zeros((3, 4)), None, s, sizes, **attributes)


@pytest.mark.parametrize("scale", [0.3, 1 / 3, 0.6, 2 / 3, 0.8, 1.05, 1.1, 1.2, 2.5])
def test_nearest_by_fractional_scales(run: Any, scale: float) -> None:
    """Positions are computed in float32. (In 30 elements PyTorch and ONNX Runtime see 9 / 0.6
    differently.)"""
    for size in (10, 15):
        x = np.arange(size, dtype=np.float32)[None, None, None]
        (y,) = run("resize", x, None, np.float32([1, 1, 1, scale]), **MODES["nearest"])
        out = np.arange(y.size, dtype=np.float32)
        want = np.floor(out / np.float32(scale)) if y.size != size else out
        np.testing.assert_array_equal(y[0, 0, 0], want)
        peer = F.interpolate(torch.tensor(x), scale_factor=(1.0, scale), mode="nearest")
        np.testing.assert_array_equal(y, peer.numpy())


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_scales_that_round_to_the_same_size_change_nothing(run: Any, mode: str) -> None:
    x = np.arange(20, dtype=np.float32).reshape(1, 1, 4, 5)
    (y,) = run("resize", x, None, np.float32([1, 1, 1.2, 1.1]), **MODES[mode])
    np.testing.assert_array_equal(y, x)
    peer = F.interpolate(torch.tensor(x), scale_factor=(1.2, 1.1), mode=mode).numpy()
    np.testing.assert_array_equal(y, peer)


def test_sizes_are_exact_between_two_elements(run: Any) -> None:
    for size in range(2, 40):
        x = np.arange(size, dtype=np.float32)[None, None]
        for out in range(1, 70):
            # (2 i + 1) size / (2 out) - 1/2, rounded: whole numbers throughout
            twice = (2 * np.arange(out) + 1) * size - out
            for mode, index in (
                ("round_prefer_ceil", (twice + out) // (2 * out)),
                ("round_prefer_floor", -((out - twice) // (2 * out))),
            ):
                (y,) = run("resize", x, None, None, np.array([1, 1, out]), nearest_mode=mode)
                np.testing.assert_array_equal(y[0, 0], np.clip(index, 0, size - 1))
