"""`python -m cnnrt run --output OUT.parquet`: a table of the classes of any number of images."""

from __future__ import annotations

import argparse
import time
import warnings
from contextlib import AbstractContextManager
from typing import Any

from PIL import Image

from ..model import Model
from ..offline.job import FORMATS, SHARD, Job
from ..offline.model_file import ModelFile
from ..offline.predictor import Predictor
from ..offline.processes import Processes
from ..process.extras import require
from ..process.threads import get_num_threads
from ..progress import progress_bar
from .common import count

ENGINES = ("local", "ray")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "tables", "For --output x.parquet and x.jsonl. A task has one thread, or as --threads says."
    )
    add = group.add_argument
    add("--engine", choices=ENGINES, help="processes of this machine, or a Ray cluster")
    add("--workers", type=count, metavar="N", help="processes (default: the cores there are)")
    add("--address", help="of the Ray cluster (default: RAY_ADDRESS, or one of this machine)")
    add(
        "--shard",
        type=count,
        metavar="N",
        help=f"images in a part of it, about (default: {SHARD})",
    )


def is_requested(options: argparse.Namespace) -> bool:
    """True if the output is a table; options of tables without one end the program."""
    if options.output and options.output.endswith(FORMATS):
        if options.json:
            options.usage_error("--json prints; for a table of JSON lines use --output x.jsonl")
        if options.engine == "ray" and options.workers:
            options.usage_error("--workers is of --engine local; Ray's cluster has its own")
        if options.engine != "ray" and options.address:
            options.usage_error("--address is of --engine ray")
        return True
    for name in ("engine", "workers", "address", "shard"):
        if getattr(options, name):
            options.usage_error(f"--{name} is for tables: add --output x.parquet or x.jsonl")
    return False


def execute(options: argparse.Namespace, model: Model) -> int:
    """Writes the table; 1 if any image could not be read.

    Raises:
        CnnrtError, OSError, ImportError: the model cannot be loaded or is no classifier, there are
            no images, the table cannot be written, or a package is missing.
    """
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    threads = options.threads or 1
    if options.engine == "ray":
        require("--engine ray", "ray")
    Predictor(model).check()
    file = ModelFile(model)
    job = Job(file, options.images, options.output, top=options.top, shard=options.shard or SHARD)
    total = job.count()
    begin = time.monotonic()
    with _engine(options, file, threads) as engine, progress_bar(total) as bar:
        rows = job.run(engine, bar)
    seconds = time.monotonic() - begin
    resumed = f", {job.resumed} of an earlier run" if job.resumed else ""
    print(
        f"{options.output}: {rows} images, {job.bad} that cannot be read{resumed}; {seconds:.1f} s"
    )
    return int(job.bad > 0)


def _engine(
    options: argparse.Namespace, file: ModelFile, threads: int
) -> AbstractContextManager[Any]:
    if options.engine == "ray":
        from ..ray import Cluster  # noqa: PLC0415  (an optional dependency)

        return Cluster(file, options.top, options.address, threads)
    workers = options.workers or max(1, get_num_threads() // threads)
    return Processes(file, options.top, workers, threads)
