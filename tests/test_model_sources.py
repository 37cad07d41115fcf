"""The forms in which a model can be given, and the one clear error for each file that is none."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt.errors import FormatError

onnx = pytest.importorskip("onnx")
from onnx import helper  # noqa: E402

X = np.float32([-1, 0, 2])


def proto() -> Any:
    value = [helper.make_tensor_value_info(name, 1, [3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


ONNX = proto().SerializeToString()


def saved(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("of", ["onnx", "model.bin"])
@pytest.mark.parametrize(
    "form", [bytes, bytearray, memoryview, io.BytesIO, "file", "path", "str", "OTHER.ONNX", "model"]
)
def test_forms(form: Any, of: str, tmp_path: Path) -> None:
    data = ONNX
    if of == "model.bin":
        from cnnrt.formats import read, write_model

        data = write_model(None, read(ONNX).graph) or b""
    if not isinstance(form, str):
        model = cnnrt.load(form(data))
    elif form == "file":
        with saved(tmp_path, "m", data).open("rb") as file:
            model = cnnrt.load(file)
    else:
        path = saved(tmp_path, "m.onnx" if form in ("path", "str") else form, data)
        model = cnnrt.load(str(path) if form == "str" else path)
    np.testing.assert_array_equal(model(X), [0, 0, 2])
    assert pickle.loads(pickle.dumps(model))(X)[2] == 2


def test_messages() -> None:
    message = proto()
    np.testing.assert_array_equal(cnnrt.load(message)(X), [0, 0, 2])
    assert message.SerializeToString() == ONNX


def test_without_ir_version_and_any_order_of_fields(tmp_path: Path) -> None:
    message = proto()
    message.ClearField("ir_version")
    data = message.SerializeToString()
    assert data[:1] != b"\x08"
    for source in (data, saved(tmp_path, "m", data)):
        np.testing.assert_array_equal(cnnrt.load(source)(X), [0, 0, 2])


def zipped(*names: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for name in names:
            file.writestr(name, "x")
    return target.getvalue()


def tarred() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as file:
        file.addfile(tarfile.TarInfo("model.onnx"))
    return target.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 46830571\n"
FOREIGN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "web page": (b"\n<!DOCTYPE html><html>404</html>", "is a web page.*download went wrong"),
    "web page without a type": (b"<html lang=en>", "is a web page"),
    "Git LFS": (LFS, "pointer of Git LFS in place of a file of 46,830,571 bytes.*git lfs pull"),
    "gzip": (gzip.compress(ONNX), r"compressed \(gzip\).*unpack it"),
    "bzip2": (bz2.compress(ONNX), r"compressed \(bzip2\).*unpack it"),
    "xz": (lzma.compress(ONNX), r"compressed \(xz\).*unpack it"),
    "zstd": (b"\x28\xb5\x2f\xfd....", r"compressed \(zstd\).*unpack it"),
    "tar": (tarred(), r"archive \(tar\).*unpack it"),
    "checkpoint": (zipped("a/data.pkl", "a/data/0"), "PyTorch checkpoint.*cnnrt.export"),
    "TorchScript": (zipped("a/data.pkl", "a/constants.pkl", "a/code/b.py"), "a TorchScript pro"),
    "zip": (zipped("folder/model.onnx"), r"archive \(zip\) with a model in it; unpack"),
    "zip of texts": (zipped("readme.txt"), r"archive \(zip\), no model"),
    "zip, cut off": (zipped("readme.txt")[:30], r"archive \(zip\) that is damaged"),
    "Keras": (zipped("config.json", "model.weights.h5"), "Keras model.*format='onnx'"),
    "NumPy's": (zipped("a.npy", "b.npy"), "NumPy archive"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5 file.*tf2onnx"),
    "TFLite": (b"\x1c\0\0\0TFL3" + bytes(99), "TensorFlow Lite"),
    "ORT": (b"\x1c\0\0\0ORTM" + bytes(99), "ONNX Runtime's own format.*the .onnx file"),
    "GGUF": (b"GGUF\3\0\0\0", "GGUF"),
    "OpenVINO": (b'<?xml version="1.0"?><net name="n">', "OpenVINO"),
    "ncnn": (b"7767517\n75 83\n", "ncnn"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), "is a picture"),
    **{f"pickle {v}": (pickle.dumps({"w": 1}, v), "is a pickle.*PyTorch") for v in (2, 4, 5)},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_that_are_no_models(name: str, tmp_path: Path) -> None:
    data, message = FOREIGN[name]
    for ending in ("m.onnx", "m.bin", "m"):
        with pytest.raises(FormatError, match=message) as found:
            cnnrt.load(saved(tmp_path, ending, data))
        assert str(tmp_path / ending) in str(found.value)
        assert "\n" not in str(found.value)
    for source in (data, io.BytesIO(data)):
        with pytest.raises(FormatError, match=message):
            cnnrt.load(source)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_pytorch_really_writes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    layer, path = torch.nn.Linear(2, 2), tmp_path / "m.pt"
    for save, message in (
        (lambda: torch.save(layer.state_dict(), path), "PyTorch checkpoint"),
        (
            lambda: torch.save(layer.state_dict(), path, _use_new_zipfile_serialization=False),
            "is a pickle",
        ),
        (lambda: torch.jit.trace(layer, torch.ones(1, 2)).save(path), "TorchScript"),
    ):
        save()
        with pytest.raises(FormatError, match=message):
            cnnrt.load(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda: None, "expected a path.*got NoneType"),
        (lambda: 3, "expected a path.*got int"),
        (lambda: ["m.onnx"], "expected a path.*got list"),
        (lambda: io.StringIO("text"), "the file gives str; expected.*binary mode"),
        (lambda: "https://example.org/m.onnx", "is an address; download"),
        (lambda: "nothing.onnx", "no such file"),
        (lambda: ".", "is a directory"),
        (lambda: pytest.importorskip("torch").nn.Linear(2, 2), r"cnnrt\.export"),
    ],
)
def test_what_is_no_source(source: Callable[[], Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        cnnrt.load(source())
