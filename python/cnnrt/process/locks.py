"""Mutual exclusion that forks, signal handlers and finalisers cannot break.

* **Signals.** A handler may raise between any two instructions of Python code. So a lock is a
  built-in one taken by a `with` statement alone. No instruction lies between taking it and the
  block, and none between the block's end and the release. A lock wrapped in a Python class has
  instructions there, and so has a context manager made from a generator.
* **Forks.** A child has one thread; what its parent's other threads held stays taken for ever. So a
  lock belongs to a generation of forks, and a child finds locks of its own. The core counts
  generations in C (`pthread_atfork`), where no handler interrupts. What a lock guards must be whole
  between any two instructions. Nothing of the standard library that locks while it calls Python
  code may lie on these paths. `functools.cached_property` does before Python 3.12, and so do
  imports.
* **Calls from within.** A signal handler or a finaliser runs inside whatever its thread does at the
  moment. A thread that is inside `Lock.run` waits for no lock, neither its own nor another's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar, overload

from .. import _core, importing

T = TypeVar("T")

NO_GENERATION = -1


class _Here(threading.local):
    """State of the present thread."""

    inside = NO_GENERATION
    """The generation of forks in which it entered `Lock.run`."""

    def __init__(self) -> None:
        self.later: list[Callable[[], object]] = []


_here = _Here()


def nested() -> bool:
    """True if the present thread is inside `Lock.run`: the caller is a signal handler or a
    finaliser."""
    return _here.inside == _core.fork_generation()


def when_free(work: Callable[[], object]) -> None:
    """Calls `work` now or, if this thread is inside `Lock.run`, when it leaves it."""
    if nested():
        _here.later.append(work)
    else:
        work()


class Lock:
    """Lets one thread at a time into `run`; see above for forks and signals."""

    def __init__(self) -> None:
        self._locks: dict[int, AbstractContextManager[Any]] = {}

    def run(self, work: Callable[[], T]) -> T:
        """Calls `work` while no other thread is inside. A nested call does not wait."""
        if nested():
            return work()
        generation = _core.fork_generation()
        try:
            with self._locks.setdefault(generation, threading.Lock()):
                _here.inside = generation
                try:
                    return work()
                finally:
                    _here.inside = NO_GENERATION
        finally:
            while _here.later:
                _here.later.pop()()


class cached_property(Generic[T]):  # noqa: N801  (as in functools)
    """`functools.cached_property` without its lock: two threads may compute the value twice."""

    def __init__(self, function: Callable[[Any], T]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> cached_property[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> cached_property[T] | T:
        if instance is None:
            return self
        value = self.function(instance)
        instance.__dict__[self.name] = value  # which Python finds first from now on
        return value


__all__ = ["Lock", "cached_property", "importing", "nested", "when_free"]
