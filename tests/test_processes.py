"""Models in other processes: pickled, forked, spawned."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import cnnrt
from networks import network
from scripts import EXAMPLES, run_script

LENET = EXAMPLES / "lenet5.bin"

START = """
import concurrent.futures, multiprocessing, os, signal, sys, threading
import numpy as np
import cnnrt
if hasattr(signal, "alarm"):
    signal.alarm(100)  # kills what hangs, and then this script fails
inputs = [np.random.default_rng(i).standard_normal((i + 1, 1, 28, 28), dtype=np.float32)
          for i in range(4)]

def check(got, want):
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


def digits(n: int = 3) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, 1, 28, 28), dtype=np.float32)


# Pickling -----------------------------------------------------------------------------------------


def test_a_model_of_a_file_is_pickled_as_its_path(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    shutil.copy(LENET, path)
    model = cnnrt.load(path, threads=1, algorithm={"conv1": "im2col"})
    data = pickle.dumps(model)
    assert len(data) < 10_000 < path.stat().st_size
    again = pickle.loads(data)
    assert np.array_equal(again(digits()), model(digits()))
    assert (again.threads, again.labels) == (1, model.labels)
    assert again.preprocessing == model.preprocessing
    assert again.describe() == model.describe()
    assert pickle.dumps(again) == data


def test_settings_made_after_loading_are_pickled() -> None:
    model = cnnrt.load(LENET)
    model.labels = [f"digit {i}" for i in range(10)]
    model.preprocessing = None
    again = pickle.loads(pickle.dumps(model))
    assert again.labels == model.labels
    assert again.preprocessing is None


def test_the_default_number_of_threads_is_that_of_the_other_process() -> None:
    data = pickle.dumps(cnnrt.load(LENET))
    cnnrt.set_num_threads(7)
    try:
        assert pickle.loads(data).threads == 7
    finally:
        cnnrt.set_num_threads(None)


def test_what_is_no_file_any_longer_is_pickled_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    shutil.copy(LENET, path)
    model = cnnrt.load(path)
    want = model(digits())
    other = tmp_path / "other"
    other.write_bytes(b"something else")
    other.replace(path)
    assert np.array_equal(pickle.loads(pickle.dumps(model))(digits()), want)
    path.unlink()
    assert np.array_equal(pickle.loads(pickle.dumps(model))(digits()), want)


def test_a_file_changed_in_place_is_not_pickled(tmp_path: Path) -> None:
    # Its weights are mapped: reading what was cut off would be a bus error.
    path = tmp_path / "model.bin"
    shutil.copy(LENET, path)
    model = cnnrt.load(path)
    path.write_bytes(b"something else")
    with pytest.raises(cnnrt.FormatError, match="changed in place"):
        pickle.dumps(model)


def test_models_without_a_file_are_pickled_by_their_bytes() -> None:
    from_bytes = cnnrt.load(LENET.read_bytes(), threads=1)
    again = pickle.loads(pickle.dumps(from_bytes))
    assert np.array_equal(again(digits()), from_bytes(digits()))
    assert again.labels == from_bytes.labels
    x = np.float32([[1, -2, 3]])
    graph = network({"x": x}, {}, ("y", "relu", "x"))
    model = cnnrt.Model(graph, isa="portable", labels=["a"])
    again = pickle.loads(pickle.dumps(model))
    assert (again.isa, again.labels) == ("portable", ["a"])
    assert np.array_equal(again(x), [[1, 0, 3]])
    assert np.array_equal(copy.deepcopy(model)(x), [[1, 0, 3]])


def test_a_file_that_changed_after_pickling_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    shutil.copy(LENET, path)
    data = pickle.dumps(cnnrt.load(path))
    path.write_bytes(LENET.read_bytes() + b" ")
    with pytest.raises(cnnrt.FormatError, match=r"model\.bin: has changed since"):
        pickle.loads(data)
    path.unlink()
    with pytest.raises(cnnrt.FormatError, match="no such file"):
        pickle.loads(data)


# Pools of processes -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_and_futures(method: str, tmp_path: Path, threading: str) -> None:
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"the system has no {method}")
    script = """
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[2])
    model = cnnrt.load(sys.argv[1], threads=2)
    want = [model(x) for x in inputs]
    with context.Pool(2) as pool:
        check(pool.map(model, inputs), want)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        check(pool.map(model, inputs), want)
"""
    run_script(tmp_path, START + script, LENET, method)


def test_joblib(tmp_path: Path) -> None:
    pytest.importorskip("joblib", reason="joblib is not installed")
    script = """
if __name__ == "__main__":
    import joblib
    model = cnnrt.load(sys.argv[1])
    want = [model(x) for x in inputs]
    assert joblib.parallel_config  # loky is its default
    parallel = joblib.Parallel(n_jobs=2)
    check(parallel(joblib.delayed(model)(x) for x in inputs), want)
    # loky tells its workers how many threads each may use.
    assert set(parallel(joblib.delayed(cnnrt.get_num_threads)() for _ in range(4))) == {1}
"""
    run_script(tmp_path, START + script, LENET, LOKY_MAX_CPU_COUNT="2")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_pytorch_data_loader(method: str, tmp_path: Path, threading: str) -> None:
    pytest.importorskip("torch", reason="PyTorch's wheel is declared for Python 3.11 only")
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("the system has no fork")
    script = """
import torch

class Features(torch.utils.data.Dataset):
    def __init__(self, model):
        self.model = model
    def __len__(self):
        return len(inputs)
    def __getitem__(self, i):
        return torch.from_numpy(self.model(inputs[i]))

if __name__ == "__main__":
    model = cnnrt.load(sys.argv[1], threads=2)
    want = [model(x) for x in inputs]
    workers = 2 if sys.argv[2] == "fork" else 1
    loader = torch.utils.data.DataLoader(
        Features(model), batch_size=None, num_workers=workers, multiprocessing_context=sys.argv[2]
    )
    check([y.numpy() for y in loader], want)
"""
    run_script(tmp_path, START + script, LENET, method)


# Forked by hand -----------------------------------------------------------------------------------

FORK = """
model = cnnrt.load(sys.argv[1], threads=2)
# Weights enough for two threads to share, and many steps.
from cnnrt import kernels
image = np.random.default_rng(0).standard_normal((1, 64, 28, 28), dtype=np.float32)
weight = np.random.default_rng(1).standard_normal((64, 64, 3, 3), dtype=np.float32)

def wide():
    return kernels.conv2d(image, weight, padding=1, threads=2)

want, want_wide = [model(x) for x in inputs], wide()

def in_child(generations):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(30)
            check([model(x) for x in inputs], want)
            new = np.concatenate([inputs[3], inputs[2]])  # a batch that needs a plan of its own
            check([model(new)], [np.concatenate([want[3], want[2]])])
            assert np.array_equal(wide(), want_wide)
            status = in_child(generations - 1) if generations > 1 else 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@needs_fork
def test_three_generations_of_forked_children(tmp_path: Path, threading: str) -> None:
    script = "assert in_child(3) == 0\nassert np.array_equal(wide(), want_wide)\n"
    run_script(tmp_path, START + FORK + script, LENET)


@needs_fork
def test_forks_while_other_threads_run_and_plan(tmp_path: Path, threading: str) -> None:
    script = """
stop = False

def run_on():
    while not stop:
        wide()
        model(inputs[0])

def plan_on():
    sizes = np.random.default_rng(2)
    while not stop:  # of more batches than the model keeps plans for
        model(np.zeros((int(sizes.integers(1, 99)), 1, 28, 28), np.float32))

threads = [threading.Thread(target=f) for f in (run_on, run_on, plan_on)]
for t in threads:
    t.start()
statuses = [in_child(1) for _ in range(25)]
stop = True
for t in threads:
    t.join()
assert statuses == [0] * 25, statuses
"""
    run_script(tmp_path, START + FORK + script, LENET)


@needs_fork
def test_a_fork_in_a_signal_handler_during_a_run(tmp_path: Path, threading: str) -> None:
    script = """
children = []
long_image = np.ones((4, 64, 64, 64), np.float32)
long_weight = np.ones((64, 64, 31, 31), np.float32)

def handler(number, frame):
    if not children:
        children.append(os.fork())

signal.signal(signal.SIGUSR1, handler)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
status = None
while not children:
    try:
        kernels.conv2d(long_image, long_weight, padding=15, threads=2)
    except RuntimeError as error:
        assert "forked by a signal handler" in str(error)
        status = 0
if children[0] == 0:
    # Outside of a run the handler may have forked between two calls: then nothing was stopped.
    os._exit(0 if np.array_equal(wide(), want_wide) else 1)
assert status is None
assert np.array_equal(wide(), want_wide)
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
"""
    run_script(tmp_path, START + FORK + script, LENET)
