"""Random quantised networks: the bits of ONNX Runtime's integer operators.

Networks are chains with branches, of Q/DQ nodes or of the QLinear family. Each tensor has a scale
and a zero point of its own. Every tensor that nobody reads is an output.

With activations of int8 ONNX Runtime computes most operators between Q and DQ in float32 on x86-64.
Its integer operators are asked for by `session.qdqisint8allowed`, as it has it on ARM.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as runtime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import cnnrt
from cnnrt.graph import Array
from test_random_graphs import QUICK

CHANNELS = (1, 2, 3, 5, 8, 15, 16, 17, 24, 33)
MAX_ELEMENTS = 20_000
SPREAD = 64
"""The standard deviation of bytes, about: that of uniform ones is 74."""


class Tensor(NamedTuple):
    """A tensor of bytes."""

    name: str
    shape: tuple[int, ...]
    scale: str
    zero: str
    factor: np.float32
    """The value of the scale."""
    least: bool
    """True if the zero point is the least byte."""


class Builder:
    """A network in the making; `choose` draws one of a few values."""

    def __init__(self, draw: Any, dtype: str) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(self.integer(0, 2**16))
        self.dtype = np.dtype(dtype)
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self.tensors: list[Tensor] = []
        self.read: set[str] = set()
        self.count = 0

    def integer(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def choose(self, values: Any) -> Any:
        return self.draw(st.sampled_from(list(values)))

    def unique(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def constant(self, value: Any) -> str:
        name = self.unique("c")
        self.constants[name] = np.asarray(value)
        return name

    def node(self, op: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        name = self.unique("t")
        self.nodes.append(helper.make_node(op, inputs, [name], name, domain=domain, **attributes))
        return name

    def bytes_of(self, *shape: int, dtype: Any = None) -> Array:
        info = np.iinfo(dtype or self.dtype)
        return self.rng.integers(info.min, info.max, shape, info.dtype, endpoint=True)

    def tensor(self, name: str, shape: tuple[int, ...], unit: float, least: bool) -> Tensor:
        """A new tensor of bytes.

        Args:
            unit: a scale that suits it. Half of the scales are a power of two times it: many
                results are then halves, up to the rounding of the scales.
        """
        ties = self.choose((True, False))
        factor = np.float32(unit * (self.choose((0.5, 1, 2)) if ties else self.rng.uniform(0.3, 2)))
        info = np.iinfo(self.dtype)
        zero = info.min if least else self.choose((0, 1, info.min, info.max, info.max // 3))
        scale, zero_name = self.constant(factor), self.constant(np.array(zero, self.dtype))
        return Tensor(name, shape, scale, zero_name, factor, zero == info.min)

    def dq(self, x: Tensor) -> str:
        self.read.add(x.name)
        return self.node("DequantizeLinear", [x.name, x.scale, x.zero])

    def q(self, x: str, shape: tuple[int, ...], unit: float, *, least: bool = False) -> None:
        """Ends a chain in floats."""
        made = self.tensor("", shape, unit, least)
        name = self.node("QuantizeLinear", [x, made.scale, made.zero])
        self.tensors.append(made._replace(name=name))

    def alike(self, x: Tensor, fits: Any) -> Tensor:
        """Another tensor that fits; x itself if there is none, and sometimes."""
        others = [t for t in self.tensors if fits(t) and t.name != x.name]
        found: Tensor = self.choose([*others, *others, x])
        return found


class Weight(NamedTuple):
    """Names of a weight's bytes, scale and zero point, and its scales."""

    names: list[str]
    scales: Array


def power(value: float) -> float:
    """The power of two next to a number."""
    return 2.0 ** round(math.log2(value))


def weight(b: Builder, shape: tuple[int, ...], channels: int, signed: bool) -> Weight:
    dtype = np.int8 if signed or b.choose((True, False)) else np.uint8
    per_channel = dtype == np.int8 and b.choose((True, False))
    scales = b.rng.uniform(0.2, 1.8, channels if per_channel else 1).astype(np.float32)
    zeros = np.zeros(scales.shape, dtype)
    if not per_channel:
        scales, zeros = scales.reshape(()), zeros.reshape(())
        if dtype == np.uint8:
            zeros = np.array(b.choose((128, 128, 0, 255, 100)), dtype)
    names = [b.constant(v) for v in (b.bytes_of(*shape, dtype=dtype), scales, zeros)]
    return Weight(names, scales)


class Bias(NamedTuple):
    """A bias in int32, or in floats that are rounded to it."""

    whole: str
    scales: Array
    floats: str


def bias(b: Builder, x: Tensor, w: Weight, channels: int, depth: int) -> Bias:
    """Both forms of a bias. That in floats lies in the middle between two whole numbers, often."""
    most = int(SPREAD**2 * depth**0.5) + 1
    values = b.rng.integers(-most, most, channels).astype(np.int32)
    scales = np.asarray(x.factor * w.scales, np.float32)
    between = (values + b.choose((0, 0.5, 0.3))) * scales
    return Bias(b.constant(values), scales, b.constant(between.astype(np.float32)))


def windows(b: Builder, x: Tensor) -> tuple[list[int], dict[str, Any]]:
    rank = len(x.shape) - 2
    kernel = [b.choose((1, 1, 3, 3, 5, 2)) for _ in range(rank)]
    if b.choose((True, False)):
        kernel = [3] * rank
    same = b.choose((True, True, False))
    return kernel, {
        "strides": [1] * rank if same else [b.choose((1, 2, 3)) for _ in range(rank)],
        "pads": [b.choose((0, k // 2)) for k in kernel] * 2,
    }


def sizes(shape: tuple[int, ...], kernel: list[int], given: dict[str, Any]) -> tuple[int, ...]:
    spatial, rank = shape[2:], len(kernel)
    dilations = given.get("dilations", [1] * rank)
    return tuple(
        (n + a + e - d * (k - 1) - 1) // s + 1
        for n, a, e, d, k, s in zip(
            *(spatial, given["pads"][:rank], given["pads"][rank:], dilations, kernel),
            given["strides"],
            strict=True,
        )
    )


def convolution(b: Builder, x: Tensor) -> None:
    c = x.shape[1]
    group = b.choose([g for g in (1, 1, 2, 4, 8, c) if c % g == 0])
    m = group * b.choose((1, 2)) if group > 1 else b.choose(CHANNELS)
    kernel, given = windows(b, x)
    given |= {"dilations": [b.choose((1, 1, 2))] * len(kernel), "group": group}
    shape = (x.shape[0], m, *sizes(x.shape, kernel, given))
    if min(shape) < 1 or math.prod(shape) > MAX_ELEMENTS:
        return
    depth = c // group * math.prod(kernel)
    w = weight(b, (m, c // group, *kernel), m, b.dtype == np.int8)
    added = bias(b, x, w, m, depth) if b.choose((True, False)) else None
    unit = float(x.factor) * float(w.scales.flat[0]) * SPREAD * power(depth**0.5)
    if b.choose((True, False)):
        b.read.add(x.name)
        y = b.tensor("", shape, unit, False)
        names = [x.name, x.scale, x.zero, *w.names, y.scale, y.zero]
        if added:
            names.append(added.whole)
        b.tensors.append(y._replace(name=b.node("QLinearConv", names, **given)))
        return
    names = [b.dq(x), b.node("DequantizeLinear", w.names, axis=0)]
    if added:
        names.append(bias_input(b, added))
    y = b.node("Conv", names, **given)
    least = b.choose((True, False))
    b.q(b.node("Relu", [y]) if least else y, shape, unit, least=least)


def bias_input(b: Builder, found: Bias) -> str:
    """A bias as an input of an operator on floats."""
    if b.choose((True, False)):
        return found.floats
    zero = b.constant(np.zeros(found.scales.shape, np.int32))
    scale = b.constant(found.scales)
    return b.node("DequantizeLinear", [found.whole, scale, zero], axis=0)


def pool(b: Builder, x: Tensor) -> None:
    kernel, given = windows(b, x)
    if any(2 * p > k for p, k in zip(given["pads"], kernel, strict=False)):
        return
    shape = (*x.shape[:2], *sizes(x.shape, kernel, given))
    if min(shape) < 1:
        return
    op = b.choose(("MaxPool", "AveragePool"))
    if op == "AveragePool":
        given["count_include_pad"] = b.choose((0, 1))
    y = b.node(op, [b.dq(x)], kernel_shape=kernel, **given)
    if op == "MaxPool":
        b.tensors.append(
            x._replace(name=b.node("QuantizeLinear", [y, x.scale, x.zero]), shape=shape)
        )
    else:
        b.q(y, shape, float(x.factor))


def operand(b: Builder, x: Tensor) -> Tensor:
    """The other operand of a sum or product: a tensor, also of one pixel, or a constant."""
    rank = len(x.shape)
    channels = (*x.shape[:2], *[1] * (rank - 2))
    if b.choose((True, True, False)):
        return b.alike(x, lambda t: t.shape in (x.shape, channels))
    shape = b.choose((x.shape, x.shape[1:], channels, channels[1:], x.shape[-1:], (1,), ()))
    made = b.tensor("", shape, 1.0, False)
    return made._replace(name=b.constant(b.bytes_of(*shape)))


def pair(b: Builder, x: Tensor) -> None:
    op = b.choose(("Add", "Mul"))
    other = operand(b, x)
    scales = float(x.factor), float(other.factor)
    unit = max(scales) if op == "Add" else scales[0] * scales[1] * SPREAD
    both = (x, other) if b.choose((True, False)) else (other, x)
    if b.choose((True, False)):
        names = [name for t in both for name in (t.name, t.scale, t.zero)]
        b.read |= {x.name, other.name}
        y = b.tensor("", x.shape, unit, False)
        name = b.node(f"QLinear{op}", [*names, y.scale, y.zero], "com.microsoft")
        b.tensors.append(y._replace(name=name))
        return
    y = b.node(op, [b.dq(t) for t in both])
    least = b.choose((True, False))
    b.q(b.node("Relu", [y]) if least else y, x.shape, unit, least=least)


def move(b: Builder, x: Tensor) -> None:
    """Operators that move bytes, with the scale of x."""
    shape, rank, given = list(x.shape), len(x.shape), {}
    op = b.choose(("Transpose", "Reshape", "Slice", "Resize", "Pad"))
    names = [b.dq(x)]
    if op == "Transpose":
        given["perm"] = [0, 1, *b.choose(([*range(2, rank)], [*range(2, rank)][::-1]))]
        shape = [shape[axis] for axis in given["perm"]]
    elif op == "Reshape":
        shape = [*shape[:2], *[1] * (rank - 3), math.prod(shape[2:])]
        names.append(b.constant(np.array(shape)))
    elif op == "Slice":
        axis = b.integer(1, rank - 1)
        start = b.integer(0, shape[axis] - 1)
        names += [b.constant(np.array([v])) for v in (start, shape[axis], axis)]
        shape[axis] -= start
    elif op == "Resize":
        shape[2:] = [2 * n for n in shape[2:]]
        names += ["", "", b.constant(np.array(shape))]
        given |= {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
        given["nearest_mode"] = "floor"
    else:
        pads = [0, 0, *(b.integer(0, 2) for _ in shape[2:])]
        names.append(b.constant(np.array(pads * 2)))
        shape = [n + 2 * p for n, p in zip(shape, pads, strict=True)]
    if math.prod(shape) > MAX_ELEMENTS:
        return
    y = b.node(op, names, **given)
    made = b.node("QuantizeLinear", [y, x.scale, x.zero])
    b.tensors.append(x._replace(name=made, shape=tuple(shape)))


def table(b: Builder, x: Tensor) -> None:
    """Operators whose results IEEE 754 defines."""
    op, attributes = b.choose(
        (("Relu", {}), ("LeakyRelu", {"alpha": 0.1}), ("Abs", {}), ("Neg", {}))
    )
    b.q(b.node(op, [b.dq(x)], **attributes), x.shape, float(x.factor))


def concat(b: Builder, x: Tensor) -> None:
    other = b.alike(x, lambda t: (t.shape[:1], t.shape[2:]) == (x.shape[:1], x.shape[2:]))
    shape = (x.shape[0], x.shape[1] + other.shape[1], *x.shape[2:])
    y = b.node("Concat", [b.dq(x), b.dq(other)], axis=1)
    b.q(y, shape, float(max(x.factor, other.factor)))


def global_pool(b: Builder, x: Tensor) -> None:
    y = b.node("GlobalAveragePool", [b.dq(x)])
    pixels = math.prod(x.shape[2:])
    b.q(y, (*x.shape[:2], *[1] * (len(x.shape) - 2)), float(x.factor) / power(pixels**0.5))


def linear(b: Builder, x: Tensor) -> None:
    """A matrix behind Flatten: Gemm, or MatMul."""
    depth, columns = math.prod(x.shape[1:]), b.choose((1, 4, 16, 17, 40))
    flat = b.node("Flatten", [b.dq(x)], axis=1)
    flat = b.node("QuantizeLinear", [flat, x.scale, x.zero])
    w = weight(b, (columns, depth), columns, b.dtype == np.int8)
    shape = (x.shape[0], columns)
    unit = float(x.factor) * float(w.scales.flat[0]) * SPREAD * power(depth**0.5)
    source = b.node("DequantizeLinear", [flat, x.scale, x.zero])
    if b.choose((True, False)):
        names = [b.node("DequantizeLinear", w.names, axis=0)]
        names.append(bias_input(b, bias(b, x, w, columns, depth)))
        b.q(b.node("Gemm", [source, *names], transB=1), shape, unit)
        return
    matrix = b.constant(np.ascontiguousarray(b.constants[w.names[0]].T))
    name = b.node("DequantizeLinear", [matrix, *w.names[1:]], axis=1)
    b.q(b.node("MatMul", [source, name]), shape, unit)


@st.composite
def models(draw: Any, most: int) -> tuple[bytes, Array]:
    """A model of at most `most` operators, and its input."""
    b = Builder(draw, draw(st.sampled_from(("uint8", "int8"))))
    rank = b.choose((4, 4, 4, 3, 5))
    shape = (
        *(b.choose((1, 1, 2, 3)), b.choose(CHANNELS)),
        *(b.integer(1, 5 if rank == 5 else 12) for _ in range(rank - 2)),
    )
    x = b.tensor("x", shape, 1.0, False)
    b.tensors.append(x)
    kinds = (convolution, convolution, convolution, pool, pair, pair, table, concat, move)
    for _ in range(b.integer(1, most)):
        source = b.choose([t for t in b.tensors if len(t.shape) > 2][-3:])
        b.choose((*kinds, global_pool, linear))(b, source)
    ends = [t.name for t in b.tensors if t.name not in b.read and t.name != "x"]
    if not ends:
        table(b, x)
        ends = [b.tensors[-1].name]
    kind = helper.np_dtype_to_tensor_dtype(b.dtype)
    graph = helper.make_graph(
        b.nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name in ends],
        [numpy_helper.from_array(v, k) for k, v in b.constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString()), b.bytes_of(*shape)


def by_runtime(model: bytes, x: Array) -> list[Array]:
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def check(model: bytes, x: Array, isa: str) -> None:
    wanted, graph = by_runtime(model, x), cnnrt.load(model).graph
    for threads in (1, 2):
        loaded = cnnrt.Model(graph, isa=isa, threads=threads)
        result = loaded.run({"x": x})
        found = result if isinstance(result, dict) else {graph.outputs[0].name: result}
        for spec, want in zip(graph.outputs, wanted, strict=True):
            np.testing.assert_array_equal(found[spec.name], want, spec.name, strict=True)


@settings(QUICK, max_examples=40)
@given(models(8))
def test_random_models(isa_and_overlays: str, case: tuple[bytes, Array]) -> None:
    check(*case, isa_and_overlays)


@pytest.mark.soak
@settings(QUICK, max_examples=3000, derandomize=False)
@given(models(16))
def test_many_random_models(isa: str, case: tuple[bytes, Array]) -> None:
    check(*case, isa)
