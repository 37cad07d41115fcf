"""Every network of the zoo against PyTorch: two sizes where there are two, batch 1 and 3.

The default run has the small ones; `pytest -m zoo` all of torchvision (hours, 12 GB of memory, and
16 GB of disk if `CNNRT_ZOO` names a folder to keep the exports in).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch's wheel is declared for Python 3.11 only")

import cnnrt  # noqa: E402
import zoo  # noqa: E402
from cnnrt.errors import IndexOutOfRange, ShapeError  # noqa: E402

DEFAULT_BOUND, IM2COL_BOUND = 1e-4, 2e-5
"""Of max |difference| / max |output|; im2col: no convolution by Winograd."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the exports are."""
    kept = os.environ.get("CNNRT_ZOO")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        return Path(kept)
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="session", autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if network.quick else [pytest.mark.zoo])
        for name, network in zoo.NETWORKS.items()
    ],
)
def test_agrees_with_pytorch(name: str, folder: Path) -> None:
    """And no operator runs by its NumPy reference."""
    for found in zoo.agreements(name, folder):
        case = f"{name}, size {found.size}, batch {found.batch}"
        assert found.default <= DEFAULT_BOUND, case
        assert found.im2col <= IM2COL_BOUND, case
        assert not found.references, case
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
