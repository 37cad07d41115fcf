"""Interrupted: Ctrl-C during runs and conversions, kills, full disks, read-only folders."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import cnnrt
from cnnrt.formats import write_model
from cnnrt.graph import Graph, Node, TensorSpec
from scripts import EXAMPLES, environment

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

LENET = EXAMPLES / "lenet5.bin"


def start(*command: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A shell has its background jobs ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


# Long runs ----------------------------------------------------------------------------------------

LONG = """
import sys
import numpy as np
import cnnrt
from cnnrt import ops
from cnnrt.graph import Graph, Node, TensorSpec

# Minutes of work: in one step, in many, in one step of a batch, or in images of some milliseconds.
steps, size, batch, c, pixels = {
    "step": (1, 63, 1, 64, 512),
    "steps": (100, 31, 1, 64, 128),
    "batch": (1, 31, 60, 64, 128),
    "images": (1, 63, 20000, 16, 32),
}[sys.argv[1]]
threads = int(sys.argv[2])
names = ["x", *(f"y{i}" for i in range(steps))]
nodes = [Node("conv", b, [a, "w"], [b], {"pads": [size // 2] * 4})
         for a, b in zip(names, names[1:])]
for node in nodes:
    ops.complete(node)
model = cnnrt.Model(
    Graph([TensorSpec("x", (batch, c, pixels, pixels))], [TensorSpec(names[-1], ())], nodes,
          {"w": np.full((c, c, size, size), 1e-9, np.float32)}),
    threads=threads,
)
x = np.zeros((batch, c, pixels, pixels), np.float32)
print("running", flush=True)
try:
    while True:
        model(x)
except KeyboardInterrupt:
    small = cnnrt.load(sys.argv[3], threads=threads)
    assert np.isfinite(small(np.zeros((1, 1, 28, 28), np.float32))).all()  # all is well
    sys.exit(130)
"""


@pytest.mark.parametrize(
    ("kind", "threads"),
    [("step", 1), ("step", 2), ("steps", 2), ("batch", 2), ("images", 1), ("images", 2)],
)
def test_ctrl_c_ends_a_run(kind: str, threads: int, tmp_path: Path, threading: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(LONG)
    with start(script, kind, threads, LENET) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert err == ""


def test_a_handler_that_raises_nothing_lets_the_run_go_on(tmp_path: Path, threading: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        """
import os, signal, threading
import numpy as np
from cnnrt import kernels
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(True))
x, w = np.ones((8, 64, 56, 56), np.float32), np.ones((64, 64, 15, 15), np.float32)
want = kernels.conv2d(x, w, padding=7, threads=2)
timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1))
timer.start()
while not seen:
    assert np.array_equal(kernels.conv2d(x, w, padding=7, threads=2), want)
"""
    )
    with start(script) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


# Writing ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model.bin of 64 MB in 256 tensors."""
    path = tmp_path_factory.mktemp("large") / "large.bin"
    names = [f"w{i}" for i in range(256)]
    constants = {name: np.full((1, 65536), i, np.float32) for i, name in enumerate(names)}
    nodes = [
        Node("add", f"y{i}", [f"y{i - 1}" if i else "x", n], [f"y{i}"]) for i, n in enumerate(names)
    ]
    write_model(
        path, Graph([TensorSpec("x", (1, 65536))], [TensorSpec("y255", ())], nodes, constants)
    )
    return path


@pytest.mark.parametrize("with_old", [False, True], ids=["new", "over another"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_conversion_that_is_stopped_leaves_the_target_alone(
    number: signal.Signals, with_old: bool, large: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target" / "model.bin"
    for _ in range(20):
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir()
        if with_old:
            shutil.copy(LENET, target)
        with start("-m", "cnnrt", "convert", large, target) as process:
            while process.poll() is None and not list(target.parent.glob(".*.tmp")):
                time.sleep(0.0005)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        if process.returncode == 0:  # it was through already: once more
            assert target.stat().st_size == large.stat().st_size
            continue
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), err
        if with_old and target.read_bytes() == LENET.read_bytes():
            break
        if not with_old and not target.exists():
            break
        # Between the renaming and the exit the file is whole.
        assert target.read_bytes() == large.read_bytes()
    else:
        pytest.fail("no conversion could be stopped in time")
    left = [path.name for path in target.parent.iterdir() if path != target]
    if number == signal.SIGINT:
        assert err == "" and not left
    # What a kill has left behind does not disturb the next conversion.
    subprocess.run(
        [sys.executable, "-m", "cnnrt", "convert", LENET, target],
        env=environment(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    assert np.isfinite(cnnrt.load(target)(np.zeros((1, 1, 28, 28), np.float32))).all()


def assert_refused(command: Sequence[str], target: Path, reason: str) -> None:
    """One line on stderr, status 1, the target as it was and nothing beside it."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert reason in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_size_limit(large: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    shutil.copy(LENET, target)
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)); "
        "from cnnrt.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", limited, "convert", str(large), str(target)]
    assert_refused(command, target, "File too large")
    assert target.read_bytes() == LENET.read_bytes()
    assert list(tmp_path.iterdir()) == [target]


def in_small_folder(folder: Path, *commands: str) -> list[str]:
    """A command that runs `commands` with a disk of 2 MB of its own as `folder`.

    The disk is in a namespace, so nothing has to be unmounted. This needs no rights if users may
    have such namespaces.
    """
    mount = f"mount -t tmpfs -o size=2m none {folder}"
    command = ["unshare", "-rm", "sh", "-ec", "; ".join([mount, *commands])]
    probe = ["unshare", "-rm", "sh", "-ec", mount]
    if (
        not shutil.which("unshare")
        or subprocess.run(probe, capture_output=True, check=False).returncode
    ):
        pytest.skip("this system lets nobody mount a disk in a namespace")
    return command


PASSED = 42
"""The status of a list of shell commands of which none has failed."""


def failing(source: Path, target: Path) -> str:
    """A shell command that fails unless a conversion fails with the status 1."""
    return f"{sys.executable} -m cnnrt convert {source} {target} && exit 9 || test $? = 1"


def only(folder: Path, *names: str) -> str:
    """A shell command that fails unless these are all files of the folder."""
    return f'test "$(ls -A {folder} | tr "\\n" " ")" = "{"".join(n + " " for n in names)}"'


def test_a_full_disk(large: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    command = in_small_folder(
        tmp_path,
        failing(large, target),
        only(tmp_path),
        f"cp {LENET} {target}",
        failing(large, target),
        f"cmp {LENET} {target}",
        only(tmp_path, "model.bin"),
        f"exit {PASSED}",
    )
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == PASSED, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and all("No space left on device" in line for line in lines), lines


def test_a_read_only_folder(tmp_path: Path) -> None:
    target = tmp_path / "model.bin"
    command = in_small_folder(
        tmp_path,
        f"cp {LENET} {target}",
        f"mount -o remount,ro {tmp_path}",
        failing(LENET, tmp_path / "other.bin"),
        failing(EXAMPLES / "efficientnet_lite0.bin", target),
        f"cmp {LENET} {target}",
        only(tmp_path, "model.bin"),
        f"exit {PASSED}",
    )
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == PASSED, done.stdout + done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and all("Read-only file system" in line for line in lines), lines
