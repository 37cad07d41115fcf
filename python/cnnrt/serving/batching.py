"""Runs of requests: a bounded queue for each model, merged batches, and runs side by side.

Results do not depend on the batch or on the number of threads, so none of this changes an answer.
Requests are merged only if the network keeps images apart (`passes.batch_independence`).
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
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import CnnrtError, MemoryLimitError, ShapeError
from ..graph import Array, Graph
from ..model import Model, planned
from ..passes import dependence, prepare, specialise
from ..process.limits import most_memory
from ..process.threads import at_most, get_num_threads
from .errors import RequestError
from .metrics import Metrics
from .settings import Settings

LOG = logging.getLogger("cnnrt.serving")

Kind = tuple[Any, ...]
"""Everything that requests must have in common to be merged."""

Manner = Literal["merged", "side by side", "alone"]
"""How requests are run: several by one run, several runs at a time, or one run at a time."""

SIDE_BY_SIDE_NS = 500e3
"""Predicted time of a run on one thread from which on requests run side by side. Receiving one,
handing it to a thread and answering it takes 400 us, for which Python runs one thread at a time."""


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
    """Runs the requests of one model name, on as many threads as the settings say.

    Requests that can be merged are run by one run of all threads. Others run side by side, each
    with its share of the threads. When as many wait as there are threads, each has one. That is
    faster than one after the other on all of them, as no thread waits for another.

    Runs have threads of their own, which take the next requests as soon as a run ends. The event
    loop meanwhile writes the answers of the last one, and receives further requests.
    """

    def __init__(self, name: str, settings: Settings, metrics: Metrics) -> None:
        self._name, self._settings = name, settings
        self._rows, self._queue = metrics.batch.labels(name), metrics.queue.labels(name)
        self._refused, self._cancelled = (
            counter.labels(name) for counter in (metrics.refused, metrics.cancelled)
        )
        self._loop = asyncio.get_running_loop()
        self._preparing = 0
        self._run_seconds = 0.0
        self._lock = threading.Lock()
        """Guards what follows."""
        self._waiting: deque[Pending] = deque()
        self._running = 0
        """Requests in runs."""
        self._in_flight = 0
        """Requests that were running or waiting when the last run ended, with those it answered."""
        self._threads = settings.threads or get_num_threads()
        self._free = self._threads
        """Threads that no run has."""
        self._closed = False
        self._runners: list[threading.Thread] = []
        """The threads that start runs, of which one is started when all others are busy."""
        self._idle = 0
        """Runners that wait for `_work`."""
        self._work = threading.Condition(self._lock)
        """Tells a runner of a request and of free threads, or of the end."""
        self._arrival = threading.Condition(self._lock)
        """Tells a runner that merges requests of a further one, or of the end."""
        # By the model itself: one that is loaded later may get the identity of one that is gone.
        self._manners: WeakKeyDictionary[Model, dict[Kind, Manner]] = WeakKeyDictionary()

    def check_room(self) -> None:
        """Refuses a request that would find the queue full. It is asked before a body is read or a
        picture is decoded too: under overload that work would take the time of the runs.

        Raises:
            RequestError: the queue is full (429).
        """
        waiting = len(self._waiting) + self._preparing
        if waiting >= self._settings.queue:
            self._refused.inc()
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
        with self._lock:
            self._waiting.append(pending)
            self._queue.set(len(self._waiting))
            self._arrival.notify_all()
            self._wake()
        seconds = self._settings.timeout
        timer = self._loop.call_later(seconds, _expire, pending.answer, seconds)
        try:
            return await pending.answer
        except asyncio.CancelledError:
            self._cancelled.inc()
            raise
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Ends the work; what still waits is refused."""
        with self._lock:
            self._closed = True
            refused = list(self._waiting)
            self._waiting.clear()
            self._arrival.notify_all()
            self._work.notify_all()
        for pending in refused:
            if not pending.answer.done():
                pending.answer.set_exception(RequestError(503, "the server is shutting down"))
        for runner in self._runners:
            await asyncio.to_thread(runner.join)

    def _answer(self, batch: list[Pending], results: list[Any], seconds: float) -> None:
        """Hands the results of a run to its requests, in the event loop."""
        self._run_seconds += 0.1 * (seconds - self._run_seconds)
        self._rows.observe(sum(p.rows for p in batch))
        for pending, result in zip(batch, results, strict=True):
            if pending.answer.done():
                continue
            if isinstance(result, Exception):
                pending.answer.set_exception(result)
            else:
                pending.answer.set_result(result)

    def _wake(self) -> None:
        """Has a runner take what waits, if there are threads for it; the caller holds the lock."""
        if not self._waiting or not self._free:
            return
        if self._idle:
            self._work.notify()
        elif len(self._runners) < self._threads:
            name = f"cnnrt {self._name} {len(self._runners)}"
            runner = threading.Thread(target=self._run, name=name, daemon=True)
            try:
                runner.start()
            except RuntimeError:  # no more threads: those that run take this request too
                if not self._runners:
                    raise
                return
            self._runners.append(runner)

    # In the threads of the runs -----------------------------------------------------------------

    def _run(self) -> None:
        merged = Merged(self._settings.max_batch)
        while (taken := self._take()) is not None:
            batch, threads = taken
            began = time.monotonic()
            try:
                with at_most(threads):
                    results = merged.run(batch)
            except Exception as error:
                results = [_refusal(error)] * len(batch)
            seconds = time.monotonic() - began
            with self._lock:
                self._free += threads
                self._in_flight = self._running + len(self._waiting)
                self._running -= len(batch)
            self._loop.call_soon_threadsafe(self._answer, batch, results, seconds)
            del taken, batch, results  # a model that is unloaded must not wait for the next run

    def _take(self) -> tuple[list[Pending], int] | None:
        """The requests of the next run, and its number of threads; waits for them. None at the
        end."""
        with self._lock:
            while (first := self._first()) is None:
                if self._closed:
                    return None
                self._idle += 1
                self._work.wait()
                self._idle -= 1
            free, self._free = self._free, 0  # until it is clear how many this run takes
        manner = self._manner(first)
        with self._lock:
            batch, threads = [first], free
            if manner == "merged":
                batch += self._others(first)
            elif manner == "side by side":
                # Clients that were just answered may soon ask again.
                expected = max(self._in_flight, self._running + 1 + len(self._waiting))
                threads = min(free, max(1, self._threads // expected))
            self._free += free - threads
            self._running += len(batch)
            self._queue.set(len(self._waiting))
            self._wake()
            return batch, threads

    def _first(self) -> Pending | None:
        """Takes the oldest request from the queue, if there are threads for it."""
        while self._waiting and self._free:
            first = self._waiting.popleft()
            if not self._is_over(first):
                return first
        return None

    def _others(self, first: Pending) -> list[Pending]:
        """Takes those from the queue that can join a run. It waits for further ones only while
        fewer are here than were in flight: clients that got an answer may soon ask again. So a
        lone client never waits, and several have their requests merged."""
        room = self._settings.max_batch - first.rows
        until, found = time.monotonic() + self._settings.max_delay, list[Pending]()
        while room > 0:
            joined = self._joining(first.kind, room)
            found += joined
            room -= sum(p.rows for p in joined)
            here = 1 + len(found) + len(self._waiting)
            left = until - time.monotonic()
            if here >= self._in_flight or left <= 0 or self._closed:
                break
            self._arrival.wait(left)
        return found

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

    def _manner(self, pending: Pending) -> Manner:
        """How requests like this one are run, found out once for each kind."""
        kind, known = pending.kind, self._manners.setdefault(pending.model, {})
        found: Manner | None = known.get(kind)  # another thread may clear them at any time
        if found is None:
            try:
                found = manner_of(pending, self._threads, self._settings.max_batch)
            except Exception:  # it must not end the thread of the runs
                LOG.exception("model %r: requests run one after the other", self._name)
                found = "alone"
            if len(known) > 256:  # sizes may be free: bounded
                known.clear()
            known[kind] = found
        return found


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


def manner_of(pending: Pending, threads: int, max_batch: int) -> Manner:
    """How requests like this one are run on so many threads."""
    if pending.rows < max_batch and keeps_apart(pending):
        return "merged"
    try:
        plan, _ = planned(pending.model, pending.inputs, pending.outputs)
    except CnnrtError:  # the run will say so
        return "alone"
    fits = threads * plan.nbytes < most_memory()
    return "side by side" if fits and plan.cost_ns > SIDE_BY_SIDE_NS else "alone"


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
