"""Limits to the memory and the work of a network, since its file may come from anybody.

A few bytes of a file can ask for any amount: an `expand` to gigabytes, a border of a billion
pixels. The bytes of a network's constants and of the caller's arrays are real, and so they are the
measure. A plan may use `FLOOR` bytes and `FACTOR` times those bytes. It never uses more than
`MACHINE_SHARE` of the memory of the machine or container. `set_memory_limit` replaces all three.

The work of a plain network follows from its sizes, but a loop may go on for ever. Behind the first
stage of its plan a run may take `WORK_FLOOR` nanoseconds and `WORK_FACTOR` for each byte given. The
costs of the steps predict its time. `set_work_limit` replaces both.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from ..errors import MemoryLimitError, WorkLimitError

MAX_RANK = 32
"""Axes of a tensor: what NumPy 1 can hold."""
MAX_SIZE = 2**31 - 1
"""Largest axis, window or padding: the most that the kernels' 32-bit fields can hold."""

MAX_PIXELS = 2**26
"""Pixels of a network's input, and of a picture on its way there."""

FLOOR = 384 << 20
"""Bytes that every plan may use: with Python's own, less than 500 MB."""
FACTOR = 1024
"""Bytes that a plan may use for each byte given. A network that enlarges images fourfold, with 64
channels at the full size, takes 400: the most of any common one."""
MACHINE_SHARE = 0.75

FOLDED_FLOOR, FOLDED_FACTOR = 64 << 20, 4
"""Bytes of constants that may be computed from those of a file: in any case, and for each byte of
the file's. Networks fold masks, anchors and position tables, a few megabytes."""
FOLDED_WORK = 1 << 31
"""Multiplications, or elements touched, to compute them: seconds at most."""

WORK_FLOOR = 2e9
"""Nanoseconds of predicted work behind the first stage: some 80,000 iterations of a small loop."""
WORK_FACTOR = 4096
"""The same for each byte given. Weights are read at 0.1 ns a byte or faster: a loop may read all of
them 40,000 times."""

_chosen: int | None = None
_chosen_work: float | None = None


def set_memory_limit(nbytes: int | None) -> None:
    """Sets how many bytes one plan of a model may use; None: back to automatic.

    The limit counts the arena, the inputs and outputs, scratch memory and packed weights. Automatic
    is 384 MiB and 1024 times the size of the weights and inputs. It is at most three quarters of
    the memory of the machine or container.

    Raises:
        ValueError: it is less than 1.
    """
    global _chosen  # noqa: PLW0603  (a process-wide setting is what is asked for)
    if nbytes is not None and nbytes < 1:
        raise ValueError(f"the limit must be at least 1 byte, not {nbytes}")
    _chosen = nbytes


def set_work_limit(seconds: float | None) -> None:
    """Sets how much work a run may do behind the first stage of its plan; None: automatic.

    The limit counts the predicted time on one thread of loops, and of operators whose sizes depend
    on computed values. Automatic is 2 seconds and 4096 ns for each byte of weights and inputs.

    Raises:
        ValueError: it is not above 0.
    """
    global _chosen_work  # noqa: PLW0603  (as above)
    if seconds is not None and not seconds > 0:
        raise ValueError(f"the limit must be above 0 seconds, not {seconds}")
    _chosen_work = seconds


def memory_limit(given: int) -> int:
    """Bytes that a plan may use whose constants and inputs have `given` bytes."""
    if _chosen is not None:
        return _chosen
    return min(FLOOR + FACTOR * given, most_memory())


def work_limit(given: int) -> float:
    """Predicted nanoseconds of a run behind its first stage, if its constants and inputs have
    `given` bytes."""
    return WORK_FLOOR + WORK_FACTOR * given if _chosen_work is None else _chosen_work * 1e9


@lru_cache(1)  # its files take 60 us to read, and every run in stages asks
def most_memory() -> int:
    """Upper limit in bytes of one plan or picture, whatever was given for it."""
    return int(MACHINE_SHARE * _machine_memory())


def _machine_memory(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory of the machine, or of the container (cgroup v1 or v2) if that has fewer."""
    sizes = [1 << 62]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (root / file).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            sizes.append(int(text))
    return min(sizes)


def check_memory(nbytes: int, limit: int, at: str) -> None:
    """Checks that what `at` names stays within the limit.

    Raises:
        MemoryLimitError: it does not.
    """
    if nbytes > limit:
        raise MemoryLimitError(
            f"{at} takes {_text(nbytes)}; a network of this size may use {_text(limit)}. If it is "
            f"meant to, allow it: cnnrt.set_memory_limit({nbytes})"
        )


def check_work(ns: float, limit: float, at: str) -> None:
    """Checks that the work of a run up to what `at` names stays within the limit.

    Raises:
        WorkLimitError: it does not.
    """
    if ns > limit:
        raise WorkLimitError(
            f"{at}: work of {ns / 1e9:.1f} s came together behind the first stage; a network of "
            f"this size may do {limit / 1e9:.1f} s. If it is meant to do more, allow it: "
            f"cnnrt.set_work_limit({4 * ns / 1e9:.0f})"
        )


def _text(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.1f} MiB"
