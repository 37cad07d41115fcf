"""Every network of the zoo against PyTorch: two sizes where there are two, batch 1 and 3.

The default run has the small ones; `pytest -m zoo` has all of torchvision. That takes hours, 11 GB
of memory, and 31 GB of disk if `CNNRT_ZOO` names a folder to keep the exports in. With
`--scoreboard` each network that passes gets its row in docs/networks.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch's wheel is declared for Python 3.11 only")

import cnnrt  # noqa: E402
import scoreboard  # noqa: E402
import zoo  # noqa: E402
from cnnrt.errors import IndexOutOfRange, ShapeError, UnsupportedOperator  # noqa: E402
from cnnrt.model import plan_for  # noqa: E402
from cnnrt.planning.plan_cache import MAX_PLANS  # noqa: E402

DEFAULT_BOUND, IM2COL_BOUND = 1e-4, 2e-5
"""Bounds of max |difference| / max |output|; im2col: no convolution by Winograd."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the exports."""
    kept = os.environ.get("CNNRT_ZOO")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        return Path(kept)
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(autouse=True)
def pytorch_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """One thread for small networks, for which others would only spin."""
    before = torch.get_num_threads()
    if not request.node.get_closest_marker("zoo"):
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if network.quick else [pytest.mark.zoo])
        for name, network in zoo.NETWORKS.items()
    ],
)
def test_agrees_with_pytorch(name: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """Outputs agree, and no operator runs by its NumPy reference."""
    module = zoo.build(name)
    found = zoo.agreements(name, module, folder)
    for one in found:
        case = f"{name}, size {one.size}, batch {one.batch}"
        assert one.default <= DEFAULT_BOUND, case
        assert one.im2col <= IM2COL_BOUND, case
        assert not one.references, case
    if request.config.getoption("scoreboard"):
        scoreboard.add(name, module, found)
    if "CNNRT_ZOO" not in os.environ:
        for path in folder.glob(f"{name}.*"):
            if not zoo.NETWORKS[name].quick:
                path.unlink()


def test_the_zoo_has_all_of_torchvision() -> None:
    models = zoo.models
    every = {
        name
        for module in (models, models.segmentation, models.video)
        for name in models.list_models(module=module)
    }
    missing = {name for name in every - set(zoo.NETWORKS) if not name.startswith("raft")}
    assert not missing


QUICK_REFUSALS = ("quantized_mobilenet_v2",)


def refused(names: list[str]) -> list[object]:
    return [
        pytest.param(name, marks=[] if name in QUICK_REFUSALS else [pytest.mark.zoo])
        for name in names
    ]


@pytest.mark.parametrize("name", refused(zoo.QUANTISED))
@pytest.mark.filterwarnings("ignore")  # of PyTorch about its own deprecated quantisation
def test_int8_modules_of_pytorch_are_refused_in_one_sentence(name: str) -> None:
    module = zoo.models.get_model(name, weights=None, quantize=True).eval()
    with pytest.raises(UnsupportedOperator, match="packed int8 layers"):
        cnnrt.export(module, torch.rand(1, 3, 64, 64), None, dynamic_shapes=())


def test_a_plan_for_every_size_and_no_more_than_the_limit(folder: Path) -> None:
    """One export runs at any size; plans of sizes not seen for long are dropped."""
    name = "unet"
    module = zoo.build(name)
    model = cnnrt.load(zoo.exported(name, module, 0, folder), threads=1)
    sizes = [(b, h, w) for b in (1, 2) for h in (8, 16, 40) for w in (8, 24, 32)]
    assert len(sizes) > MAX_PLANS
    for b, h, w in sizes:
        x = torch.rand(b, 3, h, w)
        with torch.no_grad():
            want = module(x).numpy()
        got = model(x.numpy())
        assert np.abs(got - want).max() <= DEFAULT_BOUND * np.abs(want).max(), (b, h, w)
    assert len(model._plans) == MAX_PLANS


@pytest.mark.parametrize("name", ["unet", "wavenet", "small_deeplab", "small_resnet", "gcn_edges"])
def test_arithmetic_on_shapes_folds_away(name: str, folder: Path) -> None:
    """Nodes that compute a size at run time in the file are constants in every plan."""
    model = cnnrt.load(zoo.exported(name, None, 0, folder), threads=1)
    for size in (0, 1):
        x = zoo.named_inputs(model, zoo.NETWORKS[name].inputs(size, 3))
        graphs = plan_for(model, list(x.values())).graphs
        operators = {node.op for graph in graphs for node in graph.nodes}
        assert not operators & {"shape", "size", "range", "constant_of_shape", "cast"}, operators


def test_a_size_that_the_network_cannot_take_names_the_node(folder: Path) -> None:
    model = cnnrt.load(zoo.exported("unet", None, 0, folder), threads=1)
    with pytest.raises(ShapeError, match=r"concat|cat"):
        model(np.zeros((1, 3, 30, 30), np.float32))


def test_a_word_beyond_the_embedding_is_an_error(folder: Path) -> None:
    model = cnnrt.load(zoo.exported("textcnn", None, 0, folder))
    tokens = np.full((1, 40), 1000)
    with pytest.raises(IndexOutOfRange, match="index 1000 is beyond an axis of 1000"):
        model(tokens)
