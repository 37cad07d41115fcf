"""Merged runs of the server: every request gets its own answer, in time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import threading
import time
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("httpx")
pytest.importorskip("httptools")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")

import cnnrt
from cnnrt.serving import batching
from cnnrt.serving.batching import Batcher
from cnnrt.serving.errors import RequestError
from cnnrt.serving.metrics import Metrics
from cnnrt.serving.settings import Settings
from scripts import EXAMPLES
from test_serve import INPUT, LENET, MODEL, OUTPUT


def never() -> bool:
    return False


def answers(model: Any, requests: list[dict[str, np.ndarray]], settings: Settings) -> list[Any]:
    """The answers, or refusals, of requests that wait in the queue together."""

    async def work() -> list[Any]:
        batcher = Batcher("model", settings, Metrics())
        runs = [batcher.run(model, inputs, (OUTPUT.name,), never) for inputs in requests]
        found = await asyncio.gather(*runs, return_exceptions=True)
        await batcher.close()
        return found

    return asyncio.run(work())


@pytest.mark.parametrize("rows", [[3, 3, 3, 1, 2, 3, 1, 1], [7, 3, 1], [9, 1, 8, 1], [1] * 20])
def test_requests_that_do_not_fit_together(rows: list[int]) -> None:
    """One that fits may stand behind one that does not."""
    rng = np.random.default_rng(0)
    images = [rng.random((n, 1, 28, 28), np.float32) for n in rows]
    found = answers(MODEL, [{INPUT.name: x} for x in images], Settings((), timeout=20))
    for x, outputs in zip(images, found, strict=True):
        assert np.array_equal(outputs[0], MODEL(x))


def test_requests_of_several_models() -> None:
    """A model that was loaded again is another one: its requests are not merged with the old."""
    models = [MODEL, cnnrt.load(LENET)] * 4
    x = np.random.default_rng(0).random((1, 1, 28, 28), np.float32)

    async def work() -> list[Any]:
        batcher = Batcher("model", Settings((), timeout=20), Metrics())
        runs = [batcher.run(m, {INPUT.name: x}, (OUTPUT.name,), never) for m in models]
        found = await asyncio.gather(*runs)
        await batcher.close()
        return found

    for (y,) in asyncio.run(work()):
        assert np.array_equal(y, MODEL(x))


def test_what_is_known_of_a_model_goes_with_it() -> None:
    """Another model may get its identity in memory, and need not keep images apart."""

    async def work() -> None:
        batcher = Batcher("model", Settings((), timeout=20), Metrics())
        model = cnnrt.load(LENET)
        x = np.zeros((1, 1, 28, 28), np.float32)
        await batcher.run(model, {INPUT.name: x}, (OUTPUT.name,), never)
        assert len(batcher._manners) == 1
        del model
        await batcher.run(MODEL, {INPUT.name: x}, (OUTPUT.name,), never)  # lets the last one go
        gc.collect()
        assert list(batcher._manners) == [MODEL]
        await batcher.close()

    asyncio.run(work())


def test_a_failing_analysis_only_ends_merging(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> bool:
        raise ValueError("not foreseen")

    monkeypatch.setattr(batching, "keeps_apart", fail)
    x = np.random.default_rng(0).random((4, 1, 28, 28), np.float32)
    found = answers(MODEL, [{INPUT.name: row[None]} for row in x], Settings((), timeout=20))
    for row, outputs in zip(x, found, strict=True):
        assert np.array_equal(outputs[0], MODEL(row[None]))


def test_a_slow_run_is_refused_in_time() -> None:
    """The refusal comes at the time-out, and not when the run ends."""

    class Slow:
        def run(self, inputs: Any, names: Any) -> Any:
            time.sleep(1.5)
            return np.zeros((1, 10), np.float32)

    x = np.zeros((1, 1, 28, 28), np.float32)

    async def work() -> float:
        batcher = Batcher("model", Settings((), timeout=0.2, max_batch=1), Metrics())
        began = time.monotonic()
        with pytest.raises(RequestError, match="no answer within") as caught:
            await batcher.run(cast(Any, Slow()), {INPUT.name: x}, (OUTPUT.name,), never)
        assert caught.value.status == 504
        seconds = time.monotonic() - began
        await batcher.close()
        return seconds

    assert asyncio.run(work()) < 1


def rows_of_runs(metrics: Metrics) -> list[float]:
    """The number of runs and of their rows."""
    lines = metrics.text().decode().splitlines()
    names = [f'cnnrt_batch_rows_{what}{{model="model"}} ' for what in ("count", "sum")]
    return [float(line.split(" ")[1]) for name in names for line in lines if line.startswith(name)]


def test_a_run_waits_only_for_clients_that_were_just_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lone client never waits. Of two, the one that comes during the run of the other has its
    next run with it, if it asks again in time."""
    monkeypatch.setattr(batching, "keeps_apart", lambda _: True)
    began, end = threading.Event(), threading.Event()
    x = np.zeros((1, 1, 28, 28), np.float32)

    class Held:
        def run(self, inputs: Any, names: Any) -> Any:
            began.set()
            assert end.wait(30)
            return np.zeros((len(inputs[INPUT.name]), 10), np.float32)

    model = cast(Any, Held())

    async def ask(batcher: Batcher) -> float:
        start = time.monotonic()
        await batcher.run(model, {INPUT.name: x}, (OUTPUT.name,), never)
        return time.monotonic() - start

    async def two_in_flight(batcher: Batcher) -> asyncio.Task[float]:
        """Two clients, of which the first has its answer."""
        began.clear()
        end.clear()
        first = asyncio.create_task(ask(batcher))
        await asyncio.to_thread(began.wait, 30)
        second = asyncio.create_task(ask(batcher))
        await asyncio.sleep(0.1)
        end.set()
        await first
        return second

    async def work() -> None:
        end.set()
        metrics = Metrics()
        batcher = Batcher("model", Settings((), timeout=60, max_delay=20.0), metrics)
        for _ in range(3):
            assert await ask(batcher) < 10
        assert rows_of_runs(metrics) == [3, 3]
        second = await two_in_flight(batcher)
        await asyncio.sleep(0.3)
        assert not second.done()
        assert await ask(batcher) < 10
        await second
        assert rows_of_runs(metrics) == [5, 6]
        await batcher.close()

        metrics = Metrics()
        batcher = Batcher("model", Settings((), timeout=60, max_delay=0.3), metrics)
        second = await two_in_flight(batcher)
        assert 0.3 < await second < 10
        assert rows_of_runs(metrics) == [2, 2]
        await batcher.close()

    asyncio.run(work())


def test_requests_that_cannot_be_merged_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lone request has all threads. Of several, each has its share, and they run at once."""
    monkeypatch.setattr(batching, "manner_of", lambda *_: "side by side")
    given: list[int] = []

    def noted(threads: int) -> contextlib.AbstractContextManager[None]:
        given.append(threads)
        return contextlib.nullcontext()

    monkeypatch.setattr(batching, "at_most", noted)
    began, end, pair = threading.Event(), threading.Event(), threading.Barrier(2)
    x = np.zeros((1, 1, 28, 28), np.float32)

    class Held:
        def run(self, inputs: Any, names: Any) -> Any:
            if end.is_set():
                pair.wait(30)
            else:
                began.set()
                assert end.wait(30)
            return np.zeros((1, 10), np.float32)

    model = cast(Any, Held())

    async def work() -> None:
        batcher = Batcher("model", Settings((), threads=4, timeout=60), Metrics())

        def ask() -> asyncio.Task[list[Any]]:
            run = batcher.run(model, {INPUT.name: x}, (OUTPUT.name,), never)
            return asyncio.create_task(run)

        first = ask()
        await asyncio.to_thread(began.wait, 30)
        others = [ask(), ask()]
        await asyncio.sleep(0.1)
        assert given == [4]
        end.set()
        await asyncio.gather(first, *others)
        assert given == [4, 1, 1]
        end.clear()
        last = ask()
        end.set()
        await asyncio.to_thread(pair.wait, 30)
        await last
        assert given == [4, 1, 1, 4]
        await batcher.close()

    asyncio.run(work())


def test_side_by_side_answers_have_the_bits_of_the_model() -> None:
    """The network takes one image, and its runs are long enough."""
    x = np.random.default_rng(0).random((12, 1, 3, 224, 224), np.float32)
    free = cnnrt.load(EXAMPLES / "efficientnet_lite0.bin", threads=2)
    (spec,) = free.inputs
    fixed = dataclasses.replace(spec, shape=(1, *spec.shape[1:]))
    model = cnnrt.Model(dataclasses.replace(free.graph, inputs=[fixed]), threads=2)
    names = (model.outputs[0].name,)
    pending = {"model": model, "inputs": {spec.name: x[0]}, "outputs": names, "gone": never}

    async def work() -> None:
        settings = Settings((), threads=2, timeout=60)
        assert batching.manner_of(batching.Pending(**pending), 2, 8) == "side by side"
        metrics = Metrics()
        batcher = Batcher("model", settings, metrics)
        runs = [batcher.run(model, {spec.name: image}, names, never) for image in x]
        for image, (y,) in zip(x, await asyncio.gather(*runs), strict=True):
            assert np.array_equal(y, free(image))
        assert rows_of_runs(metrics) == [len(x), len(x)]
        await batcher.close()

    asyncio.run(work())


def test_late_requests_are_not_counted_as_cancelled() -> None:
    """The counter has the clients that hung up, each of them once."""
    end = threading.Event()

    class Held:
        def run(self, inputs: Any, names: Any) -> Any:
            assert end.wait(30)
            return np.zeros((1, 10), np.float32)

    model, x, metrics = cast(Any, Held()), np.zeros((1, 1, 28, 28), np.float32), Metrics()

    def hung_up() -> bool:
        return True

    async def work() -> None:
        batcher = Batcher("model", Settings((), timeout=1, max_batch=1), metrics)
        asked = [batcher.run(model, {INPUT.name: x}, (OUTPUT.name,), never) for _ in range(2)]
        for late in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(late, RequestError)
            assert late.status == 504
        end.set()
        with pytest.raises(asyncio.CancelledError):  # the second one is taken up before it
            await batcher.run(model, {INPUT.name: x}, (OUTPUT.name,), hung_up)
        await batcher.close()

    asyncio.run(work())
    assert b'cnnrt_cancelled_total{model="model"} 1.0' in metrics.text()
