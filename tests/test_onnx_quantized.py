"""Operators on integers of all domains against ONNX Runtime, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt.graph import Array

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
from onnx import helper, numpy_helper  # noqa: E402

from onnx_cases import Case, by_cnnrt, by_runtime, randoms  # noqa: E402

TYPES = ("uint8", "int8")
RNG = np.random.default_rng(0)


def integers(dtype: str, *shape: int, seed: int = 0) -> Array:
    info = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def scalars(dtype: str, scale: float, zero: int) -> tuple[Any, Any]:
    return np.float32(scale), np.array(zero, dtype)


def assert_same(op: str, case: Case, opset: int = 17) -> None:
    model = case.model(op, opset)
    expected = by_runtime(model, case.feeds)
    assert expected is not None, "ONNX Runtime refuses the case"
    for got, right in zip(by_cnnrt(model, case.feeds), expected, strict=True):
        np.testing.assert_array_equal(got, right, err_msg=op, strict=True)


def all_pairs(dtype: str) -> tuple[Array, Array]:
    every = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1).astype(dtype)
    a, b = np.meshgrid(every, every)
    return a.reshape(1, -1), b.reshape(1, -1)


SCALES = [(0.01, 0.02, 0.017), (0.3, 0.007, 0.11), (2**-6, 2**-7, 2**-6), (1.7, 0.9, 3.1)]


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("scales", SCALES)
def test_pairs(op: str, dtype: str, scales: tuple[float, float, float]) -> None:
    """All 65,536 pairs."""
    a, b = all_pairs(dtype)
    for zeros in ((0, 0, 0), (3, 100, 77)):
        first, second, third = (scalars(dtype, s, z) for s, z in zip(scales, zeros, strict=True))
        assert_same(f"com.microsoft.{op}", Case(a, *first, b, *second, *third, outputs=[dtype]))
    row = integers(dtype, 1, 4, 1, seed=1)
    case = Case(integers(dtype, 2, 4, 9), *first, row, *second, *third, outputs=[dtype])
    assert_same(f"com.microsoft.{op}", case)


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("dtype", TYPES)
def test_pairs_of_many_scales(op: str, dtype: str) -> None:
    """Both are inputs, or one is a constant."""
    a, b = (v.reshape(1, 1, 256, 256) for v in all_pairs(dtype))
    rng, info = np.random.default_rng(1), np.iinfo(dtype)
    for _ in range(40):
        values = rng.uniform(0.02, 0.5, 3) * (1, 1, 8 if op == "QLinearMul" else 1)
        zeros = rng.integers(info.min, info.max, 3, endpoint=True)
        first, second, third = (scalars(dtype, s, z) for s, z in zip(values, zeros, strict=True))
        case = Case(a, *first, b, *second, *third, outputs=[dtype])
        assert_same(f"com.microsoft.{op}", case)
        model = _with_inputs(case, {0, 3}, f"com.microsoft.{op}")
        assert_models_agree(model, {"x0": a, "x3": b})


BROADCASTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((2, 19, 7), (2, 19, 7)),
    ((2, 19, 7), (1, 19, 1)),
    ((2, 19, 7), (19, 7)),
    ((2, 19, 7), (7,)),
    ((2, 19, 7), ()),
    ((5, 6, 7, 8), (6, 1, 1)),
    ((5, 6, 7, 8), (1, 6, 1, 1)),
    ((5, 6, 7, 8), (5, 6, 1, 1)),
    ((5, 6, 7, 8), (7, 8)),
    ((5, 6, 1, 1), (1, 6, 7, 8)),
    ((3, 768), (768,)),
    ((3, 768), (3, 768)),
    ((3, 768), (3, 1)),
    ((3, 1), (768,)),
    ((3, 19), (19,)),
    ((300, 16), (16,)),
    ((4096,), (4096,)),
    ((5000,), (1,)),
    ((33,), (33,)),
    ((), ()),
    ((), (4,)),
    ((2, 1, 3, 2, 2, 3), (2, 1, 3, 1, 2, 3)),
    ((0, 19), (19,)),
]
"""Shapes of the first operand, and of the second."""


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shapes", BROADCASTS)
@pytest.mark.parametrize("constant", [True, False])
def test_pairs_of_all_shapes_have_a_kernel(
    op: str, dtype: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], constant: bool
) -> None:
    """Also with the operands exchanged, and with a first axis of any size."""
    a, b = integers(dtype, *shapes[0]), integers(dtype, *shapes[1], seed=1)
    first, second, third = (scalars(dtype, s, z) for s, z in ((0.02, 3), (0.05, 90), (0.3, 10)))
    for exchanged in (False, True):
        inputs = [*second, a, *first] if exchanged else [*first, b, *second]
        case = Case(b if exchanged else a, *inputs, *third, outputs=[dtype])
        computed = {3 if exchanged else 0} if constant else {0, 3}
        model = _with_inputs(case, computed, f"com.microsoft.{op}")
        feeds = {f"x{i}": case.inputs[i] for i in computed}
        assert_models_agree(model, feeds)
        assert "no kernel" not in str(cnnrt.load(model).describe(feeds))
        if constant and a.ndim > b.ndim:
            proto = onnx.ModelProto.FromString(model)
            proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
            for n in (2, 3, 0):
                images = {name: np.resize(x, (n, *x.shape[1:])) for name, x in feeds.items()}
                assert_models_agree(proto.SerializeToString(), images)
                described = cnnrt.load(proto.SerializeToString()).describe(images)
                assert "no kernel" not in str(described)


def test_pairs_with_one_number_are_tables() -> None:
    a, one = integers("int8", 2, 19, 7), scalars("int8", 0.02, 3)
    for op in ("QLinearAdd", "QLinearMul"):
        case = Case(a, *one, np.array([[7]], "int8"), *one, *one, outputs=["int8"])
        assert_same(f"com.microsoft.{op}", case)
        steps = str(cnnrt.load(case.model(f"com.microsoft.{op}", 17)).describe(a))
        assert "lookup_u8" in steps
        assert "byte_pair" not in steps


def unary(dtype: str) -> Iterator[tuple[str, Case]]:
    every = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1).astype(dtype)[None]
    images = integers(dtype, 2, 5, 7, 9)
    last = integers(dtype, 2, 7, 9, 5)
    out = {"outputs": [dtype]}
    for scale, y_scale in ((0.05, 0.04), (0.1, 1 / 256), (0.013, 0.021)):
        for zero, y_zero in ((0, 0), (7, 100), (100, 3)):
            x, y = scalars(dtype, scale, zero), scalars(dtype, y_scale, y_zero)
            yield "QLinearLeakyRelu", Case(every, *x, *y, alpha=0.1, **out)
            yield "QLinearSigmoid", Case(every, *x, *y, **out)
            yield "QLinearGlobalAveragePool", Case(images, *x, *y, channels_last=0, **out)
            yield "QLinearGlobalAveragePool", Case(last, *x, *y, channels_last=1, **out)
            pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
            yield "QLinearAveragePool", Case(images, *x, *y, **pool, **out)
            yield "QLinearAveragePool", Case(last, *x, *y, channels_last=1, **pool, **out)
            yield "QLinearAveragePool", Case(images, *x, *y, count_include_pad=1, **pool, **out)
            if y_zero == 0:
                yield "QLinearSoftmax", Case(images, *x, *y, axis=-1, opset=13, **out)
                yield "QLinearSoftmax", Case(images, *x, *y, axis=1, opset=13, **out)
                yield "QLinearSoftmax", Case(images, *x, *y, axis=2, opset=12, **out)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "op",
    [
        *("QLinearLeakyRelu", "QLinearSigmoid", "QLinearGlobalAveragePool", "QLinearAveragePool"),
        "QLinearSoftmax",
    ],
)
def test_one_input(op: str, dtype: str) -> None:
    for name, case in unary(dtype):
        if name == op:
            assert_same(f"com.microsoft.{name}", case)


@pytest.mark.parametrize("dtype", TYPES)
def test_several_inputs(dtype: str) -> None:
    a, b = integers(dtype, 2, 3, 4), integers(dtype, 2, 3, 4, seed=1)
    first, second, third = (scalars(dtype, s, z) for s, z in ((0.02, 3), (0.05, 90), (0.03, 10)))
    concat = Case(*third, a, *first, b, *second, outputs=[dtype], axis=1, fixed=9)
    concat.inputs[2], concat.fixed = a, 9
    model = _with_inputs(concat, {2, 5}, "com.microsoft.QLinearConcat")
    assert_models_agree(model, {"x2": a, "x5": b})
    where = Case(a > 0, a, *first, b, *second, *third, outputs=[dtype])
    assert_same("com.microsoft.QLinearWhere", where)


def _with_inputs(case: Case, which: set[int], op: str) -> bytes:
    """The model of a case in which these inputs are no constants."""
    proto = onnx.ModelProto.FromString(case.model(op, 17))
    for i in which:
        name, x = f"x{i}", np.asarray(case.inputs[i])
        kept = [t for t in proto.graph.initializer if t.name != name]
        del proto.graph.initializer[:], [v for v in proto.graph.input if v.name == name][:]
        proto.graph.initializer.extend(kept)
        if name not in {v.name for v in proto.graph.input}:
            kind = helper.np_dtype_to_tensor_dtype(x.dtype)
            proto.graph.input.append(helper.make_tensor_value_info(name, kind, x.shape))
    present = {v.name for v in proto.graph.input}
    for i, x in enumerate(case.inputs):  # what was an input is a constant now
        if x is not None and i not in which and f"x{i}" in present:
            proto.graph.initializer.append(numpy_helper.from_array(x, f"x{i}"))
    del proto.graph.input[:]
    for i in which:
        x = np.asarray(case.inputs[i])
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        proto.graph.input.append(helper.make_tensor_value_info(f"x{i}", kind, x.shape))
    return bytes(proto.SerializeToString())


def assert_models_agree(model: bytes, feeds: dict[str, Array]) -> None:
    expected = by_runtime(model, feeds)
    assert expected is not None, "ONNX Runtime refuses the case"
    for got, right in zip(by_cnnrt(model, feeds), expected, strict=True):
        np.testing.assert_array_equal(got, right, strict=True)


# Products ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtypes", [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
def test_products(dtypes: tuple[str, str]) -> None:
    a_type, b_type = dtypes
    a, b = integers(a_type, 6, 40), integers(b_type, 40, 9, seed=1) // 2
    x, y = scalars(a_type, 0.03, 5), scalars(a_type, 0.9, 7)
    bias = RNG.integers(-9000, 9000, 9).astype(np.int32)
    columns = np.abs(randoms(9)) / 50 + np.float32(0.001)
    for w in (scalars(b_type, 0.02, 0), scalars(b_type, 0.02, 3)):
        assert_same("MatMulInteger", Case(a, b, x[1], w[1]))
        assert_same("QLinearMatMul", Case(a, *x, b, *w, *y))
        for alpha in (1.0, 0.5):
            case = Case(a, *x, b, *w, bias, *y, outputs=[a_type], alpha=alpha)
            assert_same("com.microsoft.QGemm", case)
        case = Case(a, *x, b, *w, bias, outputs=["float32"])
        assert_same("com.microsoft.QGemm", case)
        turned = Case(a, *x, np.ascontiguousarray(b.T), *w, None, *y, outputs=[a_type], transB=1)
        assert_same("com.microsoft.QGemm", turned)
        case = Case(a, b, x[0], w[0], x[1], w[1], outputs=["float32"])
        assert_same("com.microsoft.MatMulIntegerToFloat", case)
        case = Case(a, b, x[0], w[0], x[1], w[1], randoms(9), outputs=["float32"])
        assert_same("com.microsoft.MatMulIntegerToFloat", case)
    per_column = (columns, np.zeros(9, b_type))
    assert_same("QLinearMatMul", Case(a, *x, b, *per_column, *y))
    assert_same("com.microsoft.QGemm", Case(a, *x, b, *per_column, bias, *y, outputs=[a_type]))


@pytest.mark.parametrize("dtypes", [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
@pytest.mark.parametrize("group", [1, 2])
def test_convolutions(dtypes: tuple[str, str], group: int) -> None:
    x_type, w_type = dtypes
    x = integers(x_type, 2, 6, 9, 8)
    weight = integers(w_type, 4, 6 // group, 3, 3, seed=1) // 2
    sizes = {"pads": [1, 0, 1, 1], "strides": [2, 1], "group": group}
    one, y = scalars(x_type, 0.02, 9), scalars(x_type, 1.3, 70)
    bias = RNG.integers(-30_000, 30_000, 4).astype(np.int32)
    assert_same("ConvInteger", Case(x, weight, one[1], np.array(2, w_type), **sizes))
    for w in (scalars(w_type, 0.03, 0), (np.abs(randoms(4)) / 9, np.zeros(4, w_type))):
        assert_same("QLinearConv", Case(x, *one, weight, *w, *y, bias, **sizes))
        assert_same("QLinearConv", Case(x, *one, weight, *w, *y, **sizes))


@pytest.mark.parametrize("group", [1, 4])
def test_biases_that_just_fit_into_32_bits(group: int) -> None:
    """As ONNX Runtime's quantiser writes them for channels whose weights hardly matter.

    The last channel is beyond int32 for some inputs, where ONNX Runtime wraps around.
    """
    x = integers("uint8", 2, 4, 9, 8)
    weight = integers("int8", 4, 4 // group, 3, 3, seed=1) // 8
    weight[0] = np.abs(weight[0])
    least = -(2**31)
    bias = np.array([least + 9 * weight[0].sum(), 2**31 - 40_000, -1_400_000_000, least], np.int32)
    one, y = scalars("uint8", 0.02, 9), scalars("uint8", 1.3, 70)
    scales = np.array([3e-6, 3e-6, 7e-7, 3e-6], np.float32)
    sizes = {"pads": [1, 0, 1, 1], "group": group}
    case = Case(x, *one, weight, scales, np.zeros(4, "int8"), *y, bias, **sizes)
    model = case.model("QLinearConv", 17)
    (got,) = by_cnnrt(model, case.feeds)
    expected = by_runtime(model, case.feeds)
    assert expected is not None
    assert got[:, 2].min() > 0
    np.testing.assert_array_equal(got[:, :3], expected[0][:, :3])
    assert (got[:, 3] == 0).all()
    assert "u8" in cnnrt.load(model).describe(x)
    assert "float32" not in cnnrt.load(model).describe(x)


def test_channels_last() -> None:
    x, weight = integers("uint8", 2, 9, 8, 6), integers("int8", 4, 6, 3, 3, seed=1) // 2
    one, y = scalars("uint8", 0.02, 9), scalars("uint8", 1.3, 70)
    w = scalars("int8", 0.03, 0)
    pads = {"pads": [1] * 4, "outputs": ["uint8"]}
    bias = RNG.integers(-30_000, 30_000, 4).astype(np.int32)
    case = Case(x, *one, weight, *w, *y, bias, channels_last=1, **pads)
    assert_same("com.microsoft.QLinearConv", case)
    case = Case(x, kernel_shape=[3, 3], strides=[2, 2], **pads)
    assert_same("com.microsoft.NhwcMaxPool", case)


# Scales ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("domain", ["", "com.microsoft."])
def test_there_and_back(dtype: str, domain: str) -> None:
    opset = 21
    x = randoms(3, 4, 50) * 20
    q = integers(dtype, 3, 4, 5)
    kinds = ([dtype], ["float32"]) if domain else (1, 1)
    for scale, zero in (
        scalars(dtype, 0.1, 7),
        (np.abs(randoms(4)) + 0.1, np.arange(4, dtype=dtype)),
    ):
        to = Case(x, scale, zero, outputs=kinds[0], axis=1)
        back = Case(q, scale, zero, outputs=kinds[1], axis=1)
        assert_same(f"{domain}QuantizeLinear", to, opset)
        assert_same(f"{domain}DequantizeLinear", back, opset)


def test_dynamic() -> None:
    for x in (randoms(5, 40), np.abs(randoms(5, 40)), -np.abs(randoms(5, 40)), randoms(5, 40) * 0):
        assert_same("DynamicQuantizeLinear", Case(x, outputs=3))
        weight = integers("int8", 40, 9, seed=1)
        scale, zero = scalars("int8", 0.02, 0)
        for more in ((), (zero,), (zero, randoms(9))):
            case = Case(x, weight, scale, *more, outputs=["float32"])
            assert_same("com.microsoft.DynamicQuantizeMatMul", case)


@pytest.mark.parametrize("channels", [False, True], ids=["one scale", "scale by channel"])
@pytest.mark.parametrize(("dtype", "middle"), [("uint8", 128), ("uint8", 117), ("int8", 0)])
def test_recurrent_weights(dtype: str, middle: int, channels: bool) -> None:
    """ONNX Runtime rounds the inputs of each step to 8 bits, cnnrt does not."""
    x = randoms(6, 2, 4)
    w, r = integers(dtype, 1, 4, 12), integers(dtype, 1, 3, 12, seed=1)
    shape = (1, 12) if channels else (1,)
    scale = np.linspace(0.008, 0.012, shape[-1], dtype=np.float32).reshape(shape)
    zero = np.full(shape, middle, dtype)
    case = Case(
        *(x, w, r, None, None, None, None, None, scale, zero, scale, zero),
        outputs=["float32"] * 3,
        hidden_size=3,
    )
    model = case.model("com.microsoft.DynamicQuantizeLSTM", 17)
    expected = by_runtime(model, case.feeds)
    assert expected is not None
    for got, right in zip(by_cnnrt(model, case.feeds), expected, strict=True):
        np.testing.assert_allclose(got, right, atol=0.02)
    steps = cnnrt.load(model).describe(case.feeds)
    assert ("linear_narrow" in steps) == (middle != 117)


def test_attention() -> None:
    x = integers("uint8", 2, 5, 8)
    case = Case(
        *(x, integers("int8", 8, 24, seed=1), randoms(24)),
        *(np.float32(0.02), np.float32(0.01), None, np.uint8(128), np.int8(0)),
        outputs=["float32"],
        num_heads=2,
    )
    model = case.model("com.microsoft.QAttention", 17)
    expected = by_runtime(model, case.feeds)
    assert expected is not None
    np.testing.assert_allclose(by_cnnrt(model, case.feeds)[0], expected[0], rtol=1e-4, atol=1e-5)


# Whole files -------------------------------------------------------------------------------------


def network() -> Any:
    constants = {
        "w": randoms(8, 4, 3, 3) / 3,
        "b": randoms(8),
        "w2": randoms(8, 8, 3, 3, seed=1) / 6,
        "b2": randoms(8, seed=2),
        "k": randoms(8, 5, seed=3),
        "kb": randoms(5, seed=4),
    }
    n = helper.make_node
    nodes = [
        n("Conv", ["x", "w", "b"], ["a"], pads=[1] * 4),
        n("LeakyRelu", ["a"], ["r"], alpha=0.1),
        n("Conv", ["r", "w2", "b2"], ["d"], pads=[1] * 4),
        n("Add", ["d", "r"], ["e"]),
        n("Relu", ["e"], ["g"]),
        n("MaxPool", ["g"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        n("GlobalAveragePool", ["p"], ["q"]),
        n("Flatten", ["q"], ["t"]),
        n("Gemm", ["t", "k", "kb"], ["u"]),
        n("Sigmoid", ["u"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, ["n", 4, 16, 16])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


X = randoms(2, 4, 16, 16)


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED", "ALL"])
@pytest.mark.parametrize("quantized", [False, True])
def test_files_that_runtime_optimised(level: str, quantized: bool, tmp_path: Any) -> None:
    source = tmp_path / "net.onnx"
    onnx.save(network(), source)
    if quantized:
        source = quantize(source, tmp_path, "QOperator", per_channel=True)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(
        runtime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    (want,) = runtime.InferenceSession(source, options).run(None, {"x": X})
    got = cnnrt.load(tmp_path / "optimised.onnx")(X)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 if not quantized else 0.005)


def quantize(source: Any, folder: Any, kind: str, *, per_channel: bool) -> Any:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"x": randoms(1, 4, 16, 16, seed=i)} for i in range(8)])

        def get_next(self) -> Any:
            return next(self.batches, None)

    target = folder / "quantised.onnx"
    if kind == "dynamic":
        quantize_dynamic(source, target, weight_type=QuantType.QUInt8)
    else:
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=getattr(QuantFormat, kind),
            per_channel=per_channel,
            weight_type=QuantType.QInt8,
        )
    return target


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["QDQ", "QOperator", "dynamic"])
def test_files_that_runtime_quantised(kind: str, per_channel: bool, tmp_path: Any) -> None:
    source = tmp_path / "net.onnx"
    onnx.save(network(), source)
    path = quantize(source, tmp_path, kind, per_channel=per_channel)
    (want,) = runtime.InferenceSession(path).run(None, {"x": X})
    np.testing.assert_allclose(cnnrt.load(path)(X), want, atol=0.005)
