"""Calling a model: inputs, outputs, errors, threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import cnnrt
from cnnrt import ops
from cnnrt.graph import Graph, Node, TensorSpec
from networks import network

LENET = Path(__file__).parent.parent / "examples" / "lenet5.bin"


@pytest.fixture(scope="module")
def lenet() -> cnnrt.Model:
    return cnnrt.load(LENET)


def digits(n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, 1, 28, 28), dtype=np.float32)


def test_inputs_and_outputs(lenet: cnnrt.Model) -> None:
    (x,), (y,) = lenet.inputs, lenet.outputs
    assert x.shape[1:] == (1, 28, 28)
    assert y.shape[1:] == (10,)
    assert x.dtype == y.dtype == np.float32
    by_name = lenet({x.name: digits(2)})
    assert np.array_equal(by_name, lenet(digits(2)))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_any_batch_and_any_place_in_it(lenet: cnnrt.Model, n: int) -> None:
    x = digits(n)
    y = lenet(x)
    assert y.shape == (n, 10)
    for i in range(n):
        assert np.array_equal(lenet(x[i : i + 1]), y[i : i + 1])


def test_arrays_that_are_not_as_the_kernels_want_them(lenet: cnnrt.Model) -> None:
    x = digits(2)
    want = lenet(x)
    assert np.array_equal(lenet(x.astype(np.float64)), want)
    assert np.array_equal(lenet(np.asfortranarray(x)), want)
    assert np.array_equal(lenet(x.astype(">f4")), want)
    assert np.array_equal(lenet(x.tolist()), want)
    read_only = x.copy()
    read_only.flags.writeable = False
    assert np.array_equal(lenet(read_only), want)
    wide = np.zeros((2, 1, 28, 56), np.float32)
    wide[..., ::2] = x
    assert np.array_equal(lenet(wide[..., ::2]), want)


def test_wrong_inputs_say_what_is_taken_and_what_came(lenet: cnnrt.Model) -> None:
    name = lenet.inputs[0].name
    with pytest.raises(cnnrt.ShapeError, match=rf"{name}.*28, 28.*\(1, 3, 28, 28\)"):
        lenet(np.zeros((1, 3, 28, 28), np.float32))
    with pytest.raises(cnnrt.ShapeError, match="complex"):
        lenet(digits(1).astype(np.complex64))
    with pytest.raises(cnnrt.ShapeError, match="unknown"):
        lenet({"nobody": digits(1)})


def test_several_outputs_come_by_name() -> None:
    nodes = [Node("relu", "r", ["x"], ["r"]), Node("sigmoid", "s", ["x"], ["s"])]
    graph = Graph(
        [TensorSpec("x", (2, 3))], [TensorSpec("r", (2, 3)), TensorSpec("s", (2, 3))], nodes, {}
    )
    x = np.float32([[-1, 0, 1], [2, 3, 4]])
    y = cnnrt.Model(graph)(x)
    assert list(y) == ["r", "s"]
    assert np.array_equal(y["r"], np.maximum(x, 0))
    names = (name for name in ("s", "r"))
    assert list(cnnrt.Model(graph).run(x, outputs=names)) == ["s", "r"]  # type: ignore[arg-type]


def test_an_output_may_be_an_input_or_be_asked_for_twice() -> None:
    graph = Graph(
        [TensorSpec("x", (2, 3))], [TensorSpec("x", (2, 3))], [Node("relu", "r", ["x"], ["r"])], {}
    )
    x = np.float32([[-1, 0, 1], [2, 3, 4]])
    assert np.array_equal(cnnrt.Model(graph)(x), x)
    assert np.array_equal(cnnrt.Model(graph).run(x, outputs=["r"]), np.maximum(x, 0))


def test_results_stay_when_the_model_runs_again(lenet: cnnrt.Model) -> None:
    first = lenet(digits(1))
    copy = first.copy()
    lenet(digits(1) * 2)
    assert np.array_equal(first, copy)


def test_many_python_threads_share_one_model() -> None:
    model = cnnrt.load(LENET, threads=2)
    inputs = [digits(n % 5 + 1) for n in range(64)]
    want = [model(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(model, inputs))
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_runs_on_several_threads() -> None:
    script = (
        "import cnnrt, numpy as np, os, signal, sys\n"
        "from cnnrt import kernels\n"
        "x = np.ones((1, 64, 56, 56), np.float32); w = np.ones((64, 64, 3, 3), np.float32)\n"
        "y = kernels.conv2d(x, w, padding=1, threads=2)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(20)\n"
        "    same = np.array_equal(kernels.conv2d(x, w, padding=1, threads=2), y)\n"
        "    os._exit(0 if same else 3)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr


def test_classify_gives_the_likeliest_first(lenet: cnnrt.Model) -> None:
    for digit in range(10):
        best = lenet.classify(LENET.parent / "digits" / f"{digit}.png", top=3)
        assert best[0].label == str(digit) and best[0].index == digit
        assert len(best) == 3
        assert best[0].probability >= best[1].probability >= best[2].probability


def test_describe_names_every_step(lenet: cnnrt.Model) -> None:
    text = lenet.describe()
    assert text.count("conv_planar") == 1
    assert text.count("linear") >= 3


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="algorithm"):
        cnnrt.load(LENET, algorithm="fastest")
    with pytest.raises(ValueError, match="threads"):
        cnnrt.load(LENET, threads=0)
    with pytest.raises(ValueError, match="at least 1"):
        cnnrt.set_num_threads(0)


def test_tuning_chooses_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNRT_CACHE", str(tmp_path))
    rng = np.random.default_rng(0)
    nodes = [
        Node("conv", name, [x, name + ".w"], [name], {"pads": [1] * 4})
        for name, x in (("first", "x"), ("second", "first"))
    ]
    for node in nodes:
        ops.complete(node)
    weights = {n.inputs[1]: rng.standard_normal((32, 32, 3, 3), dtype=np.float32) for n in nodes}
    graph = Graph([TensorSpec("x", (1, 32, 14, 14))], [TensorSpec("second", ())], nodes, weights)
    x = rng.standard_normal((1, 32, 14, 14), dtype=np.float32)
    want = cnnrt.Model(graph, algorithm="im2col")(x)
    model = cnnrt.Model(graph, algorithm={"first": "winograd2"})
    assert set(model.tune()) == {"second"}, "what the caller chose is not tuned"
    assert np.abs(model(x) - want).max() <= 1e-5 * np.abs(want).max()
    (file,) = tmp_path.iterdir()
    (key,) = json.loads(file.read_text())  # both layers have one shape
    file.write_text(json.dumps({key: "winograd4"}))
    assert cnnrt.Model(graph).tune() == {"first": "winograd4", "second": "winograd4"}
    file.write_text("not JSON")
    assert set(cnnrt.Model(graph).tune()) == {"first", "second"}


def test_layers_of_other_strides_and_dilations_are_tuned_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNNRT_CACHE", str(tmp_path))
    rng = np.random.default_rng(0)
    steps = {"one": ([1, 1], [1, 1]), "two": ([2, 2], [1, 1]), "apart": ([1, 1], [2, 2])}
    nodes = [
        Node("conv", y, ["x", "w"], [y], {"pads": [1] * 4, "strides": s, "dilations": d})
        for y, (s, d) in steps.items()
    ]
    for node in nodes:
        ops.complete(node)
    weights = {"w": rng.standard_normal((32, 32, 3, 3), dtype=np.float32)}
    outputs = [TensorSpec(y, ()) for y in steps]
    graph = Graph([TensorSpec("x", (1, 32, 48, 48))], outputs, nodes, weights)
    assert set(cnnrt.Model(graph).tune()) == set(steps)
    (file,) = tmp_path.iterdir()
    assert len(json.loads(file.read_text())) == len(steps)


def test_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cnnrt.get_num_threads() == 3
    cnnrt.set_num_threads(2)
    try:
        assert cnnrt.get_num_threads() == 2
        assert cnnrt.load(LENET).threads == 2
    finally:
        cnnrt.set_num_threads(None)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert cnnrt.get_num_threads() >= 1


def test_an_unknown_tier_is_refused() -> None:
    code = "import cnnrt, sys; cnnrt.load(sys.argv[1])"
    result = subprocess.run(
        [sys.executable, "-c", code, str(LENET)],
        env={"CNNRT_ISA": "vax", "PATH": "", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "CNNRT_ISA='vax'" in result.stderr


def test_the_public_names_exist() -> None:
    assert sorted(cnnrt.__all__) == cnnrt.__all__
    assert all(hasattr(cnnrt, name) for name in cnnrt.__all__)


def test_the_last_plan_takes_what_fits_it_and_nothing_else() -> None:
    """A call as the one before takes a short way; any other input is looked at as at first."""
    x, z = np.arange(12, dtype=np.float32).reshape(3, 4), np.arange(4)
    graph = network(
        {"x": x, "z": z},
        {"two": np.float32(2)},
        ("w", "cast", "z", {"to": "float32"}),
        ("y", "add", "x w"),
        ("v", "mul", "y two"),
        outputs=["y", "v"],
    )
    model = cnnrt.Model(graph)

    def check(x: np.ndarray, z: np.ndarray) -> None:
        given = {"z": z, "x": x}
        result, again = model(given), model.run(given)
        assert [*result] == ["y", "v"]
        for name, want in (("y", x + z), ("v", 2 * (x + z))):
            np.testing.assert_array_equal(result[name], want)
            np.testing.assert_array_equal(again[name], want)

    for _ in range(3):
        check(x, z)
    check(x[:, ::-1], z[::-1])  # not contiguous
    check(x.astype(np.float64), z.astype(np.int32))
    check(x.astype(">f4"), z)
    with pytest.raises(cnnrt.ShapeError, match=r"missing \['z'\]"):
        model({"x": x})
    with pytest.raises(cnnrt.ShapeError, match=r"unknown \['other'\]"):
        model({"x": x, "z": z, "other": z})
    with pytest.raises(cnnrt.ShapeError, match="takes shape"):
        model({"x": x[:2], "z": z})
    with pytest.raises(cnnrt.ShapeError, match="2 inputs"):
        model(x)
