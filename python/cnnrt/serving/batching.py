"""Runs of requests: a bounded queue for each model, and merged batches where these change nothing.

Results do not depend on the batch, so merging never changes an answer. Requests are merged only if
the network keeps images apart (`passes.batch_independence`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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


@dataclass(eq=False)  # a queue is searched for the request itself, and arrays have no equality
class Pending:
    """A request that waits for its run."""

    model: Model
    inputs: dict[str, Array]
    outputs: tuple[str, ...]
    gone: Callable[[], Awaitable[bool]]
    """Returns True if the client has hung up."""
    answer: asyncio.Future[list[Any]] = field(default_factory=asyncio.Future)
    arrived: float = field(default_factory=time.monotonic)

    @property
    def rows(self) -> int:
        """Rows of the first input; 1 if it has none."""
        first = next(iter(self.inputs.values()), None)
        return first.shape[0] if first is not None and first.ndim else 1

    @property
    def kind(self) -> Kind:
        return (
            id(self.model),
            self.outputs,
            tuple((name, x.dtype, x.shape[1:]) for name, x in sorted(self.inputs.items())),
        )


class Batcher:
    """Runs the requests of one model name, one run at a time."""

    def __init__(self, name: str, settings: Settings, metrics: Metrics) -> None:
        self._name, self._settings, self._metrics = name, settings, metrics
        self._waiting: deque[Pending] = deque()
        self._preparing = 0
        self._news = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"cnnrt {name}")
        # By the model itself: one that is loaded later may get the identity of one that is gone.
        self._apart: WeakKeyDictionary[Model, dict[Kind, bool]] = WeakKeyDictionary()
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._run_seconds = 0.0

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
        gone: Callable[[], Awaitable[bool]],
    ) -> list[Any]:
        """The outputs for one request, in the order of `outputs`.

        Raises:
            RequestError: the queue is full (429), the time is over (504), or the model does not
                take the inputs (400).
        """
        self.check_room()
        pending = Pending(model, inputs, outputs, gone)
        self._waiting.append(pending)
        self._metrics.queue.labels(self._name).set(len(self._waiting))
        self._news.set()
        try:
            return await asyncio.wait_for(pending.answer, self._settings.timeout)
        except asyncio.TimeoutError:
            raise RequestError(504, f"no answer within {self._settings.timeout:g} s") from None
        except asyncio.CancelledError:
            self._metrics.cancelled.labels(self._name).inc()
            raise

    async def close(self) -> None:
        """Ends the work; what still waits is refused."""
        self._task.cancel()
        while self._waiting:
            refused = self._waiting.popleft()
            if not refused.answer.done():
                refused.answer.set_exception(RequestError(503, "the server is shutting down"))
        self._pool.shutdown(wait=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next()
            if not batch:
                continue
            began = time.monotonic()
            try:
                results = await loop.run_in_executor(self._pool, _run, batch)
            except Exception as error:
                results = [_refusal(error)] * len(batch)
            taken = time.monotonic() - began
            self._run_seconds += 0.1 * (taken - self._run_seconds)
            self._metrics.batch.labels(self._name).observe(sum(p.rows for p in batch))
            for pending, result in zip(batch, results, strict=True):
                if pending.answer.done():
                    continue
                if isinstance(result, Exception):
                    pending.answer.set_exception(result)
                else:
                    pending.answer.set_result(result)

    async def _next(self) -> list[Pending]:
        """The requests of the next run: the oldest, and those that can join it."""
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        first = self._waiting.popleft()
        if await self._is_over(first):
            return []
        batch, rows = [first], first.rows
        if self._settings.max_batch > rows and await self._keeps_apart(first):
            until = first.arrived + self._settings.max_delay
            while rows < self._settings.max_batch:
                joined = False
                for other in list(self._waiting):
                    if other.kind != first.kind or rows + other.rows > self._settings.max_batch:
                        continue
                    self._waiting.remove(other)
                    if not await self._is_over(other):
                        batch.append(other)
                        rows += other.rows
                        joined = True
                left = until - time.monotonic()
                if rows >= self._settings.max_batch or left <= 0:
                    break
                if not joined:
                    self._news.clear()
                    try:
                        await asyncio.wait_for(self._news.wait(), left)
                    except asyncio.TimeoutError:
                        break
        self._metrics.queue.labels(self._name).set(len(self._waiting))
        return batch

    async def _is_over(self, pending: Pending) -> bool:
        """True if nobody waits for the answer any more."""
        if not pending.answer.done() and await pending.gone():
            pending.answer.cancel()
        return pending.answer.done()

    async def _keeps_apart(self, pending: Pending) -> bool:
        """Whether requests like this one may be merged, found out once for each kind."""
        kind, known = pending.kind, self._apart.setdefault(pending.model, {})
        if kind not in known:
            if len(known) > 256:  # sizes may be free: bounded
                known.clear()
            loop = asyncio.get_running_loop()
            try:
                known[kind] = await loop.run_in_executor(self._pool, keeps_apart, pending)
            except Exception:  # it must not end the task that runs requests
                LOG.exception("model %r: requests are not merged", self._name)
                known[kind] = False
        return known[kind]


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


def _run(batch: list[Pending]) -> list[Any]:
    """Runs requests together; a result or an exception for each."""
    first = batch[0]
    if len(batch) == 1:
        return [_outputs(first.model, first.inputs, first.outputs)]
    inputs = {name: np.concatenate([p.inputs[name] for p in batch]) for name in first.inputs}
    outputs = _outputs(first.model, inputs, first.outputs)
    ends = np.cumsum([p.rows for p in batch])
    return [[y[end - p.rows : end] for y in outputs] for p, end in zip(batch, ends, strict=True)]


def _outputs(model: Model, inputs: dict[str, Array], names: tuple[str, ...]) -> list[Any]:
    found = model.run(inputs, names)
    return [found] if len(names) == 1 else [found[name] for name in names]


def _refusal(error: Exception) -> RequestError:
    if isinstance(error, MemoryLimitError):
        return RequestError(413, str(error))
    if isinstance(error, ShapeError):
        return RequestError(400, str(error))
    return RequestError(500, f"the run failed: {error}")
