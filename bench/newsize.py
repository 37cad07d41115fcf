"""The cost of the first run at a new input size beyond a steady run at that size.

    python bench/newsize.py [--networks detector,recogniser] [--threads 1,2] [--rounds R]
                            [--sizes N] [--file FILE ...] [--clock cpu] [--out results.json]
    python bench/newsize.py --profile                       # where cnnrt's planning time goes

A detector with free height and width and a recogniser of text lines with a free width
(free_networks.py), each at 20 sizes. One process per engine and round, so that every round has a
first run at every size. At each size the engines take turns: the first run is timed, then some
more. `--file` measures an ONNX file of your own instead, whose one input has a free width, or a
free height and width. See README.md for how to read the table.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import report
from engines import Source, engine
from machine import cache_folder

import cnnrt
from cnnrt.benchmark import worker
from cnnrt.benchmark.process import Worker

NETWORKS = ("detector", "recogniser")
HEIGHT = 48
"""Height of a line of text, if the file leaves it open."""

CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.process_time_ns}

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Subject:
    """A network and its files."""

    name: str
    onnx: Path
    input: Path
    reference: Path


@dataclass
class Times:
    """Times of one engine at one size, a number per round, in ms."""

    first: list[float] = field(default_factory=list)
    steady: list[float] = field(default_factory=list)
    """Medians of the later runs of a round."""
    shortest: list[float] = field(default_factory=list)

    @property
    def extra(self) -> tuple[float, float]:
        """First run less steady run: that of the minima, and the median over the rounds."""
        differences = [a - b for a, b in zip(self.first, self.steady, strict=True)]
        return min(self.first) - min(self.shortest), statistics.median(differences)


def sizes(x: Shape, count: int) -> list[Shape]:
    """Distinct sizes other than that of `x`; for a detector if `x` is higher than a line."""
    batch, channels, height, _ = x
    if height > 2 * HEIGHT:
        pairs = [(32 * (8 + i % 6), 32 * (9 + 5 * i % 11)) for i in range(count)]
    else:
        pairs = [(height, 96 + 32 * i + 8 * (i % 4)) for i in range(count)]
    return [(batch, channels, *pair) for pair in dict.fromkeys(pairs) if pair != x[2:]]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=report.words, default=list(NETWORKS))
    parser.add_argument("--file", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--engines", type=report.words, default=["cnnrt", "onnxruntime"])
    parser.add_argument("--threads", type=report.numbers, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--sizes", type=int, default=20, help="how many")
    parser.add_argument("--runs", type=int, default=8, help="after the first, at each size")
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="'cpu': the CPU time of the process, on one thread beside other programs",
    )
    parser.add_argument("--profile", action="store_true", help="phases of planning; no race")
    parser.add_argument("--cache", help="folder for exported networks")
    parser.add_argument("--out", type=Path, help="result file; default: in the cache folder")
    args = parser.parse_args()
    if min([args.rounds, args.sizes, args.runs, *args.threads]) < 1:
        parser.error("threads, rounds, sizes and runs are positive")
    cache = cache_folder(args.cache)
    subjects = [given(f, cache) for f in args.file] or [prepared(n, cache) for n in args.networks]
    keys = ("engines", "threads", "rounds", "sizes", "runs", "clock")
    result = report.header({k: getattr(args, k) for k in keys})
    result["rows"] = []
    for subject in subjects:
        if args.profile:
            result["rows"].append(profile(subject, args.sizes, args.rounds))
            continue
        for threads in args.threads:
            result["rows"].append(measure(subject, threads, args, cache))
            report.save(args.out or report.default_out(cache, "newsize"), result)
    if args.out and args.profile:
        report.save(args.out, result)


# ------------------------------------------------------------------------------------------------
# Networks


def prepared(name: str, cache: Path) -> Subject:
    """A network of free_networks.py, made in a process of its own: PyTorch is not in this one."""
    if failed := report.run_tool("free_networks.py", name, "--cache", str(cache)):
        raise SystemExit(f"{name}: cannot be prepared: {failed}")
    folder = max(
        (cache / "networks").glob(f"{name}-*/reference.npy"), key=lambda f: f.stat().st_mtime
    ).parent
    files = [folder / f for f in ("model.onnx", "input.npy", "reference.npy")]
    return Subject(name, *files)


def given(file: Path, cache: Path) -> Subject:
    """An ONNX file with an input, and onnxruntime's output for it as the reference."""
    import onnxruntime  # noqa: PLC0415  (only here)

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (spec,) = session.get_inputs()
    batch, channels, height, width = (d if isinstance(d, int) else None for d in spec.shape)
    if width is not None:
        raise SystemExit(f"{file}: the width of its input is not free: {spec.shape}")
    line = height is not None or "rec" in file.name
    shape = (batch or 1, channels or 3, height or (HEIGHT if line else 224), 88 if line else 256)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    folder = cache / "networks" / f"newsize-{file.stem}"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "input.npy", x)
    np.save(folder / "reference.npy", session.run(None, {spec.name: x})[0])
    return Subject(file.stem, file, folder / "input.npy", folder / "reference.npy")


# ------------------------------------------------------------------------------------------------
# The race


def measure(
    subject: Subject, threads: int, args: argparse.Namespace, cache: Path
) -> dict[str, Any]:
    """Measures all sizes of a network on this many threads; prints a table, returns a row of the
    result."""
    shape = tuple(np.load(subject.input, mmap_mode="r").shape)
    shapes = sizes(shape, args.sizes)  # type: ignore[arg-type]
    times = {name: {s: Times() for s in shapes} for name in args.engines}
    errors = {}
    others, barriers = [], []
    barrier = report.measure_barrier(cache)
    for round_ in range(args.rounds):
        if threads > 1 and (measured := barrier()):
            barriers.append(measured["median"])
        if (busy := report.machine.busy()) is not None:
            others.append(busy)
        workers = {
            name: Worker(name, threads, [sys.executable, __file__, "--worker"])
            for name in args.engines
        }
        try:
            source = Source(subject.onnx, None, shape)
            for name, process in workers.items():
                loaded = process.ask(
                    "load", source=source, input=subject.input, ref=subject.reference
                )
                errors[name] = loaded["error"]
            for i, size in enumerate(shapes):
                start = (round_ + i) % len(workers)
                order = list(workers)
                for name in order[start:] + order[:start]:
                    found = workers[name].ask("size", shape=size, runs=args.runs, clock=args.clock)
                    entry = times[name][size]
                    entry.first.append(found["first"] / 1e6)
                    entry.steady.append(found["median"] / 1e6)
                    entry.shortest.append(found["min"] / 1e6)
        finally:
            for process in workers.values():
                process.close()
    print_table(f"{subject.name}, {threads} thread{'s' * (threads > 1)}", times, errors)
    print(f"others {report.others_text(others)}, barrier ns {report.barrier_text(barriers)}\n")
    return {
        "name": subject.name,
        "threads": threads,
        "others": others,
        "barrier_ns": barriers,
        "errors": errors,
        "sizes": [
            {"shape": size, **{name: vars(times[name][size]) for name in times}} for size in shapes
        ],
        "summary": {name: summary(list(by_size.values())) for name, by_size in times.items()},
    }


def summary(entries: list[Times]) -> dict[str, float | None]:
    """Geometric means of steady and first runs over all sizes, and the median extra, in ms."""
    least, usual = zip(*(e.extra for e in entries), strict=True)
    return {
        "steady_min": report.geometric_mean(min(e.shortest) for e in entries),
        "steady_median": report.geometric_mean(statistics.median(e.steady) for e in entries),
        "first_min": report.geometric_mean(min(e.first) for e in entries),
        "first_median": report.geometric_mean(statistics.median(e.first) for e in entries),
        "extra_min": statistics.median(least),
        "extra_median": statistics.median(usual),
        "extra_most": max(least),
    }


def print_table(title: str, times: dict[str, dict[Shape, Times]], errors: dict[str, float]) -> None:
    """Prints a line per size, then all sizes together. Each cell has minima and, in brackets,
    medians."""
    print(title)
    heads = "".join(f" {f'{n} steady ms':>24} {'extra ms':>16}" for n in times)
    print(f"{'size':<10}{heads}")

    def cell(least: float | None, usual: float | None) -> str:
        return f"{report.number(least, 1)} ({report.number(usual, 1)})"

    for size in next(iter(times.values())):
        line = f"{size[2]}x{size[3]}"
        cells = ""
        for by_size in times.values():
            entry = by_size[size]
            steady = cell(min(entry.shortest), statistics.median(entry.steady))
            cells += f" {steady:>24} {cell(*entry.extra):>16}"
        print(f"{line:<10}{cells}")
    totals = {name: summary(list(by_size.values())) for name, by_size in times.items()}
    cells = "".join(
        f" {cell(t['steady_min'], t['steady_median']):>24} "
        f"{cell(t['extra_min'], t['extra_median']):>16}"
        for t in totals.values()
    )
    print(f"{'all':<10}{cells}    (steady: geometric mean; extra: median)")
    for name, t in totals.items():
        print(
            f"{name}: first run {cell(t['first_min'], t['first_median'])} ms, largest extra "
            f"{report.number(t['extra_most'], 1)} ms; error {errors[name]:.0e}",
            flush=True,
        )


def work() -> None:
    """One engine in a process of its own: loads as `cnnrt.benchmark.worker` does, then runs."""
    out = worker.os.fdopen(worker.os.dup(1), "w", buffering=1)
    worker.os.dup2(2, 1)  # what libraries print is not an answer
    name, threads = sys.argv[2], int(sys.argv[3])
    subject = engine(name)
    run: worker.Run | None = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if command["do"] == "load":
                run, _, answer = worker.load(subject, command, threads)
            else:
                assert run is not None
                x = np.random.default_rng(1).standard_normal(command["shape"], np.float32)
                taken = []
                clock = CLOCKS[command["clock"]]
                for _ in range(1 + command["runs"]):
                    start = clock()
                    run(x)
                    taken.append(clock() - start)
                first, *rest = taken
                answer = {"first": first, "min": min(rest), "median": statistics.median(rest)}
        except Exception as error:  # whatever an engine raises is the answer
            answer = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(answer), file=out)


# ------------------------------------------------------------------------------------------------
# Phases of planning

PHASES = (
    ("arena", r"\.arena$"),
    ("weights", r"\.(packed|lazy|weights)\b"),
    ("inference", r"\.passes\.infer$"),
    ("passes", r"\.passes\b"),
    ("lowering", r"\.lowering\b(?!\.(tensors|strides)$)"),
    ("batching", r"\.(batch|batches)$"),
    ("core", r"\.(plan|core)$"),
    ("cache", r"\.(plans|plan_cache)$"),
)
"""Phases by the name of a module. The innermost frame of a phase decides; `ops`, `graph` and other
helpers belong to their callers. `core` makes C++ steps."""
INTERVAL = 5e-4
"""Seconds between two looks at the stack."""


def profile(subject: Subject, count: int, rounds: int) -> dict[str, Any]:
    """The CPU time of planning for a new size by function, from a look at the stack every 0.5 ms.

    `Model.describe` plans without a run. Prints ms per size by phase, then by function.
    """
    x = np.load(subject.input)
    shapes = sizes(x.shape, count)
    stacks: Counter[tuple[tuple[str, CodeType], ...]] = Counter()
    total = 0

    def look(_: int, frame: FrameType | None) -> None:
        stack = []
        while frame is not None:
            stack.append((frame.f_globals.get("__name__", ""), frame.f_code))
            frame = frame.f_back
        stacks[tuple(stack)] += 1

    before = signal.signal(signal.SIGALRM, look)
    for _ in range(rounds):
        model = cnnrt.load(subject.onnx, threads=1)
        model.describe(x)
        for shape in shapes:
            y = np.zeros(shape, np.float32)
            signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)
            start = time.thread_time_ns()
            model.describe(y)
            total += time.thread_time_ns() - start
            signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    phases, own, below = attributed(stacks)
    share = total / 1e6 / (rounds * len(shapes)) / max(1, phases.total())
    print(f"{subject.name}: {share * phases.total():.1f} ms of planning per new size, 1 thread")
    for phase, samples in phases.most_common():
        print(f"  {phase:<10} {share * samples:6.2f} ms")
    print("  ms alone, and with what it calls:")
    for name, samples in own.most_common(30):
        print(f"  {share * samples:6.2f} {share * below[name]:7.2f}  {name}")
    return {
        "name": subject.name,
        "ms": share * phases.total(),
        "phases_ms": {k: share * v for k, v in phases.most_common()},
        "functions_ms": {k: (share * v, share * below[k]) for k, v in own.most_common(100)},
        "below_ms": {k: share * v for k, v in below.most_common(100)},
    }


def attributed(
    stacks: Counter[tuple[tuple[str, CodeType], ...]],
) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Counts of each phase, of each function alone, and of each function with its callees."""
    phases: Counter[str] = Counter()
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for stack, count in stacks.items():
        ours = [(m, code) for m, code in stack if m.partition(".")[0] == "cnnrt"]
        names = [f"{m.removeprefix('cnnrt.')}.{code.co_qualname}" for m, code in ours]
        found = (phase for m, _ in ours for phase, rule in PHASES if re.search(rule, m))
        phases[next(found, "other")] += count
        for name in names[:1]:
            own[name] += count
        for name in set(names):
            below[name] += count
    return phases, own, below


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work()
    else:
        main()
