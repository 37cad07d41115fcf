"""Memory: what runs leave behind, and what deleting a model gives back."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

import cnnrt
from cnnrt.model import plan_for
from scripts import EXAMPLES, run_script

LENET = EXAMPLES / "lenet5.bin"
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of Linux")

START = """
import gc, os, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import cnnrt
from cnnrt.model import plan_for
from cnnrt import ops
from cnnrt.graph import Graph, Node, TensorSpec

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

def report(what, before, most=5.0):
    growth = resident() - before
    print(f"{what}: {growth:+.2f} MB")
    assert growth < most, f"{what}: {growth:.1f} MB"

rng = np.random.default_rng(0)
"""

SAME_SIZE = """
model = cnnrt.load(sys.argv[1], threads=2)
x = rng.standard_normal(tuple(map(int, sys.argv[2].split(","))), dtype=np.float32)
for _ in range(20):
    model(x)
before = resident()
for _ in range(int(sys.argv[3])):
    model(x)
report(f"{sys.argv[3]} runs", before)
"""

SIZES = """
most, count = int(sys.argv[1]), int(sys.argv[2])
weights = {f"w{i}": rng.standard_normal((32, 32 if i else 3, 3, 3), dtype=np.float32)
           for i in range(4)}
nodes = [Node("conv", f"y{i}", [f"y{i - 1}" if i else "x", f"w{i}"], [f"y{i}"],
              {"pads": [1] * 4, "strides": [2 if i == 1 else 1] * 2}) for i in range(4)]
for node in nodes:
    ops.complete(node)
model = cnnrt.Model(Graph([TensorSpec("x", ("n", 3, "h", "w"))], [TensorSpec("y3", ())], nodes,
                          weights), threads=2)

def run(size):
    model(np.zeros((1, 3, *size), np.float32))

def run_largest():
    for i in range(2 * cnnrt.planning.plan_cache.MAX_PLANS):
        run((most, most - i))

run_largest()
before = resident()
for size in rng.integers(8, most, (count, 2)):
    run(size)
run_largest()  # the same plans are kept as before
report(f"{count} sizes", before)
"""


@needs_linux
def test_ten_thousand_runs(tmp_path: Path) -> None:
    run_script(tmp_path, START + SAME_SIZE, LENET, "1,1,28,28", 10_000)


@needs_linux
def test_many_sizes(tmp_path: Path) -> None:
    run_script(tmp_path, START + SIZES, 96, 300)


@needs_linux
@pytest.mark.soak
def test_growth_at_full_length(tmp_path: Path) -> None:
    print(run_script(tmp_path, START + SIZES, 256, 1000, timeout=1000))
    efficientnet = EXAMPLES / "efficientnet_lite0.bin"
    print(
        run_script(tmp_path, START + SAME_SIZE, efficientnet, "1,3,224,224", 10_000, timeout=1000)
    )


@needs_linux
def test_a_deleted_model_gives_its_memory_back(tmp_path: Path) -> None:
    script = """
weight = rng.standard_normal((512, 512, 3, 3), dtype=np.float32)  # 9 MB, packed 38
nodes = [Node("conv", "y", ["x", "w"], ["y"], {"pads": [1] * 4})]
ops.complete(nodes[0])
graph = Graph([TensorSpec("x", (1, 512, 32, 32))], [TensorSpec("y", ())], nodes, {"w": weight})
x = np.zeros((1, 512, 32, 32), np.float32)

def use():
    model = cnnrt.Model(graph, threads=2)
    model(x)
    return resident()

use()
before = resident()
for _ in range(5):
    assert use() > before + 20
    report("a model deleted", before)
"""
    run_script(tmp_path, START + script)


@needs_linux
def test_runs_at_the_same_time_leave_one_arena_for_each_cpu(tmp_path: Path) -> None:
    script = """
nodes = [Node("relu", "a", ["x"], ["a"]), Node("sigmoid", "b", ["a"], ["b"]),
         Node("max_pool", "y", ["b"], ["y"], {"kernel_shape": [4, 4], "strides": [4, 4]})]
for node in nodes:
    ops.complete(node)
graph = Graph([TensorSpec("x", (1, 64, 256, 256))], [TensorSpec("y", ())], nodes, {})
x = np.zeros((1, 64, 256, 256), np.float32)
model = cnnrt.Model(graph, threads=1)
model(x)
arena = plan_for(model, [x]).core.arena_bytes / 1e6
assert arena > 16
before = resident()
with ThreadPoolExecutor(32) as pool:
    list(pool.map(lambda _: model(x)[0, 0, 0, 0], range(96)))
report("32 runs at once", before, arena * os.cpu_count() + 10)
"""
    run_script(tmp_path, START + script, MALLOC_ARENA_MAX="2")


def test_nothing_keeps_a_deleted_model_or_an_evicted_plan() -> None:
    import gc

    gc.disable()  # reference counts alone must do
    try:
        model = cnnrt.load(LENET)
        first = weakref.ref(plan_for(model, [np.zeros((2, 1, 28, 28), np.float32)]))
        assert first() is not None
        for n in range(3, 3 + cnnrt.planning.plan_cache.MAX_PLANS):
            model(np.zeros((n, 1, 28, 28), np.float32))
        assert first() is None
        gone = [weakref.ref(model), weakref.ref(model.graph)]
        del model
        assert [w() for w in gone] == [None, None]
    finally:
        gc.enable()
