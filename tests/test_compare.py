"""`python -m cnnrt compare`: the first node that differs from a reference's, and the outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from cnnrt import cli, ops  # noqa: E402
from cnnrt.errors import FormatError  # noqa: E402
from cnnrt.formats import write_model  # noqa: E402
from cnnrt.formats.onnx.importer import read_onnx  # noqa: E402
from cnnrt.graph import Node  # noqa: E402
from cnnrt.inspection import comparing  # noqa: E402
from cnnrt.model import Model  # noqa: E402


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A small network: convolution, relu, pool, layer."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(16, 3, 3, 3)),
        "b": rng.normal(size=16),
        "fc": rng.normal(size=(16, 5)),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"], "act"),
            helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
            helper.make_node("Flatten", ["p"], ["f"], "flat"),
            helper.make_node("MatMul", ["f", "fc"], ["y"], "fc"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(np.float32(a), name) for name, a in weights.items()],
    )
    file = tmp_path / "net.onnx"
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), file)
    return str(file)


@pytest.mark.parametrize("reference", ["onnxruntime", "numpy"])
def test_agreement(reference: str, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    if reference == "onnxruntime":
        pytest.importorskip("onnxruntime")
    shape = ["--input", "x=2x3x12x12"]
    assert cli.main(["compare", path, "--reference", reference, "--nodes", *shape]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "input x: float32[2, 3, 12, 12], random, seed 0"
    starts = ("  c (conv)", "  r (relu)", "  p (global_average_pool)", "  f (flatten)", "  y (mat")
    for line, start in zip(lines[1:6], starts, strict=True):
        assert line.startswith(start) and line.endswith("agrees")
    assert lines[6:8] == [f"compared 5 of 5 nodes with {reference}", "no node diverges"]
    assert lines[8].startswith("output y: max difference")
    assert len(lines) == 9


class Wrong:
    """A reference that is off by one in one tensor, and in everything computed from it."""

    def __init__(self, path: str, tensor: str) -> None:
        self.right = comparing.numpy_reference(read_onnx(path, module_names=False))
        self.tensor = tensor

    def __call__(self, inputs: Any) -> dict[str, Any]:
        known = self.right(inputs)
        names = ["c", "r", "p", "f", "y"]
        for name in names[names.index(self.tensor) :]:
            known[name] = known[name] + np.float32(1)
        return known


@pytest.mark.parametrize(("tensor", "name"), [("c", "conv"), ("p", "pool"), ("y", "fc")])
def test_the_first_node_is_found(
    tensor: str,
    name: str,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(comparing, "onnxruntime_reference", lambda p: Wrong(p, tensor))
    assert cli.main(["compare", path]) == 1
    out = capsys.readouterr().out
    assert f"{name!r}\n  tensor {tensor!r}: max difference 1 " in out
    assert "output y: max difference 1 " in out


def test_a_node_that_is_wrong_only_where_it_is_fused(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, reference = comparing.load_pair(path, "numpy")
    run = model.run

    def fused_wrongly(x: Any, outputs: Any = None) -> Any:
        result = run(x, outputs)
        wrong = outputs in (["p"], ["f"], ["y"])  # asked for alone, from the pool on
        return result + 1 if wrong else result

    monkeypatch.setattr(model, "run", fused_wrongly)
    x = np.ones((1, 3, 12, 12), np.float32)
    result = comparing.compare(model, reference, {"x": x})
    assert result.diverges and result.fused and result.first is not None
    assert result.first[0].name == "pool"
    assert not any(found.diverges for _, found in result.nodes)


def test_a_wrong_kernel_is_found(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole road: cnnrt's result is wrong, not the reference."""
    model, reference = comparing.load_pair(path, "numpy")
    relu = next(node for node in model.graph.nodes if node.op == "relu")
    broken = Model(model.graph.copy())
    node = next(node for node in broken.graph.nodes if node.name == relu.name)
    node.op = "leaky_relu"
    ops.complete(node)
    x = np.random.default_rng(1).normal(size=(1, 3, 12, 12)).astype(np.float32)
    result = comparing.compare(broken, reference, {"x": x})
    assert result.first is not None and result.first[0].name == "act"
    assert [found.diverges for _, found in result.nodes] == [False, True, True, True, True]


def test_difference() -> None:
    def diff(got: Any, want: Any) -> comparing.Difference:
        return comparing.difference("t", np.asarray(got), np.asarray(want), 1e-2, 0.0)

    assert not diff([1.0, 100.5], [1.0, 100.0]).diverges
    far = diff([[1.0, 102.0]], [[1.0, 100.0]])
    assert far.diverges and far.largest == 2 and far.place == (0, 1)
    assert str(far).endswith("at [0, 1]: 102.0, expected 100.0")
    assert not diff([np.nan, np.inf, -np.inf], [np.nan, np.inf, -np.inf]).diverges
    for got, want in (
        (np.nan, 1.0),
        (1.0, np.nan),
        (np.inf, 1.0),
        (1.0, np.inf),
        (-np.inf, np.inf),
    ):
        assert diff([got], [want]).diverges
    assert diff([True, False], [True, True]).diverges
    assert not diff(np.zeros((0, 3)), np.zeros((0, 3))).diverges
    assert diff(np.zeros((2, 3)), np.zeros((3, 2))).diverges


def test_inputs_from_files(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays, photo = tmp_path / "x.npz", tmp_path / "x.png"
    np.savez(arrays, x=np.ones((3, 3, 12, 12), np.float32))
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(photo)
    for file, batch in ((arrays, 3), (photo, 1)):
        options = ["--reference", "numpy", "--data", str(file)]
        assert cli.main(["compare", path, *options]) == 0
        assert f"input x: float32[{batch}, 3, 12, 12], {file}" in capsys.readouterr().out
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, z=np.ones(1, np.float32))
    for file, message in (
        (wrong, "missing ['x'], unknown ['z']"),
        (Path(path), "neither an image nor an .npy or .npz file"),
        (tmp_path / "absent.npz", "absent.npz"),
    ):
        assert cli.main(["compare", path, "--reference", "numpy", "--data", str(file)]) == 1
        assert message in capsys.readouterr().err


def test_model_bin(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = str(tmp_path / "net.bin")
    write_model(packed, read_onnx(path))
    assert cli.main(["compare", packed, "--reference", "numpy"]) == 0
    assert "no node diverges" in capsys.readouterr().out
    assert cli.main(["compare", packed, "--reference", "onnxruntime"]) == 1
    assert "add --reference numpy" in capsys.readouterr().err


def test_seeds_give_other_inputs(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    compare = comparing.compare

    def spy(model: Any, reference: Any, inputs: Any, **options: Any) -> Any:
        seen.append(inputs["x"])
        return compare(model, reference, inputs, **options)

    monkeypatch.setattr(comparing, "compare", spy)
    for seed in ("1", "1", "2"):
        assert cli.main(["compare", path, "--reference", "numpy", "--seed", seed]) == 0
    assert np.array_equal(seen[0], seen[1]) and not np.array_equal(seen[0], seen[2])


def test_free_sizes_must_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "free",
        [info("x", TensorProto.FLOAT, ["n", "length"])],
        [info("y", TensorProto.FLOAT, ["n", "length"])],
    )
    path = str(tmp_path / "free.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    assert cli.main(["compare", path, "--reference", "numpy"]) == 1
    assert "the sizes length are free; give --input or --data" in capsys.readouterr().err
    options = ["--reference", "numpy", "--input", "x=2x7"]
    assert cli.main(["compare", path, *options]) == 0


def test_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    import warnings

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(288, 4)
    ).eval()
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own
        program = torch.export.export(network, (torch.randn(1, 3, 8, 8),))
        torch.onnx.export(program, (), str(path), dynamo=True, verbose=False)
        assert cli.main(["compare", str(path), "--reference", "torch"]) == 1
        assert "torch.export.save writes it" in capsys.readouterr().err
        torch.export.save(program, tmp_path / "net.pt2")
        assert cli.main(["compare", str(path), "--reference", "torch", "--nodes"]) == 0
        out = capsys.readouterr().out
        assert "(conv): max difference" in out and "(relu): max difference" in out
        assert "no node diverges" in out
        with torch.no_grad():
            network[0].bias += 1
        other = tmp_path / "other.pt2"
        torch.export.save(torch.export.export(network, (torch.randn(1, 3, 8, 8),)), other)
        options = ["--reference", "torch", "--program", str(other)]
        assert cli.main(["compare", str(path), *options]) == 1
    out = capsys.readouterr().out
    assert "first to diverge: conv" in out and "of layer '0'" in out
    (tmp_path / "none.pt2").write_bytes(b"none")
    with pytest.raises(FormatError, match=r"torch\.export\.save"):
        comparing.torch_reference(str(path), str(tmp_path / "none.pt2"))


def test_a_reference_that_does_not_run_the_model(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    proto = onnx.load(path)
    proto.ir_version = 99
    onnx.save(proto, path)
    assert cli.main(["compare", path]) == 1
    assert "ONNX Runtime does not load it" in capsys.readouterr().err


def test_layers_of_a_model_without_scopes(path: str) -> None:
    assert comparing.layers(path) == {}
    assert isinstance(read_onnx(path).nodes[0], Node)
