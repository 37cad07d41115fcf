"""Steps that run by references are named, with their share of the time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cnnrt
from cnnrt.errors import MissingKernelWarning
from cnnrt.formats import write_model
from networks import by_reference, network, operator
from test_passes import fused


def written(path: Path, size: int) -> Path:
    """A network of which one operator, shrink, has no kernel."""
    x = np.zeros((1, 4, size, size), np.float32)
    graph = network({"x": x}, {}, ("s", "shrink", "x"), ("y", "relu", "s"))
    write_model(path, graph)
    return path


def test_load_warns_of_a_slow_operator(tmp_path: Path) -> None:
    with pytest.warns(MissingKernelWarning, match=r"1 step has no kernel, about 9.*shrink") as told:
        model = cnnrt.load(written(tmp_path / "model.bin", 1024))
    assert len(told) == 1
    assert "1 step has no kernel, about" in model.describe()


def test_a_small_one_is_only_described(tmp_path: Path) -> None:
    model = cnnrt.load(written(tmp_path / "model.bin", 8))  # a warning would be an error
    assert "1 step has no kernel" in model.describe()


def test_check_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cnnrt.cli import main

    assert main(["check", str(written(tmp_path / "model.bin", 64))]) in (0, None)
    assert "s (shrink)" in capsys.readouterr().out


def test_nothing_is_said_if_all_have_kernels() -> None:
    graph, _ = operator("relu", np.zeros((2, 3), np.float32))
    assert "no kernel" not in cnnrt.Model(graph).describe()


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_one_hot_product_is_a_gather(dtype: str, bias: bool) -> None:
    """An index that is beyond the matrix on either side chooses zeros."""
    index = np.array([[[0], [3], [-1]], [[-300], [6], [99]]], dtype)
    rng = np.random.default_rng(0)
    constants = {
        "numbers": np.arange(6, dtype=dtype).reshape(1, 1, 6),
        "shape": np.array([2, 3, 6]),
        "matrix": rng.standard_normal((6, 5), np.float32),
        "bias": rng.standard_normal(5, np.float32),
    }
    last = ("y", "add", "product bias") if bias else ("y", "identity", "product")
    graph = network(
        {"i": index}, constants, ("wide", "expand", "i shape"), ("hot", "equal", "wide numbers"),
        ("float", "cast", "hot", {"to": "float32"}), ("product", "matmul", "float matrix"), last,
    )  # fmt: skip
    assert "gather" in fused(graph)
    (want,) = by_reference(graph, {"i": index})
    assert np.abs(cnnrt.Model(graph)(index) - want).max() < 1e-6
