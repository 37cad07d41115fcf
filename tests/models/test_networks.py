"""Whole networks against PyTorch: exported, loaded, run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch's wheel is declared for Python 3.11 only")

import cnnrt  # noqa: E402
import zoo  # noqa: E402
from checks import THREADS, assert_deterministic  # noqa: E402

NETWORKS = [
    "lenet5",
    "course_rgb",
    "course_digits",
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "vgg11",
    "efficientnet_lite0",
]


@pytest.fixture(scope="module", params=NETWORKS)
def network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, np.ndarray, np.ndarray]:
    """Name, model.bin, an input of two images and PyTorch's output for it."""
    name = str(request.param)
    module = zoo.build(name)
    path = tmp_path_factory.mktemp(name) / "model.bin"
    zoo.export(name, module, 0, path)
    (x,) = zoo.NETWORKS[name].inputs(0, 2)
    with torch.no_grad():
        return name, path, x.numpy(), module(x).numpy()


def worst(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


def test_agrees_with_pytorch(
    network: tuple[str, Path, np.ndarray, np.ndarray], isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, path, x, want = network
    monkeypatch.setenv("CNNRT_ISA", isa)
    model = cnnrt.load(path, threads=2)
    got = model(x[:1])
    assert got.dtype == np.float32
    assert worst(got, want[:1]) <= 1e-4, name
    whole = model(x)
    assert np.array_equal(whole[:1], got), "the first image differs in a batch of two"
    assert worst(whole, want) <= 1e-4
    assert np.array_equal(cnnrt.load(path, threads=1)(x), whole), "differs by thread count"
    exact = cnnrt.load(path, algorithm="im2col")(x[:1])
    assert worst(exact, want[:1]) <= 2e-5


def test_same_bits_for_any_threads_batch_and_place(
    network: tuple[str, Path, np.ndarray, np.ndarray],
) -> None:
    name, path, x, _ = network
    images = np.random.default_rng(2).standard_normal((8, *x.shape[1:]), dtype=np.float32)
    assert_deterministic([cnnrt.load(path, threads=n) for n in THREADS], images, name)


def test_no_operator_runs_by_its_reference(
    network: tuple[str, Path, np.ndarray, np.ndarray],
) -> None:
    _, path, x, _ = network
    assert "no kernel" not in cnnrt.load(path).describe(x)


def test_inner_tensors_have_the_names_of_pytorch_modules(tmp_path: Path) -> None:
    module = zoo.build("resnet18")
    x = torch.randn(1, 3, 64, 64)
    cnnrt.export(module, x, tmp_path / "model.bin")
    model = cnnrt.load(tmp_path / "model.bin")
    seen = {}
    for name in ("relu", "layer1.0.relu", "layer3.1", "layer4"):
        module.get_submodule(name).register_forward_hook(
            lambda _, __, y, name=name: seen.__setitem__(name, y.detach().numpy())
        )
    with torch.no_grad():
        module(x)
    # A ReLU that a block uses twice is seen by its second use last.
    for tensor, hook in {"relu": "relu", "layer3.1.relu_1": "layer3.1"}.items():
        got = model.run(x.numpy(), outputs=[tensor])
        assert worst(got, seen[hook]) <= 1e-4, tensor
    both = model.run(x.numpy(), outputs=["layer1.0.relu", "layer1.0.relu_1"])
    assert set(both) == {"layer1.0.relu", "layer1.0.relu_1"}
    assert worst(both["layer1.0.relu_1"], seen["layer1.0.relu"]) <= 1e-4
