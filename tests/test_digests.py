"""`load(..., verify=True)`: no changed byte of a file goes unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import cnnrt
from cnnrt.cli import main
from cnnrt.errors import FormatError
from cnnrt.formats import write_model
from cnnrt.graph import Graph
from networks import network


def graph() -> Graph:
    rng = np.random.default_rng(0)
    return network(
        {"x": np.zeros((1, 16, 5, 5), np.float32)},
        {
            "w": rng.standard_normal((16, 16, 1, 1), dtype=np.float32),
            "b": rng.standard_normal(16, dtype=np.float32),
        },
        ("y", "conv", "x w b"),
    )


@pytest.fixture(params=["model", "float16", "compiled"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    if request.param == "compiled":
        cnnrt.Model(graph(), labels=["a"]).save_compiled(path)
    else:
        write_model(path, graph(), labels=["a"], float16=request.param == "float16")
    return path


def header_end(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def test_every_flipped_bit_is_noticed(file: Path) -> None:
    data = file.read_bytes()
    want = cnnrt.load(data, verify=True)(np.ones((1, 16, 5, 5), np.float32))
    rng = np.random.default_rng(0)
    ends = {b" ": b" \t\n\r"}  # JSON does not tell these apart
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        if data[place : place + 1] in ends and changed[place : place + 1] in ends[b" "]:
            continue
        with pytest.raises(cnnrt.CnnrtError):
            cnnrt.load(bytes(changed), verify=True)
    assert np.array_equal(cnnrt.load(file)(np.ones((1, 16, 5, 5), np.float32)), want)


def test_the_error_says_what_changed(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    assert cnnrt.load(bytes(data))  # as ever: only finite numbers of another value
    with pytest.raises(
        FormatError, match=r"model: tensor '[wb]': has changed since it was written"
    ):
        cnnrt.load(bytes(data), verify=True)
    end = header_end(data)
    header = bytes(data[8:end]).replace(b'"a\\"', b'"b\\"')
    assert header != data[8:end]
    with pytest.raises(FormatError, match="model: its header: has changed since it was written"):
        cnnrt.load(bytes(data[:8]) + header + bytes(data[end:]), verify=True)


def test_packed_weights_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    cnnrt.Model(graph()).save_compiled(path)
    data = bytearray(path.read_bytes())
    header = json.loads(bytes(data[8 : header_end(data)]))
    (name,) = [name for name in header if name.startswith("cnnrt.packed.")]
    data[header_end(data) + header[name]["data_offsets"][0]] ^= 1
    path.write_bytes(data)
    assert cnnrt.load(path)
    with pytest.raises(FormatError, match=r"model\.bin: tensor 'cnnrt\.packed\..*written"):
        cnnrt.load(path, verify=True)


def test_files_without_digests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files of earlier versions, or of other programs, are read as ever, but not verified."""
    data = write_model(None, graph())
    assert data is not None
    header = json.loads(data[8 : header_end(data)])
    del header["__metadata__"]["cnnrt.digests"]
    text = json.dumps(header).encode()
    old = tmp_path / "old.bin"
    old.write_bytes(len(text).to_bytes(8, "little") + text + data[header_end(data) :])
    assert cnnrt.load(old)
    with pytest.raises(FormatError, match=r"old\.bin: has no digests.*convert"):
        cnnrt.load(old, verify=True)
    new = tmp_path / "new.bin"
    assert main(["convert", str(old), str(new)]) == 0
    assert cnnrt.load(new, verify=True)
    assert main(["check", "--verify", str(new)]) == 0
    assert main(["check", "--verify", str(old)]) == 1
    assert "has no digests" in capsys.readouterr().err


@pytest.mark.parametrize(
    "digests", ["[]", "{}", '{"header": 1, "tensors": {}}', '{"header": "", "tensors": []}', "["]
)
def test_strange_digests(digests: str) -> None:
    data = write_model(None, graph())
    assert data is not None
    header = json.loads(data[8 : header_end(data)])
    header["__metadata__"]["cnnrt.digests"] = digests
    text = json.dumps(header).encode()
    with pytest.raises(FormatError):
        cnnrt.load(len(text).to_bytes(8, "little") + text + data[header_end(data) :], verify=True)


def test_onnx_files_have_none(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model = tmp_path / "model.bin"
    write_model(model, graph())
    assert main(["convert", str(model), str(tmp_path / "model.onnx")]) == 0
    with pytest.raises(FormatError, match=r"model\.onnx: is no model\.bin"):
        cnnrt.load(tmp_path / "model.onnx", verify=True)
