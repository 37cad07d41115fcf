"""Runs of requests: a bounded queue for each model, and merged batches where these change nothing.

Results do not depend on the batch, so merging never changes an answer. Requests are merged only if
the network keeps images apart (`passes.batch_independence`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import CnnrtError, MemoryLimitError, ShapeError
from ..graph import Array, Graph
from ..model import Model
from ..passes import dependence, prepare, specialise
from .errors import RequestError
from .metrics import Metrics
from .settings import Settings

LOG = logging.getLogger("cnnrt.serving")

Kind = tuple[Any, ...]
"""Everything that requests must have in common to be merged."""


@dataclass(eq=False)  # arrays have no equality
class Pending:
    """A request that waits for its run."""

    model: Model
    inputs: dict[str, Array]
    outputs: tuple[str, ...]
    gone: Callable[[], bool]
    """Returns True if the client has hung up."""
    answer: asyncio.Future[list[Any]] = field(default_factory=asyncio.Future)
    arrived: float = field(default_factory=time.monotonic)
    rows: int = field(init=False)
    """Rows of the first input; 1 if it has none."""
    kind: Kind = field(init=False)

    def __post_init__(self) -> None:
        first = next(iter(self.inputs.values()), None)
        self.rows = first.shape[0] if first is not None and first.ndim else 1
        axes = tuple((name, x.dtype, x.shape[1:]) for name, x in sorted(self.inputs.items()))
        self.kind = (id(self.model), self.outputs, axes)


class Batcher:
    """Runs the requests of one model name, one run at a time.

    The runs have a thread of their own, which takes the next batch as soon as a run ends. The event
    loop meanwhile writes the answers of the last one, and receives further requests.
    """

    def __init__(self, name: str, settings: Settings, metrics: Metrics) -> None:
        self._name, self._settings, self._metrics = name, settings, metrics
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Pending] = deque()
        self._preparing = 0
        self._in_flight = 0
        """Requests of the last run, and those that waited when it ended."""
        self._run_seconds = 0.0
        self._closed = False
        self._news = threading.Condition()
        """Guards the queue, and tells the thread of a new request, or of the end."""
        # By the model itself: one that is loaded later may get the identity of one that is gone.
        self._apart: WeakKeyDictionary[Model, dict[Kind, bool]] = WeakKeyDictionary()
        self._merged = Merged(settings.max_batch)
        self._thread = threading.Thread(target=self._work, name=f"cnnrt {name}", daemon=True)
        self._thread.start()

    def check_room(self) -> None:
        """Refuses a request that would find the queue full. It is asked before a body is read or a
        picture is decoded too: under overload that work would take the time of the runs.

        Raises:
            RequestError: the queue is full (429).
        """
        waiting = len(self._waiting) + self._preparing
        if waiting >= self._settings.queue:
            self._metrics.refused.labels(self._name).inc()
            seconds = max(1, round(self._run_seconds * waiting))
            raise RequestError(
                429,
                f"model {self._name!r} has {waiting} requests waiting; try again in {seconds} s",
                retry_after=seconds,
            )

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Holds a place in the queue while the input of a request is made.

        Raises:
            RequestError: the queue is full (429).
        """
        self.check_room()
        self._preparing += 1
        try:
            yield
        finally:
            self._preparing -= 1

    async def run(
        self,
        model: Model,
        inputs: dict[str, Array],
        outputs: tuple[str, ...],
        gone: Callable[[], bool],
    ) -> list[Any]:
        """The outputs for one request, in the order of `outputs`.

        Raises:
            RequestError: the queue is full (429), the time is over (504), or the model does not
                take the inputs (400).
        """
        self.check_room()
        pending = Pending(model, inputs, outputs, gone)
        with self._news:
            self._waiting.append(pending)
            self._metrics.queue.labels(self._name).set(len(self._waiting))
            self._news.notify()
        seconds = self._settings.timeout
        timer = self._loop.call_later(seconds, _expire, pending.answer, seconds)
        try:
            return await pending.answer
        except asyncio.CancelledError:
            self._metrics.cancelled.labels(self._name).inc()
            raise
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Ends the work; what still waits is refused."""
        with self._news:
            self._closed = True
            refused = list(self._waiting)
            self._waiting.clear()
            self._news.notify()
        for pending in refused:
            if not pending.answer.done():
                pending.answer.set_exception(RequestError(503, "the server is shutting down"))
        await asyncio.to_thread(self._thread.join)

    def _answer(self, batch: list[Pending], results: list[Any], seconds: float) -> None:
        """Hands the results of a run to its requests, in the event loop."""
        self._run_seconds += 0.1 * (seconds - self._run_seconds)
        self._metrics.batch.labels(self._name).observe(sum(p.rows for p in batch))
        for pending, result in zip(batch, results, strict=True):
            if pending.answer.done():
                continue
            if isinstance(result, Exception):
                pending.answer.set_exception(result)
            else:
                pending.answer.set_result(result)

    # In the thread of the runs ------------------------------------------------------------------

    def _work(self) -> None:
        while (first := self._first()) is not None:
            batch = [first, *self._others(first)]
            self._metrics.queue.labels(self._name).set(len(self._waiting))
            began = time.monotonic()
            try:
                results = self._merged.run(batch)
            except Exception as error:
                results = [_refusal(error)] * len(batch)
            seconds = time.monotonic() - began
            self._in_flight = len(batch) + len(self._waiting)
            self._loop.call_soon_threadsafe(self._answer, batch, results, seconds)

    def _first(self) -> Pending | None:
        """Takes the oldest request from the queue; waits for it. None at the end."""
        with self._news:
            while not self._closed:
                while self._waiting:
                    first = self._waiting.popleft()
                    if not self._is_over(first):
                        return first
                self._news.wait()
        return None

    def _others(self, first: Pending) -> list[Pending]:
        """Takes those from the queue that can join a run. It waits for further ones only while
        fewer are here than were in flight: clients that got an answer may soon ask again. So a
        lone client never waits, and several have their requests merged."""
        room = self._settings.max_batch - first.rows
        if room <= 0 or not self._keeps_apart(first):
            return []
        until, found = time.monotonic() + self._settings.max_delay, list[Pending]()
        with self._news:
            while True:
                joined = self._joining(first.kind, room)
                found += joined
                room -= sum(p.rows for p in joined)
                here = 1 + len(found) + len(self._waiting)
                left = until - time.monotonic()
                if room <= 0 or here >= self._in_flight or left <= 0 or self._closed:
                    return found
                self._news.wait(left)

    def _joining(self, kind: Kind, room: int) -> list[Pending]:
        joined, kept = list[Pending](), deque[Pending]()
        for pending in self._waiting:
            if pending.kind != kind or pending.rows > room:
                kept.append(pending)
            elif not self._is_over(pending):
                joined.append(pending)
                room -= pending.rows
        self._waiting = kept
        return joined

    def _is_over(self, pending: Pending) -> bool:
        """True if nobody waits for the answer any more."""
        if not pending.answer.done() and pending.gone():
            self._loop.call_soon_threadsafe(pending.answer.cancel)
            return True
        return pending.answer.done()

    def _keeps_apart(self, pending: Pending) -> bool:
        """True if requests like this one may be merged, found out once for each kind."""
        kind, known = pending.kind, self._apart.setdefault(pending.model, {})
        if kind not in known:
            if len(known) > 256:  # sizes may be free: bounded
                known.clear()
            try:
                known[kind] = keeps_apart(pending)
            except Exception:  # it must not end the thread of the runs
                LOG.exception("model %r: requests are not merged", self._name)
                known[kind] = False
        return known[kind]


class Merged:
    """Runs requests together. Their inputs are copied into arrays that are kept from run to run.
    New ones of megabytes would get new pages from the system each time."""

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._kind: Kind = ()
        self._rows: dict[str, Array] = {}

    def run(self, batch: list[Pending]) -> list[Any]:
        """The outputs of each request, with its own rows."""
        first = batch[0]
        if len(batch) == 1:
            return [_outputs(first.model, first.inputs, first.outputs)]
        if first.kind != self._kind:
            self._kind = first.kind
            self._rows = {
                name: np.empty((self._max_batch, *x.shape[1:]), x.dtype)
                for name, x in first.inputs.items()
            }
        ends = np.cumsum([p.rows for p in batch])
        inputs = {name: rows[: ends[-1]] for name, rows in self._rows.items()}
        for name, rows in inputs.items():
            np.concatenate([p.inputs[name] for p in batch], out=rows)
        outputs = _outputs(first.model, inputs, first.outputs)
        parts = zip(batch, ends, strict=True)
        return [[y[end - p.rows : end] for y in outputs] for p, end in parts]


def _expire(answer: asyncio.Future[list[Any]], seconds: float) -> None:
    if not answer.done():
        answer.set_exception(RequestError(504, f"no answer within {seconds:g} s"))


def keeps_apart(pending: Pending) -> bool:
    """True if each row of the outputs depends on the same row of the inputs alone."""
    graph, inputs = pending.model.graph, pending.inputs
    specs = {spec.name: spec for spec in graph.inputs}
    if not inputs or set(inputs) != set(specs):
        return False
    if not all(specs[n].shape and isinstance(specs[n].shape[0], str) for n in inputs):
        return False
    if len({x.shape[0] for x in inputs.values()}) != 1:
        return False
    try:
        two, one = (_specialised(graph, pending, rows) for rows in (2, 1))
        first_axes = {two.types[name].shape[:1] for name in pending.outputs}
        return first_axes == {(2,)} and dependence(two, one) is None
    except CnnrtError:
        return False


def _specialised(graph: Graph, pending: Pending, rows: int) -> Graph:
    shapes = {name: (rows, *x.shape[1:]) for name, x in pending.inputs.items()}
    return specialise(prepare(graph, pending.outputs, shapes), shapes, None, None)


def _outputs(model: Model, inputs: dict[str, Array], names: tuple[str, ...]) -> list[Any]:
    found = model.run(inputs, names)
    return [found] if len(names) == 1 else [found[name] for name in names]


def _refusal(error: Exception) -> RequestError:
    if isinstance(error, MemoryLimitError):
        return RequestError(413, str(error))
    if isinstance(error, ShapeError):
        return RequestError(400, str(error))
    return RequestError(500, f"the run failed: {error}")
