"""Stages of work that overlap, each on a thread of its own, with bounded queues between them."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

DEPTH = 2
"""Items between two stages: one that is waiting while the next is made."""
POLL = 0.1
"""Seconds after which a stage that waits for room looks if it is still wanted."""


def ahead(items: Iterable[T], depth: int = DEPTH) -> Generator[T, None, None]:
    """The items, made on a thread of their own while the caller works on those before.

    An error of `items` is raised after the items that came before it. When the generator is closed
    the thread ends after the item that it is at, and so do the stages before it.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple[bool, Any]) -> None:
        while not stopped.is_set():
            try:
                waiting.put(entry, timeout=POLL)
            except queue.Full:
                continue
            return

    def work() -> None:
        error: BaseException | None = None
        try:
            with closing(_generator(items)) as source:
                for item in source:
                    put((False, item))
                    if stopped.is_set():
                        return
        except BaseException as raised:  # raised again on the caller's thread
            error = raised
        put((True, error))

    thread = threading.Thread(target=work, name="cnnrt-stage", daemon=True)
    thread.start()
    try:
        while True:
            ended, item = waiting.get()
            if not ended:
                yield item
            elif item is not None:
                raise item
            else:
                return
    finally:
        stopped.set()
        thread.join()


def mapped(
    function: Callable[[T], R], items: Iterable[T], workers: int
) -> Generator[R, None, None]:
    """`function` of each item, in order, on some threads.

    At most `workers + 1` items are in work or wait for the caller. An error of `items` is raised
    after the results of the items that came before it.
    """
    running: deque[Future[R]] = deque()
    error: Exception | None = None
    with ThreadPoolExecutor(workers) as pool, closing(_generator(items)) as source:
        try:
            while True:
                try:
                    item = next(source)
                except StopIteration:
                    break
                except Exception as raised:
                    error = raised
                    break
                running.append(pool.submit(function, item))
                if len(running) > workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
            if error is not None:
                raise error
        finally:
            for future in running:
                future.cancel()


def _generator(items: Iterable[T]) -> Generator[T, None, None]:
    """The items as a generator, which can be closed."""
    if isinstance(items, Generator):
        return items
    iterator: Iterator[T] = iter(items)
    return (item for item in iterator)
