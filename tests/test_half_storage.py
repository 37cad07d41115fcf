"""float16 as storage: kernels compute in float32, tensors at the border keep their type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cnnrt
from cnnrt import ops
from cnnrt.cli import main
from cnnrt.formats import write_model
from cnnrt.graph import Graph, Node, TensorSpec

HALF = np.dtype(np.float16)
rng = np.random.default_rng(0)


def network(dtype: Any, *nodes: Node, outputs: Any = None, **constants: Any) -> cnnrt.Model:
    """A model of x, its constants of floats in `dtype`; it ends at the last node's output."""
    for node in nodes:
        ops.complete(node)
    names = outputs or [nodes[-1].outputs[0]]
    arrays = {k: np.asarray(v) for k, v in constants.items()}
    arrays = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in arrays.items()}
    inputs = [TensorSpec("x", ("n", 8, "h", "w"), np.dtype(dtype))]
    specs = [TensorSpec(name, (), np.dtype(dtype)) for name in names]
    return cnnrt.Model(Graph(inputs, specs, list(nodes), arrays), threads=1)


def convolutions() -> tuple[Node, ...]:
    return (
        Node("conv", "c1", ["x", "w1", "b1"], ["a"], {"pads": [1, 1, 1, 1]}),
        Node("batch_normalization", "n", ["a", "s", "b1", "b1", "v"], ["b"]),
        Node("relu", "r", ["b"], ["c"]),
        Node("conv", "c2", ["c", "w2"], ["d"], {"pads": [1, 1, 1, 1]}),
        Node("add", "sum", ["d", "c"], ["e"]),
        Node("global_average_pool", "p", ["e"], ["y"]),
    )


WEIGHTS = {
    "w1": rng.standard_normal((24, 8, 3, 3)) / 9,
    "b1": rng.standard_normal(24) / 9,
    "s": rng.uniform(0.5, 2, 24),
    "v": rng.uniform(0.5, 2, 24),
    "w2": rng.standard_normal((24, 24, 3, 3)) / 16,
}


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_the_result_is_that_of_float32_rounded_once(batch: int) -> None:
    rounded = {k: v.astype(np.float16).astype(np.float32) for k, v in WEIGHTS.items()}
    half = network(HALF, *convolutions(), **WEIGHTS)
    single = network(np.float32, *convolutions(), **rounded)
    x = rng.standard_normal((batch, 8, 13, 11)).astype(HALF)
    y = half(x)
    assert y.dtype == HALF
    np.testing.assert_array_equal(y, single(x.astype(np.float32)).astype(HALF))
    if batch == 1:
        steps = [line.split()[1] for line in half.describe(x).splitlines()[1:]]
        assert steps[0] == steps[-1] == "convert"
        alone = single.describe(x.astype(np.float32)).splitlines()[1:]
        kernels = [line.split()[1] for line in alone]
        # The output of float32 need not be where a kernel leaves it.
        without = [[k for k in ks if k != "reorder"] for ks in (steps[1:-1], kernels)]
        assert without[0] == without[1]
        assert steps.index("conv_planar") == 1


def test_what_is_computed_from_pixels_alone_is_convolved_as_it_lies() -> None:
    nodes = (
        Node("cast", "cast", ["x"], ["f"], {"to": "float32"}),
        Node("mul", "scale", ["f", "factor"], ["g"]),
        Node("sub", "shift", ["g", "mean"], ["h"]),
        Node("conv", "c", ["h", "w1"], ["y"], {"pads": [1, 1, 1, 1]}),
    )
    mean = rng.standard_normal((1, 8, 1, 1))
    model = network(np.float32, *nodes, factor=np.float32(1 / 255), mean=mean, w1=WEIGHTS["w1"])
    x = rng.standard_normal((1, 8, 9, 7)).astype(np.float32)
    assert "conv_planar" in model.describe(x) and "plain to blocked" not in model.describe(x)
    y = torch.nn.functional.conv2d(
        torch.from_numpy(x).double() / 255 - torch.from_numpy(mean),
        torch.from_numpy(WEIGHTS["w1"]),
        padding=1,
    )
    np.testing.assert_allclose(model(x), y.numpy(), rtol=1e-4, atol=1e-5)


def test_weights_stay_half_as_large() -> None:
    half = network(HALF, *convolutions(), **WEIGHTS)
    single = network(np.float32, *convolutions(), **WEIGHTS)
    assert 2 * half.memory().stored == single.memory().stored
    data = write_model(None, half.graph)
    assert data is not None
    x = rng.standard_normal((1, 8, 9, 9)).astype(HALF)
    np.testing.assert_array_equal(cnnrt.load(data)(x), half(x))


def test_inner_tensors_keep_their_type() -> None:
    half = network(HALF, *convolutions(), **WEIGHTS)
    x = rng.standard_normal((2, 8, 9, 9)).astype(HALF)
    assert half.run(x, outputs=["c"]).dtype == HALF


def test_sums_beyond_half_precision_do_not_overflow() -> None:
    x = np.full((1, 8, 64, 64), 100, HALF)
    half = network(
        HALF, Node("reduce_mean", "m", ["x", "axes"], ["y"], {"keepdims": 0}), axes=[1, 2, 3]
    )
    np.testing.assert_array_equal(half(x), [100])


def test_a_result_beyond_half_precision_is_infinite() -> None:
    half = network(HALF, Node("mul", "m", ["x", "x"], ["y"]))
    x = np.array([300, -300, 10, 0], HALF).reshape(1, 1, 2, 2).repeat(8, 1)
    np.testing.assert_array_equal(half(x)[0, 0].reshape(-1), [np.inf, np.inf, 100, 0])


def test_a_cast_that_the_network_states_rounds() -> None:
    """2049 is no float16, and 1e5 is beyond them."""
    nodes = (
        Node("cast", "down", ["x"], ["h"], {"to": "float16"}),
        Node("mul", "one", ["h", "k"], ["g"]),
        Node("cast", "up", ["g"], ["y"], {"to": "float32"}),
    )
    for node in nodes:
        ops.complete(node)
    x = np.float32([2049, 1e5, -3]).reshape(1, 3)
    inputs, outputs = [TensorSpec("x", ("n", 3))], [TensorSpec("y", ())]
    model = cnnrt.Model(Graph(inputs, outputs, list(nodes), {"k": np.array(1, HALF)}))
    y = model(x)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, [[2048, np.inf, -3]])


def test_types_that_nodes_state() -> None:
    """cast_like, the dtype of an attribute, and operators on bits see float16 as before."""
    nodes = (
        Node("bit_cast", "bits", ["x"], ["i"], {"to": "int16"}),
        Node("cast", "float", ["i"], ["f"], {"to": "float32"}),
        Node("cast_like", "like", ["f", "x"], ["l"]),
        Node("shape", "shape", ["x"], ["s"]),
        Node("constant_of_shape", "ones", ["s"], ["o"], {"value": 1.0, "dtype": "float16"}),
        Node("add", "sum", ["l", "o"], ["y"]),
    )
    half = network(HALF, *nodes)
    x = rng.standard_normal((1, 8, 2, 2)).astype(HALF)
    want = (x.view(np.int16).astype(np.float32).astype(HALF).astype(np.float32) + 1).astype(HALF)
    y = half(x)
    assert y.dtype == HALF
    np.testing.assert_array_equal(y, want)


def test_an_output_that_is_an_input_or_a_constant() -> None:
    half = network(
        HALF, Node("relu", "r", ["x"], ["y"]), outputs=["y", "x", "k"], k=np.array([1.5, 2])
    )
    x = rng.standard_normal((1, 8, 2, 2)).astype(HALF)
    results = half(x)
    assert {name: value.dtype for name, value in results.items()} == dict.fromkeys("yxk", HALF)
    np.testing.assert_array_equal(results["x"], x)
    np.testing.assert_array_equal(results["k"], [1.5, 2])


class Small(torch.nn.Module):
    """Convolutions with a norm, and a layer: weights in float16 take half the file."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(3, 32, 3, padding=1),
            torch.nn.BatchNorm2d(32),
            torch.nn.SiLU(),
            torch.nn.Conv2d(32, 64, 3, stride=2, padding=1),
        )
        self.scores = torch.nn.Linear(64, 100)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.scores(self.features(x).mean((2, 3)))
        return scores


def test_files_of_float16_round_trip(tmp_path: Path) -> None:
    """Exported or converted, and converted again: the same weights and the same answer."""
    torch.manual_seed(0)
    module = Small().eval()
    x = torch.randn(2, 3, 16, 16)
    whole, half = tmp_path / "whole.bin", tmp_path / "half.bin"
    cnnrt.export(module, x, whole)
    cnnrt.export(module, x, half, float16=True)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    answer = cnnrt.load(half)(x.numpy())
    with torch.no_grad():
        want = module(x).numpy()
    # A weight is off by up to 2**-12 of itself, in either direction, and hundreds are summed.
    assert np.abs(answer - want).max() <= 2**-11 * np.abs(want).max()
    assert answer.dtype == np.float32

    for source, target in ((whole, "of_whole.bin"), (half, "again.bin")):
        made = tmp_path / target
        assert main(["convert", str(source), str(made), "--float16"]) == 0
        np.testing.assert_array_equal(cnnrt.load(made)(x.numpy()), answer)
        assert made.stat().st_size <= 1.02 * half.stat().st_size
    onnx_file = tmp_path / "half.onnx"
    assert main(["convert", str(half), str(onnx_file)]) == 0
    back = tmp_path / "back.bin"
    assert main(["convert", str(onnx_file), str(back), "--float16"]) == 0
    np.testing.assert_array_equal(cnnrt.load(back)(x.numpy()), answer)


def test_moves_from_input_to_output_stay_half() -> None:
    """They have no conversions; beside arithmetic, or if a convolution reads them, they do."""
    x = rng.standard_normal((2, 8, 5, 6)).astype(HALF)
    other = rng.standard_normal((2, 3, 5, 6)).astype(HALF)
    joined = np.concatenate([x, other], 1)
    swap = Node("transpose", "t", ["c"], ["y"], {"perm": [0, 2, 3, 1]})

    def nodes(*more: Node) -> tuple[Node, ...]:
        return Node("concat", "c", ["x", "other"], ["c"], {"axis": 1}), swap, *more

    moved = network(HALF, *nodes(), other=other)
    np.testing.assert_array_equal(moved(x), joined.transpose(0, 2, 3, 1))
    assert {line.split()[1] for line in moved.describe(x).splitlines()[1:]} == {"copy"}
    read = network(HALF, *nodes(Node("relu", "r", ["c"], ["z"])), outputs=["y", "z"], other=other)
    result = read(x)
    np.testing.assert_array_equal(result["y"], joined.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(result["z"], np.maximum(joined, 0))
    assert all(y.dtype == HALF for y in result.values())
    assert moved.run(x, outputs=["c"]).dtype == HALF
    same = network(HALF, Node("identity", "i", ["x"], ["y"]))
    np.testing.assert_array_equal(same(x), x)
