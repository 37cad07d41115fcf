"""Steps that would leave their buffers are refused, by every kernel and at each of its places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cnnrt import Model, _core
from cnnrt.graph import Array, Graph
from cnnrt.layout.tensors import At, Buffer, Step, ViewAt
from cnnrt.model import plan_for
from cnnrt.ops.requantised import Addition
from cnnrt.weights.lazy import lazy
from cnnrt.weights.widen import from_float16, from_int8
from networks import network, operator

COPY = {
    "x": At(Buffer(4 * 4 * 4), 0),
    "y": At(Buffer(4 * 4 * 4), 0),
    "dims": 2,
    "element": 4,
    "shape": [4, 4],
    "x_stride": [4, 1],
    "y_stride": [4, 1],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [("shape", [4, 5]), ("shape", [0, 4]), ("x_stride", [5, 1]), ("y_stride", [4, -1]),
     ("element", 8), ("shape", [2**31, 2**31]), ("y_stride", [2**62, 2**62]), ("dims", 9),
     ("x", At(Buffer(4 * 4 * 4), 4)), ("y", At(Buffer(4 * 4 * 4), -4))],
)  # fmt: skip
def test_one_number_that_leaves_a_buffer(field: str, value: Any) -> None:
    _core.Plan("portable").add("copy", COPY)
    with pytest.raises(IndexError, match="the kernel 'copy' would use "):
        _core.Plan("portable").add("copy", {**COPY, field: value})


def f(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def cases() -> Iterator[Graph]:
    """Networks whose steps are of every kernel but those that measure the machine."""
    image, bias, padded = f(1, 32, 9, 9), f(32), {"pads": [1] * 4}
    x, convolved = {"x": image}, ("c", "conv", "x w b")
    weights = {"w": f(32, 32, 1, 1), "b": bias}
    yield operator("conv", image, f(32, 32, 3, 3), bias, image, **padded)[0]  # winograd
    yield operator("conv", f(1, 256, 9, 9), f(512, 256, 3, 3), f(512), **padded)[0]  # its halves
    yield operator("conv", image, f(20, 32, 3, 3), bias[:20], strides=[2, 2], **padded)[0]
    stem = f(32, 3, 7, 7)
    yield operator("conv", f(1, 3, 20, 80), stem, bias, strides=[2, 2], pads=[3] * 4)[0]
    even = f(1, 64, 24, 24)  # large enough for Winograd's algorithm at stride 2
    yield operator("conv", even, f(32, 64, 3, 3), bias, strides=[2, 2], **padded)[0]
    for group in (4, 8, 16, 32):
        weight = f(32, 32 // group, 3, 3)
        yield operator("conv", image, weight, bias, group=group, strides=[2, 2], **padded)[0]
    yield operator("conv", f(1, 3, 9, 9), f(16, 3, 3, 3), bias[:16], **padded)[0]
    yield operator("linear", f(2, 5), f(7, 5), f(7))[0]
    half, byte = f(7, 40).astype(np.float16), np.ones((7, 40), np.int8)
    for narrow in (
        lazy((7, 40), np.float32, from_float16, half),
        lazy((7, 40), np.float32, from_int8, byte, f(7, 2), 32),
    ):
        graph = operator("linear", f(2, 40), f(7, 40), f(7))[0]
        graph.constants["x1"] = narrow
        yield graph
    pooled = {"kernel_shape": [3, 3], "pads": [1] * 4}
    for after in (
        ("y", "average_pool", "c", pooled),
        ("y", "resize", "c  s", {"mode": "linear"}),
        ("y", "channel_normalization", "c b b"),
        ("y", "grid_sample", "c grid"),
        ("y", "roi_align", "c rois image", {"output_height": 2, "output_width": 2}),
    ):
        more = {
            "s": np.array([1, 1, 0.5, 0.5], np.float32),
            "grid": f(1, 5, 5, 2),
            "rois": np.array([[0, 0, 4, 4]], np.float32),
            "image": np.array([0]),
        }
        yield network(x, weights | more, convolved, after)
    yield operator("max_pool", f(1, 3, 6, 6), kernel_shape=[2, 2])[0]
    scales = np.array([1, 1, 2, 2], np.float32)
    yield operator("resize", f(1, 3, 6, 6), None, scales, mode="linear")[0]
    yield operator("grid_sample", f(2, 3, 6, 6), f(2, 5, 5, 2), computed=[1])[0]
    yield operator("add", f(3, 4), f(4))[0]
    yield operator("transpose", f(3, 4), perm=[1, 0])[0]
    yield operator("gather", f(5, 4), np.array([1, 3]), computed=[1], axis=0)[0]
    yield operator(
        "scatter_elements", f(5, 4), np.array([[1, 3, 2, 0]]), f(1, 4), computed=[1, 2], axis=0
    )[0]
    yield operator("reverse_sequence", f(3, 2, 4), np.array([1, 3]))[0]
    yield operator("where", f(3, 4) > 0, f(3, 4), f(3, 4), computed=[1, 2])[0]
    yield operator("less", f(3, 4), f(4), computed=[1])[0]
    yield operator("quantize_linear", f(3, 4), np.float32(0.1), np.uint8(3))[0]
    yield from quantised_cases()
    yield operator("softmax", f(3, 4))[0]
    yield operator("layer_normalization", f(3, 4), f(4), f(4))[0]
    yield operator("reduce_sum", f(3, 4), np.array([1]))[0]
    yield operator("topk", f(3, 9), np.array([2]), outputs=2)[0]
    yield operator("argmax", f(3, 9), axis=1)[0]
    yield operator("cumsum", f(3, 9), np.array(1))[0]
    yield operator("matmul", f(3, 4), f(4, 5), computed=[1])[0]
    yield operator("matmul", f(3, 4).astype("d"), f(4, 5).astype("d"), computed=[1])[0]
    yield operator("attention", *(f(1, 2, 3, 8) for _ in "qkv"), computed=[1, 2])[0]
    graph = operator("lstm", f(3, 2, 4), f(1, 20, 4), f(1, 20, 5), f(1, 40), hidden_size=5)[0]
    values = np.ones((1, 20, 5), np.int8)
    graph.constants["x2"] = lazy((1, 20, 5), np.float32, from_int8, values, f(1, 20, 1), 5)
    yield graph
    lengths = np.array([2, 3], np.int32)
    yield operator(
        "lstm", f(3, 2, 4), f(1, 20, 4), f(1, 20, 5), f(1, 40), lengths, computed=[4],
        outputs=3, hidden_size=5,
    )[0]  # fmt: skip


def quantised_cases() -> Iterator[Graph]:
    """The same for kernels on bytes."""
    image, small = np.zeros((1, 32, 9, 9), np.uint8), np.zeros((2, 5), np.uint8)
    more = {"b": np.zeros(32, np.int32), "s": f(32), "t": np.arange(256).astype(np.uint8)}
    pads = {"pads": [1] * 4}
    residual = {**pads, "addition": Addition(1.0, 1.0, 0.0)}
    dense = {**more, "w": np.zeros((32, 32, 3, 3), np.int8)}
    each = {**more, "w": np.zeros((32, 1, 3, 3), np.int8)}
    yield network({"x": image, "r": image}, dense, ("y", "qconv", "x w b s r t", residual))
    yield network({"x": image}, each, ("y", "qconv", "x w b s  t", {**pads, "group": 32}))
    layer = {"w": np.zeros((32, 5), np.int8), "b": f(32), "s": f(32)}
    yield network({"x": small}, layer, ("y", "qlinear", "x w b s", {"floats": 1}))
    yield network({"x": image}, {}, ("y", "max_pool", "x", {"kernel_shape": [2, 2]}))
    yield network({"a": image, "b": image}, {}, ("y", "qadd", "a b"))
    yield network({"x": image}, more, ("y", "table", "x t"))


def smaller(place: Any) -> Any:
    """The place in a buffer of a single byte; None if it is no place."""
    if isinstance(place, ViewAt):
        return place._replace(at=At(Buffer(1), place.at.offset))
    if isinstance(place, At):
        return At(Buffer(1), place.offset)
    return _core.Memory(b" ") if isinstance(place, _core.Memory) else None


def steps() -> Iterator[Step]:
    """The steps of `cases`."""
    for graph in cases():
        inputs = [np.zeros(spec.shape, spec.dtype.numpy) for spec in graph.inputs]
        for step in plan_for(Model(graph, threads=2), inputs).steps:
            assert isinstance(step, Step), graph
            yield step


def test_every_place_of_every_kernel() -> None:
    seen = {"peak", "peak_u8"}
    for kernel in seen:
        fields = {"y": At(Buffer(64 + 3 * 64), 0), "steps": 5, "tasks": 3}
        _core.Plan("portable").add(kernel, fields)
        with pytest.raises(IndexError, match="of 'y'"):
            _core.Plan("portable").add(kernel, {**fields, "tasks": 4})
    for step in steps():
        seen.add(step.kernel)
        _core.Plan("portable").add(step.kernel, step.fields)
        for field, place in step.fields.items():
            if (less := smaller(place)) is not None:
                with pytest.raises(IndexError, match=f"{field}|table"):
                    _core.Plan("portable").add(step.kernel, {**step.fields, field: less})
    assert seen == set(_core.kernels)


@pytest.mark.parametrize(
    ("kernel", "fields"),
    [
        ("conv", {"taps": -16, "last_taps": 17}),
        ("conv_u8", {"taps": -16, "last_taps": 17}),
        ("conv", {"half": 1, "group": 2}),
        ("conv_planar", {"c": 0}),
        ("conv_planar", {"in_d": 0, "n": 0}),
        ("conv_planar_winograd", {"kernel_d": -1, "kernel_h": -7}),
        ("grid_sample_planar", {"in_d": 0}),
        ("grid_sample_planar", {"in_w": 0}),
        ("grid_sample_planar", {"in_d": -1, "channels": -3}),
        ("reduce", {"outer": -1, "inner": -10001}),
        ("reduce", {"inner": 0}),
        ("reduce", {"type": "float16"}),
        ("reduce", {"type": "int32", "op": "l2"}),
    ],
)
def test_sizes_without_elements_are_refused(kernel: str, fields: dict[str, Any]) -> None:
    """Their products may be a buffer's size all the same, or nothing, which needs no buffer."""
    given = next(step.fields for step in steps() if step.kernel == kernel)
    with pytest.raises(IndexError):
        _core.Plan("portable").add(kernel, {**given, **fields})
