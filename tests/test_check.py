"""`python -m cnnrt check`: the list of everything that cnnrt does not run, or one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from cnnrt import cli  # noqa: E402
from cnnrt.formats import write_model  # noqa: E402
from cnnrt.formats.onnx.importer import read_onnx  # noqa: E402
from cnnrt.formats.onnx.names import SCOPES_KEY  # noqa: E402


def save(
    path: Path,
    nodes: list[Any],
    x: tuple[Any, ...] = ("batch", 3, 8, 8),
    constants: dict[str, Any] | None = None,
) -> str:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()],
    )
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return str(path)


def test_a_model_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "good.onnx", [helper.make_node("Relu", ["x"], ["y"])])
    assert cli.main(["check", path]) == 0
    assert capsys.readouterr().out == f"{path}: cnnrt runs it: 1 node, 1 operator\n"
    packed = str(tmp_path / "good.bin")
    write_model(packed, read_onnx(path))
    assert cli.main(["check", packed]) == 0


def test_every_unsupported_node_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Odd", ["a"], ["d"], name="first", domain="com.example"),
        helper.make_node("Unknown", ["a", "d"], ["y"], domain="com.example"),
    ]
    nodes[1].metadata_props.add(key=SCOPES_KEY, value=repr(["", "head", "head.det", "det"]))
    path = save(tmp_path / "bad.onnx", nodes)
    proto = onnx.load(path)
    proto.opset_import.add(domain="com.example", version=1)
    onnx.save(proto, path)
    assert cli.main(["check", path]) == 1
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"{path}: cnnrt does not run 2 of its 3 nodes:"
    shape = "[batch, 3, 8, 8]"
    assert lines == [
        f"  com.example.Odd (node 'first' of layer 'head.det'; inputs a: {shape})",
        f"  com.example.Unknown (node 'y'; inputs a: {shape}, d: of unknown shape)",
    ]
    assert cli.main(["convert", path, str(tmp_path / "out.bin")]) == 1
    message = capsys.readouterr().err
    assert all(line in message for line in lines)
    assert not (tmp_path / "out.bin").exists()


def test_shapes_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The reshape is reported for the requested shape; sizes that depend on data make stages."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["r"], name="to_rows"),
        helper.make_node("NonZero", ["x"], ["n"], name="where"),
        helper.make_node("Cast", ["n"], ["y"], to=TensorProto.FLOAT),
    ]
    constants = {"shape": np.int64([-1, 100])}
    path = save(tmp_path / "m.onnx", nodes, ("batch", 3, "height", "width"), constants)
    assert cli.main(["check", path]) == 0
    assert "free sizes, height, width: give --input" in capsys.readouterr().out
    assert cli.main(["check", path, "--input", "x=1x3x5x20"]) == 0
    assert cli.main(["check", path, "--shape", "x=1x3x5x21"]) == 1  # the former name
    out = capsys.readouterr().out
    assert "node 'to_rows' (reshape): 315 elements do not make shape [-1, 100]" in out
    fixed = save(tmp_path / "fixed.onnx", nodes[1:], (1, 3, 32, 32))
    assert cli.main(["check", fixed]) == 0
    out = capsys.readouterr().out
    assert "in stages: the types of results depend on values at where (non_zero); 1 node" in out


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("x=1x4x8x8", "--input: 'x' takes ['batch', 3, 8, 8]"),
        ("z=1x3x8x8", "no input is named z; there are x"),
    ],
)
def test_wrong_shapes(
    shape: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])])
    assert cli.main(["check", path, "--input", shape]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("shape", ["x", "1,2", "x=a", "x=-1"])
def test_shapes_that_are_none(shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["check", "model.onnx", "--input", shape])
    assert raised.value.code == 2
    assert "is not a shape such as 1x3x224x224" in capsys.readouterr().err


def test_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(tmp_path / "absent.onnx")]) == 1
    assert "absent.onnx" in capsys.readouterr().err
