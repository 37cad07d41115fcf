"""Fully connected layers with weights of int8 in blocks, or of two bytes, in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnrt
from checks import Random
from cnnrt.cli import main
from cnnrt.formats import read, write_model
from cnnrt.graph import Array, Graph
from cnnrt.quantization.weight_blocks import with_int8_weights
from networks import network

DEPTH, COLUMNS = 200, 130


@pytest.fixture(params=["gemm", "gemm transposed", "matmul", "linear"])
def graph(request: pytest.FixtureRequest, random: Random) -> Graph:
    """A layer of 26000 weights before one of 1300."""
    op, *turned = request.param.split()
    first = random(COLUMNS, DEPTH) if turned or op == "linear" else random(DEPTH, COLUMNS)
    attributes = {"transB": int(bool(turned))} if op == "gemm" else {}
    made = network(
        {"x": random(3, DEPTH)},
        {"w": first, "b": random(COLUMNS), "v": random(10, COLUMNS)},
        ("h", op, "x w" if op == "matmul" else "x w b", attributes),
        ("y", "linear", "h v"),
    )
    made.outputs[0] = cnnrt.graph.TensorSpec("y", (3, 10))
    return made


def weight_of(graph: Graph) -> Array:
    """The weight of the first layer as floats, (M, K)."""
    node = next(n for n in graph.nodes if n.op == "dequantize_linear")
    values, factors = (np.asarray(graph.constants[name]) for name in node.inputs)
    if node["axis"] == 0:
        values, factors = values.T, factors.T
    return values.astype(np.float32) * np.repeat(factors, 32, axis=1)[:, : values.shape[1]]


def test_each_weight_is_off_by_at_most_half_a_step(graph: Graph, random: Random) -> None:
    small = with_int8_weights(graph)
    assert set(graph.constants) == {"w", "b", "v"}  # as it was
    assert "w" not in small.constants
    assert small.constants["v"] is graph.constants["v"]
    got = weight_of(small)
    want = np.asarray(graph.constants["w"])
    want = want if want.shape == got.shape else want.T
    blocks = np.pad(np.abs(want), ((0, 0), (0, -DEPTH % 32))).reshape(COLUMNS, -1, 32)
    step = np.repeat(blocks.max(axis=2) / 127, 32, axis=1)[:, :DEPTH]
    assert (np.abs(got - want) <= step * 0.5001).all()

    x = random(3, DEPTH)
    narrow = cnnrt.Model(small)
    assert "linear_narrow" in narrow.describe()
    y = narrow.run(x, ["h"])
    bias = 0 if graph.nodes[0].op == "matmul" else graph.constants["b"]
    np.testing.assert_allclose(y, x @ got.T.astype(np.float64) + bias, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("target", ["small.bin", "small.onnx"])
def test_files_keep_the_blocks(graph: Graph, random: Random, tmp_path: Path, target: str) -> None:
    whole, small = tmp_path / "whole.bin", tmp_path / target
    write_model(whole, graph)
    assert main(["convert", str(whole), str(small), "--int8-weights"]) == 0
    assert small.stat().st_size < whole.stat().st_size - COLUMNS * DEPTH * 2.5
    x = random(3, DEPTH)
    want = cnnrt.Model(with_int8_weights(graph))(x)
    np.testing.assert_array_equal(cnnrt.load(small)(x), want)
    if target.endswith(".onnx"):
        onnxruntime = pytest.importorskip("onnxruntime")
        options = onnxruntime.SessionOptions()
        # Optimised, it rounds x to 8 bits too.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(str(small), options)
        (other,) = session.run(None, {"x": x})
        np.testing.assert_allclose(other, want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", ["int8", "float16"])
def test_compiled_files_hold_the_narrow_weights(
    graph: Graph, random: Random, tmp_path: Path, kind: str
) -> None:
    path, compiled = tmp_path / "small.bin", tmp_path / "packed.bin"
    narrow = with_int8_weights(graph) if kind == "int8" else graph
    write_model(path, narrow, float16=kind == "float16")
    model = cnnrt.load(path)
    model.save_compiled(compiled)
    again = cnnrt.load(compiled)
    x = random(3, DEPTH)
    np.testing.assert_array_equal(again(x), model(x))
    assert again.memory().packed == model.memory().packed
    assert again.memory().packed_mapped > 0
    second = tmp_path / "again.bin"
    again.save_compiled(second)
    assert second.read_bytes() == compiled.read_bytes()


def test_what_stays_in_floats(random: Random) -> None:
    """Small layers, weights that are not finite, and those of other types."""
    large = random(200, 200)
    large[3, 4] = np.inf
    graph = network(
        {"x": random(1, 200)},
        {"a": large, "b": random(200, 50), "c": random(200, 200).astype(np.float64)},
        ("p", "matmul", "x a"),
        ("q", "matmul", "x b"),
        ("d", "cast", "x", {"to": "float64"}),
        ("r", "matmul", "d c"),
        outputs=["p", "q", "r"],
    )
    assert [n.op for n in with_int8_weights(graph).nodes] == [n.op for n in graph.nodes]


def test_blocks_of_zeros_and_a_weight_that_two_layers_share(random: Random) -> None:
    weight = random(200, 200)
    weight[:, 32:64] = 0
    weight[5] = 1e-42  # below the normal numbers
    graph = network(
        {"x": random(1, 200)},
        {"w": weight},
        ("h", "gemm", "x w", {"transB": 1}),
        ("g", "gemm", "h w", {"transB": 1}),
        ("y", "matmul", "g w"),
    )
    small = with_int8_weights(graph)
    assert [n.op for n in small.nodes].count("dequantize_linear") == 2  # one for each axis
    x = random(1, 200)
    got, want = cnnrt.Model(small)(x), cnnrt.Model(graph)(x)
    assert np.abs(got - want).max() <= 0.03 * np.abs(want).max()
    lazy_zero = weight_of(small)
    assert not lazy_zero[:, 32:64].any()
    assert not lazy_zero[5].any()


@pytest.mark.parametrize("axis", [0, 1])
def test_a_factor_for_each_output_or_input(axis: int, random: Random) -> None:
    """DequantizeLinear along an axis, as other tools write it, with and without a zero point."""
    values = np.random.default_rng(0).integers(-127, 128, (64, 48)).astype(np.int8)
    scale = np.abs(random(values.shape[axis])) + 0.01
    for zero in ("", " z"):
        graph = network(
            {"x": random(2, 64)},
            {"q": values, "s": scale, "z": np.zeros(len(scale), np.int8)},
            ("w", "dequantize_linear", f"q s{zero}", {"axis": axis}),
            ("y", "matmul", "x w"),
        )
        x = random(2, 64)
        model = cnnrt.Model(graph)
        assert ("linear_narrow" in model.describe(x)) == (axis == 1)
        wide = values * np.expand_dims(scale.astype(np.float64), 1 - axis)
        np.testing.assert_allclose(model(x), x @ wide, rtol=1e-5, atol=1e-3)


def test_a_file_says_what_it_holds(graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "small.bin"
    write_model(path, with_int8_weights(graph))
    node = next(n for n in read(path).graph.nodes if n.op == "dequantize_linear")
    assert node["block_size"] == 32
