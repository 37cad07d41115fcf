"""No images, no time steps, no detections: axes of size 0 through passes, plans and kernels.

PyTorch and ONNX Runtime give empty outputs of the shapes that the sizes lead to.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from cnnrt.graph import Array, Graph, Node, TensorSpec
from cnnrt.model import Model, plan_for
from cnnrt.ops import complete


def randoms(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


CONSTANTS: dict[str, Array] = {
    "w": randoms(4, 3, 3, 3),
    "w1": randoms(4, 3, 1, 1),
    "depthwise": randoms(3, 1, 3, 3),
    "wt2": randoms(3, 4, 2, 2),
    "wt3": randoms(3, 4, 3, 3),
    "line1": randoms(4, 3, 1),
    "c": randoms(3),
    "v": np.abs(randoms(3)) + 1,
    "dense": randoms(3, 5),
    "b5": randoms(5),
    "slope": randoms(3, 1, 1),
    "twice": np.array([1, 1, 2, 2], np.float32),
    "flat": np.array([0, 4, -1]),
    "margin": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "lstm_w": randoms(1, 12, 3),
    "lstm_r": randoms(1, 12, 3),
    "gru_w": randoms(1, 9, 3),
    "gru_r": randoms(1, 9, 3),
    "axes": np.array([2, 3]),
    "scale": np.float32(0.1),
    "zero": np.uint8(3),
    "weight8": np.ones((4, 3, 3, 3), np.int8),
    "zero8": np.int8(0),
    "v7": randoms(7),
}

Step = tuple[str, str, dict[str, Any]]
IMAGE, LINE = ("n", 3, 12, 12), ("n", 3, "t")
NORM = "x c c c v"


def quantised() -> list[Step]:
    return [
        ("quantize_linear", "x scale zero", {}),
        ("qlinear_conv", "- scale zero weight8 scale zero8 scale zero", {}),
        ("dequantize_linear", "- scale zero", {}),
    ]


NETWORKS: dict[str, tuple[tuple[Any, ...], list[Step], tuple[Any, ...]]] = {
    "conv": (IMAGE, [("conv", "x w", {})], (0, 4, 10, 10)),
    "conv of one": (IMAGE, [("conv", "x w1", {})], (0, 4, 12, 12)),
    "depthwise": (IMAGE, [("conv", "x depthwise", {"group": 3})], (0, 3, 10, 10)),
    "strided": (IMAGE, [("conv", "x w", {"strides": [2, 2]})], (0, 4, 5, 5)),
    "transposed": (IMAGE, [("conv_transpose", "x wt2", {"strides": [2, 2]})], (0, 4, 24, 24)),
    "transposed 3": (IMAGE, [("conv_transpose", "x wt3", {"strides": [2, 2]})], (0, 4, 25, 25)),
    "transposed 1": (IMAGE, [("conv_transpose", "x wt3", {})], (0, 4, 14, 14)),
    "line of one": (LINE, [("conv", "x line1", {})], (0, 4, "t")),
    "norm of lines": (LINE, [("batch_normalization", NORM, {})], (0, 3, "t")),
    "norm, conv": (
        LINE,
        [("batch_normalization", NORM, {}), ("conv", "- line1", {}), ("relu", "-", {})],
        (0, 4, "t"),
    ),
    "instance": (LINE, [("instance_normalization", "x c c", {})], (0, 3, "t")),
    "group": (LINE, [("group_normalization", "x c c", {"num_groups": 3})], (0, 3, "t")),
    "layer": (("n", "t", 7), [("layer_normalization", "x v7 v7", {})], (0, "t", 7)),
    "rms": (("n", "t", 7), [("rms_normalization", "x v7", {})], (0, "t", 7)),
    "mean and variance": (
        IMAGE,
        [("mean_variance_normalization", "x", {})],
        (0, 3, 12, 12),
    ),
    "lrn": (IMAGE, [("lrn", "x", {"size": 3})], (0, 3, 12, 12)),
    "classifier": (
        IMAGE,
        [
            ("conv", "x w1", {}),
            ("relu", "-", {}),
            ("max_pool", "-", {"kernel_shape": [2, 2], "strides": [2, 2]}),
            ("global_average_pool", "-", {}),
            ("flatten", "-", {}),
            ("softmax", "-", {}),
        ],
        (0, 4),
    ),
    "average": (IMAGE, [("average_pool", "x", {"kernel_shape": [3, 3]})], (0, 3, 10, 10)),
    "gemm": (("n", 3), [("gemm", "x dense b5", {}), ("gelu", "-", {})], (0, 5)),
    "matmul": (("n", "t", 3), [("matmul", "x dense", {})], (0, "t", 5)),
    "softmax": (("n", "t", 7), [("softmax", "x", {})], (0, "t", 7)),
    "over nothing": (("n", "t", 7), [("log_softmax", "x", {"axis": 1})], (0, "t", 7)),
    "nearest": (IMAGE, [("resize", "x - twice", {"mode": "nearest"})], (0, 3, 24, 24)),
    "linear": (IMAGE, [("resize", "x - twice", {"mode": "linear"})], (0, 3, 24, 24)),
    "cubic": (IMAGE, [("resize", "x - twice", {"mode": "cubic"})], (0, 3, 24, 24)),
    "prelu": (IMAGE, [("prelu", "x slope", {})], (0, 3, 12, 12)),
    "reflect": (IMAGE, [("pad", "x margin", {"mode": "reflect"})], (0, 3, 14, 14)),
    "mean": (IMAGE, [("reduce_mean", "x axes", {"keepdims": 0})], (0, 3)),
    "reshape": (IMAGE, [("conv", "x w1", {}), ("reshape", "- flat", {})], (0, 4, 144)),
    "lstm": (("t", "n", 3), [("lstm", "x lstm_w lstm_r", {"hidden_size": 3})], ("t", 1, 0, 3)),
    "gru": (("t", "n", 3), [("gru", "x gru_w gru_r", {"hidden_size": 3})], ("t", 1, 0, 3)),
    "quantised": (IMAGE, quantised(), (0, 4, 10, 10)),
}
"""Shape of the input, nodes, and shape of the output, in which 0 stands for n. The input "-" is the
output of the node before."""


def network(shape: tuple[Any, ...], steps: list[Step]) -> Model:
    nodes, last = [], "x"
    for i, (op, inputs, attributes) in enumerate(steps):
        names = [
            last if n == "-" and k == 0 else "" if n == "-" else n
            for k, n in enumerate(inputs.split())
        ]
        last = "y" if i == len(steps) - 1 else f"y{i}"
        nodes.append(Node(op, last, names, [last], dict(attributes)))
        complete(nodes[-1])
    used = {name for node in nodes for name in node.inputs}
    constants = {name: value for name, value in CONSTANTS.items() if name in used}
    return Model(Graph([TensorSpec("x", shape)], [TensorSpec("y", ())], nodes, constants))


@pytest.mark.parametrize("name", NETWORKS)
def test_no_images_or_no_steps(name: str) -> None:
    shape, steps, out = NETWORKS[name]
    model = network(shape, steps)
    pairs = [(0, 4), (2, 0), (0, 0)] if "t" in shape else [(0, 4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n, t in pairs:
            sizes = {"n": n, "t": t}
            x = np.zeros([sizes.get(d, d) for d in shape], np.float32)
            y = model(x)
            assert y.shape == tuple(n if d == 0 else t if d == "t" else d for d in out)
    full = model(np.ones([{"n": 2, "t": 5}.get(d, d) for d in shape], np.float32))
    assert np.isfinite(full).all()  # the same plans, not empty


LARGE: dict[str, tuple[str, tuple[Any, ...], list[tuple[int, ...]], dict[str, Any]]] = {
    "conv": ("conv", ("n", 256, 9, 9), [(256, 256, 3, 3)], {}),
    "conv_transpose": ("conv_transpose", ("n", 256, 9, 9), [(256, 256, 3, 3)], {}),
    "gemm": ("gemm", ("n", 1024), [(1024, 1024)], {}),
    "matmul": ("matmul", ("n", 7, 1024), [(1024, 1024)], {}),
    "einsum": ("einsum", ("n", 3), [(2000, 40), (2000, 40)], {"equation": "ab,cd,ed->ace"}),
    "lstm": ("lstm", (5, "n", 256), [(1, 1024, 256)] * 2, {"hidden_size": 256}),
}
"""Products with many weights: operator, shape of the input, shapes of the others, attributes."""


@pytest.mark.parametrize("name", LARGE)
def test_no_images_are_predicted_to_take_little(name: str) -> None:
    """A run behind the first stage may do a few seconds of predicted work. No step is left that
    reads the weights."""
    op, shape, weights, attributes = LARGE[name]
    names = [f"w{i}" for i in range(len(weights))]
    node = Node(op, op, ["x", *names], ["y"], dict(attributes))
    complete(node)
    constants = {n: np.ones(s, np.float32) for n, s in zip(names, weights, strict=True)}
    model = Model(Graph([TensorSpec("x", shape)], [TensorSpec("y", ())], [node], constants))
    costs = [
        plan_for(model, [np.zeros([n if d == "n" else d for d in shape], np.float32)]).cost_ns
        for n in (0, 8)
    ]
    assert costs[0] < 20e3, costs
    assert costs[1] > 10e3, costs


def test_an_empty_slice_reads_nothing() -> None:
    """Ends of detectors cut off the columns behind the classes, of which there are none."""
    begin, end, axis = np.array([84]), np.array([9999]), np.array([2])
    transposed = Node("transpose", "t", ["x"], ["t"], {"perm": [0, 2, 1]})
    cut = Node("slice", "y", ["t", "begin", "end", "axis"], ["y"], {})
    complete(transposed)
    complete(cut)
    constants = {"begin": begin, "end": end, "axis": axis}
    spec = TensorSpec("x", (1, 84, 2100))
    model = Model(Graph([spec], [TensorSpec("y", ())], [transposed, cut], constants))
    x = randoms(1, 84, 2100)
    assert model(x).shape == (1, 2100, 0)
    assert not plan_for(model, [x]).describe()
