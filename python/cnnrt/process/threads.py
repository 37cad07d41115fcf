"""How many threads to use, by the machine, the container and the environment; and whose."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from .. import _core, importing
from ..errors import OpenMPError

Threading = Literal["pool", "openmp"]
"""The threads of runs: those of the pool, or those of the OpenMP runtime of the process."""

NO_QUOTA = 1 << 16
MAX_THREADS = 1 << 16
"""Maximum number of threads; larger requests are reduced to it."""

_chosen: int | None = None
_threading: Threading | None = None


def set_num_threads(threads: int | None) -> None:
    """Sets the default number of threads of models loaded from now on; None: back to automatic.

    It is also the number of threads that all models of the process share when they run at the same
    time. A model's own `threads` may be larger.

    Raises:
        ValueError: `threads` is less than 1.
    """
    global _chosen  # noqa: PLW0603  (a process-wide setting is what is wanted)
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    _chosen = threads
    share_budget()


def get_num_threads() -> int:
    """The default number of threads: as set, or `OMP_NUM_THREADS`, or what this process may use.

    The process may use the physical cores in its CPU affinity mask. A smaller quota of the
    container (cgroup v1 or v2, rounded up) comes first.
    """
    if _chosen is not None:
        return _chosen
    requested = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if requested.isascii() and requested.isdigit() and requested.strip("0"):
        return int(requested) if len(requested) < 6 else MAX_THREADS
    return max(1, min(_cores(_affinity()), _quota()))


def set_threading(threading: Threading | None) -> None:
    """Sets the threads that models loaded from now on use; None: back to what the environment says.

    Results have the same bits with both. With "openmp", cnnrt looks for the OpenMP runtime of the
    process when this is first called. It takes one that is loaded already, such as PyTorch's, and
    otherwise one that the system installs. So import PyTorch, scikit-learn or OpenCV before.

    A forked child uses the pool whatever is set, because GCC's runtime would hang there. A run that
    is called inside an OpenMP region has one thread.

    Args:
        threading: "pool", the threads of cnnrt, which sleep between runs; or "openmp", those of the
            runtime that other libraries of the process use.

    Raises:
        ValueError: `threading` is another name.
        OpenMPError: no OpenMP runtime is loaded or installed, or cnnrt was built without.
    """
    global _threading  # noqa: PLW0603  (a process-wide setting is what is wanted)
    _threading = None if threading is None else available(threading)


def get_threading() -> Threading:
    """The threads that models loaded now use: as set, or `CNNRT_THREADING`, or "pool".

    It is always "pool" in a forked child.

    Raises:
        ValueError: `CNNRT_THREADING` is neither "pool" nor "openmp".
        OpenMPError: it is "openmp", and no runtime is loaded or installed.
    """
    if _threading is not None:
        chosen = _threading
    else:
        chosen = available(os.environ.get("CNNRT_THREADING") or "pool", "CNNRT_THREADING")
    return "pool" if _core.fork_generation() else chosen


def available(threading: str, name: str = "threading") -> Threading:
    """This choice, once it is sure that regions can run by it.

    Args:
        name: that of the argument or variable, for the error.

    Raises:
        ValueError: there is no such choice.
        OpenMPError: no OpenMP runtime is loaded or installed, or cnnrt was built without.
    """
    for known in get_args(Threading):
        if threading == known:
            break
    else:
        raise ValueError(f"{name} is {threading!r}; expected 'pool' or 'openmp'")
    if known == "openmp" and not openmp_runtime():
        if not _core.openmp_is_built():
            reason = "cnnrt was built with CNNRT_OPENMP=OFF; build it without that, or use 'pool'"
        else:
            reason = (
                "no OpenMP runtime is loaded or installed; import a library that brings one first "
                "(torch, sklearn), install one (apt install libgomp1), or use 'pool'"
            )
        raise OpenMPError(f"{name}='openmp': {reason}")
    found: Threading = known
    return found


def openmp_runtime() -> str | None:
    """The path of the OpenMP runtime that regions can run on, found when first asked for."""
    with importing:  # a fork waits: the loader's lock must not stay taken in a child
        return _core.load_openmp() or None


def share_budget() -> int:
    """Makes `get_num_threads()` the number that running models share; returns it."""
    threads = min(get_num_threads(), MAX_THREADS)
    _core.set_thread_budget(threads)
    return threads


@contextmanager
def at_most(threads: int) -> Iterator[None]:
    """Limits the threads of each run that this thread starts meanwhile, whatever its model has.

    A run of one thread waits for no other, so as many such runs as cores leave no core idle.
    """
    _core.limit_regions(threads)
    try:
        yield
    finally:
        _core.limit_regions(0)


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _cores(cpus: set[int], root: Path = Path("/sys/devices/system/cpu")) -> int:
    """Number of cores of these CPUs; siblings of simultaneous multithreading count once."""
    cores = set()
    for cpu in cpus:
        try:
            siblings = (root / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
        except OSError:
            siblings = str(cpu)
        cores.add(siblings)
    return len(cores)


def _quota(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int:
    """CPUs that the quotas of the process's control group and of those around it allow."""
    return min(_quotas(root, membership), default=NO_QUOTA)


def _quotas(root: Path, membership: Path) -> Iterator[int]:
    """The quotas along the paths of the control groups, from that of the process to the root.

    In a container the path may be that of the host, which is not visible; then the root is the
    container's own group.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:
            folder, files = root, ["cpu.max"]
        elif "cpu" in controllers.split(","):
            folder, files = root / "cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        group = Path(path.lstrip("/"))
        for place in (group, *group.parents):
            try:
                words = [w for f in files for w in (folder / place / f).read_text().split()]
            except OSError:
                continue
            if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
                yield max(1, math.ceil(int(words[0]) / int(words[1])))
