"""Load time and memory: from a file to the first result, in a new process each time.

    python bench/load.py --networks resnet50,mobilenet_v2 --rounds 10

Each round starts a process for each way, which imports the engine, then loads the file and runs one
image. The ways take turns. The files are in the system's file cache. `peak` is the largest resident
memory of the process beyond that after the import, pages of mapped files included.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import report
from engines import Source, engine
from machine import cache_folder

import networks


@dataclass(frozen=True)
class Way:
    """An engine and the file that it loads."""

    name: str
    engine: str
    file: Path


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=report.words, default=["resnet50", "mobilenet_v2"])
    parser.add_argument("--engines", type=report.words, default=["onnxruntime"], help="the peers")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--cache", help="folder for exported networks")
    parser.add_argument("--out", type=Path, help="result file; default: in the cache folder")
    args = parser.parse_args()
    cache = cache_folder(args.cache)
    result = report.header({"threads": args.threads, "rounds": args.rounds})
    result["rows"] = []
    states: list[str] = []
    columns = ("file", "import ms", "to first result ms", "load ms", "first run ms", "peak MB")
    print("| network | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    for name in args.networks:
        failed = report.run_tool("networks.py", name, "--cache", str(cache))
        if failed:
            report.note(f"{name}: cannot be prepared: {failed}")
            continue
        files = networks.prepare(name, 1, cache)
        ways = [Way(f"cnnrt, {kind}", "cnnrt", f) for kind, f in compiled(files.onnx).items()]
        ways += [Way(f"{e}, .onnx", e, files.onnx) for e in ["cnnrt", *args.engines]]
        measured: dict[str, list[dict[str, float]]] = {way.name: [] for way in ways}
        barriers: list[float] = []
        for round_ in range(args.rounds + 1):
            if args.threads > 1 and (barrier := report.measure_barrier(cache)()):
                barriers.append(barrier["median"])
            for way in ways[round_ % len(ways) :] + ways[: round_ % len(ways)]:
                found = measure(way, files.input, args.threads)
                if round_:  # the first brings the files into the cache
                    measured[way.name].append(found)
        for way_name, rows in measured.items():
            print_row(name, way_name, rows)
        states.append(f"{name} {report.barrier_text(barriers)}")
        row = {"name": name, "threads": args.threads, "barrier_ns": barriers, "ways": measured}
        result["rows"].append(row)
        report.save(args.out or report.default_out(cache, "load"), result)
    print(f"barrier ns: {', '.join(states)}")


def compiled(onnx: Path) -> dict[str, Path]:
    """model.bin and a compiled file beside an ONNX file, made anew: cnnrt may have changed."""
    target, packed = onnx.with_name("load.bin"), onnx.with_name("load.packed.bin")
    for words in (
        ["convert", str(onnx), str(target)],
        ["compile", str(target), "-o", str(packed)],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "cnnrt", *words], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(done.stderr)
    return {"model.bin": target, "compiled": packed}


def measure(way: Way, image: Path, threads: int) -> dict[str, float]:
    """One load and run in a process of its own."""
    command = [sys.executable, __file__, "--child", way.engine, str(way.file), str(image)]
    done = subprocess.run(
        [*command, str(threads)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    if done.returncode:
        raise SystemExit(f"{way.name}: {done.stderr[-500:]}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {"import": import_time(way.engine), **answer}


def import_time(name: str) -> float:
    """Milliseconds that an engine's package takes to import, after NumPy. In another process than
    `child`'s, as the tools here import cnnrt themselves."""
    code = (
        "import time, numpy; start = time.perf_counter(); "
        f"import {engine(name).package}; print(1e3 * (time.perf_counter() - start))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def child(name: str, file: str, image: str, threads: int) -> dict[str, float]:
    """The figures of `measure`, in ms and MB, taken in this process."""
    x = np.load(image)
    subject = engine(name)
    importlib.import_module(subject.package)
    times = [time.perf_counter()]
    before = peak()
    run = subject.load(Source(Path(file), None, x.shape), threads)
    times.append(time.perf_counter())
    run(x)
    times.append(time.perf_counter())
    load, first = (1e3 * float(t) for t in np.diff(times))
    return {
        "load": load,
        "first": first,
        "both": load + first,
        "peak": (peak() - before) / 1e6,
    }


def peak() -> int:
    """The largest resident memory of this process so far, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def print_row(network: str, way: str, rows: list[dict[str, float]]) -> None:
    """Minimum and, in brackets, median of each column."""

    def text(key: str) -> str:
        values = [row[key] for row in rows]
        return f"{min(values):.0f} ({statistics.median(values):.0f})"

    columns: list[Any] = [network, way, *map(text, ("import", "both", "load", "first", "peak"))]
    print("| " + " | ".join(columns) + " |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(*sys.argv[2:5], int(sys.argv[5]))))
    else:
        main()
