"""The integer vocabulary and the register tile over integers: vocabulary.cpp on every tier and
overlay, against plain loops."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from cnnrt import _core

HERE = Path(__file__).parent


def _build(folder: Path, programs: Sequence[str], *options: str) -> None:
    for command in (
        ["cmake", "-S", str(HERE), "-B", str(folder), *options],
        ["cmake", "--build", str(folder), "-j", "2", "--target", *programs],
    ):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command[-1]}: {result.stdout[:2000]}{result.stderr}"


def test_on_this_machine(tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("cmake or a C++ compiler is not installed")
    names = list(_core.isas())
    names += [f"{isa}_{overlay}" for isa in _core.isas() for overlay in _core.overlays(isa)]
    programs = [f"vocabulary_{name}" for name in names]
    _build(tmp_path, programs)
    for program in programs:
        _run(str(tmp_path / program))


@pytest.mark.soak
def test_on_aarch64(tmp_path: Path) -> None:
    """NEON, its dot products and its mixed-sign dot products, emulated."""
    for tool in ("qemu-aarch64", "aarch64-linux-gnu-g++", "cmake"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    toolchain = HERE.parent.parent / "cmake" / "aarch64-linux-gnu.cmake"
    programs = [f"vocabulary_{name}" for name in ("neon", "neon_dotprod", "neon_i8mm")]
    _build(
        tmp_path,
        programs,
        f"-DCMAKE_TOOLCHAIN_FILE={toolchain}",
        "-DCMAKE_EXE_LINKER_FLAGS=-static",
    )
    for program in programs:
        _run("qemu-aarch64", "-cpu", "max", str(tmp_path / program))
