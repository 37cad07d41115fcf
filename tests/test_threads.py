"""Threads: how many, what they share, what they leave behind."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import cnnrt
from cnnrt import kernels
from cnnrt.process import threads
from scripts import EXAMPLES, run_script

LENET = EXAMPLES / "lenet5.bin"
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of Linux")

START = """
import os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import cnnrt
from cnnrt import kernels
image = np.random.default_rng(0).standard_normal((1, 64, 56, 56), dtype=np.float32)
weight = np.random.default_rng(1).standard_normal((64, 64, 3, 3), dtype=np.float32)

def run(threads=None):
    return kernels.conv2d(image, weight, padding=1, threads=threads)

def tasks():
    return sorted(map(int, os.listdir("/proc/self/task")))

def tasks_become(count):
    # A thread that was joined is still listed for a moment.
    deadline = time.monotonic() + 20
    while len(tasks()) != count and time.monotonic() < deadline:
        time.sleep(0.001)
    return len(tasks()) == count
"""


# How many -----------------------------------------------------------------------------------------


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/", {"cpu.max": "max 100000\n"}, None),
        ("0::/", {}, None),
        # A service inside a slice with a quota of its own; the smaller one counts.
        ("0::/a/b", {"a/b/cpu.max": "800000 100000", "a/cpu.max": "250000 100000"}, 3),
        # A container that sees the host's path, but only its own group.
        ("0::/docker/1234", {"cpu.max": "50000 100000"}, 1),
        (
            "4:cpu,cpuacct:/job\n0::/",
            {"cpu/job/cpu.cfs_quota_us": "300000", "cpu/job/cpu.cfs_period_us": "100000"},
            3,
        ),
        (
            "4:cpu:/docker/1234",
            {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"},
            2,
        ),
        (
            "4:cpu:/",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            None,
        ),
        ("nonsense\n:\n0::", {"cpu.max": "words"}, None),
    ],
)
def test_quota(
    membership: str, files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    root = write(tmp_path / "cgroup", files) if files else tmp_path
    member = tmp_path / "membership"
    member.write_text(membership)
    assert threads._quota(root, member) == (expected or threads.NO_QUOTA)
    if membership == "0::/":
        assert threads._quota(root, tmp_path / "absent") == (expected or threads.NO_QUOTA)


def test_cores_are_those_of_the_affinity_mask(tmp_path: Path) -> None:
    siblings = {cpu: f"{cpu % 4},{cpu % 4 + 4}" for cpu in range(8)}
    write(
        tmp_path,
        {f"cpu{cpu}/topology/thread_siblings_list": text for cpu, text in siblings.items()},
    )
    assert threads._cores(set(range(8)), tmp_path) == 4
    assert threads._cores({0, 4}, tmp_path) == 1, "two siblings are one core"
    assert threads._cores({0, 1, 2}, tmp_path) == 3
    assert threads._cores({0, 1, 2}, tmp_path / "absent") == 3


@needs_linux
def test_the_default_follows_the_affinity_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cnnrt.get_num_threads() == 1
    finally:
        os.sched_setaffinity(0, before)
    for asked, expected in {"5": 5, "6,2": 6}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert cnnrt.get_num_threads() == expected
    for nonsense in ("0", "-1", "many", ""):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert 1 <= cnnrt.get_num_threads() <= len(before)


# What they share ----------------------------------------------------------------------------------


def test_eight_threads_on_one_model_and_on_eight(threading: str) -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((n % 5 + 1, 1, 28, 28), dtype=np.float32) for n in range(96)]
    shared = cnnrt.load(LENET, threads=2)
    want = [shared(x) for x in inputs]
    models = [cnnrt.load(LENET, threads=n % 3 + 1) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for call in (shared, lambda x: models[len(x) % 8](x), shared.run):
            got = list(pool.map(call, inputs))
            assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
        inner = [spec.name for spec in shared.outputs]
        got = list(pool.map(lambda x: shared.run(x, outputs=inner), inputs))
        assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


@needs_linux
def test_running_models_share_one_budget_of_threads(tmp_path: Path, threading: str) -> None:
    script = """
cnnrt.set_num_threads(3)
before = len(tasks())
want = run()
assert len(tasks()) == before + 2
with ThreadPoolExecutor(8) as pool:
    for y in pool.map(lambda i: run(i % 3 + 1), range(200)):
        assert np.array_equal(y, want)
assert tasks_become(before + 2), "eight callers have brought workers of their own"
run(5)
assert len(tasks()) == before + 4, "a model may ask for more than the budget"
"""
    run_script(tmp_path, START + script)


@needs_linux
def test_a_thread_can_limit_its_runs(tmp_path: Path) -> None:
    """The limit does not hold for other threads, nor afterwards."""
    script = """
from cnnrt.process.threads import at_most
cnnrt.set_num_threads(4)
before = len(tasks())
with at_most(1):
    want = run(4)
    assert len(tasks()) == before
with at_most(2):
    run(4)
    assert len(tasks()) == before + 1
    with ThreadPoolExecutor(1) as pool:
        assert np.array_equal(pool.submit(run, 4).result(), want)
assert tasks_become(before + 3)
assert np.array_equal(run(4), want)
"""
    run_script(tmp_path, START + script)


@needs_linux
def test_a_run_beside_others_takes_no_more_than_the_budget(tmp_path: Path, threading: str) -> None:
    # A long run on two threads; meanwhile all others have only their callers' threads.
    script = """
cnnrt.set_num_threads(2)
long_weight = np.ones((64, 64, 15, 15), np.float32)
before = tasks()
thread = threading.Thread(
    target=lambda: kernels.conv2d(np.repeat(image, 4, 0), long_weight, padding=7, threads=2))
thread.start()
while len(tasks()) < len(before) + 2:
    time.sleep(0.001)
runs = 0
while thread.is_alive():
    run(2)
    runs += 1
run(2)  # OpenMP's threads are those of a caller, and the other caller's have ended with it
assert tasks_become(len(before) + 1), tasks()
assert runs > 1, "the long run held the GIL"
"""
    run_script(tmp_path, START + script)


def test_the_gil_is_free_during_a_run(tmp_path: Path, threading: str) -> None:
    script = """
weight = np.ones((64, 64, 15, 15), np.float32)
finished = []
def long():
    kernels.conv2d(image, weight, padding=7, threads=1)
    finished.append(True)
thread = threading.Thread(target=long)
thread.start()
turns = 0
while not finished:  # a thread that holds the GIL would let this go round a few times only
    turns += 1
    time.sleep(0)
assert turns > 50, turns
"""
    run_script(tmp_path, START + script)


# What they leave behind ---------------------------------------------------------------------------


@needs_linux
def test_workers_sleep_after_a_run_and_nothing_is_pinned(tmp_path: Path) -> None:
    script = """
def state(task):
    return open(f"/proc/self/task/{task}/stat").read().rpartition(")")[2].split()[0]

mask = os.sched_getaffinity(0)
before = set(tasks())
run(2)
workers = set(tasks()) - before
assert len(workers) == 1
assert all(os.sched_getaffinity(task) == mask for task in [0, *workers]), "pinned"
deadline = time.monotonic() + 20
while any(state(task) != "S" for task in workers):
    assert time.monotonic() < deadline, "a worker still runs"

for task in range(20):
    run(2)
start = time.process_time_ns()
time.sleep(1)
idle = time.process_time_ns() - start
print(f"{idle / 1e7:.4f} % of a CPU during one idle second")
assert idle < 50e6, idle  # 5 %; the promise is 1 %
"""
    assert "idle second" in run_script(tmp_path, START + script)


@needs_linux
def test_workers_are_off_the_cpu_a_millisecond_after_a_run(tmp_path: Path) -> None:
    # What they use later is counted in CPU time, which other load of the machine does not lengthen.
    script = """
before = set(tasks())
run(2)
(worker,) = set(tasks()) - before
clock = (~worker << 3) | 6  # of this thread's CPU time, as clock_getcpuclockid(3) numbers it

most = 0
start = time.clock_gettime_ns(clock)
for _ in range(20):
    run(2)
    time.sleep(0.001)
    gone = time.clock_gettime_ns(clock)
    time.sleep(0.05)
    most = max(most, time.clock_gettime_ns(clock) - gone)
assert gone - start > 1e6, "the worker has not worked"
# One that comes to its 25 us of looking for work only then, because another program had its CPU,
# uses these; one that spins on uses 50 ms.
assert most < 1e6, f"{most / 1e6} ms of CPU"
"""
    run_script(tmp_path, START + script)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's fenv_t")
def test_the_callers_floating_point_state_is_left_alone(threading: str) -> None:
    import ctypes
    import platform

    libm = ctypes.CDLL("libm.so.6")
    state = (ctypes.c_uint32 * 64)()

    def read() -> list[int]:
        assert libm.fegetenv(state) == 0
        words = list(state)
        if platform.machine() == "x86_64":
            words[7] &= 0xFFC0  # MXCSR without the flags of past exceptions, which NumPy clears
            words[1] &= 0xFFFF3800  # x87's status without them, and without its last comparison
        return words

    smallest = np.float32(1e-45)
    x = np.full((1, 64, 56, 56), smallest)
    weight = np.ones((64, 64, 1, 1), np.float32)
    before = read()
    for count in (1, 2):
        flushed = kernels.conv2d(x, weight, threads=count)
        if platform.machine() in ("x86_64", "aarch64"):
            assert not flushed.any(), "denormals were not flushed"
        assert read() == before
    assert smallest * np.float32(2) > smallest, "denormals are flushed after a run"


def test_daemon_threads_do_not_disturb_the_end_of_the_process(
    tmp_path: Path, threading: str
) -> None:
    script = """
for _ in range(3):
    threading.Thread(target=lambda: [run(2) for _ in range(10**6)], daemon=True).start()
time.sleep(0.2)
"""
    run_script(tmp_path, START + script)
