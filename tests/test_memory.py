"""Memory of a model: by its own account, and by the system's."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import cnnrt
from cnnrt.formats import write_model
from cnnrt.graph import Array, Graph, Node, TensorSpec
from cnnrt.layout.arena import lay_out
from cnnrt.layout.tensors import Buffer
from cnnrt.ops import complete
from cnnrt.planning.plan_cache import MAX_PLANS
from cnnrt.weights.packed import PREFIX
from networks import network

EXAMPLES = Path(__file__).parent.parent / "examples"
PROC = Path("/proc/self/status").exists()


def wide(layers: int, channels: int) -> Graph:
    """Convolutions with norms to be folded into them; weights far larger than activations."""
    rng = np.random.default_rng(0)
    constants: dict[str, Array] = {}
    nodes = []
    before = "x"
    for i in range(layers):
        constants[f"w{i}"] = rng.standard_normal((channels, channels, 3, 3), dtype=np.float32)
        for name in ("scale", "bias", "mean", "var"):
            constants[f"{name}{i}"] = np.ones(channels, np.float32)
        norm = f"c{i} scale{i} bias{i} mean{i} var{i}"
        nodes += [
            (f"c{i}", "conv", f"{before} w{i}", {"pads": [1] * 4}),
            (f"n{i}", "batch_normalization", norm),
        ]
        before = f"n{i}"
    x = np.zeros((1, channels, 6, 6), np.float32)
    return network({"x": x}, constants, *nodes, outputs=[before])


def test_peak_live_is_a_bound_that_an_arena_can_reach() -> None:
    def buffer(nbytes: int, first: int, last: int) -> Buffer:
        made = Buffer(nbytes)
        made.touch(first)
        made.touch(last)
        return made

    chain = [buffer(64 * n, i, i + 1) for i, n in enumerate((1, 4, 2, 3))]
    assert lay_out(chain).live == 64 * 6
    assert lay_out(chain).nbytes >= lay_out(chain).live
    assert lay_out([buffer(64, 0, 0), buffer(128, 1, 1), Buffer(1 << 20)]).live == 128
    assert lay_out([]) == (0, 0)


def test_the_parts_add_up() -> None:
    model = cnnrt.load(EXAMPLES / "efficientnet_lite0.bin", threads=1)
    use = model.memory()
    size = (EXAMPLES / "efficientnet_lite0.bin").stat().st_size
    assert 0.95 * size < use.stored == use.stored_mapped < size
    floats = sum(c.nbytes for c in model.graph.constants.values())
    assert floats > 1.9 * use.stored, "it is stored as float16"
    read = floats - 1280 * 1000 * 2  # the classifier stays float16
    assert 0.95 * read < use.packed < 1.3 * read, "no Winograd in it"
    assert use.packed_mapped == 0
    (plan,) = use.plans
    assert use.workspaces == 0 and use.activations == 0, "it has not run"
    model(np.zeros((1, 3, 224, 224), np.float32))
    use = model.memory()
    (plan,) = use.plans
    assert use.workspaces == 1
    assert plan.shapes == ((1, 3, 224, 224),)
    assert 0 < plan.live <= plan.arena <= 1.2 * plan.live
    assert use.total == use.private == use.packed + plan.arena + plan.scratch
    assert use.lower_bound == use.packed + plan.live
    text = str(use)
    assert f"{use.packed / 1e6:.1f} MB  private" in text
    assert f"{use.stored / 1e6:.1f} MB  mapped" in text
    assert "1 plan, 1 workspace" in text


def test_trim_gives_back_all_but_the_plan_used_last() -> None:
    model = cnnrt.load(EXAMPLES / "lenet5.bin", threads=1)
    results = {n: model(np.ones((n, 1, 28, 28), np.float32)) for n in (1, 2, 3)}
    inner = model.run(np.ones((1, 1, 28, 28), np.float32), outputs=[next(iter(names(model)))])
    before = model.memory()
    assert len(before.plans) == 4
    model.trim()
    after = model.memory()
    assert len(after.plans) == 1 and after.workspaces == after.activations == 0
    assert after.plans[0].shapes == ((3, 1, 28, 28),)
    assert after.packed == before.packed, "all plans have the same weights"
    for n, y in results.items():
        assert np.array_equal(model(np.ones((n, 1, 28, 28), np.float32)), y)
    model.run(np.ones((1, 1, 28, 28), np.float32), outputs=[next(iter(names(model)))])
    assert inner.size


def chain(layers: int) -> cnnrt.Model:
    """Convolutions t0 -> w0 -> t1 -> ... of 16 channels, for images of any size."""
    rng = np.random.default_rng(0)
    constants = {f"w{i}": rng.standard_normal((16, 16, 3, 3), "f") / 12 for i in range(layers)}
    nodes = [
        Node("conv", f"c{i}", [f"t{i}", f"w{i}"], [f"t{i + 1}"], {"pads": [1] * 4})
        for i in range(layers)
    ]
    for node in nodes:
        complete(node)
    inputs, outputs = TensorSpec("t0", ("n", 16, "h", "w")), TensorSpec(f"t{layers}", ())
    return cnnrt.Model(Graph([inputs], [outputs], nodes, constants), threads=1)


def test_the_plan_of_plain_calls_stays_and_counts(tmp_path: Path) -> None:
    model, x = chain(MAX_PLANS + 4), np.ones((1, 16, 24, 24), "f")
    y = model(x)
    packed = model.memory().packed

    def stored_weights(name: str) -> int:
        model.save_compiled(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        return content[: 8 + int.from_bytes(content[:8], "little")].count(PREFIX.encode())

    whole = stored_weights("before.bin")
    assert whole >= MAX_PLANS + 4
    for i in range(1, MAX_PLANS + 3):
        assert np.array_equal(model(x), y)
        model.run(x, outputs=[f"t{i}"])
    assert np.array_equal(model(x), y)
    assert model.memory().packed >= packed
    assert len(model.memory().plans) == MAX_PLANS
    assert stored_weights("after.bin") == whole
    before = model.memory().plans[-1]
    model.trim()
    (kept,) = model.memory().plans
    assert (kept.shapes, kept.arena, kept.live) == (before.shapes, before.arena, before.live)
    assert model.memory().packed == packed


def test_a_plan_that_plain_calls_use_no_more_goes() -> None:
    model, x = chain(MAX_PLANS + 4), np.ones((1, 16, 24, 24), "f")
    y = model(x)
    for i in range(1, MAX_PLANS + 2):
        model.run(x, outputs=[f"t{i}"])
    assert len(model.memory().plans) == MAX_PLANS
    packed = model.memory().packed
    assert np.array_equal(model(x), y)
    assert model.memory().packed > packed, "the weights of the last layers had gone with the plan"
    assert len(model.memory().plans) == MAX_PLANS


def names(model: cnnrt.Model) -> list[str]:
    """The names of the inner tensors."""
    ends = {spec.name for spec in (*model.inputs, *model.outputs)}
    return [name for name in model.graph.tensors() if name not in ends]


def test_trim_forgets_weights_of_other_algorithms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = wide(2, 64)
    small, large = cnnrt.Model(graph, algorithm="im2col"), cnnrt.Model(graph, algorithm="winograd4")
    assert large.memory().packed > 3.5 * small.memory().packed
    monkeypatch.setenv("CNNRT_CACHE", str(tmp_path))
    x = np.ones((1, 64, 6, 6), np.float32)
    model = cnnrt.Model(graph)
    model.tune(x)
    y = model(x)
    model.trim()
    for plan in model.memory().plans:
        assert plan.shapes == (x.shape,)
    assert model.memory().packed <= large.memory().packed
    assert np.array_equal(model(x), y)


def test_plans_of_other_outputs_share_their_weights() -> None:
    """Plans share weights though each folds its norms by itself."""
    model = cnnrt.Model(wide(3, 32))
    x = np.ones((1, 32, 6, 6), np.float32)
    packed = model.memory().packed
    model.run(x, outputs=["n1"])
    assert model.memory().packed == packed
    model.run(x, outputs=["c1"])  # before its norm: other weights
    assert model.memory().packed > packed


def test_many_input_sizes_leave_a_bounded_number_of_plans_and_weights() -> None:
    graph = wide(2, 16)
    shape = (1, 16, "height", "width")
    graph.inputs = [TensorSpec("x", shape)]
    model = cnnrt.Model(graph, algorithm="im2col", threads=1)
    packed = set()
    for i in range(MAX_PLANS + 10):
        model(np.ones((1, 16, 3 + i, 5), np.float32))
        packed.add(model.memory().packed)
        model.run(np.ones((1, 16, 3 + i, 5), np.float32), outputs=["c1"])
    use = model.memory()
    assert len(use.plans) == MAX_PLANS
    assert len(packed) <= 2, "with and without the second norm folded"


def test_concurrent_runs_leave_a_bounded_pool() -> None:
    model = cnnrt.load(EXAMPLES / "lenet5.bin", threads=1)
    x = np.ones((16, 1, 28, 28), np.float32)
    want = model(x)

    def work(i: int) -> bool:
        if i % 7 == 0:
            model.trim()
        return np.array_equal(model(x), want)

    with ThreadPoolExecutor(24) as pool:
        assert all(pool.map(work, range(300)))
    processors = os.cpu_count() or 1
    assert model.memory().workspaces <= processors
    model.trim()
    assert model.memory().activations == 0


def test_plans_share_workspaces_that_only_grow() -> None:
    model = chain(3)
    sizes = [(24, 24), (8, 40), (40, 40), (40, 24), (64, 80)]
    arena = scratch = 0
    for height, width in sizes:
        x = np.random.default_rng(height).standard_normal((1, 16, height, width), "f")
        y = model(x)
        alone = chain(3)(x)
        assert np.array_equal(y, alone), "whatever another plan left there"
        use = model.memory()
        plan = use.plans[-1]
        arena, scratch = max(arena, plan.arena), max(scratch, plan.scratch)
        assert (use.workspaces, use.arena, use.scratch) == (1, arena, scratch)
    assert len(use.plans) == len(sizes)
    model.trim()
    assert model.memory().workspaces == model.memory().arena == 0
    assert np.array_equal(model(x), y)
    assert model.memory().arena == model.memory().plans[-1].arena


def test_runs_of_several_sizes_at_the_same_time() -> None:
    model = chain(3)
    sizes = [(8 + 24 * (i % 4), 16 + 16 * (i % 3)) for i in range(12)]
    inputs = [
        np.random.default_rng(i).standard_normal((1, 16, *s), "f") for i, s in enumerate(sizes)
    ]
    want = [chain(3)(x) for x in inputs]

    def work(i: int) -> bool:
        if i % 37 == 0:
            model.trim()
        return np.array_equal(model(inputs[i % 12]), want[i % 12])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(400)))
    use = model.memory()
    assert 1 <= use.workspaces <= (os.cpu_count() or 1)
    assert use.arena <= use.workspaces * max(plan.arena for plan in use.plans)


def elementwise(size: int, op: str) -> cnnrt.Model:
    """y = op(x) of this many elements."""
    x = np.zeros(size, np.float32)
    return cnnrt.Model(network({"x": x}, {}, ("y", op, "x")), threads=1)


@pytest.mark.parametrize("op", ["neg", "hardmax"], ids=["kernel", "NumPy"])
def test_the_memory_of_an_output_is_used_again_once_nobody_holds_it(op: str) -> None:
    model = elementwise(50_000, op)
    want = np.negative if op == "neg" else lambda x: np.float32(np.arange(x.size) == x.argmax())
    inputs = [np.linspace(-1, i, 50_000, dtype=np.float32) for i in range(4)]
    assert ("reference" in model.describe()) == (op == "hardmax")
    held = [model(x) for x in inputs]
    addresses = {y.ctypes.data for y in held}
    assert len(addresses) == len(held)
    assert all(np.array_equal(y, want(x)) for x, y in zip(inputs, held, strict=True))
    assert model.memory().outputs == 0
    view = held.pop()[7:]
    kept = held.pop()
    held.clear()
    assert model.memory().outputs == 200_000, "one waits, the others are gone"
    assert "0.2 MB  for the next run" in str(model.memory())
    taken = model(inputs[0]).ctypes.data
    assert taken in addresses and model(inputs[1]).ctypes.data == taken
    assert np.array_equal(view, want(inputs[3])[7:]), "a view holds it"
    model.trim()
    assert model.memory().outputs == 0
    del model
    assert np.array_equal(kept, want(inputs[2])), "it outlives the model"
    kept += 1
    assert kept.flags.writeable


def test_plans_share_the_memory_of_outputs_that_fits() -> None:
    graph = network({"x": np.zeros(9, np.float32)}, {}, ("y", "neg", "x"))
    graph.inputs = [TensorSpec("x", ("n",))]
    model = cnnrt.Model(graph, threads=1)
    first = model(np.ones(50_000, np.float32)).ctypes.data
    assert model(np.ones(40_000, np.float32)).ctypes.data == first, "a part of it is enough"
    assert model.memory().outputs == 200_000
    model(np.ones(20_000, np.float32))
    assert model.memory().outputs == 80_000, "the newest is kept, not the one that is too large"
    model(np.ones(1000, np.float32))
    assert model.memory().outputs == 80_000, "a small one lies in the heap"


def test_outputs_of_concurrent_runs_are_apart() -> None:
    model = elementwise(20_000, "neg")

    def work(i: int) -> bool:
        before = model(np.full(20_000, i, np.float32))
        after = model(np.full(20_000, -i, np.float32))
        if i % 7 == 0:
            model.trim()
        return bool((before == -i).all() and (after == i).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(400)))
    assert model.memory().outputs <= 80_000


MEASURE = """
import sys
import numpy as np
import cnnrt

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(key))

cnnrt.load  # which imports the code: it is not what is measured
before = status("VmHWM")
if sys.argv[2:]:
    from cnnrt.cli import main
    main(["convert", *sys.argv[1:]])
    print(status("VmHWM") - before, 0, status("RssAnon"))
    sys.exit()
model = cnnrt.load(sys.argv[1], threads=1, algorithm="im2col")
x = np.ones([n if isinstance(n, int) else 1 for n in model.inputs[0].shape], np.float32)
model(x)
print(status("VmHWM") - before, model.memory().lower_bound, status("RssAnon"))
"""


def measure(*words: str | Path) -> list[int]:
    """Peak, lower bound and private bytes of a process that loads or converts a file."""
    command = [sys.executable, "-c", MEASURE, *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [int(word) for word in result.stdout.split()[-3:]]


@pytest.mark.skipif(not PROC, reason="the system does not tell what a process takes")
def test_peak_of_load_and_run(tmp_path: Path) -> None:
    """The peak is at most 1.3 times packed weights and live activations, though the stored weights
    have another order and norms are folded into them. With a compiled file hardly anything is
    private."""
    path, compiled = tmp_path / "model.bin", tmp_path / "packed.bin"
    write_model(path, wide(20, 256))  # 47 MB
    cnnrt.load(path, algorithm="im2col").save_compiled(compiled)

    peak, bound, private = measure(path)
    assert 45e6 < bound < peak + 5e6
    assert peak <= 1.3 * bound
    peak, bound, private_compiled = measure(compiled)
    assert peak <= 1.3 * bound
    assert private - private_compiled > 0.9 * bound, "the packed weights are mapped"


def linear(layers: int, size: int) -> bytes:
    """An ONNX file of Gemm and MatMul nodes in turn."""
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((layers, size, size), dtype=np.float32)
    nodes = [
        onnx.helper.make_node("Gemm", [f"x{i}", f"w{i}"], [f"x{i + 1}"], transB=1)
        if i % 2
        else onnx.helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"])
        for i in range(layers)
    ]
    ends = [
        onnx.helper.make_tensor_value_info(f"x{i}", onnx.TensorProto.FLOAT, [1, size])
        for i in (0, layers)
    ]
    constants = [onnx.numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
    graph = onnx.helper.make_graph(nodes, "linear", ends[:1], ends[1:], constants)
    data: bytes = onnx.helper.make_model(graph, ir_version=10).SerializeToString()
    return data


@pytest.mark.skipif(not PROC, reason="the system does not tell what a process takes")
@pytest.mark.parametrize("external", [False, True], ids=["inside", "beside"])
def test_peak_of_an_onnx_file(external: bool, tmp_path: Path) -> None:
    """The peak is at most 1.3 times as large, with the package onnx, which takes 15 MB. The rest is
    no more than model.bin leaves, as the weights stay in their file."""
    path, converted = tmp_path / "model.onnx", tmp_path / "model.bin"
    path.write_bytes(linear(6, 2048))  # 101 MB
    if external:
        onnx = pytest.importorskip("onnx")
        onnx.save(onnx.load(path), path, save_as_external_data=True, location="w")
    peak, bound, private = measure(path)
    assert 100e6 < bound < peak + 5e6
    assert peak <= 1.3 * bound
    assert measure(path, converted)[0] < 60e6
    assert private < measure(converted)[2] + 20e6
    (model, mapped) = (cnnrt.load(file, threads=1) for file in (path, converted))
    assert model.memory().stored_mapped == mapped.memory().stored_mapped > 100e6
    x = np.ones((1, 2048), np.float32)
    assert np.array_equal(model(x), mapped(x))
