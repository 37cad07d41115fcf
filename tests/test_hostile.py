"""Files and arrays that nobody vouches for: refused with a clear error, or run, within limits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt.errors import FormatError, MemoryLimitError, ShapeError
from cnnrt.formats import write_model
from cnnrt.graph import Graph, Node, TensorSpec
from cnnrt.process import limits
from networks import by_reference, network, operator

HUGE = 2**31 - 1
X = np.zeros((1, 1, 2, 2), np.float32)


def graph_bytes(graph: Graph) -> bytes:
    data = write_model(None, graph)
    assert data is not None
    return data


# Files that ask for too much ---------------------------------------------------------------------


def bombs() -> Iterator[tuple[str, Graph]]:
    """Networks of a few bytes that ask for gigabytes, or for hours before they run."""
    big = np.array([1, 1, 50_000, 50_000])
    yield "expand", operator("expand", X[:, :, :1, :1], big)[0]
    yield "tile", operator("tile", X, np.array([1, 1, 40_000, 40_000]))[0]
    yield (
        "constant_of_shape",
        network({"x": X}, {"shape": big}, ("c", "constant_of_shape", "shape"), ("y", "add", "c x")),
    )
    yield (
        "product of folded constants",
        network(
            {"x": X},
            {"shape": np.array([3000, 3000]), "axes": np.array([1, 1, 1, -1])},
            ("c", "constant_of_shape", "shape"),
            ("m", "matmul", "c c"),
            ("r", "reshape", "m axes"),
            ("y", "concat", "r x", {"axis": 0}),
        ),
    )
    yield (
        "range",
        network(
            {"x": X},
            {"a": np.int64(0), "b": np.int64(2**40), "c": np.int64(1)},
            ("r", "range", "a b c"),
            ("f", "cast", "r", {"to": "float32"}),
            ("y", "add", "f x"),
        ),
    )
    yield "pad", operator("pad", X, np.array([0, 0, 0, 0, 0, 0, 60_000, 60_000]))[0]
    yield "resize", operator("resize", X, None, np.array([1, 1, 3e4, 3e4], np.float32))[0]
    yield "one_hot", operator("one_hot", np.arange(9), np.int64(HUGE), np.float32([0, 1]))[0]
    weight = np.zeros((1, 1, 1, 1), np.float32)
    pads = {"pads": [40_000] * 4}
    yield "convolution", operator("conv", X, weight, **pads)[0]
    strides = {"strides": [50_000] * 2}
    yield "transposed convolution", operator("conv_transpose", X, weight, **strides)[0]
    far = {"pads": [2**29] * 4, "strides": [2**29] * 2}
    yield "padding", operator("conv", X, weight, **far)[0]
    many = np.zeros((1, 17, 2, 2), np.float32), np.zeros((3, 17, 1, 1), np.float32)
    yield "border", operator("conv", *many, **far)[0]
    yield "window", operator("max_pool", X, kernel_shape=[2**30, 2**30], pads=[2**29] * 4)[0]
    yield "many windows", operator("lp_pool", X, kernel_shape=[2000] * 2, pads=[2000] * 4)[0]
    yield "channels", operator("lrn", np.zeros((1, 1, 2, 2), np.float32), size=HUGE)[0]
    doubling = [(f"t{i + 1}", "concat", " ".join([f"t{i}"] * 8), {"axis": 0}) for i in range(12)]
    yield "doubling", network({"t0": X}, {}, *doubling, outputs=["t12"])


MAY_RUN = {"padding", "window", "channels"}
"""Bombs that ask for much and need little."""

IN_LITTLE_MEMORY = """
import resource, sys
import numpy as np
sys.path[:0] = sys.argv[1:]
import cnnrt
from test_hostile import bombs, graph_bytes

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name, graph in bombs():
    data = graph_bytes(graph)
    assert len(data) < 4096, name
    try:
        model = cnnrt.load(data, threads=1)
        model.run({s.name: np.zeros(s.shape, s.dtype) for s in model.inputs})
        print(f"{name}: ran")
    except cnnrt.CnnrtError as error:
        print(f"{name}: {type(error).__name__}: {error}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert grown < 600, f"{name}: {grown} MB"
"""


def test_small_files_take_little_memory() -> None:
    """All load in one process, whose resident memory is watched."""
    result = subprocess.run(
        [sys.executable, "-c", IN_LITTLE_MEMORY, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    answers = dict(line.split(": ", 1) for line in result.stdout.splitlines())
    assert list(answers) == [name for name, _ in bombs()]
    for name, answer in answers.items():
        if name in MAY_RUN:
            assert answer == "ran", (name, answer)
        else:  # which kind of error, and which node it is
            assert answer.startswith(("MemoryLimitError: node '", "ShapeError: node '")), answer


def test_the_limit_can_be_set() -> None:
    data = graph_bytes(operator("tile", X, np.array([1, 1, 1000, 1000]))[0])
    x = {"x0": X}
    assert cnnrt.load(data).run(x).shape == (1, 1, 2000, 2000)
    cnnrt.set_memory_limit(1 << 20)
    try:
        with pytest.raises(
            MemoryLimitError, match=r"node 'y0'.*15.3 MiB.*1.0 MiB.*set_memory_limit"
        ):
            cnnrt.load(data).run(x)
    finally:
        cnnrt.set_memory_limit(None)
    assert cnnrt.load(data).run(x).shape == (1, 1, 2000, 2000)
    with pytest.raises(ValueError, match="at least 1"):
        cnnrt.set_memory_limit(0)


def test_the_limit_grows_with_what_is_given() -> None:
    assert limits.memory_limit(0) == limits.FLOOR
    assert limits.memory_limit(1000) == limits.FLOOR + 1000 * limits.FACTOR
    assert limits.memory_limit(1 << 60) < 1 << 60  # the machine's


def test_a_container_has_less_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    assert limits._machine_memory(tmp_path) == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert limits._machine_memory(tmp_path) > 1_000_000


def test_a_large_input_that_a_file_states_is_no_reason_not_to_load_it() -> None:
    graph = operator("relu", X)[0]
    graph.inputs = [TensorSpec("x0", (1, 1, 30_000, 30_000))]
    model = cnnrt.load(graph_bytes(graph))
    assert model.inputs[0].shape == (1, 1, 30_000, 30_000)


def test_sizes_do_not_overflow() -> None:
    graph = operator("expand", X[:, :, :1, :1], np.array([1, *[2**31 - 1] * 3]))[0]
    with pytest.raises(ShapeError, match="node 'y0'"):
        cnnrt.load(graph_bytes(graph))


# What passes would believe -----------------------------------------------------------------------


def test_constants_that_do_not_fit_their_layer() -> None:
    """Folded into the convolution, a normalisation of 4 channels would give it 4 of its 5."""
    channels = {name: np.ones(1, np.float32) for name in ("scale", "shift", "mean", "var")}
    graph = network(
        {"x": np.zeros((1, 3, 4, 4), np.float32)},
        {"w": np.zeros((5, 3, 1, 1), np.float32), **channels},
        ("c", "conv", "x w"),
        ("y", "batch_normalization", "c scale shift mean var"),
    )
    with pytest.raises(ShapeError, match="node 'y'"):
        cnnrt.load(graph_bytes(graph))


# What reaches C++ --------------------------------------------------------------------------------


def test_numbers_that_their_field_cannot_hold_are_refused() -> None:
    graph, inputs = operator("max_pool", X, kernel_shape=[1, 1], dilations=[2**31, 1])
    with pytest.raises(ShapeError, match="node 'y0'"):
        cnnrt.Model(graph).run(inputs)


# Arrays ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> cnnrt.Model:
    rng = np.random.default_rng(0)
    graph = network(
        {"x": np.zeros((1, 3, 6, 6), np.float32)},
        {"w": rng.standard_normal((4, 3, 3, 3), dtype=np.float32)},
        ("c", "conv", "x w", {"pads": [1, 1, 1, 1]}),
        ("r", "relu", "c"),
        ("p", "max_pool", "r", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("y", "global_average_pool", "p"),
    )
    graph.inputs = [TensorSpec("x", ("batch", 3, "h", "w"))]
    return cnnrt.load(graph_bytes(graph), threads=1)


IMAGE = np.random.default_rng(1).standard_normal((2, 3, 6, 6), dtype=np.float32)


def with_gaps(x: Any) -> Any:
    wide = np.zeros((*x.shape[:3], 2 * x.shape[3]), x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def unaligned(x: Any) -> Any:
    memory = np.zeros(x.nbytes + 1, np.uint8)
    view = memory[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


class Subclass(np.ndarray[Any, Any]):
    pass


SAME: dict[str, Callable[[Any], Any]] = {
    "float64": lambda x: x.astype(np.float64),
    "big-endian": lambda x: x.astype(">f4"),
    "F order": np.asfortranarray,
    "backwards": lambda x: np.ascontiguousarray(x[:, :, ::-1, ::-1])[:, :, ::-1, ::-1],
    "gaps": with_gaps,
    "unaligned": unaligned,
    "transposed": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "subclass": lambda x: x.view(Subclass),
    "memoryview": memoryview,
    "lists": lambda x: x.tolist(),
    "inputs by name": lambda x: {"x": x},
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_numbers_in_other_memory(kind: str, model: cnnrt.Model) -> None:
    given = SAME[kind](IMAGE)
    np.testing.assert_array_equal(model(given), model(IMAGE), strict=True)


def test_read_only_and_broadcast_arrays(model: cnnrt.Model) -> None:
    x = np.broadcast_to(IMAGE[:, :, :1, :1], IMAGE.shape)
    assert not x.flags.writeable
    np.testing.assert_array_equal(model(x), model(x.copy()))


@pytest.mark.parametrize(
    "given",
    [
        *(None, 1.0, "text", b"bytes", [], [[1], [1, 2]], {}, object(), np.float32(1)),
        *(IMAGE[0], IMAGE[None], IMAGE[:, :2], IMAGE.astype(complex), IMAGE.astype(str)),
        *(IMAGE.astype(object), np.zeros((2, 3, 0, 6), "f4"), np.zeros((1, 3, 1, 1), "f4")),
        *(IMAGE.astype("datetime64[s]"), np.zeros((2, 3, 6, 6), [("a", "f4")])),
    ],
    ids=lambda x: f"{type(x).__name__}{getattr(x, 'shape', '')}",
)
def test_arrays_that_do_not_fit(given: Any, model: cnnrt.Model) -> None:
    with pytest.raises(ShapeError, match=r"'x'|node '[cp]'|inputs by name"):
        model(given)


def test_no_images_give_no_results(model: cnnrt.Model) -> None:
    assert model(IMAGE[:0]).shape == (0, 4, 1, 1)


def test_nan_and_infinity_stay_in_their_image(model: cnnrt.Model) -> None:
    x = IMAGE.copy()
    x[1, 0, 0, 0] = np.nan
    with np.errstate(all="raise"):
        y = model(x)
    np.testing.assert_array_equal(y[0], model(IMAGE)[0])
    assert np.isnan(y[1]).all()


def test_results_are_the_callers(model: cnnrt.Model) -> None:
    y = model(IMAGE)
    y[...] = 0
    assert model(IMAGE).any()


# Files of other kinds ----------------------------------------------------------------------------


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """An object array in a .npy file runs code when it is read with pickle."""
    trap = tmp_path / "trap.npy"
    np.save(trap, np.array([object()], object), allow_pickle=True)
    for path in (trap, tmp_path / "model.onnx", tmp_path / "model.bin"):
        path.write_bytes(trap.read_bytes())
        with pytest.raises(FormatError, match="is a NumPy array, no model"):
            cnnrt.load(path)
    sources = Path(cnnrt.__file__).parent.rglob("*.py")
    text = {path: path.read_text(encoding="utf-8") for path in sources}
    for word in ("pickle.load", "allow_pickle=True", "torch.load(", "eval(", "exec("):
        users = [str(p) for p, t in text.items() if word in t.replace("literal_eval(", "")]
        assert users in ([], *[[u] for u in users if u.endswith("pytorch.py")]), (word, users)


def test_metadata_of_any_depth_and_length() -> None:
    text = json.dumps({"__metadata__": {"cnnrt.graph": "[" * 100_000, "cnnrt.format_version": "1"}})
    data = len(text).to_bytes(8, "little") + text.encode()
    with pytest.raises(FormatError, match="JSON"):
        cnnrt.load(data)


def test_long_chains_do_not_overflow_the_stack() -> None:
    nodes = [Node("relu", f"n{i}", [f"t{i}"], [f"t{i + 1}"]) for i in range(3000)]
    spec = TensorSpec("t0", (1, 4))
    graph = Graph([spec], [TensorSpec("t3000", ())], nodes, {})
    for node in nodes:
        node.attributes = {}
    y = cnnrt.load(graph_bytes(graph), threads=1)(np.float32([[-1, 0, 1, 2]]))
    np.testing.assert_array_equal(y, [[0, 0, 1, 2]])


@pytest.mark.parametrize("op", ["norm", "scale"])
def test_long_chains_that_are_folded_into_weights(op: str) -> None:
    """Each norm that is folded makes weights that are computed from those before."""
    count, channels = 700, np.full(4, 0.999, np.float32)
    constants: dict[str, Any] = {"w": np.eye(4, dtype=np.float32)[:, :, None, None]}
    constants |= {name: channels * value for name, value in (("m", 0), ("v", 1), ("b", 0.5))}
    constants["s"] = channels if op == "norm" else channels[None, :, None, None]
    nodes: list[Any] = [("t0", "conv", "x w")]
    for i in range(count):
        named = (f"t{i + 1}", "batch_normalization", f"t{i} s b m v", {"epsilon": 0.0})
        nodes.append(named if op == "norm" else (f"t{i + 1}", "mul", f"t{i} s"))
    x = np.ones((1, 4, 2, 2), np.float32)
    graph = network({"x": x}, constants, *nodes, outputs=[f"t{count}"])
    got = cnnrt.load(graph_bytes(graph), threads=1)(x)
    np.testing.assert_allclose(got, by_reference(graph, {"x": x})[0], rtol=1e-3)
