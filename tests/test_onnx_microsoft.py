"""Operators of com.microsoft on floats, each against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt.errors import UnsupportedOperator
from cnnrt.graph import Array

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_cases import Case, check, randoms

F = ("float32",)
X = randoms(2, 4, 6, 7)
W = randoms(5, 4, 3, 3, seed=1)
SEQUENCE = randoms(2, 5, 8)
IDS = np.random.default_rng(3).integers(0, 9, (2, 5)).astype(np.int32)
GAMMA, BETA = randoms(8, seed=2), randoms(8, seed=3)
ATTENTION_WEIGHT, ATTENTION_BIAS = randoms(8, 24, seed=4), randoms(24, seed=5)
MASKS = {
    "keys": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32),
    "count": np.array([3, 5], np.int32),
    "pairs": (np.arange(5)[:, None] >= np.arange(5)).astype(np.int32)[None].repeat(2, 0),
}


def conv_activations() -> list[tuple[str, Case]]:
    found = []
    for name, numbers in (
        ("Relu", []),
        ("Sigmoid", []),
        ("Tanh", []),
        ("LeakyRelu", [0.2]),
        ("Clip", [-0.5, 0.7]),
        ("HardSigmoid", [0.3, 0.4]),
    ):
        params = {"activation_params": numbers} if numbers else {}
        case = Case(X, W, randoms(5, seed=6), outputs=F, activation=name, pads=[1] * 4, **params)
        found.append(("FusedConv", case))
    added = randoms(2, 5, 4, 5, seed=7)
    found.append(("FusedConv", Case(X, W, randoms(5, seed=6), added, outputs=F, activation="Relu")))
    found.append(("FusedConv", Case(X, W, None, added, outputs=F)))
    return found


def matmuls() -> list[tuple[str, Case]]:
    a, b = randoms(3, 4, 5), randoms(3, 5, 6, seed=1)
    turned = a.swapaxes(1, 2), b.swapaxes(1, 2)
    return [
        ("FusedMatMul", Case(a, b, outputs=F, alpha=0.5)),
        ("FusedMatMul", Case(turned[0], b, outputs=F, transA=1)),
        ("FusedMatMul", Case(a, turned[1], outputs=F, transB=1, fixed=2)),
        ("FusedMatMul", Case(*turned, outputs=F, transA=1, transB=1, alpha=2.0)),
        ("FusedMatMul", Case(a.transpose(1, 0, 2), b, outputs=F, transBatchA=1)),
        ("FusedMatMul", Case(a, b.transpose(1, 0, 2), outputs=F, transBatchB=1)),
        ("TransposeMatMul", Case(a, turned[1], outputs=F, transB=1)),
        *(
            (
                "FusedGemm",
                Case(
                    a[0],
                    turned[1][0],
                    randoms(6),
                    outputs=F,
                    transB=1,
                    alpha=0.5,
                    activation=name,
                    **more,
                ),
            )
            for name, more in (
                ("Relu", {}),
                ("LeakyRelu", {"activation_alpha": 0.2}),
                ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.6}),
            )
        ),
    ]


def norms() -> list[tuple[str, Case]]:
    skip, bias = randoms(2, 5, 8, seed=8), randoms(8, seed=9)
    words, places, kinds = randoms(9, 8, seed=4), randoms(6, 8, seed=5), randoms(2, 8, seed=6)
    segments = (IDS % 2).astype(np.int32)
    embed = (IDS, segments, words, places, kinds, GAMMA, BETA)
    return [
        ("SkipLayerNormalization", Case(SEQUENCE, skip, GAMMA, BETA, outputs=F, fixed=2)),
        (
            "SkipLayerNormalization",
            Case(SEQUENCE, skip, GAMMA, BETA, bias, outputs=F, fixed=2, epsilon=1e-5),
        ),
        (
            "SkipLayerNormalization",
            Case(
                *(SEQUENCE, skip, GAMMA, BETA, bias),
                outputs=("float32", None, None, "float32"),
                fixed=2,
            ),
        ),
        ("SkipSimplifiedLayerNormalization", Case(SEQUENCE, skip, GAMMA, outputs=F, fixed=2)),
        (
            "SkipSimplifiedLayerNormalization",
            Case(SEQUENCE, skip, GAMMA, bias, outputs=("float32", None, None, "float32"), fixed=2),
        ),
        ("EmbedLayerNormalization", Case(*embed, outputs=("float32", "int32"), fixed=2)),
        (
            "EmbedLayerNormalization",
            Case(*embed, MASKS["keys"], outputs=("float32", "int32", "float32"), fixed=2),
        ),
        (
            "EmbedLayerNormalization",
            Case(
                *(IDS, None, words, places, None, GAMMA, BETA, None),
                (IDS % 6),
                outputs=("float32", "int32"),
                fixed=2,
                epsilon=1e-6,
            ),
        ),
    ]


def attentions() -> list[tuple[str, Case]]:
    inputs = (SEQUENCE, ATTENTION_WEIGHT, ATTENTION_BIAS)
    past = randoms(2, 2, 2, 3, 4, seed=6)
    found = [
        ("Attention", Case(*inputs, outputs=F, num_heads=2)),
        ("Attention", Case(*inputs, outputs=F, num_heads=4, unidirectional=1)),
        ("Attention", Case(*inputs, outputs=F, num_heads=2, scale=0.3)),
        *(("Attention", Case(*inputs, mask, outputs=F, num_heads=2)) for mask in MASKS.values()),
        (
            "Attention",
            Case(*inputs, None, None, randoms(2, 2, 5, 5, seed=7), outputs=F, num_heads=2),
        ),
        ("Attention", Case(*inputs, None, past, outputs=("float32",) * 2, num_heads=2)),
        (
            "Attention",
            Case(
                *(SEQUENCE, randoms(8, 8 + 8 + 4, seed=4), randoms(20, seed=5)),
                outputs=F,
                num_heads=2,
                qkv_hidden_sizes=[8, 8, 4],
            ),
        ),
    ]
    q, k, v = SEQUENCE, randoms(2, 6, 8, seed=1), randoms(2, 6, 8, seed=2)
    keys = np.array([[1, 1, 1, 1, 0, 0], [1] * 6], np.int32)
    heads = {"num_heads": 2, "fixed": 3}
    more = randoms(2, 2, 5, 6, seed=7)
    before = randoms(2, 2, 3, 4, seed=8), randoms(2, 2, 3, 4, seed=9)
    found += [
        ("MultiHeadAttention", Case(q, k, v, outputs=F, **heads)),
        ("MultiHeadAttention", Case(q, k, v, ATTENTION_BIAS, outputs=F, **heads)),
        ("MultiHeadAttention", Case(q, k, v, None, keys, outputs=F, **heads)),
        ("MultiHeadAttention", Case(q, k, v, ATTENTION_BIAS, keys, more, outputs=F, **heads)),
        ("MultiHeadAttention", Case(q, k, v, outputs=F, scale=0.2, **heads)),
        (
            "MultiHeadAttention",
            Case(q, q, q, None, None, None, *before, outputs=("float32",) * 3, **heads),
        ),
        ("MultiHeadAttention", Case(q, q, q, outputs=F, unidirectional=1, **heads)),
    ]
    return found


def others() -> list[tuple[str, Case]]:
    grid = np.random.default_rng(1).uniform(-1.4, 1.4, (2, 3, 4, 2)).astype(np.float32)
    boxes = np.array([[0, 0, 1, 1], [0.1, 0.2, 0.7, 0.8], [0.5, -0.2, 1.3, 0.9]], np.float32)
    images = np.array([0, 1, 1], np.int32)
    return [
        *((name, Case(X, outputs=F)) for name in ("Gelu", "FastGelu", "QuickGelu")),
        ("BiasGelu", Case(SEQUENCE, GAMMA, outputs=F)),
        ("FastGelu", Case(SEQUENCE, GAMMA, outputs=F)),
        ("QuickGelu", Case(X, outputs=F, alpha=1.3)),
        *(
            ("GridSample", Case(X, grid, outputs=F, mode=mode, padding_mode=padding, **align))
            for mode in ("bilinear", "nearest", "bicubic")
            for padding in ("zeros", "border", "reflection")
            for align in ({}, {"align_corners": 1})
        ),
        *(
            (
                "CropAndResize",
                Case(X, boxes, images, np.array(size, np.int32), outputs=F, **more),
            )
            for size in ([3, 4], [1, 1], [9, 2])
            for more in ({}, {"extrapolation_value": 2.5}, {"mode": "nearest"})
        ),
        ("Inverse", Case(randoms(3, 4, 4), outputs=F)),
        ("Pad", Case(X, np.array([0, 0, 1, 2, 0, 0, 2, 1]), np.float32(1.5), outputs=F)),
        ("Pad", Case(X, np.array([0, 0, 1, 2, 0, 0, 2, 1]), outputs=F, mode="reflect")),
        ("Unique", Case(np.float32([3, 1, 3, 2, 1, 3]), outputs=("float32", "int64", "int64"))),
        (
            "ConvTransposeWithDynamicPads",
            Case(
                *(X, randoms(4, 3, 3, 3, seed=1), np.array([1, 0, 1, 0]), randoms(3)),
                outputs=F,
                strides=[2, 2],
                kernel_shape=[3, 3],
            ),
        ),
        ("Trilu", Case(X, outputs=F)),
        ("ExpandDims", Case(X, np.int32(1), outputs=F)),
    ]


CASES = [*conv_activations(), *matmuls(), *norms(), *attentions(), *others()]


@pytest.mark.parametrize(
    ("op", "case"), CASES, ids=[f"{i}-{op}" for i, (op, _) in enumerate(CASES)]
)
def test_like_runtime(op: str, case: Case) -> None:
    assert check(f"com.microsoft.{op}", 17, case)


@pytest.mark.parametrize("axes", [1, 2])
def test_transforms(axes: int) -> None:
    """ONNX Runtime has them for GPUs alone."""
    x = randoms(3, 6, 8)
    want: Array = np.fft.rfftn(x, axes=tuple(range(-axes, 0)))
    pairs = np.stack([want.real, want.imag], axis=-1).astype(np.float32)
    options: dict[str, Any] = {"signal_ndim": axes, "normalized": 0, "onesided": 1}
    assert check("com.microsoft.Rfft", 17, Case(x, outputs=F, **options), pairs)
    assert check("com.microsoft.Irfft", 17, Case(pairs, outputs=F, **options), x)


@pytest.mark.parametrize(
    ("op", "case", "message"),
    [
        ("FusedConv", Case(X, W, outputs=F, activation="Odd"), "activation 'Odd'"),
        ("Gelu", Case(X, outputs=F, odd=1), "attribute 'odd' is not supported"),
        ("SkipLayerNormalization", Case(SEQUENCE, SEQUENCE, GAMMA, outputs=F * 2), "the mean"),
        ("Attention", Case(SEQUENCE, ATTENTION_WEIGHT, outputs=F, num_heads=2, do_rotary=1), "do_"),
        ("GroupQueryAttention", Case(SEQUENCE, outputs=F), "com.microsoft.GroupQueryAttention"),
    ],
)
def test_what_is_refused(op: str, case: Case, message: str) -> None:
    with pytest.raises(UnsupportedOperator, match=message):
        cnnrt.load(case.model(f"com.microsoft.{op}", 17))
