"""How many threads to use: what the machine, the container and the environment allow."""

from __future__ import annotations

import math
import os
from pathlib import Path

_chosen: int | None = None


def set_num_threads(threads: int | None) -> None:
    """Sets the default number of threads of models loaded from now on; None: back to automatic.

    Raises:
        ValueError: `threads` is less than 1.
    """
    global _chosen  # noqa: PLW0603  (a process-wide setting is what is asked for)
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    _chosen = threads


def get_num_threads() -> int:
    """The default number of threads: as set, or `OMP_NUM_THREADS`, or what this process may use.

    That is the smallest of the CPU affinity mask, the container's quota (cgroup v1 or v2, rounded
    up) and the number of physical cores.
    """
    if _chosen is not None:
        return _chosen
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return max(1, min(_affinity(), _quota(), _physical_cores()))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(root: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that the container's quota amounts to; a large number where there is none."""
    for files in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            words = [w for f in files for w in (root / f).read_text().split()]
        except OSError:
            continue
        if len(words) == 2 and words[0].isdigit() and int(words[1]) > 0:
            return max(1, math.ceil(int(words[0]) / int(words[1])))
    return 1 << 16


def _physical_cores(root: Path = Path("/sys/devices/system/cpu")) -> int:
    """Cores, counting siblings of simultaneous multithreading once."""
    siblings = set()
    for path in root.glob("cpu[0-9]*/topology/thread_siblings_list"):
        try:
            siblings.add(path.read_text().strip())
        except OSError:
            continue
    return len(siblings) or os.cpu_count() or 1
