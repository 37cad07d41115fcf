"""Runs engines side by side: one process each, taking turns.

As a program it is one such process, as `cnnrt.benchmark.worker`, with the engines of this folder.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
from engines import Source

from cnnrt.benchmark import PAUSE, WRONG, worker
from cnnrt.benchmark.process import Worker, WorkerError

HOPELESS = 4.0
"""An engine this many times slower than the best in both of the first rounds runs in no other."""

QUIET = 0.1
"""Fraction of all CPUs that other programs may use when a round begins."""


BEFORE = "before"
"""The name of the engine that is cnnrt as another environment has it."""


@dataclass(frozen=True)
class Turn:
    """One turn of an engine; times in ms."""

    min: float
    median: float
    barriers: tuple[float, ...] = ()
    """Nanoseconds of a barrier between two threads before and after it; empty if not measured."""


@dataclass(frozen=True)
class State:
    """Distance of the two CPUs, near or far, by the time of a barrier between them."""

    ns: float

    def holds(self, turn: Turn) -> bool:
        """True if a turn began and ended in this state."""
        return all(self.ns / machine.STATE < b < self.ns * machine.STATE for b in turn.barriers)


@dataclass
class Entry:
    """The measurements of one engine."""

    failed: str = ""
    error: float = 0.0
    """Largest difference from the reference over the largest value of the reference."""
    load_s: float = 0.0
    """Seconds to load, with any conversion that was not cached, and run once."""
    turns: list[Turn] = field(default_factory=list)
    runs: int = 0
    peak_bytes: int | None = None
    """The most memory of the process from the first turn on."""
    steps: list[tuple[str, int]] = field(default_factory=list)
    """Kernel and shortest time in ns of each step."""

    def shorten_steps(self, timed: list[tuple[str, int]]) -> None:
        """Keeps the shorter of the times of each step."""
        before = self.steps or timed
        self.steps = [(k, min(t, old)) for (k, t), (_, old) in zip(timed, before, strict=True)]

    def within(self, state: State | None) -> list[Turn]:
        """The turns in this state; None: all."""
        return [t for t in self.turns if state is None or state.holds(t)]

    def min(self, state: State | None) -> float | None:
        """The shortest run, in ms."""
        return min((t.min for t in self.within(state)), default=None)

    def median(self, state: State | None) -> float | None:
        """The median of the turns' medians, in ms."""
        medians = [t.median for t in self.within(state)]
        return statistics.median(medians) if medians else None


def common_state(entries: Iterable[Entry]) -> tuple[State | None, int]:
    """The state in which all engines that still run have the most turns, and the minimum number of
    turns.

    None if no barrier was measured: all turns are comparable then.
    """
    running = [e for e in entries if not e.failed and e.turns]
    most = max((len(e.turns) for e in running), default=0)
    running = [e for e in running if len(e.turns) == most]  # others were hopeless, and rest
    states = [State(b) for e in running for t in e.turns for b in t.barriers]
    if not states:
        return None, most

    def fewest(state: State) -> tuple[int, int]:
        counts = [len(e.within(state)) for e in running]
        return min(counts), sum(counts)

    best = max(states, key=fewest)
    return best, fewest(best)[0]


@dataclass
class Race:
    """Engines side by side on one network."""

    entries: dict[str, Entry]
    others: list[float]
    """Fraction of all CPUs that other programs used before each round."""

    @property
    def state(self) -> State | None:
        """The state of the machine whose turns are compared."""
        return common_state(self.entries.values())[0]

    def barriers(self) -> list[float]:
        """Nanoseconds of a barrier before and after the turns that are compared."""
        turns = [t for e in self.entries.values() for t in e.within(self.state)]
        return [b for t in turns for b in t.barriers]

    def json(self) -> dict[str, Any]:
        """The race as the result file has it."""
        state = self.state
        engines: dict[str, Any] = {}
        for name, e in self.entries.items():
            if e.failed:
                engines[name] = {"failed": e.failed}
                if e.error:
                    engines[name]["error"] = e.error
                continue
            engines[name] = {
                "min_ms": e.min(state),
                "median_ms": e.median(state),
                "error": e.error,
                "load_s": round(e.load_s, 3),
                "runs": e.runs,
                "peak_bytes": e.peak_bytes,
                "rounds_ms": [round(t.min, 6) for t in e.within(state)],
                "turns": [[round(t.min, 6), round(t.median, 6), *t.barriers] for t in e.turns],
            }
            if e.steps:
                engines[name]["steps_ns"] = e.steps
        return {"barrier_ns": self.barriers(), "others": self.others, "engines": engines}


def race(
    names: Sequence[str],
    source: Source,
    threads: int,
    inputs: Path,
    reference: Path,
    *,
    seconds: float,
    rounds: int,
    barrier: Callable[[], dict[str, float] | None],
    steps: Sequence[str] = (),
    patience: float = 0,
    wrong: float = WRONG,
    before: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Race:
    """Loads all engines, checks their outputs, and lets them run in turns.

    Args:
        seconds: the time that each engine runs in all.
        rounds: the number of turns. There are up to twice as many, until all engines have half of
            them in one state of the CPUs.
        barrier: measures the time of one between two threads.
        steps: engines whose steps are timed too, after each turn and for as long.
        patience: seconds that may be spent, in all, on waiting for other programs to be quiet.
        wrong: the relative error above which an engine is left out.
        before: the Python of the environment whose cnnrt is the engine `BEFORE`.
    """
    entries = {name: Entry() for name in names}
    workers: dict[str, Worker] = {}
    try:
        for name in names:
            try:
                workers[name] = _worker(name, threads, before)
                loaded = workers[name].ask("load", source=source, input=inputs, ref=reference)
                workers[name].ask("memory", reset=True)  # the check took some
                entries[name].error, entries[name].load_s = loaded["error"], loaded["seconds"]
                say(f"{name}: max relative error {loaded['error']:.1e}")
                if not loaded["error"] < wrong:
                    raise WorkerError(f"wrong result: relative error {loaded['error']:.2g}")
            except WorkerError as error:
                entries[name].failed = str(error)
                say(f"{name}: {error}")
                if name in workers:
                    workers.pop(name).close()
        others = _turns(workers, entries, threads, seconds, rounds, barrier, steps, patience)
        for name, worker_ in workers.items():
            if not entries[name].failed:
                entries[name].peak_bytes = worker_.ask("memory")["peak_bytes"]
    finally:
        for worker in workers.values():
            worker.close()
    return Race(entries, others)


def _worker(name: str, threads: int, before: str | None) -> Worker:
    """The process of an engine."""
    if name == BEFORE and before:
        # -E: without the path of the cnnrt that runs this.
        return Worker("cnnrt", threads, [before, "-E", __file__])
    return Worker(name, threads, [sys.executable, __file__])


def _turns(
    workers: dict[str, Worker],
    entries: dict[str, Entry],
    threads: int,
    seconds: float,
    rounds: int,
    barrier: Callable[[], dict[str, float] | None],
    steps: Sequence[str],
    patience: float,
) -> list[float]:
    """Runs the timed rounds; returns the fractions of the CPUs that other programs used."""
    others: list[float] = []
    running = list(workers)
    give_up = time.monotonic() + patience

    def distance() -> tuple[float, ...]:
        measured = barrier() if threads > 1 else None
        return (measured["median"],) if measured else ()

    for r in range(2 * rounds):
        if r >= rounds and common_state(entries.values())[1] * 2 >= rounds:
            break
        time.sleep(PAUSE)
        busy = machine.busy()
        while busy is not None and busy > QUIET and time.monotonic() < give_up:
            time.sleep(0.5)
            busy = machine.busy()
        if busy is not None:
            others.append(busy)
        start = r % max(1, len(running))  # nobody always follows the same engine
        for name in running[start:] + running[:start]:
            time.sleep(PAUSE)
            entry = entries[name]
            try:
                before = distance()
                turn = workers[name].ask("turn", seconds=seconds / rounds)
                entry.turns.append(
                    Turn(turn["min"] / 1e6, turn["median"] / 1e6, (*before, *distance()))
                )
                if name in steps:
                    timed = workers[name].ask("steps", seconds=seconds / rounds)["steps"]
                    entry.shorten_steps(timed)
            except WorkerError as error:
                entry.failed = str(error)
                running.remove(name)
                continue
            entry.runs += turn["runs"]
        if r == 1:
            least = {n: entries[n].min(None) or math.inf for n in running}
            limit = HOPELESS * min(least.values(), default=0)
            running = [n for n in running if n.startswith("cnnrt") or least[n] < limit]
    return others


if __name__ == "__main__":
    worker.main()
