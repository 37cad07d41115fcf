"""Operators that few networks have: det, inverse, max_roi_pool, mel_weight_matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError

pytest.importorskip("onnxruntime")

from onnx_cases import Case, check, randoms


@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 5, 5), (0, 3, 3), (2, 1, 1)])
def test_matrices(run: Any, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    x = rng.normal(size=shape)
    np.testing.assert_allclose(run("det", x)[0], np.linalg.det(x))
    np.testing.assert_allclose(
        run("inverse", x)[0] @ x, np.broadcast_to(np.eye(shape[-1]), shape), atol=1e-9
    )
    assert check("Det", 17, Case(randoms(2, 3, 3)))


def test_singular_and_odd_matrices(run: Any) -> None:
    assert np.isinf(run("inverse", np.zeros((1, 2, 2)))[0]).all()
    for op in ("det", "inverse"):
        for shape in ((3,), (2, 3)):
            with pytest.raises(CnnrtError, match="square"):
                run(op, np.zeros(shape))
        with pytest.raises(CnnrtError, match="floats"):
            run(op, np.zeros((2, 2), np.int64))


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("pooled", [[1, 1], [3, 2], [7, 9]])
def test_max_roi_pool(scale: float, pooled: list[int]) -> None:
    x = randoms(2, 3, 9, 11)
    rois = np.float32(
        [[0, 0, 0, 10, 8], [1, 2, 3, 7, 6], [1, -4, -2, 3, 3], [0, 5, 5, 30, 40], [0, 4, 4, 4, 4]]
    )
    case = Case(x, rois, pooled_shape=pooled, spatial_scale=scale, fixed=2)
    assert check("MaxRoiPool", 17, case)


def test_regions_of_no_image(run: Any) -> None:
    x = np.zeros((1, 2, 4, 4))
    assert run("max_roi_pool", x, np.zeros((0, 5)), pooled_shape=[2, 2])[0].shape == (0, 2, 2, 2)
    with pytest.raises(ValueError, match="of image 3"):
        run("max_roi_pool", x, np.float64([[3, 0, 0, 1, 1]]), pooled_shape=[2, 2])


@pytest.mark.parametrize("bands", [1, 8, 40])
@pytest.mark.parametrize("length", [16, 512])
def test_mel_weight_matrix(bands: int, length: int) -> None:
    numbers = (np.int64(bands), np.int64(length), np.int64(8192))
    case = Case(*numbers, np.float32(0), np.float32(4096), fixed=0)
    assert check("MelWeightMatrix", 17, case)
    low = Case(*numbers, np.float32(300), np.float32(2500), fixed=0)
    assert check("MelWeightMatrix", 17, low)
