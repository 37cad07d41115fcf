"""Whole networks on cnnrt and its peers, side by side.

    python bench/models.py [--networks a,b] [--engines a,b] [--threads 1,2] [--batch 1,8]
                           [--seconds S] [--rounds R] [--out results.json] [--plot file.png]
    python bench/models.py --int8 u8,s8 ...      # the networks as onnxruntime quantises them
    python bench/models.py --before PYTHON ...   # beside the cnnrt of another environment

Every row is a race of its own: one process per engine, all loaded first, each output checked
against PyTorch's, then timed in turns. The table has the shortest and (the median) run in ms; the
ratio is best peer / cnnrt, more than 1 if cnnrt is faster. Quantised networks are checked against
onnxruntime's output. See README.md for how to read it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import quantised
import report
from engines import ENGINES, Source
from machine import cache_folder
from race import BEFORE, Race, race

import networks
from cnnrt.benchmark import WRONG

ALL = ("cnnrt", "cnnrt:tune", *(name for name in ENGINES if name != "cnnrt"))
"""The engines that are measured unless some are chosen."""

PROMISED = 1e-4
"""The relative error that cnnrt promises; above it a time is marked with '!'."""


def main() -> None:
    """The command line."""
    args = arguments()
    cache = cache_folder(args.cache)
    out = args.out or report.default_out(cache, "models")
    result = report.header(
        {k: getattr(args, k) for k in ("engines", "threads", "batch", "seconds", "rounds")}
    )
    result["rows"] = []
    peers = [n for n in args.engines if n != BEFORE]
    missing = [n for n in peers if result["versions"][n.partition(":")[0]] is None]
    if missing:
        report.note(f"not installed: {', '.join(missing)}")
    print_head(args.engines, 28 if args.memory else 18)
    for name in args.networks:
        for batch in args.batch:
            for threads in args.threads:
                for activations in args.int8 or [""]:
                    row = measure(name, batch, threads, activations, args, cache)
                    result["rows"].append(row)
                    report.save(out, {**result, "summary": summary(result["rows"])})
    print_summary(result["rows"])
    print(f"written: {out}")
    if args.plot:
        plot(result["rows"], args.plot)


def arguments() -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=report.words, default=list(networks.NETWORKS))
    parser.add_argument("--engines", type=report.words)
    parser.add_argument("--threads", type=report.numbers, default=[1, 2])
    parser.add_argument("--batch", type=report.numbers, default=[1])
    parser.add_argument("--seconds", type=float, default=4.0, help="per engine and row")
    parser.add_argument("--rounds", type=int, default=8, help="turns into which they are split")
    parser.add_argument(
        "--patience",
        type=float,
        default=0,
        metavar="SECONDS",
        help="per row, to wait for other programs to be quiet before a round",
    )
    parser.add_argument(
        "--memory", action="store_true", help="also the most memory of each process in its runs"
    )
    parser.add_argument(
        "--int8",
        type=report.words,
        default=[],
        metavar="TYPES",
        help="quantised networks instead, with activations of u8, of s8, or rows of both",
    )
    parser.add_argument(
        "--before",
        metavar="PYTHON",
        help="also the cnnrt of this interpreter's environment, of an older commit, say; beside it "
        "cnnrt alone, unless engines are chosen",
    )
    parser.add_argument("--cache", help="folder for exported networks")
    parser.add_argument("--out", type=Path, help="result file; default: in the cache folder")
    parser.add_argument("--plot", type=Path, help="bar chart of the ratios (needs matplotlib)")
    args = parser.parse_args()
    if args.before:
        args.engines = [*(args.engines or ["cnnrt"]), BEFORE]
    args.engines = args.engines or list(quantised.ENGINES if args.int8 else ALL)
    if not set(args.int8) <= set(quantised.ACTIVATIONS):
        parser.error(f"--int8 takes {' and '.join(quantised.ACTIVATIONS)}")
    if args.int8 and args.batch != [1]:
        parser.error("quantised networks have batch size 1")
    for name in args.networks:
        if name not in networks.ALL:
            parser.error(f"unknown network {name!r}; known: {', '.join(networks.ALL)}")
    for name in args.engines:
        if name.partition(":")[0] not in ENGINES and not (name == BEFORE and args.before):
            parser.error(f"unknown engine {name!r}; known: {', '.join(ENGINES)}")
    if min(args.threads + args.batch + [args.rounds]) < 1 or args.seconds <= 0:
        parser.error("threads, batch, rounds and seconds are positive")
    return args


def measure(
    name: str, batch: int, threads: int, activations: str, args: argparse.Namespace, cache: Path
) -> dict[str, Any]:
    """One row: measured, printed, and as JSON. Quantised if the type of activations is given."""
    label = f"{name} {activations}" if activations else name
    row: dict[str, Any] = {"name": label, "threads": threads, "batch": batch}
    # In a process of its own, so that PyTorch is not in this one.
    if activations:
        words = ["quantised.py", name, "--activations", activations]
    else:
        words = ["networks.py", name, "--batch", str(batch)]
    failed = report.run_tool(*words, "--cache", str(cache))
    if failed:
        report.note(f"{label}: cannot be prepared: {failed}")
        return {**row, "failed": failed, "engines": {}, "ratio": None}
    if activations:
        files = quantised.prepare(name, activations, cache)
    else:
        files = networks.prepare(name, batch, cache)
    shape = (batch, *networks.ALL[name].shape)
    where = f"{label}, threads {threads}, batch {batch}"
    done = race(
        args.engines,
        Source(files.onnx, files.torchscript, shape),
        threads,
        files.input,
        files.reference,
        seconds=args.seconds,
        rounds=args.rounds,
        barrier=report.measure_barrier(cache),
        patience=args.patience,
        wrong=quantised.WRONG if activations else WRONG,
        before=args.before,
        say=lambda text: report.note(f"  {where}: {text}"),
    )
    ratios = report.ratios(done)
    print_row(row, done, ratios, args.memory)
    return {**row, **done.json(), **ratios}


# ------------------------------------------------------------------------------------------------
# Table


def print_head(engines: list[str], width: int) -> None:
    """The head of the table."""
    columns = "".join(f" {n:>{width}}" for n in engines)
    print(f"{'network':<22} thr  bn{columns}  {'best peer':<12} ratio (median)  others  barrier ns")


def print_row(row: dict[str, Any], done: Race, ratios: dict[str, Any], memory: bool) -> None:
    """One row of the table."""
    state = done.state
    cells = []
    for entry in done.entries.values():
        if entry.failed or not entry.within(state):
            cells.append("-")
            continue
        mark = "!" if entry.error > PROMISED else ""
        shortest, median = entry.min(state), entry.median(state)
        cell = f"{report.milliseconds(shortest)}{mark} ({report.milliseconds(median)})"
        cells.append(f"{cell} {(entry.peak_bytes or 0) / 1e6:.0f} MB" if memory else cell)
    ratio = f"{report.number(ratios['ratio'])} ({report.number(ratios['ratio_median'])})"
    others, barrier = report.others_text(done.others), report.barrier_text(done.barriers())
    print(
        f"{row['name']:<22} {row['threads']:>3} {row['batch']:>3}"
        + "".join(f" {c:>{28 if memory else 18}}" for c in cells)
        + f"  {ratios['best_peer'] or '-':<12} {ratio:<14} {others:>7}  {barrier}",
        flush=True,
    )


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Geometric means of the ratios, by threads and batch, and over all rows."""
    kinds = sorted({(r["threads"], r["batch"]) for r in rows})
    groups = [(t, b, [r for r in rows if (r["threads"], r["batch"]) == (t, b)]) for t, b in kinds]
    if len(kinds) > 1:
        groups.append((None, None, rows))
    return [
        {
            "threads": threads,
            "batch": batch,
            "rows": len([r for r in group if r.get("ratio")]),
            "of": len(group),
            "ratio": report.geometric_mean(r["ratio"] for r in group if r.get("ratio")),
            "ratio_median": report.geometric_mean(
                r["ratio_median"] for r in group if r.get("ratio")
            ),
        }
        for threads, batch, group in groups
    ]


def print_summary(rows: list[dict[str, Any]]) -> None:
    """Prints the geometric means, and the meaning of '!' and '-' if they occur."""
    for group in summary(rows):
        which = (
            "all rows"
            if group["threads"] is None
            else f"threads {group['threads']}, batch {group['batch']}"
        )
        print(
            f"geometric mean best peer / cnnrt, {which}: {report.number(group['ratio'])} "
            f"(medians {report.number(group['ratio_median'])}); "
            f"{group['rows']} of {group['of']} rows"
        )
    for row in rows:
        if "failed" in row:
            print(f"- {row['name']}, batch {row['batch']}: cannot be prepared: {row['failed']}")
        for engine, entry in row["engines"].items():
            if "failed" in entry:
                where = f"{row['name']}, threads {row['threads']}, batch {row['batch']}"
                print(f"- {where}: {engine}: {entry['failed']}")
    if any(e.get("error", 0) > PROMISED for r in rows for e in r["engines"].values()):
        print(f"! relative error above {PROMISED:g}")


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws a bar per network and number of threads: best peer / cnnrt."""
    try:
        import matplotlib  # noqa: PLC0415

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt  # noqa: PLC0415
    except ImportError:
        sys.exit("no plot: matplotlib is not installed")
    rows = [r for r in rows if r.get("ratio")]
    names = list(dict.fromkeys(r["name"] for r in rows))
    kinds = sorted({(r["batch"], r["threads"]) for r in rows})
    if not rows:
        sys.exit("no plot: no row has a ratio")
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.32 * len(names)))
    height = 0.8 / len(kinds)
    for k, (batch, threads) in enumerate(kinds):
        chosen = {
            r["name"]: r["ratio"] for r in rows if (r["batch"], r["threads"]) == (batch, threads)
        }
        places = [
            i + (k - (len(kinds) - 1) / 2) * height for i, n in enumerate(names) if n in chosen
        ]
        label = f"{threads} thread{'s' * (threads > 1)}" + (f", batch {batch}" if batch > 1 else "")
        bars = axes.barh(places, [chosen[n] for n in names if n in chosen], height, label=label)
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=2)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("time of the fastest peer / time of cnnrt (more than 1: cnnrt is faster)")
    axes.margins(x=0.1, y=0.01)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    print(f"written: {path}")


if __name__ == "__main__":
    main()
