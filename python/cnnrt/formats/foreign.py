"""Files that are no models but are often taken for one: their kind, and the remedy."""

from __future__ import annotations

import io
import os
import re

from ..process.locks import importing

EXPORT = "build the module in PyTorch, load its weights and write it with cnnrt.export(module, ...)"

BEGINNINGS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x1f\x8b", "is compressed (gzip)", "unpack it first"),
    (0, b"BZh", "is compressed (bzip2)", "unpack it first"),
    (0, b"\xfd7zXZ\0", "is compressed (xz)", "unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "is compressed (zstd)", "unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "is an archive (7z)", "unpack it first"),
    (257, b"ustar", "is an archive (tar)", "unpack it first"),
    (0, b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras writes", "export it to ONNX with tf2onnx"),
    (4, b"TFL3", "is a TensorFlow Lite model", "export the network to ONNX, or use tflite2onnx"),
    (4, b"ORTM", "is in ONNX Runtime's own format", "use the .onnx file that it was made from"),
    (0, b"GGUF", "is a GGUF file", "cnnrt runs no such language models; use the ONNX export"),
    (0, b"7767517", "is a network of ncnn", "use the ONNX file that it was made from"),
    (0, b"\x89PNG\r\n", "is a picture", "expected a model"),
    (0, b"\xff\xd8\xff", "is a picture", "expected a model"),
    (0, b"\x93NUMPY", "is a NumPy array", "expected a model"),
)
"""Offset, bytes there, kind of file, remedy."""

LFS = b"version https://git-lfs"
LENGTH = 512
"""Bytes of a file's beginning that `explain` looks at."""


def explain(source: str | os.PathLike[str] | bytes, start: bytes) -> str | None:
    """The kind of a file that is no model, and the remedy; None if the kind is not known here.

    Args:
        source: its path or its bytes.
        start: its first `LENGTH` bytes, or all.
    """
    for offset, magic, what, advice in BEGINNINGS:
        if start[offset : offset + len(magic)] == magic:
            return f"{what}, no model; {advice}"
    if start.startswith(LFS):
        size = re.search(rb"size (\d+)", start)
        of = f" of {int(size[1]):,} bytes" if size and len(size[1]) < 20 else ""
        return f"is a pointer of Git LFS in place of a file{of}; fetch that with 'git lfs pull'"
    if start.startswith(b"PK\x03\x04"):
        return _archive(source)
    if start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return (
            "is a pickle, as older versions of PyTorch and scikit-learn write; of a PyTorch "
            f"checkpoint: {EXPORT}"
        )
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "is a web page, no model: the download went wrong or asks for a login"
    if text.startswith(b"<?xml"):
        return "is XML, as OpenVINO's networks are; use the ONNX file that it was made from"
    return None


def _archive(source: str | os.PathLike[str] | bytes) -> str:
    """A sentence about the content of an archive."""
    with importing:
        import zipfile  # noqa: PLC0415  (8 ms of each start, for a file that is refused)

    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            names = file.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return "is an archive (zip) that is damaged; expected a model"
    ends = {name.rsplit("/", 1)[-1] for name in names}
    if "constants.pkl" in ends or any("/code/" in name for name in names):
        return (
            "is a TorchScript program; load it with torch.jit.load and write it with "
            "torch.onnx.export, or " + EXPORT
        )
    if "data.pkl" in ends:
        return f"is a PyTorch checkpoint, which holds weights but no network; {EXPORT}"
    if any(name.endswith(".weights.h5") for name in ends):
        return "is a Keras model; write it with model.export(path, format='onnx')"
    if names and all(name.endswith(".npy") for name in names):
        return "is a NumPy archive; expected a model"
    if any(name.endswith((".onnx", ".bin")) for name in ends):
        return "is an archive (zip) with a model in it; unpack it first"
    return "is an archive (zip), no model; unpack it first if there is one in it"
