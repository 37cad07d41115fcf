"""Machines that are not at hand, emulated by qemu-user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnrt

LENET = Path(__file__).parent.parent / "examples" / "lenet5.bin"

RUN = """
import sys
import numpy as np
import cnnrt
from cnnrt import _core
assert _core.isas() == ["portable"], _core.isas()
x = np.linspace(-1, 1, 2 * 28 * 28, dtype=np.float32).reshape(2, 1, 28, 28)
model = cnnrt.load(sys.argv[1], threads=2)
np.save(sys.argv[2], model(x))
"""


@pytest.mark.parametrize("cpu", ["Nehalem", "max,avx=off,avx2=off"])
def test_a_machine_without_avx(cpu: str, tmp_path: Path) -> None:
    """Import and a run stay clear of what the machine lacks, and give the portable tier's bits."""
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        pytest.skip("qemu-x86_64 is not installed (Debian's qemu-user)")
    folder = Path(cnnrt.__file__).parent.parent
    result = subprocess.run(
        [qemu, "-cpu", cpu, sys.executable, "-c", RUN, str(LENET), str(tmp_path / "y.npy")],
        # NumPy's OpenBLAS chooses its kernels by what the emulated machine only claims to have.
        env={**os.environ, "PYTHONPATH": str(folder), "OPENBLAS_CORETYPE": "Nehalem"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    x = np.linspace(-1, 1, 2 * 28 * 28, dtype=np.float32).reshape(2, 1, 28, 28)
    # The same source, but the mathematical library of another machine may round its last bit.
    want = cnnrt.Model(cnnrt.load(LENET).graph, isa="portable", threads=1)(x)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), want, rtol=1e-5, atol=1e-6)


@pytest.mark.soak
def test_kernels_on_aarch64(tmp_path: Path) -> None:
    """The kernels' own tests on the NEON tier; `.ci/aarch64` without arguments runs them all."""
    for tool in ("qemu-aarch64", "aarch64-linux-gnu-g++", "cmake", "ninja", "apt-get"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    root = Path(__file__).parent.parent
    tests = ["tests/kernels/test_pool.py", "tests/kernels/test_matmul.py"]
    result = subprocess.run(
        [root / ".ci" / "aarch64", tmp_path, *tests],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    assert "aarch64 ['neon', 'portable']" in result.stdout
