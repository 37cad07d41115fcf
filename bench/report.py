"""Parts that result files have in common: their header, their place, and the ratio of a row."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import machine
from engines import versions
from race import Race

ROOT = Path(__file__).resolve().parent.parent


def header(arguments: dict[str, Any]) -> dict[str, Any]:
    """Machine, versions and the exact build of cnnrt."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine.describe(),
        "versions": versions(),
        "commit": commit(),
        "core": core_hash(),
        "arguments": arguments,
    }


def commit(root: Path = ROOT) -> str | None:
    """The commit that is checked out, read from the repository's files."""
    folder = root / ".git"
    try:
        if folder.is_file():  # a linked work tree
            folder = (root / folder.read_text().split(":", 1)[1].strip()).resolve()
        head = (folder / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = head[5:]
        shared = folder / "commondir"
        common = (folder / shared.read_text().strip()).resolve() if shared.exists() else folder
        if (common / ref).exists():
            return (common / ref).read_text().strip()
        for line in (common / "packed-refs").read_text().splitlines():
            if line.endswith(f" {ref}"):
                return line.split()[0]
    except (OSError, IndexError):
        pass
    return None


def core_hash() -> str | None:
    """The build of cnnrt's extension: the start of its SHA-256."""
    spec = importlib.util.find_spec("cnnrt")
    if spec is None or spec.origin is None:
        return None
    for path in sorted(Path(spec.origin).parent.glob("_core*.so")):
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return None


def save(path: Path, result: dict[str, Any]) -> None:
    """Writes a result file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.replace(path)


def default_out(cache: Path, kind: str) -> Path:
    """A new file in the cache folder."""
    return cache / "results" / f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}.json"


def ratios(race: Race, subject: str = "cnnrt") -> dict[str, Any]:
    """The best peer, and its time over the subject's (minima; medians)."""
    state = race.state
    timed = {n: e for n, e in race.entries.items() if not e.failed and e.within(state)}
    own = timed.get(subject)
    peers = {n: e for n, e in timed.items() if not n.startswith("cnnrt")}
    if not peers:
        return {"best_peer": None, "ratio": None, "ratio_median": None}
    best = min(peers, key=lambda n: peers[n].min(state) or math.inf)
    if own is None:
        return {"best_peer": best, "ratio": None, "ratio_median": None}
    least = peers[best].min(state) or math.inf
    median = min(e.median(state) or math.inf for e in peers.values())
    return {
        "best_peer": best,
        "ratio": least / (own.min(state) or math.inf),
        "ratio_median": median / (own.median(state) or math.inf),
    }


def words(text: str) -> list[str]:
    """Words with commas between."""
    return [w.strip() for w in text.split(",") if w.strip()]


def numbers(text: str) -> list[int]:
    """Numbers with commas between."""
    return [int(w) for w in words(text)]


def geometric_mean(values: Iterable[float]) -> float | None:
    """The geometric mean; None if there are no values."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def number(value: float | None, digits: int = 2) -> str:
    """A number or '-'."""
    return "-" if value is None else f"{value:.{digits}f}"


def milliseconds(value: float | None) -> str:
    """A time with three significant digits, in ms."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def barrier_text(barriers: Sequence[float]) -> str:
    """The usual barrier time; '~' and both ends if they are of different states."""
    if not barriers:
        return "-"
    low, high = min(barriers), max(barriers)
    usual = sorted(barriers)[len(barriers) // 2]
    return f"{usual:.0f}" if high < machine.STATE * low else f"{usual:.0f} ~{low:.0f}-{high:.0f}"


def others_text(others: Sequence[float]) -> str:
    """The mean fraction of the CPUs that other programs used."""
    return f"{sum(others) / len(others):.0%}" if others else "-"


def measure_barrier(cache: Path) -> Any:
    """A function for `race`; it returns None at every call if there is no compiler."""
    return lambda: machine.barrier(cache)


def note(text: str) -> None:
    """Progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def run_tool(name: str, *words: str) -> str:
    """Runs a program of this folder; returns its error output if it fails, else ''."""
    program = Path(__file__).with_name(name)
    done = subprocess.run(
        [sys.executable, str(program), *words], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    raised = [line for line in lines if line.partition(":")[0].endswith(("Error", "Exception"))]
    return [f"it ended with {done.returncode}", *lines, *raised][-1][:300]
