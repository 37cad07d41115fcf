"""The valid files that fuzzing starts from: one operator each, and small networks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from cnnrt.errors import CnnrtError
from cnnrt.formats import write_model
from cnnrt.formats.onnx.importer import read_onnx
from cnnrt.graph import Graph
from networks import network

MAX_BYTES = 3000
"""Maximum bytes of a file: mutations of larger ones mostly hit numbers without meaning."""


HEAD = '<ir_version: 10, opset_import: ["": 21]>'
DIALECT = (
    # A detector's end: what is found is counted, gathered and scaled.
    """g (float[1, 8, 4] b, float[1, 2, 8] s) => (float[k, 4] y) {
        n = Constant <value = int64 {3}> ()
        o = Constant <value = float {0.5}> ()
        t = Constant <value = float {0.1}> ()
        z = Constant <value = int64 {0}> ()
        l = Constant <value = int64[1] {2}> ()
        f = NonMaxSuppression (b, s, n, o, t)
        i = Gather <axis = 1> (f, l)
        j = Flatten <axis = 0> (i)
        r = Squeeze (j)
        c = Gather (b, z)
        q = Gather (c, r)
        y = Mul (q, o) }""",
    # A loop that appends, on a count that the network computes.
    """g (float[1, 4] x) => (float[k, 4] y, float[n, 1] z) {
        m = NonZero (x)
        s = Size (m)
        t = Constant <value = bool {1}> ()
        a = Identity (x)
        y, z = Loop <body = body (int64 i, bool c, float[k, 4] v)
                            => (bool d, float[l, 4] w, float[1] u) {
            d = Identity (c)
            w = Concat <axis = 0> (v, x)
            f = Cast <to = 1> (i)
            o = Constant <value = int64[1] {1}> ()
            u = Reshape (f, o) }> (s, t, a) }""",
    # Sequences, an If on a computed condition, ranges and shapes made while it runs.
    """g (float[2, 6] x) => (float[a, b] y, float[c] w) {
        o = Constant <value = int64 {1}> ()
        t = Constant <value = float {0}> ()
        p = SplitToSequence <axis = 1> (x, o)
        n = SequenceLength (p)
        e = SequenceAt (p, o)
        q = SequenceInsert (p, e)
        s = ConcatFromSequence <axis = 1> (q)
        m = ReduceSum <keepdims = 0> (s)
        k = Greater (m, t)
        e2 = Identity (s)
        y = If <then_branch = a () => (float[a, b] r) { r = Relu (s) },
                else_branch = b () => (float[a, b] r) { r = Concat <axis = 0> (s, e2) }> (k)
        z = Constant <value = int64 {0}> ()
        g1 = Range (z, n, o)
        h = Cast <to = 1> (g1)
        u = Constant <value = int64[1] {-1}> ()
        n1 = Reshape (n, u)
        w1 = Expand (h, n1)
        w = Tile (w1, n1) }""",
    # Quantised: between QuantizeLinear and DequantizeLinear, and by dynamic ranges.
    """g (float[1, 2, 6, 6] x) => (float[1, 3, 4, 4] y, float[1, 5] z)
       <float s = {0.02}, uint8 p = {128}, float[3] t = {0.1, 0.2, 0.3}, int8[3] q = {0, 0, 0},
        int8[5, 32] v, float[5] b = {1, 2, 3, 4, 5}> {
        a = QuantizeLinear (x, s, p)
        c = DequantizeLinear (a, s, p)
        w = ConstantOfShape <value = int8[1] {3}> (r)
        r = Constant <value = int64[4] {3, 2, 3, 3}> ()
        e = DequantizeLinear <axis = 0> (w, t, q)
        f = Conv (c, e)
        g1 = QuantizeLinear (f, s, p)
        y = DequantizeLinear (g1, s, p)
        h, i, j = DynamicQuantizeLinear (x)
        k = Flatten (h)
        r2 = Constant <value = int64[2] {72, 5}> ()
        l = ConstantOfShape <value = int8[1] {-2}> (r2)
        m = MatMulInteger (k, l, j)
        n = Cast <to = 1> (m)
        o = Mul (n, i)
        z = Add (o, b) }""",
    # Halves, with sums in float32 and a norm.
    """g (float16[1, 3, 8, 8] x) => (float[1, 4] y) {
        a = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]> ()
        b = Cast <to = 10> (a)
        r = Constant <value = int64[4] {4, 3, 3, 3}> ()
        v = ConstantOfShape <value = float[1] {0.5}> (r)
        w = Cast <to = 10> (v)
        c = Conv (x, w, b)
        p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
        g1 = GlobalAveragePool (p)
        f = Flatten (g1)
        s = Softmax (f)
        y = Cast <to = 1> (s) }""",
    # Scanned rows, and what is not zero of the result.
    """g (float[5, 3] x, float[3] h) => (float[3] y, int64[1, k] z) {
        y, r = Scan <num_scan_inputs = 1, body = body (float[3] a, float[3] v)
                                                   => (float[3] b, float[3] u) {
            b = Add (a, v)
            u = Tanh (b) }> (h, x)
        f = Flatten <axis = 0> (r)
        q = Relu (f)
        k = NonZero (q)
        l = Constant <value = int64[2] {0, 1}> ()
        z = Gather <axis = 0> (k, l) }""",
)
"""Networks that the standard's cases of one operator lack: stages, loops, quantised layers."""


def onnx_seeds() -> list[bytes]:
    """The ONNX standard's test cases of one operator as files, each input but the first constant,
    and small networks in stages, quantised and of halves."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    seeds = [onnx.parser.parse_model(HEAD + text).SerializeToString() for text in DIALECT]
    for case in cases:
        if case.model is None or not case.data_sets:
            continue
        proto = onnx.ModelProto()
        proto.CopyFrom(case.model)
        feeds = case.data_sets[0][0]
        for value, array in list(zip(proto.graph.input, feeds, strict=False))[1:]:
            if isinstance(array, np.ndarray) and array.dtype.kind in "biuf":
                proto.graph.initializer.append(numpy_helper.from_array(array, value.name))
        data = proto.SerializeToString()
        if len(data) <= MAX_BYTES and _is_read(data):
            seeds.append(data)
    return seeds


def model_seeds() -> list[bytes]:
    """The same as model.bin, and small networks."""
    return [file_of(read_onnx(data)) for data in onnx_seeds()] + [
        file_of(g) for g in small_networks()
    ]


def _is_read(data: bytes) -> bool:
    try:
        read_onnx(data)
    except CnnrtError:
        return False
    return True


def file_of(graph: Graph) -> bytes:
    data = write_model(None, graph, labels=["a", "b"])
    assert data is not None
    return data


def small_networks() -> Iterator[Graph]:
    """Several operators together, so that passes and layouts meet."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32)

    x = np.zeros((1, 3, 8, 8), np.float32)
    channels = {name: weights(5) for name in ("scale", "shift", "mean")} | {"var": np.ones(5, "f4")}
    yield network(
        {"x": x},
        {"w": weights(5, 3, 3, 3), "b": weights(5), "v": weights(5, 5, 1, 1), **channels},
        ("c", "conv", "x w b", {"pads": [1, 1, 1, 1]}),
        ("n", "batch_normalization", "c scale shift mean var"),
        ("r", "relu", "n"),
        ("d", "conv", "r v"),
        ("a", "add", "d c"),
        ("p", "max_pool", "a", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("g", "global_average_pool", "p"),
        ("y", "flatten", "g"),
    )
    yield network(
        {"x": np.zeros((1, 16, 6, 6), np.float32)},
        {"w": weights(16, 16, 3, 3), "dw": weights(16, 1, 3, 3), "s": np.array([0, -1])},
        ("c", "conv", "x w", {"pads": [1, 1, 1, 1]}),
        ("d", "conv", "c dw", {"group": 16, "dilations": [2, 2], "pads": [2, 2, 2, 2]}),
        ("k", "concat", "c d", {"axis": 1}),
        ("m", "average_pool", "k", {"kernel_shape": [3, 3]}),
        ("t", "transpose", "m", {"perm": [0, 2, 3, 1]}),
        ("y", "reshape", "t s"),
    )
    yield network(
        {"x": np.zeros((1, 4, 8), np.float32)},
        {
            **{name: weights(8, 8) for name in ("q", "k", "v")},
            "one": np.ones(8, np.float32),
            "zero": np.zeros(8, np.float32),
            "third": np.float32(0.3),
        },
        ("n", "layer_normalization", "x one zero"),
        ("a", "matmul", "n q"),
        ("b", "matmul", "n k"),
        ("c", "matmul", "n v"),
        ("t", "transpose", "b", {"perm": [0, 2, 1]}),
        ("u", "matmul", "a t"),
        ("e", "mul", "u third"),
        ("s", "softmax", "e"),
        ("o", "matmul", "s c"),
        ("y", "add", "o x"),
    )
    yield network(
        {"x": np.zeros((1, 2, 4, 4), np.float32)},
        {
            "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
            "w": weights(3, 2, 3, 3),
            "scales": np.array([1, 1, 2, 2], np.float32),
            "starts": np.array([0, 1]),
            "ends": np.array([3, 7]),
            "axes": np.array([2, 3]),
            "shape": np.array([2, 3, 3, 6]),
            "index": np.array([0, 2]),
        },
        ("p", "pad", "x pads"),
        ("c", "conv", "p w"),
        ("r", "resize", "c  scales", {"mode": "linear"}),
        ("s", "slice", "r starts ends axes"),
        ("e", "expand", "s shape"),
        ("g", "gather", "e index", {"axis": 1}),
        ("z", "shape", "g"),
        ("o", "constant_of_shape", "z"),
        ("y", "sub", "g o"),
    )
