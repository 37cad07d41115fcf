"""Many images by one process, by this machine's cores, by Ray and by Spark: the same table, and the
images per second and core.

    python bench/scaling.py --images 10000 --engines process,local,ray,ray-data,spark
    python bench/scaling.py --parts       # where the time of an image goes, and the driver's limit
    python bench/scaling.py --stop ray    # kills a worker, and the run; the table is the same

Ray and Spark need the extras `ray` and `spark`. `per core` divides by the clock and the number of
workers. `per CPU s` divides by the CPU time of this process and of all that it started, the
framework's own included; on a shared machine that says more.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from processes import CpuTime, command_line, descendants

import cnnrt
from cnnrt.offline.job import Job, Row, classify_files, list_images, make_row
from cnnrt.offline.model_file import ModelFile
from cnnrt.offline.processes import Processes
from cnnrt.progress import progress_bar

EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTOS = ("coffee.png", "chelsea.png")
TASK = 256
PARTS = 16

Found = list[tuple[str, int, float]]
"""Path, index and probability of each image."""


def make_images(folder: Path, count: int, side: int) -> list[str]:
    """Writes JPEG files cut out of two photos, each with other pixels; returns their paths."""
    photos = [Image.open(EXAMPLES / name).convert("RGB") for name in PHOTOS]
    random = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"{i // 1000:03}" / f"{i:06}.jpg"
        photo = photos[i % len(photos)]
        part = int(random.integers(120, min(photo.size)))
        x, y = (int(random.integers(0, n - part + 1)) for n in photo.size)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            photo.resize((side, side), box=(x, y, x + part, y + part)).save(path, quality=85)
    return list(list_images([folder]))


# Engines. Each yields once when it is ready to begin, and then what it found. ---------------------


def by_process(model: ModelFile, files: list[str], _: int) -> Iterator[Found | None]:
    model.load()
    yield None
    rows: list[Row] = []
    for start in range(0, len(files), TASK):
        rows += classify_files(model, files[start : start + TASK], 1, 1)
    yield _of_rows(rows)


def by_local(model: ModelFile, files: list[str], workers: int) -> Iterator[Found | None]:
    yield None
    yield _of_job(model, files, Processes(model, 1, workers))


def by_ray(model: ModelFile, files: list[str], workers: int) -> Iterator[Found | None]:
    from cnnrt.ray import Cluster  # noqa: PLC0415

    with _ray(workers):
        yield None
        yield _of_job(model, files, Cluster(model, 1))


def by_ray_data(model: ModelFile, files: list[str], workers: int) -> Iterator[Found | None]:
    with _ray(workers) as ray:
        from cnnrt.ray import Predictor  # noqa: PLC0415

        yield None
        dataset = ray.data.from_items([{"path": file} for file in files], override_num_blocks=16)
        found = dataset.map_batches(
            Predictor,
            fn_constructor_args=[ray.put(model)],
            batch_size=64,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
        )
        yield [(row["path"], row["index"], row["probability"]) for row in found.take_all()]


def by_spark(model: ModelFile, files: list[str], workers: int) -> Iterator[Found | None]:
    from cnnrt.spark import predict_udf  # noqa: PLC0415

    session = _spark(workers)
    classify = predict_udf(model.load())

    def run(some: list[str], tasks: int) -> Found:
        paths = session.createDataFrame([(file,) for file in some], "path string")
        found = paths.repartition(tasks).select("path", classify("path").alias("found")).collect()
        return [(row.path, row.found["index"], row.found["probability"]) for row in found]

    run(files[:64], workers)  # the virtual machine compiles what it runs, for ten seconds
    yield None
    yield run(files, workers * 8)
    session.stop()


def _spark(workers: int) -> Any:
    """A session on this machine whose tasks may fail three times, as on a cluster."""
    from pyspark.sql import SparkSession  # noqa: PLC0415

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local[{workers},4]").config("spark.ui.enabled", "false")
    return builder.config("spark.log.level", "ERROR").getOrCreate()


def spark_parts(model: ModelFile, files: list[str], workers: int, output: Path) -> None:
    """Writes a table in parts. Spark writes `_SUCCESS` when a part is whole, so a run that was
    stopped goes on where it was."""
    from cnnrt.spark import predict_udf  # noqa: PLC0415

    session = _spark(workers)
    paths = session.createDataFrame([(file,) for file in files], "path string")
    found = paths.select("path", predict_udf(model.load())("path").alias("found"))
    for part in range(PARTS):
        folder = output / f"part={part}"
        if not (folder / "_SUCCESS").exists():
            rows = found.where(f"pmod(crc32(path), {PARTS}) = {part}")
            rows.repartition(2 * workers).write.mode("overwrite").parquet(str(folder))
    session.stop()


ENGINES: dict[str, Callable[[ModelFile, list[str], int], Iterator[Found | None]]] = {
    "process": by_process,
    "local": by_local,
    "ray": by_ray,
    "ray-data": by_ray_data,
    "spark": by_spark,
}


@contextmanager
def _ray(workers: int) -> Iterator[Any]:
    import ray  # noqa: PLC0415

    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()


def _of_job(model: ModelFile, files: list[str], engine: Any) -> Found:
    with tempfile.TemporaryDirectory() as folder, engine, progress_bar(len(files)) as bar:
        output = Path(folder) / "table.jsonl"
        Job(model, files, output, top=1).run(engine, bar)
        return _of_rows([json.loads(line) for line in output.read_text().splitlines()])


def _of_rows(rows: list[Row]) -> Found:
    return [(row["image"], row["index"], row["probability"]) for row in rows]


# What is measured --------------------------------------------------------------------------------


def race(model: ModelFile, files: list[str], engines: Sequence[str], workers: int) -> bool:
    """Prints a line for each engine, with a digest of what it found; True if all are the same."""
    print(f"{len(files)} images\n\nengine    workers      s  per core  per CPU s  table")
    reference: Found | None = None
    same = True
    for name in engines:
        count = 1 if name == "process" else workers
        running = ENGINES[name](model, files, count)
        next(running)
        cpu, begin = CpuTime(), time.perf_counter()
        found = sorted(next(running) or [])
        seconds, cpu_seconds = time.perf_counter() - begin, cpu.stop()
        next(running, None)
        reference = reference or found
        digest = hashlib.sha256(repr(found).encode()).hexdigest()[:12]
        same &= found == reference
        print(
            f"{name:9} {count:7} {seconds:6.1f} {len(files) / seconds / count:9.1f} "
            f"{len(files) / cpu_seconds:10.1f}  {digest}",
            flush=True,
        )
    return same


def parts(model: ModelFile, folder: Path) -> None:
    """Prints the milliseconds of CPU time that an image takes, part by part."""
    network = model.load()
    assert network.preprocessing is not None
    print("picture            decoded and prepared, ms")
    for side in (256, 512, 1024, 2048, 4000):
        (file,) = make_images(folder / str(side), 1, side)
        ms = 1e3 * _least(lambda file=file: network.input_from(file))
        print(f"{side:5} x {side:<5} JPEG {ms:10.2f}   ({Path(file).stat().st_size / 1e3:.0f} kB)")
    x = network.input_from(file)
    batch = np.concatenate([x] * 16)
    ms = 1e3 * _least(lambda: network(batch)) / 16
    print(f"network            {ms:10.2f}")
    begin = time.process_time()
    cnnrt.load(model.path() or b"", threads=1, verify=True)  # `model.load` has it already
    print(f"load, from the cache folder   {1e3 * (time.process_time() - begin):.0f} ms")
    rows = [make_row(f"{i:09}.jpg", []) for i in range(TASK)]

    class Nothing:
        """Answers at once: what remains is the driver's own work."""

        slots = 2

        def __init__(self) -> None:
            self.keys: list[tuple[int, int]] = []

        def submit(self, key: int, files: Sequence[str]) -> None:
            self.keys.append((key, len(files)))

        def wait(self) -> tuple[int, list[Row]]:
            key, count = self.keys.pop()
            return key, (rows * 2)[:count]

    names = [f"{i:09}.jpg" for i in range(100_000)]
    begin = time.process_time()
    with progress_bar(0, show=False) as bar:
        Job(model, names, folder / "table.jsonl", top=1).run(Nothing(), bar)
    print(f"driver: {len(names) / (time.process_time() - begin):.0f} rows per second of CPU time")


def _least(run: Callable[[], Any], times: int = 7) -> float:
    def once() -> float:
        begin = time.process_time()
        run()
        return time.process_time() - begin

    return min(once() for _ in range(times))


def stop(path: str, folder: Path, images: Path, workers: int, engine: str) -> bool:
    """Kills a worker and then the run, and starts it again; True if the table is that of a run
    that nobody touched."""

    def command(output: Path) -> list[str]:
        line = [sys.executable, "-m", "cnnrt", "run", path, str(images), "--output", str(output)]
        workers_of = ["--workers", str(workers)] if engine == "local" else []
        return [*line, "--engine", engine, "--shard", "64", *workers_of]

    touched, whole = folder / "touched.jsonl", folder / "whole.jsonl"
    left = Path(f"{touched}.parts")
    run = subprocess.Popen(command(touched))
    _break(run, (b"spawn_main", b"ray::classify_files"), lambda: len(list(left.glob("*.jsonl"))))
    subprocess.run(command(touched), check=True)
    subprocess.run(command(whole), check=True)
    same = touched.read_bytes() == whole.read_bytes()
    print("the same table" if same else "ANOTHER TABLE")
    return same


def stop_spark(model: ModelFile, files: list[str], line: list[str], output: Path) -> bool:
    """`stop` for `spark_parts`, in the process that `line` starts."""
    run = subprocess.Popen(line)
    _break(run, (b"pyspark.daemon",), lambda: len(list(output.glob("*/_SUCCESS"))))
    subprocess.run(line, check=True)
    from pyarrow import parquet  # noqa: PLC0415

    found: Found = []
    for file in output.glob("*/*.parquet"):
        for row in parquet.read_table(file).to_pylist():
            found.append((row["path"], row["found"]["index"], row["found"]["probability"]))
    same = sorted(found) == sorted(_of_rows(classify_files(model, files, 1, 1)))
    print("the same table" if same else "ANOTHER TABLE")
    return same


def _break(run: subprocess.Popen[bytes], names: Sequence[bytes], parts: Callable[[], int]) -> None:
    """Kills a worker of a run after three parts, and the run and all that it started after eight.

    Raises:
        SystemExit: the run ended before that.
    """

    def wait_for(count: int) -> None:
        while parts() < count:
            time.sleep(0.05)
            if run.poll() is not None:
                raise SystemExit("the run ended by itself; give it more images")

    wait_for(3)
    workers: list[int] = []
    while not workers and run.poll() is None:
        workers = [p for p in descendants(run.pid) if any(n in command_line(p) for n in names)]
    os.kill(workers[-1], signal.SIGKILL)
    wait_for(8)
    started = descendants(run.pid)
    run.kill()
    run.wait()
    for pid in started:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    print(f"killed worker {workers[-1]}, then the run, which leaves {parts()} parts", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(EXAMPLES / "efficientnet_lite0.bin"))
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--skip", type=int, default=0, help="images to leave out at the beginning")
    parser.add_argument("--side", type=int, default=256, help="pixels of an image's side")
    parser.add_argument("--folder", type=Path, help="keeps the images here")
    parser.add_argument("--engines", default="process,local")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--stop", choices=["local", "ray", "spark"], help="the engine of the run")
    parser.add_argument("--spark-parts", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = ModelFile(cnnrt.load(options.model))
        if options.parts:
            parts(model, folder)
            return 0
        images = options.folder or folder / "images"
        last = options.skip + options.images
        files = make_images(images, last, options.side)[options.skip : last]
        if options.spark_parts:
            spark_parts(model, files, options.workers, options.spark_parts)
            return 0
        if options.stop == "spark":
            line = [sys.executable, *sys.argv[:1], "--model", options.model]
            line += ["--folder", str(images), "--images", str(options.images)]
            output = folder / "spark"
            return int(not stop_spark(model, files, [*line, "--spark-parts", str(output)], output))
        if options.stop:
            return int(not stop(options.model, folder, images, options.workers, options.stop))
        return int(not race(model, files, options.engines.split(","), options.workers))


if __name__ == "__main__":
    sys.exit(main())
