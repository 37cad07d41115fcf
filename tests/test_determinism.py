"""The same input gives the same bits, whatever the threads, the batch, its place, the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnrt
from checks import BATCHES, THREADS, assert_deterministic
from cnnrt import ops
from cnnrt.graph import Graph, Node, TensorSpec
from cnnrt.model import plan_for
from networks import network
from scripts import EXAMPLES

# Networks -----------------------------------------------------------------------------------------

SIZE = 96
"""Pixels: enough for several tiles and tasks in every layer but the last ones."""

# More than tests/models/test_networks.py runs by default; exporting takes PyTorch seconds each.
ZOO = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "mnasnet0_5",
    "regnet_y_400mf",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "swin_t",
    "vit_b_16",
]


def some_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((8, *shape), dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "shape"), [("lenet5", (1, 28, 28)), ("efficientnet_lite0", (3, 224, 224))]
)
def test_examples(name: str, shape: tuple[int, ...], threading: str) -> None:
    path = EXAMPLES / f"{name}.bin"
    if not path.exists():
        pytest.skip("the example is not there")
    models = [cnnrt.load(path, threads=n) for n in THREADS]
    assert_deterministic(models, some_images(*shape), name)


@pytest.mark.zoo
@pytest.mark.parametrize("name", ZOO)
def test_networks(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch's wheel is declared for Python 3.11 only")
    import torchvision_cpu

    size = {"swin_t": 64, "vit_b_16": 224}.get(name, SIZE)
    extra = {"init_weights": True} if name == "googlenet" else {}
    module = torchvision_cpu.torchvision.models.get_model(name, **extra)
    cnnrt.export(module.eval(), torch.zeros(1, 3, size, size), tmp_path / "model.bin")
    models = [cnnrt.load(tmp_path / "model.bin", threads=n) for n in THREADS]
    assert_deterministic(models, some_images(3, size, size), name)


# Kernels ------------------------------------------------------------------------------------------


def rng(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32)


KERNELS = {
    "conv 1x1": ("conv", (40, 13, 15), [rng(24, 40, 1, 1)], {}),
    "conv 3x3": ("conv", (24, 13, 15), [rng(40, 24, 3, 3)], {"pads": [1] * 4}),
    "conv 5x5": ("conv", (24, 13, 15), [rng(40, 24, 5, 5)], {"pads": [2] * 4}),
    "conv 3x3 stride 2": (
        "conv",
        (24, 13, 15),
        [rng(40, 24, 3, 3)],
        {"pads": [1] * 4, "strides": [2, 2]},
    ),
    "conv of 7 pixels": ("conv", (32, 7, 7), [rng(48, 32, 1, 1)], {}),
    "conv with many weights": ("conv", (256, 7, 7), [rng(256, 256, 3, 3)], {"pads": [1] * 4}),
    "conv planar": ("conv", (3, 33, 31), [rng(40, 3, 7, 7)], {"pads": [3] * 4, "strides": [2, 2]}),
    "conv in groups of 4": ("conv", (32, 13, 15), [rng(32, 4, 3, 3)], {"group": 8}),
    "conv in groups of 6": ("conv", (24, 13, 15), [rng(24, 6, 3, 3)], {"group": 4}),
    "conv 1d": ("conv", (24, 101), [rng(40, 24, 5)], {}),
    "conv 1d of 3": ("conv", (32, 101), [rng(40, 32, 3)], {"pads": [1, 1]}),
    "conv 3d": ("conv", (16, 5, 9, 11), [rng(24, 16, 3, 3, 3)], {"pads": [1] * 6}),
    "depthwise": ("conv", (40, 17, 19), [rng(40, 1, 5, 5)], {"group": 40, "pads": [2] * 4}),
    "max pool": ("max_pool", (40, 17, 19), [], {"kernel_shape": [3, 3], "strides": [2, 2]}),
    "average pool": ("average_pool", (40, 17, 19), [], {"kernel_shape": [3, 3], "pads": [1] * 4}),
    "global average": ("global_average_pool", (40, 17, 19), [], {}),
    "softmax": ("softmax", (1000,), [], {"axis": -1}),
    "softmax of channels": ("softmax", (21, 13, 15), [], {"axis": 1}),
    "layer norm": ("layer_normalization", (49, 96), [rng(96), rng(96)], {"axis": -1}),
    "linear": ("linear", (300,), [rng(100, 300)], {}),
    "matmul": ("matmul", (49, 64), [rng(64, 50)], {}),
    "add": ("add", (40, 17, 19), [rng(40, 1, 1)], {}),
    "sigmoid": ("sigmoid", (40, 17, 19), [], {}),
    "mean": ("reduce_mean", (40, 17, 19), [], {"axes": [2, 3]}),
    "transpose": ("transpose", (40, 17, 19), [], {"perm": [0, 2, 3, 1]}),
}


WITH_A_CHOICE = ("conv 3x3", "conv with many weights", "conv 3d")


@pytest.mark.parametrize(
    ("case", "algorithm"),
    [(case, "auto") for case in KERNELS]
    + [(case, f"winograd{tile}") for case in WITH_A_CHOICE for tile in (2, 4, 6)]
    + [("conv 5x5", "winograd2")]
    + [("conv 3x3 stride 2", f"winograd{tile}") for tile in (2, 4)],
)
def test_kernels(case: str, algorithm: str, isa: str, threading: str) -> None:
    op, shape, others, attributes = KERNELS[case]
    images = np.random.default_rng(1).standard_normal((8, *shape), dtype=np.float32)
    constants = {f"c{i}": value for i, value in enumerate(others)}
    node = Node(op, "y", ["x", *constants], ["y"], dict(attributes))
    ops.complete(node)
    graph = Graph([TensorSpec("x", ("n", *shape))], [TensorSpec("y", ())], [node], dict(constants))
    models = [cnnrt.Model(graph, threads=n, algorithm=algorithm, isa=isa) for n in THREADS]
    assert_deterministic(models, images, case)


def test_images_that_are_not_finite_change_no_other(isa: str) -> None:
    nodes = [Node("conv", "y", ["x", "w"], ["y"], {"pads": [1] * 4})]
    ops.complete(nodes[0])
    images = np.random.default_rng(1).standard_normal((8, 32, 18, 18), dtype=np.float32)
    for image, value in {2: np.nan, 5: np.inf}.items():
        images[image, 3, 5, 5] = value
    graph = Graph(
        [TensorSpec("x", ("n", 32, 18, 18))], [TensorSpec("y", ())], nodes, {"w": rng(40, 32, 3, 3)}
    )
    for algorithm in ("im2col", "winograd2", "winograd4", "winograd6"):
        models = [cnnrt.Model(graph, threads=n, algorithm=algorithm, isa=isa) for n in THREADS]
        assert_deterministic(models, images, algorithm)


def test_the_algorithm_depends_on_neither_batch_nor_threads() -> None:
    # A constant that grows with the batch must not count among the weights. Here it is beyond the 8
    # MB up to which weights are taken to stay in cache.
    shape = (64, 64, 64)
    graph = network(
        {"x": np.zeros((1, *shape), np.float32)},
        {"w": rng(64, 64, 3, 3), "c": rng(1, *shape)},
        ("size", "shape", "x"),
        ("grown", "expand", "c size"),
        ("conv", "conv", "x w", {"pads": [1] * 4}),
        ("y", "add", "conv grown"),
    )
    graph.inputs[0] = TensorSpec("x", ("n", *shape))
    ways = set()
    for threads in THREADS:
        model = cnnrt.Model(graph, threads=threads)
        for batch in BATCHES:
            steps = plan_for(model, [np.zeros((batch, *shape), np.float32)]).describe()
            ways |= {step.note for step in steps if "im2col" in step.note}
    assert len(ways) == 1, ways


def test_a_constant_outlives_the_step_that_read_it_last() -> None:
    """A pointwise step once wrote over its constant, and each run added to the one before."""
    x = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    values = {"c": np.ones((1, 3, 4), np.float32), "eight": np.float32(8)}
    steps = [
        ("s", "add", "x c"),
        ("m", "mul", "s eight"),
        ("y", "softmax", "m", {"axis": 1}),
    ]
    model = cnnrt.Model(network({"x": x}, values, *steps))
    first = model(x)
    for _ in range(3):
        np.testing.assert_array_equal(model(x), first)
