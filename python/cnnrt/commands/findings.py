"""`python -m cnnrt run` with a network that finds things: tables, pictures, masks and files."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..errors import FormatError, ImageError
from ..graph import Array
from ..images import SUFFIXES, open_image
from ..model import Model
from ..process.extras import require
from ..progress import progress_bar
from ..storage.files import atomic_write
from ..storage.text import escaped
from ..tasks import recognise
from ..tasks.draw import class_picture
from ..tasks.results import Detections, Segmentation
from .arrays import write_npz
from .common import complain, count, images_of, limits_of, print_json, share
from .describing import add_task

KINDS = ("detect", "segment", "pose")
OUTPUTS = (".npz", ".parquet", ".jsonl")
MAX_LINES = 40
"""Things that are listed for an image; `--json` has all."""
Found = Detections | Segmentation


class Result(NamedTuple):
    """The things found in one image, or the classes of its pixels."""

    image: str
    milliseconds: float
    found: Found

    def to_json(self) -> dict[str, Any]:
        return {
            "image": self.image,
            "milliseconds": round(self.milliseconds, 3),
            **self.found.to_json(),
        }

    def __str__(self) -> str:
        found = self.found
        if isinstance(found, Segmentation):
            areas = found.areas()
            head = f"{len(areas)} classes"
            lines = [f"  {share:7.2%}  {label}" for label, share in areas.items()]
        else:
            head = f"{len(found)} found"
            width = max((len(label) for label in found.labels[:MAX_LINES]), default=0)
            lines = [_line(one, width) for one in found[:MAX_LINES]]
            if len(found) > MAX_LINES:
                lines.append(f"  and {len(found) - MAX_LINES} more; --json lists all")
        return "\n".join([f"{escaped(self.image)} ({self.milliseconds:.3g} ms): {head}", *lines])


def _line(one: Any, width: int) -> str:
    left, top, right, bottom = (f"{v:7.1f}" for v in one.box)
    line = f"  {one.score:6.1%}  {one.label:{width}}  {left} {top} {right} {bottom}"
    if one.mask is not None:
        line += f"  {int(one.mask.sum()):,} pixels"
    if one.keypoints is not None:
        seen = int((one.keypoints[:, 2] >= 0.5).sum())
        line += f"  {seen} of {len(one.keypoints)} keypoints"
    return line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "finding things",
        "For networks that detect, segment or find keypoints. The table lists score, class, and "
        "left, top, right and bottom of each box in pixels.",
    )
    add_task(group)
    add = group.add_argument
    add(
        "--draw",
        metavar="OUT",
        help="folder for the images with what was found, and its masks; folder or file for a video",
    )
    add("--min-score", type=share, metavar="X", help="score of what counts (default: 0.25)")
    add("--max-overlap", type=share, metavar="X", help="of two boxes of a class (default: usual)")
    add("--max-detections", type=count, metavar="N", help="in an image, at most (default: 300)")


def kind_of(model: Model) -> str | None:
    """The task of a network that finds things; None: it classifies, or does something else."""
    labels = len(model.labels) if model.labels else None
    task = model.task or recognise.of_graph(model.graph, labels)
    return task.kind if task and task.kind in KINDS else None


def execute(options: argparse.Namespace, model: Model, kind: str) -> int:
    """Finds things in images and prints them; 1 if any image could not be read.

    Raises:
        CnnrtError, OSError, ImportError: the model cannot be run, the results cannot be saved, or
            a package is missing.
    """
    if options.output and not options.output.endswith(OUTPUTS):
        options.usage_error(f"--output: expected a file that ends in {', '.join(OUTPUTS)}")
    if options.output and options.output.endswith(".parquet"):
        require("a .parquet file", "pyarrow")
    files = images_of(options)
    find = finder(options, model, kind)
    pictures = _Pictures(options.draw, files) if options.draw else None
    if model.preprocessing is not None:  # the first image takes no longer than the others
        h, w = model.preprocessing.size
        find(Image.new("RGB", (w, h)))
    results: list[Result] = []
    failed = False
    with progress_bar(len(files)) as bar:
        for file in files:
            bar.update(1)
            try:
                picture = open_image(file, "RGB")
                start = time.perf_counter()
                found = find(picture)
                seconds = time.perf_counter() - start
                if pictures:
                    pictures.save(file, picture, found)
            except ImageError as error:
                complain(error)
                failed = True
                continue
            result = Result(os.fspath(file), 1e3 * seconds, found)
            if not options.json:
                bar.write(str(result))
            if options.json or options.output:
                results.append(result)
    if options.json:
        print_json([result.to_json() for result in results])
    if options.output:
        _save(results, options.output)
    return int(failed)


def finder(options: argparse.Namespace, model: Model, kind: str) -> Callable[[Image.Image], Found]:
    """The model's method for a task, with the thresholds that the options give."""
    limits = limits_of(options)
    method = getattr(model, kind)
    return lambda picture: method(picture, **limits)


class _Pictures:
    """A folder of images with what was found in them, and of masks. An image keeps its name, unless
    that would write over a file given or over another result."""

    def __init__(self, folder: str, files: Sequence[Path]) -> None:
        single = Path(folder).suffix.lower() in SUFFIXES
        if single and len(files) > 1:
            raise FormatError(f"--draw {folder}: is one image for {len(files)}; give a folder")
        self.file = Path(folder) if single else None
        self.folder = Path(folder).parent if single else Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.taken = {file.resolve() for file in files}

    def save(self, file: Path, picture: Image.Image, found: Found) -> None:
        lossy = file.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif")
        target = self.file or self._free(file.stem, ".jpg" if lossy else ".png")
        found.draw(picture).save(target, quality=95)
        if isinstance(found, Segmentation):
            class_picture(found.classes).save(target.with_suffix(".classes.png"))
        elif found.masks is not None and len(found):
            folder = target.with_suffix(".masks")
            folder.mkdir(exist_ok=True)
            for i, (mask, label) in enumerate(zip(found.masks, found.labels, strict=True)):
                name = "".join(c if c.isalnum() else "_" for c in label)[:60]
                Image.fromarray(mask).save(folder / f"{i:03}-{name}.png")

    def _free(self, stem: str, suffix: str) -> Path:
        target, number = self.folder / f"{stem}{suffix}", 1
        while target.resolve() in self.taken:
            number += 1
            target = self.folder / f"{stem}-{number}{suffix}"
        self.taken.add(target.resolve())
        return target


def _save(results: Sequence[Result], path: str) -> None:
    """Writes all results: as JSON lines, as a table with a row for each thing, or as arrays."""
    if path.endswith(".jsonl"):
        lines = [json.dumps(r.to_json(), ensure_ascii=False) + "\n" for r in results]
        atomic_write(path, [line.encode("utf-8", "backslashreplace") for line in lines])
    elif path.endswith(".parquet"):
        _save_parquet(results, path)
    else:
        write_npz(path, _arrays(results), compress=True)


def _arrays(results: Sequence[Result]) -> dict[str, Array]:
    """Arrays of all things in all images; `image` counts in `images`. Masks, and classes of
    pixels, are an array for each image."""
    arrays: dict[str, Array] = {"images": np.array([r.image for r in results])}
    boxes = [(i, r.found) for i, r in enumerate(results) if isinstance(r.found, Detections)]
    if boxes:
        arrays["image"] = np.repeat([i for i, _ in boxes], [len(d) for _, d in boxes])
        for name in ("boxes", "scores", "classes"):
            arrays[name] = np.concatenate([getattr(d, name) for _, d in boxes])
        arrays["labels"] = np.array([label for _, d in boxes for label in d.labels], dtype=str)
        if boxes[0][1].keypoints is not None:
            arrays["keypoints"] = np.concatenate([d.keypoints for _, d in boxes])
    for i, result in enumerate(results):
        found = result.found
        if isinstance(found, Segmentation):
            arrays[f"classes.{i}"] = found.classes
        elif found.masks is not None:
            arrays[f"masks.{i}"] = found.masks
    return arrays


def _save_parquet(results: Sequence[Result], path: str) -> None:
    import pyarrow as pa  # noqa: PLC0415  (an optional dependency)
    from pyarrow import parquet  # noqa: PLC0415

    rows: list[dict[str, Any]] = []
    for result in results:
        document = result.found.to_json()
        for one in document.get("detections", document.get("classes", [])):
            left, top, right, bottom = one.get("box", [None] * 4)
            rows.append(
                {
                    "image": result.image,
                    "height": document["size"][0],
                    "width": document["size"][1],
                    "label": one["label"],
                    "class": one["class"],
                    "score": one.get("score"),
                    **{"left": left, "top": top, "right": right, "bottom": bottom},
                    "area": one.get("area"),
                    "mask": one.get("mask", {}).get("counts"),
                    "keypoints": one.get("keypoints"),
                }
            )
    texts, numbers = pa.string(), pa.float32()
    fields = {
        **{"image": texts, "height": pa.int32(), "width": pa.int32(), "label": texts},
        **{"class": pa.int64(), "score": numbers},
        **dict.fromkeys(("left", "top", "right", "bottom", "area"), numbers),
        **{"mask": texts, "keypoints": pa.list_(pa.list_(numbers))},
    }
    parquet.write_table(pa.Table.from_pylist(rows, pa.schema(list(fields.items()))), path)
