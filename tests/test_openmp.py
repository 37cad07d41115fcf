"""Runs on the threads of an OpenMP runtime: which one, how many threads, and when not."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnrt
from cnnrt import _core
from cnnrt.process import threads
from scripts import EXAMPLES, run_script

LENET = EXAMPLES / "lenet5.bin"
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of Linux")


def digits() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, 1, 28, 28), dtype=np.float32)


# The choice ---------------------------------------------------------------------------------------


def test_the_choice_of_a_model_and_of_the_process(threading: str) -> None:
    assert cnnrt.get_threading() == threading, "CNNRT_THREADING"
    model = cnnrt.load(LENET, threads=2)
    assert model.threading == threading
    cnnrt.set_threading("pool")
    try:
        assert cnnrt.get_threading() == "pool"
        assert cnnrt.load(LENET).threading == "pool"
        assert model.threading == threading, "loaded before"
        assert cnnrt.load(LENET, threading=threading).threading == threading  # type: ignore[arg-type]
    finally:
        cnnrt.set_threading(None)
    assert cnnrt.get_threading() == threading
    assert np.array_equal(cnnrt.load(LENET, threads=2, threading="pool")(digits()), model(digits()))


def test_the_choice_goes_along_when_a_model_is_pickled(threading: str) -> None:
    asked = cnnrt.load(LENET, threading=threading)  # type: ignore[arg-type]
    default = cnnrt.load(LENET)
    cnnrt.set_threading("pool")
    try:
        assert pickle.loads(pickle.dumps(asked)).threading == threading
        assert pickle.loads(pickle.dumps(default)).threading == "pool", "that of the other process"
    finally:
        cnnrt.set_threading(None)


def test_other_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="threading is 'tbb'; expected 'pool' or 'openmp'"):
        cnnrt.set_threading("tbb")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threading is 'OpenMP'; expected"):
        cnnrt.load(LENET, threading="OpenMP")  # type: ignore[arg-type]
    monkeypatch.setenv("CNNRT_THREADING", "both")
    with pytest.raises(ValueError, match="CNNRT_THREADING is 'both'; expected"):
        cnnrt.load(LENET)
    monkeypatch.setenv("CNNRT_THREADING", "")
    assert cnnrt.load(LENET).threading == "pool"


def test_without_a_runtime_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "load_openmp", lambda: "")
    monkeypatch.setattr(_core, "openmp_is_built", lambda: True)
    with pytest.raises(cnnrt.OpenMPError, match=r"import a library .*, install one .*, or use"):
        cnnrt.set_threading("openmp")
    assert cnnrt.get_threading() == "pool", "nothing was set"
    monkeypatch.setenv("CNNRT_THREADING", "openmp")
    with pytest.raises(cnnrt.OpenMPError, match="CNNRT_THREADING='openmp': no OpenMP runtime"):
        cnnrt.load(LENET)
    monkeypatch.setattr(_core, "openmp_is_built", lambda: False)
    with pytest.raises(cnnrt.OpenMPError, match="built with CNNRT_OPENMP=OFF"):
        cnnrt.load(LENET, threading="openmp")
    assert threads.openmp_runtime() is None


# The runtime --------------------------------------------------------------------------------------

START = """
import ctypes, glob, os, sys, threading, time
import numpy as np
import cnnrt
from cnnrt import kernels
from cnnrt.process.threads import openmp_runtime

image = np.random.default_rng(0).standard_normal((1, 64, 56, 56), dtype=np.float32)
weight = np.random.default_rng(1).standard_normal((64, 64, 3, 3), dtype=np.float32)

def run(threads=2):
    return kernels.conv2d(image, weight, padding=1, threads=threads)

def tasks():
    return len(os.listdir("/proc/self/task"))

def runtimes():
    files = {line.split()[-1] for line in open("/proc/self/maps") if "/" in line}
    named = (os.path.basename(file).startswith(("libgomp", "libomp", "libiomp")) for file in files)
    return [file for file, yes in zip(files, named) if yes]

want = run(1)
"""


@needs_linux
@pytest.mark.parametrize("kind", ["GCC's", "LLVM's"])
def test_a_loaded_runtime_is_shared_whoever_loaded_it(
    kind: str, tmp_path: Path, no_openmp: str
) -> None:
    # As importing a wheel does: the library is loaded with local names, from a folder that the
    # system's loader does not know.
    pattern = {
        "GCC's": "scikit_learn.libs/libgomp-*.so*",
        "LLVM's": "cmeel.prefix/lib/libomp.so",
    }[kind]
    files = sorted(file for root in sys.path for file in Path(root).glob(pattern))
    if not files or not _core.openmp_is_built():
        pytest.skip(no_openmp or f"{pattern} is not installed")
    script = """
library = ctypes.CDLL(sys.argv[1])
callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
library.GOMP_parallel(callback(lambda _: None), None, 2, 0)  # it starts its second thread
before = tasks()
cnnrt.set_threading("openmp")
assert os.path.samefile(openmp_runtime(), sys.argv[1]), openmp_runtime()
assert len(runtimes()) == 1, runtimes()
for _ in range(20):
    assert np.array_equal(run(), want)
assert tasks() == before, "a thread besides the runtime's"

# Inside a region of the runtime each caller has one thread.
results = []
library.GOMP_parallel(callback(lambda _: results.append(run())), None, 2, 0)
assert len(results) == 2 and all(np.array_equal(y, want) for y in results)
assert tasks() == before
assert run(1).shape == run(3).shape and tasks() == before + 1
"""
    run_script(tmp_path, START + script, files[0])


@needs_linux
def test_pytorchs_threads_are_shared(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch's wheel is declared for Python 3.11 only")
    if not _core.openmp_is_built():
        pytest.skip("built with CNNRT_OPENMP=OFF")
    script = """
import torch
torch.set_num_threads(2)
x, w = torch.from_numpy(image), torch.from_numpy(weight)
torch.nn.functional.conv2d(x, w, padding=1)
before, loaded = tasks(), runtimes()
model_want = cnnrt.load(sys.argv[1], threads=1)(np.zeros((2, 1, 28, 28), np.float32))
cnnrt.set_threading("openmp")
assert openmp_runtime() in [*loaded, *map(os.path.realpath, loaded)], (openmp_runtime(), loaded)
for _ in range(10):
    y = torch.nn.functional.conv2d(x, w, padding=1).numpy()
    assert np.allclose(run(), y, rtol=1e-3, atol=1e-3) and np.array_equal(run(), want)
assert tasks() == before and runtimes() == loaded
model = cnnrt.load(sys.argv[1], threads=2)
assert np.array_equal(model(np.zeros((2, 1, 28, 28), np.float32)), model_want)
assert tasks() == before
"""
    run_script(tmp_path, START + script, LENET)


@needs_linux
def test_a_runtime_may_give_fewer_threads(tmp_path: Path, no_openmp: str) -> None:
    if no_openmp:
        pytest.skip(no_openmp)
    script = """
before = tasks()
cnnrt.set_threading("openmp")
for threads in (2, 3, 5):
    assert np.array_equal(run(threads), want)
assert tasks() == before + 1, "OMP_THREAD_LIMIT is 2"
"""
    run_script(tmp_path, START + script, OMP_THREAD_LIMIT="2")


@needs_linux
def test_a_forked_child_uses_the_pool(tmp_path: Path, no_openmp: str) -> None:
    # GCC's runtime waits in a child for the threads of the parent.
    if no_openmp:
        pytest.skip(no_openmp)
    script = """
cnnrt.set_threading("openmp")
assert np.array_equal(run(), want)
model = cnnrt.load(sys.argv[1], threads=2, threading="openmp")
x = np.ones((9, 1, 28, 28), np.float32)
before = model(x)
child = os.fork()
if child == 0:
    try:
        alone = tasks()
        assert cnnrt.get_threading() == "pool"
        assert np.array_equal(model(x), before) and np.array_equal(run(), want)
        cnnrt.set_threading("openmp")
        assert cnnrt.get_threading() == "pool" and np.array_equal(run(), want)
        os._exit(0 if tasks() == alone + 1 else 2)
    finally:
        os._exit(1)
deadline = time.monotonic() + 30
while (status := os.waitpid(child, os.WNOHANG)) == (0, 0):
    if time.monotonic() > deadline:
        os.kill(child, 9)
        sys.exit("the child hangs")
    time.sleep(0.01)
assert status[1] == 0, status
assert np.array_equal(run(), want)
"""
    run_script(tmp_path, START + script, LENET)
