"""How much memory a network may ask for, as files come from anybody.

A few bytes of a file can ask for any amount: an `expand` to gigabytes, a border of a billion
pixels. The bytes of a network's constants and of the caller's arrays are real, and so they are the
measure. A plan may use `FLOOR` bytes and `FACTOR` times those bytes. It never uses more than
`MACHINE_SHARE` of the memory of the machine or container. `set_memory_limit` replaces all three.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import MemoryLimitError

MAX_RANK = 32
"""Axes of a tensor: what NumPy 1 can hold."""
MAX_SIZE = 2**31 - 1
"""Largest axis, window or padding: the most that the kernels' 32-bit fields can hold."""

MAX_PIXELS = 2**26
"""Pixels of a network's input, and of a picture on its way there."""

FLOOR = 512 << 20
"""Bytes that every plan may use."""
FACTOR = 1024
"""Bytes that a plan may use for each byte given. Enlarging images fourfold by a network with 64
channels at the full size, the most of any common network, takes 400."""
MACHINE_SHARE = 0.75

FOLDED_FLOOR, FOLDED_FACTOR = 64 << 20, 4
"""Bytes of constants that may be computed from the constants of a file, and that for each byte of
those: networks fold masks, anchors and position tables, a few megabytes."""
FOLDED_WORK = 1 << 31
"""Multiplications, or elements touched, to compute them: seconds at most."""

_chosen: int | None = None


def set_memory_limit(nbytes: int | None) -> None:
    """Sets how many bytes one plan of a model may use; None: back to automatic.

    Counted are the arena, the inputs and outputs, scratch memory and packed weights. Automatic is
    512 MiB and 1024 times the size of the weights and inputs, at most three quarters of the memory
    of the machine or container.

    Raises:
        ValueError: it is less than 1.
    """
    global _chosen  # noqa: PLW0603  (a process-wide setting is what is asked for)
    if nbytes is not None and nbytes < 1:
        raise ValueError(f"the limit must be at least 1 byte, not {nbytes}")
    _chosen = nbytes


def memory_limit(given: int) -> int:
    """Bytes that a plan may use that was given `given` bytes of constants and inputs."""
    if _chosen is not None:
        return _chosen
    return min(FLOOR + FACTOR * given, most_memory())


def most_memory() -> int:
    """Bytes that one plan or picture may use at most, however much was given for it."""
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


def _text(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.1f} MiB"
