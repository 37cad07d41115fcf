"""Changes between two result files of models.py or kernels.py, beyond the noise.

    python bench/compare.py A.json B.json [--engine cnnrt] [--fail-above PERCENT] [--all]

The machine is shared, and faster at one time than at another. So if the files have peers in common,
times are first divided by the change of the same row's peers (their geometric mean). The noise of a
time is the distance of the median of the rounds' minima from the least of them. A row moved if it
changed by more than the noise of all the times that went into it. Rows whose barrier between two
threads took another time (CPUs near or far) are not compared.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine

FLOOR = 0.02
"""Changes below this fraction are never reported."""


Key = tuple[str, int, int]


@dataclass(frozen=True)
class Change:
    """One row: B relative to A."""

    key: Key
    engine: str
    before: float
    after: float
    peers: float
    """Change of the row's peers: the time of B over that of A; 1 if there are none."""
    noise: float
    same_state: bool
    """True if the barriers between two threads took about as long in both."""

    @property
    def change(self) -> float:
        """Fraction by which the engine became slower (or faster, if negative), corrected by its
        peers."""
        return self.after / self.before / self.peers - 1

    @property
    def moved(self) -> bool:
        """True if the row changed beyond the noise, and the two times can be compared at all."""
        return self.same_state and abs(math.log1p(self.change)) > max(FLOOR, self.noise)


def noise(entry: dict[str, Any]) -> float:
    """The logarithm of the median of the rounds' minima over the least."""
    rounds = entry["rounds_ms"]
    return math.log(statistics.median(rounds) / min(rounds)) if rounds else 0.0


def rows(result: dict[str, Any]) -> dict[Key, dict[str, Any]]:
    """The engines that ran, by row."""
    return {
        (r["name"], r["threads"], r["batch"]): {
            name: e for name, e in r["engines"].items() if e.get("min_ms")
        }
        for r in result["rows"]
    }


def same_state(a: dict[str, Any], b: dict[str, Any], key: Key) -> bool:
    """True if the two CPUs were about as far from each other in both files' rows."""
    usual = []
    for result in (a, b):
        for r in result["rows"]:
            if (r["name"], r["threads"], r["batch"]) == key and r.get("barrier_ns"):
                usual.append(statistics.median(r["barrier_ns"]))
    return len(usual) < 2 or max(usual) < machine.STATE * min(usual)


def changes(a: dict[str, Any], b: dict[str, Any], subject: str) -> list[Change]:
    """All rows that both files have, most slowed down first. Subjects are `cnnrt`, `cnnrt:...`."""
    found = []
    before, after = rows(a), rows(b)
    for key in before.keys() & after.keys():
        common = before[key].keys() & after[key].keys()
        peers = sorted(e for e in common if e.partition(":")[0] not in (subject, "cnnrt"))
        logs = [math.log(after[key][e]["min_ms"] / before[key][e]["min_ms"]) for e in peers]
        peer_change = math.exp(statistics.fmean(logs)) if logs else 1.0
        spread = statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else 0.0
        for engine in common:
            if engine.partition(":")[0] != subject:
                continue
            old, new = before[key][engine], after[key][engine]
            found.append(
                Change(
                    key,
                    engine,
                    old["min_ms"],
                    new["min_ms"],
                    peer_change,
                    math.hypot(noise(old), noise(new), spread),
                    same_state(a, b, key),
                )
            )
    return sorted(found, key=lambda c: (-c.change, c.key, c.engine))


def lost(a: dict[str, Any], b: dict[str, Any], subject: str) -> list[Key]:
    """Rows in which the engine ran in A and fails in B."""
    before, after = rows(a), rows(b)
    return sorted(
        k for k in before.keys() & after.keys() if subject in before[k] and subject not in after[k]
    )


def print_changes(shown: list[Change]) -> None:
    """Prints the table."""
    print(f"{'row':<38} thr  bn {'engine':<16} {'A ms':>9} {'B ms':>9}   peers  change   noise")
    for c in shown:
        name, threads, batch = c.key
        print(
            f"{name:<38} {threads:>3} {batch:>3} {c.engine:<16} {c.before:>9.4f} {c.after:>9.4f}"
            f" {c.peers - 1:>+7.1%} {c.change:>+7.1%} {math.expm1(c.noise):>7.1%}"
            + ("" if c.moved else "  within noise" if c.same_state else "  another barrier")
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("a", type=Path, metavar="A.json")
    parser.add_argument("b", type=Path, metavar="B.json")
    parser.add_argument("--engine", default="cnnrt", help="whose times are compared")
    parser.add_argument(
        "--fail-above", type=float, metavar="PERCENT", help="exit with 1 if a row slowed by more"
    )
    parser.add_argument("--all", action="store_true", help="also rows within the noise")
    args = parser.parse_args()
    a, b = (json.loads(path.read_text()) for path in (args.a, args.b))
    if a["machine"] != b["machine"]:
        print("note: the machines differ; only the ratios to peers mean something")
    found = changes(a, b, args.engine)
    shown = [c for c in found if args.all or c.moved]
    broken = lost(a, b, args.engine)
    if shown:
        print_changes(shown)
    for name, threads, batch in broken:
        print(f"{name}, threads {threads}, batch {batch}: {args.engine} ran in A and fails in B")
    print(f"{sum(c.moved for c in found)} of {len(found)} rows moved beyond the noise")
    if args.fail_above is not None:
        slower = [c for c in found if c.moved and c.change * 100 > args.fail_above]
        if slower or broken:
            sys.exit(1)


if __name__ == "__main__":
    main()
