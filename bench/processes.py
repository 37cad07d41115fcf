"""Linux's processes: those that a process started, and their CPU time."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def command_line(pid: int) -> bytes:
    """The command of a process, its words ended by zeros; nothing if it is not there."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def stat(pid: int) -> tuple[int, float]:
    """The parent of a process, and its CPU seconds.

    Raises:
        OSError: it is not there.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):  # each has those that it started
        with suppress(OSError):
            for child in map(int, thread.read_text().split()):
                found += [child, *descendants(child)]
    return found


class CpuTime:
    """CPU seconds of this process and of its descendants, also of those that end meanwhile."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._before: dict[int, float] = {}
        self._end = threading.Event()
        self._look()
        self._before = dict(self._seen)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            self._look()

    def _look(self) -> None:
        parents: dict[int, int] = {}
        times: dict[int, float] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                pid = int(entry.name)
                with suppress(OSError):
                    parents[pid], times[pid] = stat(pid)
        for pid, seconds in times.items():
            at = pid
            while at in parents and at != os.getpid():
                at = parents[at]
            if at == os.getpid():
                self._seen[pid] = seconds

    def stop(self) -> float:
        self._end.set()
        self._thread.join()
        self._look()
        return sum(s - self._before.get(pid, 0.0) for pid, s in self._seen.items())
