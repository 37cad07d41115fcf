"""The limits of this machine: multiply-adds, memory bandwidth, and a barrier between two threads.

    python bench/machine.py [--threads 1,2] [--out machine.json]

Multiply-adds are measured by cnnrt itself; the rest by machine.cpp, compiled for this CPU into the
cache folder when first used.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import hashlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("machine.cpp")
LEVELS = {"l2": 512 << 10, "l3": 8 << 20, "dram": 256 << 20}
"""Bytes that each thread reads: well inside the cache, or well beyond it."""


def cache_folder(chosen: str | os.PathLike[str] | None = None) -> Path:
    """The folder of exported networks and compiled code: the chosen one, or the user's cache
    folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(chosen) if chosen else Path(base) / "cnnrt-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


@functools.cache
def library(cache: Path) -> ctypes.CDLL:
    """The compiled machine.cpp.

    Raises:
        RuntimeError: there is no C++ compiler, or it fails.
    """
    key = hashlib.sha256(SOURCE.read_bytes() + cpu_name().encode()).hexdigest()[:12]
    path = cache / f"machine-{key}.so"
    if not path.exists():
        compiler = os.environ.get("CXX", "c++")
        fresh = path.with_suffix(f".{os.getpid()}")
        flags = ["-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread"]
        try:
            subprocess.run(
                [compiler, *flags, str(SOURCE), "-o", str(fresh)],
                check=True,
                capture_output=True,
                text=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            detail = getattr(error, "stderr", None) or error
            raise RuntimeError(f"machine.cpp cannot be compiled: {detail}") from error
        fresh.replace(path)
    code = ctypes.CDLL(str(path))
    code.read_bandwidth.restype = ctypes.c_double
    code.read_bandwidth.argtypes = [ctypes.c_int64, ctypes.c_int, ctypes.c_int]
    return code


STATE = 1.6
"""Barriers that differ by a larger factor belong to different states of the machine: CPUs near each
other or far."""


def barrier(cache: Path, batches: int = 40) -> dict[str, float] | None:
    """Nanoseconds of a barrier between two threads, median and min; None if not measurable."""
    try:
        code = library(cache)
    except RuntimeError:
        return None
    times = (ctypes.c_double * batches)()
    code.barrier_times(times, batches)
    return {"median": round(statistics.median(times), 1), "min": round(min(times), 1)}


def peaks(threads: int) -> dict[str, float]:
    """GFLOP/s by instruction-set tier of cnnrt, all threads together."""
    from cnnrt import _core  # noqa: PLC0415  (not in the processes of other engines)
    from cnnrt.analysis.peak import measure_peak  # noqa: PLC0415

    return {isa: round(measure_peak(isa, threads), 1) for isa in _core.isas()}


def bandwidths(cache: Path, threads: int, repeats: int = 8) -> dict[str, float]:
    """GB/s read from each level of memory, all threads together."""
    code = library(cache)
    return {k: round(code.read_bandwidth(size, threads, repeats), 1) for k, size in LEVELS.items()}


def limits(cache: Path, threads: list[int]) -> dict[str, Any]:
    """All of the above by number of threads."""
    by_threads = {
        str(n): {"gflops": peaks(n), "gbytes_per_s": bandwidths(cache, n)} for n in threads
    }
    return {"threads": by_threads, "barrier_ns": barrier(cache)}


def busy(seconds: float = 0.1) -> float | None:
    """The fraction of all CPUs in use while this waits, 0 to 1; None if the system does not say."""

    def ticks() -> tuple[int, int]:
        values = [int(v) for v in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return sum(values), values[3] + values[4]  # all; idle and waiting for disks

    try:
        total, idle = ticks()
        time.sleep(seconds)
        total_after, idle_after = ticks()
    except (OSError, ValueError, IndexError):
        return None
    passed = total_after - total
    return round(1 - (idle_after - idle) / passed, 3) if passed > 0 else None


def cpu_name() -> str:
    """The CPU's name, as the system gives it."""
    try:
        match = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        match = None
    return match.group(1).strip() if match else platform.processor() or platform.machine()


def describe() -> dict[str, Any]:
    """The kind of this machine."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split("flags", 2)[1].split("\n")[0].split())
    except (OSError, IndexError):
        flags = set()
    known = ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile"]
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": cpu_name(),
        "architecture": platform.machine(),
        "cpus": len(affinity(0)) if affinity else os.cpu_count(),
        "features": [f for f in known if f in flags],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with commas")
    parser.add_argument("--cache", help="folder for compiled code")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    args = parser.parse_args()
    threads = [int(n) for n in args.threads.split(",")]
    try:
        result = {"machine": describe(), **limits(cache_folder(args.cache), threads)}
    except RuntimeError as error:
        sys.exit(str(error))
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
