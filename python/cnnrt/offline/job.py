"""A folder of any size becomes a table: listed, cut into shards, classified, resumed, written.

The rows of a shard are a part file of JSON lines, named by a digest of everything that they depend
on. A run that was stopped finds its parts and goes on behind them. A shard ends at names that a
checksum picks, so one more image in a folder changes one shard.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..errors import FormatError, ImageError
from ..images import walk
from ..process.extras import require
from ..progress import ProgressBar
from ..storage.cache import digest
from ..storage.files import atomic_write
from .model_file import ModelFile
from .predictor import Predictor

FORMATS = (".parquet", ".jsonl")
"""Endings of the names of tables."""
SHARD = 256
"""Images of a shard on average: some seconds of a small network on one core. A stop costs little,
and a million images make 4000 part files."""
TASK = 64
"""Images that a process takes at a time. At the end all others wait for the last one: of a small
network for half a second."""
MAX_DEATHS = 2
"""Ended worker processes that a task may cost before it is cut up or given up."""
GROUP = 1 << 16
"""Rows that are in memory while a table is written."""

Row = dict[str, Any]
"""`image`, its path; `label`, `index` and `probability` of the likeliest class; `classes`, a list
of these for the likeliest; `error`, why an image has none. What is missing is None."""


def make_row(image: str, found: Sequence[Any] | ImageError) -> Row:
    """The row of an image by its `Classification`s, or by the error why it has none."""
    classes = [] if isinstance(found, ImageError) else [asdict(c) for c in found]
    for one in classes:
        if one["probability"] != one["probability"]:  # JSON has no NaN
            one["probability"] = None
    best = classes[0] if classes else {"label": None, "index": None, "probability": None}
    error = _utf8(str(found)) if isinstance(found, ImageError) else None
    return {"image": _utf8(image), **best, "classes": classes, "error": error}


def _utf8(text: str) -> str:
    """A text with the bytes of a file name that are not UTF-8 written as `\\xff`."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def classify_files(model: ModelFile, files: Sequence[str], top: int, threads: int) -> list[Row]:
    """The rows of image files. An engine calls this in its worker processes."""
    found = Predictor(model, threads=threads).classes(files, top)
    return [make_row(file, one) for file, one in zip(files, found, strict=True)]


class Engine(Protocol):
    """Processes that run `classify_files`."""

    @property
    def slots(self) -> int:
        """Number of tasks to hand over before one is waited for."""

    def submit(self, key: int, files: Sequence[str]) -> None:
        """Hands over a task."""

    def wait(self) -> tuple[int, list[Row] | None]:
        """The key of a task that is done, and its rows; None: its process ended.

        Raises:
            CnnrtError: the model cannot be loaded or run there.
        """


@dataclass
class _Shard:
    """Images whose rows become one part file."""

    part: Path
    files: tuple[str, ...]
    rows: dict[int, Row] = field(default_factory=dict)


@dataclass
class _Task:
    """Images of a shard that a process takes at a time."""

    shard: _Shard
    places: range
    deaths: int = 0


def list_images(names: Sequence[str | os.PathLike[str]]) -> Iterator[str]:
    """The files named, and the pictures in the folders named and below, in the order of their paths
    in each folder.

    Raises:
        OSError: a folder cannot be read.
    """
    for name in names:
        yield from walk(name) if os.path.isdir(name) else [os.fspath(name)]  # noqa: PTH112


def cut(files: Iterable[str], size: int) -> Iterator[tuple[str, ...]]:
    """Shards of `size` files on average, and of twice as many at most."""
    shard: list[str] = []
    for file in files:
        shard.append(file)
        if len(shard) == 2 * size or zlib.crc32(os.fsencode(file)) % size == 0:
            yield tuple(shard)
            shard = []
    if shard:
        yield tuple(shard)


class Job:
    """The table of some folders by one model, and its part files."""

    def __init__(
        self,
        model: ModelFile,
        names: Sequence[str | os.PathLike[str]],
        output: str | os.PathLike[str],
        *,
        top: int = 5,
        shard: int = SHARD,
    ) -> None:
        """Lists nothing yet.

        Args:
            model: a network of one input with a score for each class.
            names: image files, and folders of them.
            output: the table, a `.parquet` or `.jsonl` file. Part files are in the folder of that
                name with `.parts` behind it, and are removed at the end.
            top: classes of a row.
            shard: images of a part file on average.

        Raises:
            FormatError: the name of the table has another ending.
            ImportError: pyarrow is missing.
        """
        self.model, self.names, self.top, self.shard = model, names, top, shard
        self.output = Path(output)
        if self.output.suffix not in FORMATS:
            raise FormatError(f"{output}: a table ends in {' or '.join(FORMATS)}")
        if self.output.suffix == ".parquet":
            require("a .parquet file", "pyarrow")
        self.parts = Path(f"{self.output}.parts")
        self._order: list[Path] = []
        self.bad = 0
        """Images that could not be read."""
        self.resumed = 0
        """Images whose rows an earlier run left."""

    def count(self) -> int:
        """The number of images."""
        return sum(1 for _ in list_images(self.names))

    def run(self, engine: Engine, bar: ProgressBar) -> int:
        """Classifies what no part file has yet, and writes the table; returns its rows.

        Raises:
            ImageError: there are no images.
            CnnrtError, OSError: the model cannot be run, or a file cannot be written.
        """
        self.parts.mkdir(exist_ok=True)
        tasks = self._tasks(bar)
        retry: list[_Task] = []
        running: dict[int, _Task] = {}
        number = 0
        while True:
            while len(running) < engine.slots:
                task = retry.pop() if retry else next(tasks, None)
                if task is None:
                    break
                number += 1
                running[number] = task
                engine.submit(number, [task.shard.files[i] for i in task.places])
            if not running:
                break
            key, rows = engine.wait()
            task = running.pop(key)
            again = _again(task) if rows is None else []
            retry += again
            if not again:
                self._finish(task, rows, bar)
        if not self._order:
            raise ImageError(f"{', '.join(map(str, self.names))}: no images")
        return self._write()

    def _tasks(self, bar: ProgressBar) -> Iterator[_Task]:
        """The tasks of each shard that has no part file."""
        for files in cut(list_images(self.names), self.shard):
            key = digest(self.model.digest.encode(), b"%d" % self.top, *map(os.fsencode, files))
            part = self.parts / f"{key.hex()[:32]}.jsonl"
            self._order.append(part)
            if part.exists():
                self.resumed += len(files)
                bar.update(len(files))
            else:
                shard = _Shard(part, files)
                for start in range(0, len(files), TASK):
                    yield _Task(shard, range(start, min(start + TASK, len(files))))

    def _finish(self, task: _Task, rows: list[Row] | None, bar: ProgressBar) -> None:
        """Keeps the rows of a task, and writes the part file of a whole shard."""
        shard = task.shard
        if rows is None:
            died = ImageError(f"{MAX_DEATHS} processes ended while they read this image")
            rows = [make_row(shard.files[i], died) for i in task.places]
        shard.rows |= zip(task.places, rows, strict=True)
        bar.update(len(rows))
        if len(shard.rows) == len(shard.files):
            lines = (json.dumps(shard.rows[i]) + "\n" for i in range(len(shard.files)))
            atomic_write(shard.part, ["".join(lines).encode()])

    # The table --------------------------------------------------------------------------------

    def _write(self) -> int:
        """Writes the table of all part files and removes them; returns the number of rows."""
        temporary = self.parts / f"table.{os.getpid()}.tmp"
        write = _write_parquet if self.output.suffix == ".parquet" else _write_lines
        count = write(temporary, self._rows())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self.output)
        for part in self.parts.glob("*.jsonl"):
            part.unlink()
        with contextlib.suppress(OSError):  # something else is in it
            self.parts.rmdir()
        return count

    def _rows(self) -> Iterator[Row]:
        for part in self._order:
            try:
                rows = [json.loads(line) for line in part.read_bytes().splitlines()]
            except ValueError as error:
                raise FormatError(
                    f"{part}: is damaged ({error}); delete it and run the same line again"
                ) from None
            self.bad += sum(row["error"] is not None for row in rows)
            yield from rows


def _again(task: _Task) -> list[_Task]:
    """The tasks in place of one whose process ended; none: its image is given up.

    A task that ends two processes goes on image by image, so that one bad image costs one row.
    """
    if task.deaths + 1 < MAX_DEATHS:
        return [_Task(task.shard, task.places, task.deaths + 1)]
    if len(task.places) == 1:
        return []
    return [_Task(task.shard, range(i, i + 1)) for i in reversed(task.places)]


def _write_lines(path: Path, rows: Iterator[Row]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_parquet(path: Path, rows: Iterator[Row]) -> int:
    import pyarrow as pa  # noqa: PLC0415  (an optional dependency)
    from pyarrow import parquet  # noqa: PLC0415

    one = [("label", pa.string()), ("index", pa.int32()), ("probability", pa.float64())]
    schema = pa.schema(
        [
            ("image", pa.string()),
            *one,
            ("classes", pa.list_(pa.struct(one))),
            ("error", pa.string()),
        ]
    )
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        group: list[Row] = []
        for row in rows:
            group.append(row)
            if len(group) == GROUP:
                count += _put(writer, pa.Table.from_pylist(group, schema))
                group = []
        count += _put(writer, pa.Table.from_pylist(group, schema))
    return count


def _put(writer: Any, table: Any) -> int:
    writer.write_table(table)
    return int(table.num_rows)
