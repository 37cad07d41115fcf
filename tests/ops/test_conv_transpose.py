"""Transposed convolution and col2im, against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError

torch = pytest.importorskip("torch")
F = torch.nn.functional
PEERS = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "extra", "group", "dilation"),
    [
        ((5,), 3, 2, 1, 1, 1, 1),
        ((4, 5), 2, 2, 0, 0, 1, 1),
        ((4, 5), 4, 2, 1, 0, 2, 1),
        ((4, 5), 3, 3, 2, 2, 1, 2),
        ((1, 1), 4, 1, 0, 0, 4, 1),
        ((3, 2), 1, 3, 0, 0, 1, 1),
        ((2, 3, 4), 3, 2, 1, 1, 2, 1),
    ],
)
def test_conv_transpose(
    run: Any,
    rng: np.random.Generator,
    size: tuple[int, ...],
    kernel: int,
    stride: int,
    pad: int,
    extra: int,
    group: int,
    dilation: int,
) -> None:
    rank = len(size)
    x = rng.normal(size=(2, 4, *size))
    weight = rng.normal(size=(4, 6 // group, *[kernel] * rank))
    bias = rng.normal(size=6 // group * group)
    want = PEERS[rank](
        *map(torch.tensor, (x, weight, bias)), stride, pad, extra, group, dilation
    ).numpy()
    attributes = {
        "strides": [stride] * rank,
        "pads": [pad] * 2 * rank,
        "output_padding": [extra] * rank,
        "dilations": [dilation] * rank,
        "group": group,
    }
    (y,) = run("conv_transpose", x, weight, bias, **attributes)
    np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-12)
    (y,) = run("conv_transpose", x, weight, bias, activation=["relu", 0.0, 0.0], **attributes)
    np.testing.assert_allclose(y, np.maximum(want, 0), rtol=1e-12, atol=1e-12)


def test_col2im(run: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3 * 6, 6 * 4))
    want = F.fold(torch.tensor(x), (6, 9), (2, 3), dilation=(2, 1), padding=(1, 0), stride=(1, 2))
    (y,) = run(
        "col2im",
        x,
        np.array([6, 9]),
        np.array([2, 3]),
        dilations=[2, 1],
        pads=[1, 0, 1, 0],
        strides=[1, 2],
    )
    np.testing.assert_allclose(y, want.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("weight", "attributes"),
    [
        ((3, 2, 3, 3), {}),
        ((4, 2, 3), {}),
        ((4, 2, 3, 3), {"group": 3}),
        ((4, 2, 3, 3), {"group": 0}),
        ((4, 2, 3, 3), {"strides": [0, 1]}),
        ((4, 2, 3, 3), {"pads": [9, 9, 9, 9]}),
        ((4, 2, 3, 3), {"output_padding": [1]}),
        ((4, 2, 3, 3), {"kernel_shape": [3, 2]}),
    ],
)
def test_errors(run: Any, weight: tuple[int, ...], attributes: dict[str, Any]) -> None:
    with pytest.raises(CnnrtError, match="the_conv_transpose"):
        run("conv_transpose", np.zeros((1, 4, 5, 5)), np.zeros(weight), **attributes)
