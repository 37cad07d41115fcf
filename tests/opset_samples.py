"""Inputs and attributes with which each operator of ONNX is tried, in each of its versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx

from cnnrt.graph import Array
from onnx_cases import Case, randoms

X = randoms(2, 4, 6, 7)
ODD = X[0, 0]
BOOLS = X > 0
Sample = Callable[[int], Iterator[Case]]


def binary(a: Array, b: Array) -> Sample:
    """A sample with the second input along axis 1, in the form of each opset."""

    def sample(version: int) -> Iterator[Case]:
        if version < 7:
            yield Case(a, b, broadcast=1, axis=1)
            yield Case(a, b[:, None, None][None].repeat(2, 0).repeat(6, 2).repeat(7, 3))
        else:
            yield Case(a, b[:, None, None])

    return sample


def reduction(since: int) -> Sample:
    def sample(version: int) -> Iterator[Case]:
        x = np.abs(X) + 0.5
        yield Case(x)
        for keep in (0, 1):
            if version < since:
                yield Case(x, axes=[1, 3], keepdims=keep)
            else:
                yield Case(x, np.array([1, -1]), keepdims=keep)

    return sample


def along(default_only: bool = False, **attributes: Any) -> Sample:
    def sample(version: int) -> Iterator[Case]:
        del version
        yield Case(X, **attributes)
        if not default_only:
            yield Case(X, axis=2, **attributes)

    return sample


def arg_extremum(version: int) -> Iterator[Case]:
    x = np.round(X)
    yield Case(x)
    yield Case(x, axis=2, keepdims=0)
    if version >= 12:
        yield Case(x, axis=3, select_last_index=1)


def pool(version: int, *, average: bool = False, lp: bool = False) -> Iterator[Case]:
    p: dict[str, Any] = {"p": 1.0 if version < 2 else 1} if lp else {}
    yield Case(X, kernel_shape=[3, 2], **p)
    yield Case(X, kernel_shape=[3, 3], pads=[1, 0, 1, 1], strides=[2, 2], **p)
    yield Case(X, kernel_shape=[2, 2], auto_pad="SAME_UPPER")
    if average and version >= 7:
        yield Case(X, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    if version >= (18 if lp else 10):
        yield Case(X, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, **p)
    if version >= (19 if average else 18 if lp else 10):
        yield Case(X, kernel_shape=[2, 2], dilations=[2, 1], **p)


def max_pool(version: int) -> Iterator[Case]:
    yield from pool(version)
    if version >= 8:
        for order in (0, 1):
            yield Case(X, kernel_shape=[2, 2], outputs=2, storage_order=order)


def batch_normalization(version: int) -> Iterator[Case]:
    vectors = [randoms(4, seed=i) for i in range(3)]
    attributes = {"is_test": 1} if version < 7 else {}
    yield Case(X, *vectors, np.abs(vectors[0]) + 0.1, **attributes)


def cast(version: int) -> Iterator[Case]:
    for name in ("INT32", "FLOAT16", "DOUBLE", "BOOL", "INT8"):
        code = onnx.TensorProto.DataType.Value(name)
        yield Case(X * 3, to=name if version < 6 else code)


def clip(version: int) -> Iterator[Case]:
    yield Case(X)
    if version < 11:
        yield Case(X, min=-0.5)
        yield Case(X, min=-0.5, max=0.5)
    else:
        yield Case(X, None, np.float32(0.5))
        yield Case(X, np.float32(-0.5), np.float32(0.5))


def concat(version: int) -> Iterator[Case]:
    if version < 4:
        yield Case(X, X, fixed=2)
    yield Case(X, X, axis=2, fixed=2)


def dft(version: int) -> Iterator[Case]:
    x = X[..., None]
    yield Case(x)
    if version < 20:
        yield Case(x, axis=2)
    else:
        yield Case(x, None, np.int64(2))


def depth_to_space(version: int) -> Iterator[Case]:
    x = randoms(2, 8, 4, 6)
    yield Case(x, blocksize=2)
    if version >= 11:
        yield Case(x, blocksize=2, mode="CRD")


def quantized(version: int) -> Iterator[Case]:
    yield Case(X, np.float32(0.1), np.uint8(7))
    yield Case(X, np.float32(0.1))
    if version >= 13:
        yield Case(X, np.abs(randoms(6)) + 0.01, np.arange(6, dtype=np.int8), axis=2)
    if version >= 21:
        yield Case(X, np.abs(randoms(2, 4, 3, 7)) + 0.01, block_size=2, axis=2)


def dequantized(version: int) -> Iterator[Case]:
    x = np.random.default_rng(0).integers(0, 255, (2, 4, 6, 7)).astype(np.uint8)
    yield Case(x, np.float32(0.1), np.uint8(7))
    yield Case(x, np.float32(0.1))
    if version >= 13:
        yield Case(x, np.abs(randoms(4)), np.arange(4, dtype=np.uint8))
    if version >= 21:
        yield Case(x, np.abs(randoms(2, 4, 3, 7)), block_size=2, axis=2)


def dropout(version: int) -> Iterator[Case]:
    yield Case(X, **({"is_test": 1} if version < 7 else {}))
    if version < 12:
        yield Case(X, ratio=0.3, **({"is_test": 1} if version < 7 else {}))
    else:
        yield Case(X, np.float32(0.3))


def recurrent(gates: int) -> Sample:
    def sample(version: int) -> Iterator[Case]:
        w, r = randoms(1, gates * 3, 4, seed=1), randoms(1, gates * 3, 3, seed=2)
        yield Case(randoms(5, 2, 4), w, r, hidden_size=3, outputs=2)
        if version < 7:
            yield Case(randoms(5, 2, 4), w, r, hidden_size=3, output_sequence=1)
        if version >= 14:
            yield Case(randoms(2, 5, 4), w, r, hidden_size=3, layout=1)

    return sample


def gather_nd(version: int) -> Iterator[Case]:
    yield Case(X, np.array([[0, 1], [1, 3]]))
    if version >= 12:
        yield Case(X, np.array([[0], [1]]), batch_dims=1)


def gemm(version: int) -> Iterator[Case]:
    more = {"broadcast": 1} if version < 7 else {}
    yield Case(ODD, randoms(7, 5, seed=1), randoms(5, seed=2), **more)
    yield Case(
        ODD, randoms(5, 6, seed=1), randoms(5, seed=2), transA=1, transB=1, alpha=0.5, **more
    )


def global_lp_pool(version: int) -> Iterator[Case]:
    yield Case(X)
    yield Case(X, p=1.0 if version < 2 else 1)


def grid_sample(version: int) -> Iterator[Case]:
    grid = np.random.default_rng(1).uniform(-1.3, 1.3, (2, 3, 4, 2)).astype(np.float32)
    yield Case(X, grid)
    for old, new in (("bilinear", "linear"), ("bicubic", "cubic"), ("nearest", "nearest")):
        for padding in ("zeros", "border", "reflection"):
            mode = old if version < 20 else new
            yield Case(X, grid, mode=mode, padding_mode=padding, align_corners=1)


def group_normalization(version: int) -> Iterator[Case]:
    size = 2 if version < 21 else 4
    for fixed in (1, 3):
        yield Case(X, randoms(size, seed=1), randoms(size, seed=2), num_groups=2, fixed=fixed)


def pad(version: int) -> Iterator[Case]:
    pads = [0, 0, 1, 2, 0, 1, 2, 0]
    for mode in ("constant", "reflect", "edge"):
        if version < 11:
            yield Case(X, **{"pads" if version >= 2 else "paddings": pads}, mode=mode)
        else:
            yield Case(X, np.array(pads), mode=mode)
    if 2 <= version < 11:
        yield Case(X, pads=pads, value=1.5)
    elif version >= 11:
        yield Case(X, np.array(pads), np.float32(1.5))
    if version >= 18:
        yield Case(X, np.array([1, 2]), None, np.array([-1]))


def reshape(version: int) -> Iterator[Case]:
    if version < 5:
        yield Case(X, shape=[0, -1, 7])
    else:
        yield Case(X, np.array([0, -1, 7]))
    if version >= 14:
        yield Case(X, np.array([2, -1, 7]), allowzero=1)


def resize(version: int) -> Iterator[Case]:
    scales = [np.array([1, 1, *s], np.float32) for s in ((2, 1.5), (0.6, 0.5), (0.6, 2), (1, 1.1))]
    for mode in ("nearest", "linear"):
        for scale in scales:
            inputs = (X, scale) if version < 11 else (X, np.array([], np.float32), scale)
            yield Case(*inputs, mode=mode)
    if version < 11:
        return
    empty = np.array([], np.float32)
    for transformation in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        for mode in ("nearest", "linear", "cubic"):
            rule = {"coordinate_transformation_mode": transformation, "mode": mode}
            if not (version >= 19 and transformation == "align_corners"):  # see _align_corners
                yield Case(X, empty, scales[1], **rule)
            yield Case(X, empty, empty, np.array([2, 4, 9, 5]), **rule)
    if version < 13:
        rule = {"coordinate_transformation_mode": "tf_half_pixel_for_nn"}
        yield Case(X, empty, scales[0], **rule)
    if version >= 18:
        yield Case(X, None, scales[1][2:], axes=[2, 3], mode="linear", antialias=1)


def upsample(version: int) -> Iterator[Case]:
    for mode in ("nearest", "linear" if version >= 7 else "bilinear"):
        if version < 7:
            yield Case(X, height_scale=2.0, width_scale=1.5, mode=mode)
        elif version < 9:
            yield Case(X, scales=[1.0, 1.0, 2.0, 1.5], mode=mode)
        else:
            yield Case(X, np.array([1, 1, 2, 1.5], np.float32), mode=mode)


def roi_align(version: int) -> Iterator[Case]:
    boxes = np.array([[1, 1, 5, 4], [0.3, 0.6, 6.2, 5.5]], np.float32)
    for mode in ("avg", "max"):
        yield Case(X, boxes, np.array([0, 1]), output_height=2, output_width=3, mode=mode)
    if version >= 16:
        yield Case(X, boxes, np.array([0, 1]), coordinate_transformation_mode="output_half_pixel")


def scatter_elements(version: int) -> Iterator[Case]:
    places = np.array([[1, 0, 2], [0, 2, 1]])
    yield Case(randoms(3, 3), places, randoms(2, 3, seed=1))
    yield Case(randoms(3, 3), places, randoms(2, 3, seed=1), axis=1)
    if version >= 16:
        yield Case(randoms(3, 3), places, randoms(2, 3, seed=1), reduction="add")


def scatter_nd(version: int) -> Iterator[Case]:
    places = np.array([[1], [0]])
    yield Case(randoms(3, 3), places, randoms(2, 3, seed=1))
    if version >= 16:
        yield Case(randoms(3, 3), places, randoms(2, 3, seed=1), reduction="mul")


def shape(version: int) -> Iterator[Case]:
    yield Case(X)
    if version >= 15:
        yield Case(X, start=1, end=-1)


def slice_(version: int) -> Iterator[Case]:
    if version < 10:
        yield Case(X, starts=[1, -3], ends=[9, -1], axes=[2, 3])
        yield Case(X, starts=[0, 1], ends=[1, 9])
    else:
        yield Case(X, np.array([1, -3]), np.array([9, -1]), np.array([2, 3]))
        yield Case(X, np.array([4]), np.array([0]), np.array([2]), np.array([-2]))


def split(version: int) -> Iterator[Case]:
    if version < 13:
        yield Case(X, outputs=2, split=[1, 3], axis=1)
    else:
        yield Case(X, np.array([1, 3]), outputs=2, axis=1)
    if 2 <= version < 18:
        yield Case(X, outputs=2, axis=1)
    elif version >= 18:
        yield Case(X, outputs=3, num_outputs=3, axis=3)
    if version < 2:
        yield Case(X, np.array([1, 3], np.float32), outputs=2, axis=1)


def squeeze(version: int) -> Iterator[Case]:
    x = X[:, :1, :, :1]
    yield Case(x)
    yield Case(x, axes=[1]) if version < 13 else Case(x, np.array([-1]))


def unsqueeze(version: int) -> Iterator[Case]:
    yield Case(X, axes=[1, 3]) if version < 13 else Case(X, np.array([1, -1]))


def tile(version: int) -> Iterator[Case]:
    if version < 6:
        yield Case(X, np.float32(2), np.float32(1))
    else:
        yield Case(X, np.array([1, 2, 1, 3]))


def top_k(version: int) -> Iterator[Case]:
    if version < 10:
        yield Case(X, k=3, outputs=2)
        yield Case(X, k=2, axis=1, outputs=2)
    else:
        yield Case(X, np.array([3]), outputs=2)
    if version >= 11:
        yield Case(X, np.array([2]), axis=1, largest=0, outputs=2)


def attention(version: int) -> Iterator[Case]:
    q = randoms(2, 3, 5, 8)
    yield Case(q, randoms(2, 3, 6, 8, seed=1), randoms(2, 3, 6, 8, seed=2))
    yield Case(q, q, q, is_causal=1)
    if version >= 25:
        yield Case(q, q, q, left_window_size=1, right_window_size=1)


SAMPLES: dict[str, Sample] = {
    **{op: binary(X, randoms(4, seed=1)) for op in ("Add", "Div", "Greater", "Less", "Mul", "Sub")},
    **{op: binary(BOOLS, randoms(4, seed=1) > 0) for op in ("And", "Or", "Xor")},
    "Equal": binary(np.round(X).astype(np.int32), np.arange(4, dtype=np.int32)),
    "Pow": binary(np.abs(X), randoms(4, seed=1)),
    **dict.fromkeys(("ArgMax", "ArgMin"), arg_extremum),
    "Attention": attention,
    "AveragePool": lambda version: pool(version, average=True),
    "BatchNormalization": batch_normalization,
    "Cast": cast,
    "CastLike": lambda _: iter([Case(X * 3, np.zeros(2, np.int32))]),
    "Clip": clip,
    "Concat": concat,
    "DFT": dft,
    "DepthToSpace": depth_to_space,
    "DequantizeLinear": dequantized,
    "Dropout": dropout,
    "GRU": recurrent(3),
    "GatherND": gather_nd,
    "Gemm": gemm,
    "GlobalLpPool": global_lp_pool,
    "GridSample": grid_sample,
    "GroupNormalization": group_normalization,
    "LSTM": recurrent(4),
    "LpPool": lambda version: pool(version, lp=True),
    "MaxPool": max_pool,
    "Pad": pad,
    "QuantizeLinear": quantized,
    "RNN": recurrent(1),
    "Range": lambda _: iter([Case(*map(np.float32, (1, 9, 2)), fixed=0)]),
    **{
        f"Reduce{kind}": reduction(13 if kind == "Sum" else 18)
        for kind in (
            *("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"),
        )
    },
    "Reshape": reshape,
    "Resize": resize,
    "RoiAlign": roi_align,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "Selu": lambda _: iter([Case(X), Case(X, alpha=2.0)]),
    "Shape": shape,
    "Slice": slice_,
    **{op: along() for op in ("Hardmax", "LogSoftmax", "Softmax")},
    "SpaceToDepth": lambda _: iter([Case(randoms(1, 2, 4, 6), blocksize=2)]),
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "TopK": top_k,
    "Unsqueeze": unsqueeze,
    "Upsample": upsample,
}
"""Samples by operator, for each of its versions."""
