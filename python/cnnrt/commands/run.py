"""`python -m cnnrt run`: load a model, run it on images, print the results."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..classification import Classification, is_scores
from ..errors import GraphError, ImageError
from ..graph import Array
from ..model import Model
from ..progress import progress_bar
from ..storage.text import escaped
from . import embedding, findings, table, upscaling, videos
from .arrays import write_npz
from .common import LIMITS, complain, count, images_of, print_json, refuse_for_others
from .describing import PRESET_HELP, load_described

HELP = "name what is in images"


@dataclasses.dataclass(frozen=True)
class Result:
    """Result of a network for one image."""

    image: str
    milliseconds: float
    outputs: dict[str, Array]
    classes: list[Classification] | None

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "image": self.image,
            "milliseconds": round(self.milliseconds, 3),
        }
        if self.classes is not None:
            return {**document, "classes": [dataclasses.asdict(c) for c in self.classes]}
        return {**document, "outputs": {n: _summary(y) for n, y in self.outputs.items()}}

    def __str__(self) -> str:
        lines = [f"{escaped(self.image)} ({self.milliseconds:.3g} ms)"]
        if self.classes is not None:
            lines += [f"  {c.probability:7.2%}  {c.label}" for c in self.classes]
        else:
            for name, y in self.outputs.items():
                s = _summary(y)
                extent = (
                    f"{s['min']:.6g} to {s['max']:.6g}, mean {s['mean']:.6g}" if y.size else "empty"
                )
                lines.append(f"  {name}: {y.dtype}{list(y.shape)}, {extent}")
        return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Runs a model on images. Prints the likeliest classes of each and the time that the "
        "network took; for a model without labels, the shapes and ranges of its outputs. A network "
        "that detects, segments or finds keypoints prints what it found, and --draw draws it."
    )
    add = parser.add_argument
    add("model", help="model.bin or an ONNX file")
    add("images", nargs="*", metavar="image", help="images, or folders of them, or a video")
    add("--camera", type=int, metavar="N", help="look through a camera of this machine, from 0 on")
    add("--top", type=count, default=5, metavar="N", help="classes to print (default: 5)")
    add("--threads", type=count, metavar="N", help="threads to use (default: the cores there are)")
    add("--preset", metavar="NAME", help=PRESET_HELP)
    add("--labels", metavar="FILE", help="text file with the name of one class per line")
    add(
        "--json",
        action="store_true",
        help="print JSON: a list with one object per image; for a video a line per frame",
    )
    add(
        "--output",
        metavar="FILE",
        help="x.npz: save the outputs of all images, as NumPy arrays. x.parquet or x.jsonl: save a "
        "table of the classes of any number of images; a run that was stopped goes on there. The "
        "same endings save what was found. x.png or x.jpg: a larger picture, by a network that "
        "makes one",
    )
    findings.add_arguments(parser)
    table.add_arguments(parser)


def execute(options: argparse.Namespace) -> int:
    """Runs a model on images and prints the results; 1 if any image could not be read.

    Raises:
        CnnrtError, OSError: the model cannot be loaded, or the results cannot be saved.
    """
    video = videos.is_requested(options)
    tabular = table.is_requested(options)
    model = load_described(options)
    kind = findings.kind_of(model)
    if video:
        if kind is None:
            raise GraphError(
                "a video is for networks that detect, segment or find keypoints, and nothing in "
                "this file tells that it does; say it: --task, --family"
            )
        return videos.execute(options, model, findings.finder(options, model, kind))
    if kind is not None:
        return findings.execute(options, model, kind)
    refuse_for_others(options, "draw", *LIMITS)
    if embedding.is_requested(model):
        return embedding.execute(options, model)
    if upscaling.is_requested(options):
        return upscaling.execute(options, model)
    if tabular:
        return table.execute(options, model)
    files = images_of(options)
    _warm_up(model)
    documents: list[dict[str, Any]] = []
    results: list[Result] = []
    failed = False
    with progress_bar(len(files)) as bar:
        for file in files:
            bar.update(1)
            try:
                result = _result(model, file, options.top)
            except ImageError as error:
                complain(error)
                failed = True
                continue
            if options.json:
                documents.append(result.to_json())
            else:
                bar.write(str(result))
            if options.output:
                results.append(result)
    if options.json:
        print_json(documents)
    if options.output:
        _save(results, options.output)
    return int(failed)


def _warm_up(model: Model) -> None:
    """Runs the model once, so that the time of the first image is like that of the others.

    Raises:
        GraphError: the model does not take images.
    """
    if model.preprocessing is None:
        raise GraphError(
            "this model does not say how an image becomes its input: add --preset imagenet, or the "
            "preset that fits, here or to `cnnrt convert`, which keeps it in a file "
            "(in Python: export(preprocessing=...))"
        )
    h, w = model.preprocessing.size
    model(model.input_from(np.zeros((h, w), np.uint8)))


def _result(model: Model, file: Path, top: int) -> Result:
    """Result of the model for one image.

    Raises:
        ImageError: it cannot be read.
    """
    x = model.input_from(file)
    start = time.perf_counter()
    y = model(x)
    milliseconds = 1e3 * (time.perf_counter() - start)
    outputs = y if isinstance(y, dict) else {model.outputs[0].name: y}
    classes = None
    scores = next(iter(outputs.values()))
    if model.labels and (is_scores(scores.shape) or not scores.size):
        classes = model.classes(scores, top)
    return Result(os.fspath(file), milliseconds, outputs, classes)


def _summary(y: Array) -> dict[str, Any]:
    """Shape, dtype and range of an array."""
    summary: dict[str, Any] = {"shape": list(y.shape), "dtype": y.dtype.name}
    if y.size:
        summary |= {"min": float(y.min()), "max": float(y.max()), "mean": float(y.mean())}
    return summary


def _save(results: Sequence[Result], path: str) -> None:
    """Writes `images`, their names, and each output of all images, joined along the first axis.

    An output whose sizes differ from image to image becomes an array for each image. A line on
    stderr tells of any array with another name than the output's.
    """
    arrays: dict[str, Array] = {"images": np.array([r.image for r in results])}
    for name in results[0].outputs if results else ():
        parts = [np.atleast_1d(r.outputs[name]) for r in results]
        if len({part.shape[1:] for part in parts}) == 1:
            _put(arrays, name, name, np.concatenate(parts))
            continue
        for i, part in enumerate(parts):
            _put(arrays, f"{name} of image {i}", f"{name}.{i}", part)
    write_npz(path, arrays)


def _put(arrays: dict[str, Array], output: str, name: str, array: Array) -> None:
    """Adds an array by this name, or by one that is not taken and that an archive can hold. Such a
    name is no path out of a folder, and has no ending of NumPy's own."""
    parts = name.removesuffix(".npy").replace("\\", "/").split("/")
    free = "/".join(part for part in parts if part not in ("", ".", "..")) or "output"
    while free in arrays:
        free += "_"
    if free != output:
        print(f"cnnrt: note: the output {output} is saved as {free}", file=sys.stderr)
    arrays[free] = array
