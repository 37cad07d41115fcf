"""Runs engines side by side: one process each, taking turns.

As a program it is one such process, as `cnnrt.benchmark.worker`, with the engines of this folder.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
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
"""The part of all CPUs that other programs may use when a round begins."""

STATE = 1.6
"""Rounds whose barrier differs from the median by more than this factor are not in the summary."""


@dataclass
class Entry:
    """What was measured of one engine; times in ms."""

    failed: str = ""
    error: float = 0.0
    """Largest difference from the reference over the largest value of the reference."""
    load_s: float = 0.0
    """Seconds to load, with any conversion that was not cached, and run once."""
    minima: dict[int, float] = field(default_factory=dict)
    """By round."""
    medians: dict[int, float] = field(default_factory=dict)
    runs: int = 0
    steps: list[tuple[str, int]] = field(default_factory=list)
    """Kernel and shortest time in ns of each step."""

    def shorten_steps(self, timed: list[tuple[str, int]]) -> None:
        """Takes the times of steps that are shorter than those before."""
        before = self.steps or timed
        self.steps = [(k, min(t, old)) for (k, t), (_, old) in zip(timed, before, strict=True)]

    def min(self, rounds: Sequence[int]) -> float | None:
        """The shortest run in these rounds (or in all, if it ran in none of these)."""
        values = [self.minima[r] for r in rounds if r in self.minima] or [*self.minima.values()]
        return min(values, default=None)

    def median(self, rounds: Sequence[int]) -> float | None:
        """The median of these rounds' medians."""
        values = [self.medians[r] for r in rounds if r in self.medians] or [*self.medians.values()]
        return statistics.median(values) if values else None


@dataclass
class Race:
    """Engines side by side on one network."""

    entries: dict[str, Entry]
    barriers: list[float]
    """Nanoseconds of a barrier between two threads before each round; empty if not measured."""
    others: list[float]
    """Before each round, the part of all CPUs that other programs used."""

    def rounds(self) -> list[int]:
        """The rounds in which the machine was in its usual state."""
        count = max((len(e.minima) for e in self.entries.values()), default=0)
        if not self.barriers:
            return list(range(count))
        usual = statistics.median_low(self.barriers)
        return [r for r, b in enumerate(self.barriers) if usual / STATE < b < usual * STATE]

    def json(self) -> dict[str, Any]:
        """For the result file."""
        rounds = self.rounds()
        engines: dict[str, Any] = {}
        for name, e in self.entries.items():
            if e.failed:
                engines[name] = {"failed": e.failed}
                if e.error:
                    engines[name]["error"] = e.error
                continue
            engines[name] = {
                "min_ms": e.min(rounds),
                "median_ms": e.median(rounds),
                "error": e.error,
                "load_s": round(e.load_s, 3),
                "runs": e.runs,
                "rounds_ms": [round(t, 6) for t in e.minima.values()],
            }
            if e.steps:
                engines[name]["steps_ns"] = e.steps
        return {
            "barrier_ns": self.barriers,
            "others": self.others,
            "usual_rounds": rounds,
            "engines": engines,
        }


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
    say: Callable[[str], None] = lambda _: None,
) -> Race:
    """Loads all engines, checks their outputs, and lets them run in turns.

    Args:
        seconds: how long each engine runs in all.
        rounds: in how many turns.
        barrier: measures the time of one between two threads.
        steps: engines whose steps are timed too, after each turn and for as long.
        patience: seconds that may be spent, in all, on waiting for other programs to be quiet.
    """
    entries = {name: Entry() for name in names}
    workers: dict[str, Worker] = {}
    try:
        for name in names:
            try:
                workers[name] = Worker(name, threads, [sys.executable, __file__])
                loaded = workers[name].ask("load", source=source, input=inputs, ref=reference)
                entries[name].error, entries[name].load_s = loaded["error"], loaded["seconds"]
                say(f"{name}: max relative error {loaded['error']:.1e}")
                if not loaded["error"] < WRONG:
                    raise WorkerError(f"wrong result: relative error {loaded['error']:.2g}")
            except WorkerError as error:
                entries[name].failed = str(error)
                say(f"{name}: {error}")
                if name in workers:
                    workers.pop(name).close()
        barriers, others = _turns(
            workers, entries, threads, seconds, rounds, barrier, steps, patience
        )
    finally:
        for worker in workers.values():
            worker.close()
    return Race(entries, barriers, others)


def _turns(
    workers: dict[str, Worker],
    entries: dict[str, Entry],
    threads: int,
    seconds: float,
    rounds: int,
    barrier: Callable[[], dict[str, float] | None],
    steps: Sequence[str],
    patience: float,
) -> tuple[list[float], list[float]]:
    """The timed rounds; returns the barrier times, and what other programs used of the CPUs."""
    barriers: list[float] = []
    others: list[float] = []
    running = list(workers)
    give_up = time.monotonic() + patience
    for r in range(rounds):
        time.sleep(PAUSE)
        busy = machine.busy()
        while busy is not None and busy > QUIET and time.monotonic() < give_up:
            time.sleep(0.5)
            busy = machine.busy()
        if busy is not None:
            others.append(busy)
        if threads > 1:
            measured = barrier()
            if measured:
                barriers.append(measured["median"])
        start = r % max(1, len(running))  # nobody always follows the same engine
        for name in running[start:] + running[:start]:
            time.sleep(PAUSE)
            try:
                turn = workers[name].ask("turn", seconds=seconds / rounds)
                if name in steps:
                    timed = workers[name].ask("steps", seconds=seconds / rounds)["steps"]
                    entries[name].shorten_steps(timed)
            except WorkerError as error:
                entries[name].failed = str(error)
                running.remove(name)
                continue
            entries[name].minima[r] = turn["min"] / 1e6
            entries[name].medians[r] = turn["median"] / 1e6
            entries[name].runs += turn["runs"]
        if r == 1:
            least = {n: min(entries[n].minima.values()) for n in running}
            limit = HOPELESS * min(least.values(), default=0)
            running = [n for n in running if n.startswith("cnnrt") or least[n] < limit]
    return barriers, others


if __name__ == "__main__":
    worker.main()
