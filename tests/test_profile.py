"""Profiles: their parts, and that they leave out nothing of a run. No time is asserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnrt
from browser import Browser
from checks import Random
from cnnrt import cli
from cnnrt.analysis.peak import measure_peak, peak_gflops
from cnnrt.model import plan_for
from cnnrt.planning.plan import Plan, step_times
from networks import network

EXAMPLES = Path(__file__).parent.parent / "examples"
LITE0 = str(EXAMPLES / "efficientnet_lite0.bin")


@pytest.fixture(scope="module", params=[1, 2], ids=["1thread", "2threads"])
def profile(request: pytest.FixtureRequest) -> Any:
    return cnnrt.load(LITE0, threads=request.param).profile(seconds=0.05)


def test_layers_are_those_of_the_summary(profile: Any) -> None:
    summary = cnnrt.load(LITE0).summary()
    rows = [layer for layer in profile.layers if layer.name != "outputs"]
    assert [layer.name for layer in rows] == [layer.name for layer in summary.layers]
    assert [layer.macs for layer in rows] == [layer.macs for layer in summary.layers]
    assert [layer.fused for layer in rows] == [layer.fused for layer in summary.layers]
    assert sum(layer.share for layer in profile.layers) == pytest.approx(1)
    convolutions = [layer for layer in rows if layer.operator == "conv"]
    assert all(layer.gflops > 0 and layer.algorithm for layer in convolutions)
    first = convolutions[0]
    assert first.of_peak == pytest.approx(first.gflops / profile.peak_gflops)


def test_every_step_is_in_one_layer(profile: Any) -> None:
    assert sum(len(layer.kernels) for layer in profile.layers) == len(profile.steps)
    assert {event.step for event in profile.events} == set(range(len(profile.steps)))
    assert {event.thread for event in profile.events} <= set(range(profile.threads))


def test_a_run_is_the_sum_of_its_steps(isa: str, threads: int, random: Random) -> None:
    """A run has kernels, steps that only one thread does, and NumPy references between them."""
    graph = network(
        {"x": random(2, 16, 40, 40)},
        {"w": random(32, 16, 3, 3)},
        ("c", "conv", "x w", {"pads": [1, 1, 1, 1]}),
        ("h", "hardmax", "c", {"axis": 1}),
        ("r", "relu", "h"),
        ("y", "max_pool", "r", {"kernel_shape": [2, 2]}),
    )
    model = cnnrt.Model(graph, threads=threads, isa=isa)
    x = random(2, 16, 40, 40)
    plan = plan_for(model, [x])
    assert "reference" in {info.kernel for info in plan.describe()}
    spans = plan.trace([x])
    assert spans.shape == (threads, len(plan.describe()), 2)
    ran = spans[:, :, 1] >= 0
    assert ran[0].all()
    assert np.array_equal(spans[:, :, 0] >= 0, ran)
    assert (spans[:, :, 1] >= spans[:, :, 0]).all()
    for thread in range(threads):  # in order, without overlap
        mine = spans[thread, ran[thread]].reshape(-1)
        assert (np.diff(mine) >= 0).all()
    times = step_times(spans)
    assert (times >= 0).all()
    assert times.sum() == spans.max()
    assert np.array_equal(model(x), model(x))


def test_shares_in_turn(isa: str, threads: int, random: Random) -> None:
    """One thread does the shares of all, one after the other, and computes the same."""
    graph = network(
        {"x": random(1, 16, 40, 40)},
        {"w": random(32, 16, 3, 3)},
        ("c", "conv", "x w", {"pads": [1, 1, 1, 1]}),
        ("y", "max_pool", "c", {"kernel_shape": [2, 2]}),
    )
    x = random(1, 16, 40, 40)
    model = cnnrt.Model(graph, threads=8 * threads, isa=isa)
    plan = plan_for(model, [x])
    assert isinstance(plan, Plan)
    spans = plan.trace_in_turn([x])
    assert spans.shape == (8 * threads, len(plan.describe()), 2)
    for step in range(spans.shape[1]):
        mine = spans[spans[:, step, 1] >= 0, step]
        assert len(mine) >= 1
        assert (np.diff(mine.reshape(-1)) >= 0).all()  # thread after thread
        assert step == 0 or mine[0, 0] >= spans[:, step - 1, 1].max()
    assert (spans[:, :, 1] >= 0).sum() > spans.shape[1]  # some are shared
    waits = plan.waits()
    assert not waits[0]
    assert any(waits)
    arrays = [x, plan.core.make_output(0)]
    plan.core.run_steps(plan.core.workspace(), arrays, 0, len(plan.core), in_turn=True)
    assert np.array_equal(arrays[1], model(x))


def test_peak(isa: str, threads: int) -> None:
    assert peak_gflops(isa, threads) > 0
    assert peak_gflops(isa, threads) == peak_gflops(isa, threads)


def test_peak_kernel_adds_what_it_says(isa: str) -> None:
    from cnnrt import _core
    from cnnrt.analysis.peak import SUMS
    from cnnrt.planning.plan import EXTERNAL

    core = _core.Plan(isa)
    core.add("peak", {"y": (EXTERNAL, 0), "steps": 3, "tasks": 2})
    core.finish(0, [], [((48,), np.dtype(np.float32))], 2)
    y = np.zeros(48, np.float32)
    y[:16] = f = np.linspace(0.5, 1.5, 16, dtype=np.float32)
    core.run_steps(core.workspace(), [y], 0, 1)
    sums = [f.astype(np.float64) * i for i in range(SUMS[isa])]
    for _ in range(3):
        sums = [s * f + f for s in sums]
    np.testing.assert_allclose(y[16:].reshape(2, 16), [np.sum(sums, 0)] * 2, rtol=1e-5)


def test_peak_of_bytes(isa_and_overlays: str, threads: int) -> None:
    assert measure_peak(isa_and_overlays, threads, "uint8") > 0


def test_peak_of_bytes_adds_what_it_says(isa_and_overlays: str, threads: int) -> None:
    """Exactly, by every tier and overlay; the sums wrap."""
    from cnnrt import _core
    from cnnrt.planning.plan import EXTERNAL

    steps, tasks = 11, 3

    def run(factors: Any) -> Any:
        core = _core.Plan(isa_and_overlays)
        core.add("peak_u8", {"y": (EXTERNAL, 0), "steps": steps, "tasks": tasks})
        y = np.concatenate([factors, np.zeros(64 * tasks, np.uint8)])
        core.finish(0, [], [(y.shape, y.dtype)], threads)
        core.run_steps(core.workspace(), [y], 0, 1)
        return y[64:].view(np.int32).reshape(tasks, 16)

    sums = int(run(np.ones(64, np.uint8))[0, 0]) // (4 * steps)
    rng = np.random.default_rng(5)
    for factors in (
        rng.integers(0, 256, 64, np.uint8),
        np.full(64, 255, np.uint8),
        np.full(64, 128, np.uint8),
    ):
        weights = factors.view(np.int8).astype(np.int64).reshape(16, 4)
        quads = factors.astype(np.int64).reshape(16, 4)
        want = sum(weights @ quads[step % 8 + i % 8] for step in range(steps) for i in range(sums))
        np.testing.assert_array_equal(run(factors), [want] * tasks)


def test_trace_is_what_perfetto_reads(profile: Any) -> None:
    document = json.loads(json.dumps(profile.trace()))
    events = document["traceEvents"]
    names = [e["args"]["name"] for e in events if e["name"] == "thread_name"]
    assert names == [f"thread {i}" for i in range(profile.threads)]
    work = [e for e in events if e["ph"] == "X"]
    assert len(work) == len(profile.events)
    assert all(e["dur"] >= 0 and e["ts"] >= 0 and e["pid"] == 1 for e in work)
    assert {"conv", "depthwise"} <= {e["cat"] for e in work}


def test_command(capsys: Any, tmp_path: Path) -> None:
    lenet5 = str(EXAMPLES / "lenet5.bin")
    quick = ("--seconds", "0.01", "--threads", "1")
    assert cli.main(["profile", lenet5, str(EXAMPLES / "digits" / "3.png"), *quick]) == 0
    out = capsys.readouterr().out
    assert "slowest first" in out
    assert "sum of layers" in out
    assert cli.main(["profile", lenet5, "--json", "--input", "4x1x28x28", *quick]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["inputs"] == {"x": [4, 1, 28, 28]}
    assert document["layers"][0]["macs"] == 4 * 117_600
    trace = tmp_path / "trace.json"
    assert cli.main(["profile", lenet5, "--trace", str(trace), *quick]) == 0
    assert json.loads(trace.read_text())["traceEvents"]
    with pytest.raises(SystemExit):
        cli.main(["profile", lenet5, "--seconds", "0"])


def test_page(browser: Browser, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    page = tmp_path / "profile.html"
    assert cli.main(["profile", LITE0, "--seconds", "0.01", "--html", str(page)]) == 0
    browser.check(page)
    names = "[...document.querySelectorAll('tbody code')].map(c => c.textContent)"
    in_order = browser.evaluate(names)
    assert in_order == [layer.name for layer in cnnrt.load(LITE0).summary().layers]
    browser.evaluate("document.querySelectorAll('th button')[4].click()")
    times = browser.evaluate(
        "[...document.querySelectorAll('tbody tr')].map(r => +r.cells[4].dataset.v)"
    )
    assert times == sorted(times, reverse=True)
    browser.evaluate("document.querySelectorAll('th button')[0].click()")
    assert browser.evaluate(names) == in_order
