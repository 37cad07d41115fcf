"""The first hour with cnnrt before anything runs: compilers, tiers, names of the command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnrt
from scripts import environment

ROOT = Path(__file__).parent.parent
LENET5 = ROOT / "examples" / "lenet5.bin"


def configured(folder: Path, *options: str, **variables: str) -> str:
    """What CMake says of a configuration that it refuses, in one line."""
    if not (shutil.which("cmake") and shutil.which("ninja")):
        pytest.skip("CMake and Ninja are not installed")
    done = subprocess.run(
        ["cmake", "-G", "Ninja", "-S", str(ROOT), "-B", str(folder), *options],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
        check=False,
    )
    assert done.returncode != 0
    return " ".join(done.stderr.split())


def test_without_a_compiler_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    tools = [Path(name).parent for tool in ("cmake", "ninja") if (name := shutil.which(tool))]
    path = os.pathsep.join(map(str, tools))
    said = configured(tmp_path, PATH=path, CXX="no-such-c++")
    assert "needs a C++20 compiler, and none was found: install GCC 12, Clang 14" in said
    assert "Could not find the compiler" not in said


def test_a_tier_that_does_not_exist_is_refused_before_the_build(tmp_path: Path) -> None:
    pybind11 = pytest.importorskip("pybind11")
    said = configured(
        tmp_path,
        "-DCNNRT_TIERS=avx1024",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DPython_EXECUTABLE={sys.executable}",
    )
    assert "CNNRT_TIERS: no tier 'avx1024'" in said
    assert "portable" in said


def test_the_command_has_two_names() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "`cnnrt`, or `python -m cnnrt`" in readme
    command = Path(sys.executable).with_name("cnnrt")
    words = [[sys.executable, "-m", "cnnrt", "--version"]]
    if command.exists():
        words.append([str(command), "--version"])
    for line in words:
        said = subprocess.check_output(line, text=True, env=environment()).strip()
        assert said == f"cnnrt {cnnrt.__version__}"


def test_a_conversion_of_a_conversion_has_the_same_bytes(tmp_path: Path) -> None:
    once, twice = tmp_path / "once.bin", tmp_path / "twice.bin"
    for source, target in ((LENET5, once), (once, twice)):
        line = [sys.executable, "-m", "cnnrt", "convert", str(source), str(target)]
        subprocess.run(line, check=True, capture_output=True, env=environment())
    assert once.read_bytes() == twice.read_bytes()


def test_all_names_of_inner_tensors_can_be_listed() -> None:
    model = cnnrt.load(LENET5)
    x = np.zeros((1, 1, 28, 28), np.float32)
    names = cnnrt.FeatureExtractor(model).layers
    assert list(model.run(x, outputs=names)) == list(names)
    assert "FeatureExtractor(model).layers" in (ROOT / "docs" / "looking.md").read_text()
