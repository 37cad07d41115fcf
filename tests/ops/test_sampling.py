"""Sampling between pixels and detection, against PyTorch in float64 and by definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError

torch = pytest.importorskip("torch")
F = torch.nn.functional


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("size", [(4, 5), (3, 4, 5)])
def test_grid_sample(
    run: Any,
    rng: np.random.Generator,
    size: tuple[int, ...],
    mode: str,
    padding: str,
    align: int,
) -> None:
    x = rng.normal(size=(2, 3, *size))
    grid = rng.uniform(-1.6, 1.6, (2, *[n + 1 for n in size], len(size)))
    peer = "bilinear" if mode == "linear" else mode
    want = F.grid_sample(*map(torch.tensor, (x, grid)), peer, padding, bool(align)).numpy()
    (y,) = run("grid_sample", x, grid, mode=mode, padding_mode=padding, align_corners=align)
    np.testing.assert_allclose(y, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_cubic_grid_sample(run: Any, rng: np.random.Generator, padding: str, align: int) -> None:
    x, grid = rng.normal(size=(2, 3, 6, 5)), rng.uniform(-2.6, 2.6, (2, 4, 4, 2))
    want = F.grid_sample(*map(torch.tensor, (x, grid)), "bicubic", padding, bool(align)).numpy()
    (y,) = run("grid_sample", x, grid, mode="cubic", padding_mode=padding, align_corners=align)
    np.testing.assert_allclose(y, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 3, 2, 4, 5)])
def test_affine_grid(run: Any, rng: np.random.Generator, size: tuple[int, ...], align: int) -> None:
    rank = len(size) - 2
    theta = rng.normal(size=(2, rank, rank + 1))
    want = F.affine_grid(torch.tensor(theta), size, bool(align)).numpy()
    (grid,) = run("affine_grid", theta, np.array(size), align_corners=align)
    np.testing.assert_allclose(grid, want, rtol=1e-12, atol=1e-12)


def test_deform_conv_without_offset_is_a_convolution(run: Any, rng: np.random.Generator) -> None:
    x, weight = rng.normal(size=(2, 4, 6, 5)), rng.normal(size=(6, 2, 3, 3))
    want = F.conv2d(*map(torch.tensor, (x, weight)), stride=2, padding=1, groups=2).numpy()
    (y,) = run(
        "deform_conv",
        x,
        weight,
        np.zeros((2, 2 * 9 * 2, *want.shape[2:])),
        group=2,
        offset_group=2,
        strides=[2, 2],
        pads=[1] * 4,
    )
    np.testing.assert_allclose(y, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sampling", [0, 2])
def test_roi_align_of_a_ramp_is_its_middle(run: Any, sampling: int) -> None:
    x = np.broadcast_to(np.arange(16.0), (1, 2, 16, 16)).copy()
    rois = np.array([[2.0, 3.0, 10.0, 9.0], [4.0, 4.0, 5.0, 5.0]])
    (y,) = run(
        "roi_align",
        x,
        rois,
        np.zeros(2, np.int64),
        output_height=2,
        output_width=4,
        sampling_ratio=sampling,
    )
    want = np.stack([x1 + (np.arange(4) + 0.5) / 4 * (x2 - x1) - 0.5 for x1, _, x2, _ in rois])
    np.testing.assert_allclose(y, np.broadcast_to(want[:, None, None], y.shape), rtol=1e-12)


def test_non_max_suppression(run: Any) -> None:
    boxes = np.array([[[0, 0, 2, 2], [0, 0, 2, 1.9], [5, 5, 6, 6], [0, 0, 1, 1]]], np.float64)
    scores = np.array([[[0.5, 0.9, 0.3, 0.8]]])
    (kept,) = run(
        "non_max_suppression",
        boxes,
        scores,
        np.array(10),
        np.array(0.5),
        np.array(0.4),
        constant_x=True,
    )
    assert kept.tolist() == [[0, 0, 1], [0, 0, 3]]


@pytest.mark.parametrize(
    ("op", "shapes", "attributes"),
    [
        ("grid_sample", [(1, 2, 3, 4), (1, 5, 5, 3)], {}),
        ("grid_sample", [(1, 2, 3, 4), (2, 5, 5, 2)], {}),
        ("grid_sample", [(1, 2, 3, 4), (1, 5, 5, 2)], {"mode": "lanczos"}),
        ("deform_conv", [(1, 2, 4, 4), (2, 2, 3, 3), (1, 17, 2, 2)], {}),
        ("roi_align", [(1, 2, 4, 4), (2, 4), (3,)], {}),
        ("roi_align", [(1, 2, 4, 4), (2, 4), (2,)], {"output_width": 0}),
    ],
)
def test_errors(
    run: Any, op: str, shapes: list[tuple[int, ...]], attributes: dict[str, Any]
) -> None:
    with pytest.raises(CnnrtError, match=f"the_{op}"):
        run(op, *map(np.zeros, shapes), **attributes)
