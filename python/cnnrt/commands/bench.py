"""`python -m cnnrt bench`: how fast a network runs, also beside other engines."""

from __future__ import annotations

import argparse
import dataclasses

from .. import benchmark, feeds
from ..analysis.summary import size_text
from ..benchmark import Measurement
from ..benchmark.worker import ENGINES
from ..errors import ShapeError
from ..model import Model
from ..process.extras import require
from ..process.threads import get_num_threads
from .common import add_input, count, input_shapes, list_of, print_json, seconds

HELP = "measure how fast a network runs, also beside onnxruntime and OpenVINO"

PEERS = [name for name in ENGINES if name != "cnnrt"]

COLUMNS = (
    *(("engine", 20), ("threads", 8), ("batch", 6), ("min ms", 10), ("median ms", 10)),
    *(("p99 ms", 10), ("per second", 11), ("load ms", 9), ("peak memory", 12)),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Runs a network on random numbers, each engine in a process of its own, all taking turns. "
        "Prints the latency of a call from Python, its 99th percentile, how many images come out "
        "in a second, the time to load the file, and the most memory of the process."
    )
    add = parser.add_argument
    add("model", help="model.bin or an ONNX file")
    add_input(parser)
    numbers = list_of(count)
    add("--threads", type=numbers, metavar="N,N", help="(default: the cores there are)")
    add("--batch", type=numbers, metavar="N,N", help="batch sizes (default: the model's own, or 1)")
    add("--seconds", type=seconds, default=3.0, metavar="S", help="for each row (default: 3)")
    add(
        "--against",
        type=list_of(_peer),
        default=[],
        metavar="NAME,NAME",
        help=f"engines to measure beside, of {', '.join(PEERS)}",
    )
    add("--json", action="store_true", help="print JSON: a list with one object per row")


def execute(options: argparse.Namespace) -> int:
    if options.against:
        for name in options.against:
            require(f"--against {name}", ENGINES[name].package)
        require("--against", "onnx")

    def shapes(model: Model, batch: int | None) -> dict[str, tuple[int, ...]]:
        return batch_shapes(model, input_shapes(options.input, model), batch)

    shown: list[Measurement] = []

    def show(row: Measurement) -> None:
        if options.json:
            return
        if not shown:  # nothing is printed before something could be measured
            print(
                f"{COLUMNS[0][0]:<{COLUMNS[0][1]}}", *(f"{n:>{w}}" for n, w in COLUMNS[1:]), sep=""
            )
        shown.append(row)
        print(_line(row), flush=True)

    rows = benchmark.benchmark(
        options.model,
        engines=["cnnrt", *options.against],
        threads=options.threads or [get_num_threads()],
        batches=options.batch or [None],
        seconds=options.seconds,
        shapes=shapes,
        done=show,
    )
    if options.json:
        print_json([dataclasses.asdict(row) for row in rows])
    return 0 if all(not row.failed for row in rows if row.engine == "cnnrt") else 1


def batch_shapes(
    model: Model, given: dict[str, tuple[int, ...]] | None, batch: int | None
) -> dict[str, tuple[int, ...]]:
    """The shapes asked for or stated, with the batch size in free first axes.

    Args:
        given: the shapes of --input, by the names of the inputs.
        batch: None: what the model or `given` says, or 1.

    Raises:
        ShapeError: the network cannot run at this batch size, or `given` has another.
    """
    found = feeds.shapes(model.inputs, given)
    named = given or {}
    free = [
        spec.name
        for spec in model.inputs
        if spec.shape and isinstance(spec.shape[0], str) and spec.name not in named
    ]
    if batch is None or free:
        return {n: (batch or s[0], *s[1:]) if n in free else s for n, s in found.items()}
    fixed = next((s[0] for s in found.values() if s), 1)
    if batch != fixed:
        name = next(iter(found))
        reason = (
            f"--input gives {fixed} for the first axis of {name!r}: leave --input or --batch out"
            if named
            else f"the first axis of its input {name!r} is fixed at {fixed}: export the network "
            "with a free batch, or leave --batch out"
        )
        raise ShapeError(f"--batch {batch}: {reason}")
    return found


def _peer(name: str) -> str:
    if name not in PEERS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PEERS)}")
    return name


def _line(row: Measurement) -> str:
    version = row.version if row.version != "0" else None  # a source tree
    name = " ".join(filter(None, (row.engine, version)))
    start = f"{name:<20}{row.threads:>8}{row.batch:>6}"
    if row.failed:
        return f"{start}  {row.failed}"
    times = "".join(f"{t:>10.3f}" for t in (row.min_ms, row.median_ms, row.p99_ms))
    memory = "" if row.peak_bytes is None else size_text(row.peak_bytes)
    return f"{start}{times}{row.per_second:>11.1f}{row.load_ms:>9.1f}{memory:>12}"
