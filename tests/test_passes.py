"""Passes: what they rewrite, what they leave, and that results stay the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checks import assert_close
from cnnrt import Model, ops
from cnnrt.errors import GraphError, ShapeError
from cnnrt.graph import Graph, Node, TensorSpec
from cnnrt.passes import prepare, specialise
from networks import network


class Builder:
    """A small graph with input x, written operator by operator."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape
        self.rng = np.random.default_rng(0)  # of its own: no test depends on those before it
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, getattr(value, "dtype", np.float32))
        return name

    def weights(self, *shape: int) -> str:
        return self.constant(self.rng.standard_normal(shape, dtype=np.float32))

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}{len(self.nodes)}"
        node = Node(op, name, list(inputs), [name], attributes)
        ops.complete(node)
        self.nodes.append(node)
        return name

    def conv(self, x: str, c: int, m: int, k: int = 3) -> str:
        return self("conv", x, self.weights(m, c, k, k), self.weights(m), pads=[k // 2] * 4)

    def norm(self, x: str, c: int) -> str:
        statistics = [self.constant(np.abs(self.rng.standard_normal(c)) + 0.5) for _ in range(4)]
        return self("batch_normalization", x, *statistics)

    def graph(self, *outputs: str) -> Graph:
        specs = [TensorSpec(name, ()) for name in outputs]
        return Graph([TensorSpec("x", self.shape)], specs, self.nodes, self.constants)


def fused(graph: Graph) -> list[str]:
    """The operators that are left, after all passes, with those of pointwise programs."""
    names = [spec.name for spec in graph.outputs]
    shapes = {spec.name: spec.shape for spec in graph.inputs}
    left = specialise(prepare(graph, names), shapes).nodes  # type: ignore[arg-type]
    programs = [n["program"].nodes if n.op == "pointwise" else (n,) for n in left]
    return [node.op for nodes in programs for node in nodes]


def by_reference(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor of the graph, node by node in float64."""
    values: dict[str, Any] = {"x": x.astype(np.float64), "": None}
    for name, value in graph.constants.items():
        values[name] = value.astype(np.float64) if value.dtype.kind == "f" else value
    for node in graph.nodes:
        results = ops.op(node).reference(node, *(values[i] for i in node.inputs))
        values.update(zip(node.outputs, results, strict=True))
    return values


def check(graph: Graph, tolerance: float = 1e-5) -> None:
    """The model gives what the references of the unfused graph give."""
    x = np.random.default_rng(1).standard_normal(graph.inputs[0].shape, dtype=np.float32)
    want = by_reference(graph, x)
    names = [spec.name for spec in graph.outputs]
    first: dict[str, np.ndarray] = {}
    for threads in (1, 2, 3):
        for _ in range(3):
            results = Model(graph, threads=threads).run({"x": x}, outputs=names)
            got = results if isinstance(results, dict) else {names[0]: results}
            for name, value in got.items():
                assert_close(value, want[name], tolerance, (name, threads))
                assert np.array_equal(value, first.setdefault(name, value)), (name, threads)


def test_identities_go_and_asked_for_names_stay() -> None:
    b = Builder(1, 8, 6, 6)
    x = b("identity", b("relu", b("identity", "x")))
    y = b("identity", b("identity", x))
    z = b("sigmoid", y)
    graph = b.graph(x, y, b("identity", z), b("identity", z))
    assert fused(graph).count("relu") == fused(graph).count("sigmoid") == 1
    assert len(fused(graph)) <= 4
    check(graph)
    assert fused(b.graph(y)) == ["relu"]


def test_norm_is_folded_into_the_convolution_before_it() -> None:
    b = Builder(1, 8, 6, 6)
    graph = b.graph(b("relu", b.norm(b.conv("x", 8, 16), 16)))
    assert fused(graph) == ["conv"]
    check(graph)


@pytest.mark.parametrize(("divisor", "left"), [(255, ["conv", "div"]), (-4, ["conv"])])
def test_a_division_is_folded_if_that_is_exact(divisor: float, left: list[str]) -> None:
    """A blurred mask of one value is that value, whichever the weights of the blur."""
    b = Builder(1, 1, 12, 16)
    row = np.exp(-(np.arange(-2, 3) ** 2) / 5)
    blur = np.outer(row, row)
    weight = b.constant((blur / blur.sum()).astype("f")[None, None])
    graph = b.graph(b("div", b("conv", "x", weight), b.constant(divisor)))
    assert fused(graph) == left
    check(graph)
    mask = np.full((1, 1, 12, 16), divisor, "f")
    inside = Model(graph, threads=1).run(mask)
    assert np.abs(inside - 1).max() <= 2**-23


def test_norm_stays_where_the_convolution_has_other_readers() -> None:
    b = Builder(1, 8, 6, 6)
    conv = b.conv("x", 8, 16)
    graph = b.graph(b("add", b.norm(conv, 16), conv))
    assert fused(graph) == ["conv", "conv", "add"]
    check(graph)


@pytest.mark.parametrize("wrong", ["scale", "var", "w"])
def test_norm_of_other_sizes_is_refused_not_folded(wrong: str) -> None:
    x = np.zeros((1, 4, 5, 5), np.float32)
    sizes = {"scale": (4,), "bias": (4,), "mean": (4,), "var": (4,), "w": (4, 4, 3, 3)}
    sizes[wrong] = (8, *sizes[wrong][1:])
    constants = {name: np.ones(size, np.float32) for name, size in sizes.items()}
    nodes = ("c", "conv", "x w"), ("y", "batch_normalization", "c scale bias mean var")
    with pytest.raises(ShapeError, match="batch_normalization"):
        Model(network({"x": x}, constants, *nodes))


def test_norm_alone_is_a_depthwise_convolution() -> None:
    b = Builder(2, 20, 5, 5)
    graph = b.graph(b("relu", b.norm("x", 20)))
    assert fused(graph) == ["conv"]
    check(graph)


def test_residual_goes_into_the_later_convolution() -> None:
    b = Builder(1, 16, 6, 6)
    left, right = b.conv("x", 16, 16), b.conv("x", 16, 16, 1)
    graph = b.graph(b("relu", b("add", left, right)))
    assert fused(graph) == ["conv", "conv"]
    check(graph)


def test_addition_of_a_tensor_to_itself_is_not_a_residual() -> None:
    b = Builder(1, 16, 6, 6)
    conv = b.conv("x", 16, 16)
    graph = b.graph(b("add", conv, conv))
    assert fused(graph) == ["conv", "add"]
    check(graph)


def test_an_asked_for_tensor_is_not_fused_away() -> None:
    b = Builder(1, 8, 6, 6)
    conv = b.conv("x", 8, 16)
    graph = b.graph(conv, b("relu", conv))
    assert fused(graph) == ["conv", "relu"]
    check(graph)


def test_broadcasting_addition_is_not_a_residual() -> None:
    b = Builder(2, 16, 6, 6)
    conv, pooled = b.conv("x", 16, 16), b("global_average_pool", "x")
    graph = b.graph(b("add", conv, pooled))
    assert fused(graph) == ["global_average_pool", "conv", "add"] or "add" in fused(graph)
    check(graph)


@pytest.mark.parametrize("channels", [16, 20])
def test_squeeze_and_excite(channels: int) -> None:
    b = Builder(2, channels, 7, 7)
    pooled = b("global_average_pool", "x")
    squeezed = b("relu", b.conv(pooled, channels, 8, 1))
    gate = b("sigmoid", b.conv(squeezed, 8, channels, 1))
    graph = b.graph(b.conv(b("mul", "x", gate), channels, 24, 1))
    assert fused(graph) == ["global_average_pool", "conv", "conv", "conv"]
    check(graph)


@pytest.mark.parametrize(
    "kept",
    ["few pixels", "two readers", "asked for", "unbounded", "relu", "3x3", "padding", "groups",
     "not by channel"],
)  # fmt: skip
def test_scales_that_stay_a_product(kept: str) -> None:
    b = Builder(2, 16, 6, 8)
    pooled = "x" if kept == "not by channel" else b("global_average_pool", "x")
    gate = b.conv(pooled, 16, 16, 1)
    gate = b("exp" if kept == "unbounded" else "sigmoid", gate)
    z = b("mul", gate, "x")
    outputs = [z] if kept == "asked for" else []
    if kept == "two readers":
        outputs.append(b.conv(z, 16, 12, 1))
    if kept == "relu":
        z = b("relu", z)
    if kept == "groups":
        y = b("conv", z, b.weights(8, 8, 1, 1), group=2)
    else:
        m = 25 if kept == "few pixels" else 24
        size = 3 if kept == "3x3" else 1
        pads = [int(kept in ("3x3", "padding"))] * 4
        y = b("conv", z, b.weights(m, 16, size, size), pads=pads)
    graph = b.graph(y, *outputs)
    assert "mul" in fused(graph)
    check(graph)


def test_patterns_become_the_operator_they_mean() -> None:
    b = Builder(1, 16, 6, 6)
    silu = b("mul", "x", b("sigmoid", "x"))
    hard = b("mul", silu, b("hard_sigmoid", silu, alpha=1 / 6, beta=0.5))
    scaled = b("div", hard, b.constant(np.float32(2**0.5)))
    one = b("add", b("erf", scaled), b.constant(np.float32(1)))
    half = b("mul", b("mul", hard, one), b.constant(np.float32(0.5)))
    graph = b.graph(half)
    assert fused(graph) == ["silu", "hard_swish", "gelu"]
    check(graph)


def test_silu_written_as_a_product_goes_into_the_convolution() -> None:
    b = Builder(1, 8, 6, 6)
    conv = b.conv("x", 8, 16)
    graph = b.graph(b("mul", conv, b("sigmoid", conv)))
    assert fused(graph) == ["conv"]
    check(graph)


def test_spatial_mean_over_a_single_axis_without_a_list() -> None:
    b = Builder(2, 20, 6)
    graph = b.graph(b("reduce_mean", "x", b.constant(np.array(-1))))
    assert fused(graph)[0] == "global_average_pool"
    check(graph)


def test_spatial_mean_is_global_pooling() -> None:
    for keepdims in (0, 1):
        b = Builder(2, 20, 6, 5)
        axes = b.constant(np.array([-1, -2]))
        graph = b.graph(b("reduce_mean", "x", axes, keepdims=keepdims))
        assert fused(graph)[0] == "global_average_pool"
        check(graph)


def test_padding_goes_into_the_convolution() -> None:
    b = Builder(1, 8, 6, 6)
    amounts = b.constant(np.array([0, 0, 1, 2, 0, 0, 2, 1]))
    graph = b.graph(b.conv(b("pad", "x", amounts), 8, 8))
    assert fused(graph) == ["conv"]
    check(graph)


@pytest.mark.parametrize(("dilation", "taps"), [(5, 3), (8, 1), (11, 1)])
def test_taps_that_only_meet_padding_are_cut_off(dilation: int, taps: int) -> None:
    b = Builder(1, 16, 8, 8)
    attributes = {"pads": [dilation] * 4, "dilations": [dilation] * 2}
    graph = b.graph(b("conv", "x", b.weights(20, 16, 3, 3), b.weights(20), **attributes))
    specialised = specialise(prepare(graph, [graph.outputs[0].name]), {"x": (1, 16, 8, 8)})
    (node,) = specialised.nodes
    assert specialised.types[node.inputs[1]].shape[2:] == (taps, taps)
    check(graph)


def test_matrix_products_by_constants_are_linear() -> None:
    b = Builder(3, 20)
    a = b("gemm", "x", b.weights(10, 20), b.weights(10), transB=1)
    c = b("gemm", a, b.weights(10, 7), b.weights(1, 7))
    graph = b.graph(b("relu", b("matmul", c, b.weights(7, 5))))
    assert fused(graph) == ["linear", "linear", "linear"]
    check(graph)


@pytest.mark.parametrize("attributes", [{"alpha": 0.5, "beta": 3.0}, {"transA": 1}])
@pytest.mark.parametrize("columns", [1, 10])
def test_factors_and_turns_of_gemm_are_linear(attributes: dict[str, Any], columns: int) -> None:
    b = Builder(20, 20)
    shared = b.weights(10, 20), b.weights(columns)
    first = b("gemm", "x", *shared, transB=1, **attributes)
    second = b("gemm", "x", *shared, transB=1)
    graph = b.graph(b("add", first, second))
    assert "gemm" not in fused(graph)
    check(graph)


def test_shape_arithmetic_folds() -> None:
    b = Builder(2, 6, 4, 4)
    batch = b("gather", b("shape", "x"), b.constant(np.array([0])))
    target = b("concat", batch, b.constant(np.array([-1])), axis=0)
    graph = b.graph(b("reshape", b("relu", "x"), target))
    assert fused(graph) == ["relu", "reshape"]
    check(graph)


def test_concat_of_blocks_and_of_odd_channels() -> None:
    for left, right in ((16, 32), (16, 20), (20, 16)):
        b = Builder(2, 8, 6, 6)
        parts = [b.conv("x", 8, left), b.conv("x", 8, right, 1)]
        graph = b.graph(b.conv(b("concat", *parts, axis=1), left + right, 8))
        check(graph)


def test_concat_of_concats_shares_one_memory() -> None:
    b = Builder(1, 8, 6, 6)
    parts = [b.conv("x", 8, 16, 1)]
    for _ in range(3):  # as DenseNet does: each layer reads all before it, through a 3x3 window
        whole = b("concat", *parts, axis=1) if len(parts) > 1 else parts[0]
        parts.append(b("relu", b.conv(whole, 16 * len(parts), 16)))
    inner = b("concat", *parts[:2], axis=1)
    outer = b("concat", inner, b.conv("x", 8, 32, 1), axis=1)
    graph = b.graph(b("concat", *parts, axis=1), b("relu", outer))
    check(graph, 2e-5)
    plan = Model(graph).describe()
    assert plan.count("concat of whole blocks") <= 2  # only what is in two concatenations


def test_an_operator_without_a_kernel_runs_by_its_reference() -> None:
    b = Builder(2, 8, 6, 6)
    graph = b.graph(b.conv(b("shrink", b.conv("x", 8, 16)), 16, 8))
    assert "no kernel" in Model(graph).describe()
    check(graph)


def test_a_sparse_zoo_of_shapes_is_the_same_with_buffers_used_again() -> None:
    b = Builder(1, 16, 9, 9)
    x, kept = "x", []
    for i in range(8):
        x = b("relu", b.conv(x, 16, 16, 3 if i % 2 else 1))
        kept.append(x)
    graph = b.graph(b("add", b("add", kept[1], kept[4]), kept[7]))
    check(graph, 1e-4)


@pytest.mark.parametrize("size", [3, 7, 20])
def test_steps_done_by_one_thread_among_steps_done_by_all(size: int) -> None:
    b = Builder(1, 16, size, size)
    x = b.conv("x", 16, 64)
    for _ in range(4):  # borders, small and large steps in every order
        gate = b("hard_sigmoid", b.conv(b("global_average_pool", x), 64, 64, 1))
        x = b("mul", x, gate)
        weight = b.weights(64, 1, 3, 3)
        x = b("hard_swish", b("conv", x, weight, pads=[1] * 4, group=64))
        x = b("relu", b.conv(x, 64, 64))
    check(b.graph(x), 2e-5)


def test_unknown_output_names_suggest_near_ones() -> None:
    b = Builder(1, 8, 6, 6)
    graph = b.graph(b("relu", "x"))
    with pytest.raises(GraphError, match="did you mean 'relu0'"):
        Model(graph).run(np.zeros((1, 8, 6, 6), np.float32), outputs=["relu9"])


def test_shape_errors_name_the_node_and_the_shapes() -> None:
    b = Builder(1, 8, 6, 6)
    graph = b.graph(b("add", b.conv("x", 8, 16), "x"))
    with pytest.raises(ShapeError, match="add1") as error:
        Model(graph)
    assert "(1, 16, 6, 6)" in str(error.value) or "[1, 16, 6, 6]" in str(error.value)
