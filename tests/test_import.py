"""`import cnnrt` is quick, and every public name is there when it is used."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cnnrt
from cnnrt.formats import write_model
from cnnrt.graph import Graph, Node, TensorSpec
from scripts import environment


def test_only_errors_are_imported_at_once() -> None:
    code = (
        "import sys, cnnrt\n"
        "loaded = {name for name in sys.modules if name.startswith('cnnrt.')}\n"
        "assert loaded == {'cnnrt.errors'}, loaded\n"
        "assert not {'importlib.metadata', 'socket', 'numpy', 'inspect'} & set(sys.modules)\n"
        "assert callable(cnnrt.load) and 'cnnrt._core' in sys.modules\n"
        "assert set(cnnrt.__all__) | {'__version__'} <= set(dir(cnnrt))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_all_names_are_there() -> None:
    for name in (*cnnrt.__all__, "__version__"):
        assert getattr(cnnrt, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = cnnrt.absent  # type: ignore[attr-defined]


INTERRUPTED = """
import os, sys
import numpy as np
if sys.argv[1].endswith(".onnx"):
    import onnx.checker, onnx.helper, onnx.numpy_helper, onnx.version_converter

left = None
def hook(event, arguments):
    global left
    if event == "import" and left is not None and arguments[0].startswith("cnnrt"):
        left -= 1
        if left == 0:
            left = None
            raise KeyboardInterrupt
sys.addaudithook(hook)

def use():
    import cnnrt
    x = np.full((1, 2), -1, np.float32)
    assert cnnrt.load(sys.argv[1])(x).tolist() == [[0, 0]]
    cnnrt.load(sys.argv[1]).summary()

def child(work):
    if (pid := os.fork()) == 0:
        os._exit(work() or 0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def count():
    global left
    left = 10**6
    use()
    return (10**6 - left) // 4

def interrupted(number):
    global left
    left = number
    try:
        use()
    except KeyboardInterrupt:
        left = None
    assert left is None
    use()

imports = 4 * child(count)
bad = [n for n in range(1, imports, 5) if child(lambda: interrupted(n))]
assert imports > 60 and not bad, (imports, bad)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a child for each moment")
@pytest.mark.parametrize("kind", ["bin", "onnx"])
def test_an_interrupted_import_can_be_tried_again(kind: str, tmp_path: Path) -> None:
    """A signal handler raises at every fifth module that the first use imports."""
    path = tmp_path / f"model.{kind}"
    node = Node("relu", "r", ["x"], ["y"], {})
    graph = Graph([TensorSpec("x", (1, 2))], [TensorSpec("y", ())], [node], {})
    if kind == "bin":
        write_model(path, graph)
    else:
        pytest.importorskip("onnx")
        importlib.import_module("cnnrt.formats.onnx.writer").write_onnx(path, graph)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
