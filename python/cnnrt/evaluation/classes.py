"""Measuring a classifier on folders of images, one for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import pages
from ..classification import CHUNK, is_scores, probabilities
from ..errors import GraphError, ImageError
from ..graph import Array
from ..images import image_files
from ..model import Model
from ..process.pipeline import mapped
from ..progress import ProgressBar, progress_bar
from ..storage.text import escaped
from .answers import Measured, groups_of

MATRIX = 60
"""Classes for which the page has the whole confusion matrix."""
PAIRS = 20
"""Pairs of classes that are listed as confused."""


@dataclass(frozen=True)
class ClassEvaluation:
    """Answers of a classifier for images in folders of their classes."""

    name: str
    """Name of the network."""
    labels: list[str]
    """The names of the network's classes."""
    measured: Measured
    """Its answers, with `accuracy`, `top_accuracy` and `confusion`."""
    unread: list[tuple[Path, str]]
    """The images that could not be read, which do not count, and why."""
    by_order: bool
    """True if the folders were taken for the classes in the order of their names."""

    @property
    def involved(self) -> list[int]:
        """The classes that there are images of, or that an image was taken for."""
        both = [self.measured.classes, self.measured.predictions]
        return [int(i) for i in np.unique(np.concatenate(both))]

    def confused(self, count: int = PAIRS) -> list[tuple[str, str, int]]:
        """The classes that were taken for another most often: class, other class, images."""
        table = self.measured.confusion
        np.fill_diagonal(table, 0)
        order = np.argsort(-table, axis=None, kind="stable")[:count]
        pairs = [divmod(int(i), len(table)) for i in order]
        return [(self.labels[i], self.labels[j], int(table[i, j])) for i, j in pairs if table[i, j]]

    def to_json(self) -> dict[str, Any]:
        """The figures, as JSON has them; `confusion` is of the classes in `involved`."""
        measured, involved = self.measured, self.involved
        return {
            "images": len(measured.files),
            "unread": [str(file) for file, _ in self.unread],
            "accuracy": measured.accuracy,
            "top5": measured.top_accuracy(5),
            "interval": list(measured.interval),
            "classes": [self.labels[i] for i in involved],
            "confusion": measured.confusion[np.ix_(involved, involved)].tolist(),
        }

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes an HTML page: accuracy, confusion matrix, and images that it is least sure of.

        Raises:
            ImportError: Jinja is not installed (``pip install 'cnnrt[html]'``).
            OSError: the file cannot be written.
        """
        measured, involved = self.measured, self.involved
        pages.write(
            path,
            "evaluate_classes.html",
            title=f"{self.name}, measured on {len(measured.files)} images",
            measured=measured,
            unread=len(self.unread),
            labels=[self.labels[i] for i in involved],
            confusion=measured.confusion[np.ix_(involved, involved)].tolist(),
            whole=len(involved) <= MATRIX,
            confused=self.confused(),
            groups=groups_of(measured, self.labels),
        )


def evaluate_classes(
    model: Model, data: str | os.PathLike[str], *, progress: bool | None = None
) -> ClassEvaluation:
    """Runs a classifier on images whose classes are known.

    Args:
        model: a network with a score for each class of an image.
        data: a folder with a folder of images for each class. A folder has the name of its class,
            or its number. If none has, and there are as many folders as classes, they are the
            classes in the order of their names, as ImageNet's are.
        progress: shows a bar on stderr, if tqdm is installed; None: if stderr is a terminal.

    Raises:
        ImageError: there is no such folder, it holds no images, or none can be read.
        GraphError: a folder is no class of the network. Or the network has no score for each class,
            or does not say how an image becomes its input.
    """
    files, truth, names, by_order = _labelled(model, Path(data))
    kept: list[int] = []
    rows: list[Array] = []
    unread: list[tuple[Path, str]] = []
    with progress_bar(len(files), show=progress) as bar:
        for i, found in enumerate(_answers(model, files, bar)):
            if isinstance(found, ImageError):
                unread.append((files[i], str(found)))
            else:
                kept.append(i)
                rows.append(found)
    if not rows:
        raise ImageError(f"{data}: no image can be read; the first: {unread[0][1]}")
    if rows[0].size != len(names):
        raise GraphError(f"this network has {rows[0].size} scores, and {len(names)} labels")
    measured = Measured(
        "images", [files[i] for i in kept], np.array([truth[i] for i in kept]), np.stack(rows)
    )
    return ClassEvaluation(escaped(model.graph.name), names, measured, unread, by_order)


def _answers(model: Model, files: Sequence[Path], bar: ProgressBar) -> Iterator[Array | ImageError]:
    """float32 (classes,) for each file, or the error that it brought."""
    batch = model.inputs[0].shape[0]
    fixed = isinstance(batch, int)
    count = batch if isinstance(batch, int) else CHUNK

    def prepared(file: Path) -> Array | ImageError:
        try:
            return model.input_from(file)
        except ImageError as error:
            return error

    def flush() -> Iterator[Array | ImageError]:
        inputs = [x for x in waiting if not isinstance(x, ImageError)]
        rows = iter(_rows(model, inputs, count if fixed else len(inputs)) if inputs else ())
        for x in waiting:
            yield x if isinstance(x, ImageError) else next(rows)
            bar.update(1)
        waiting.clear()

    waiting: list[Array | ImageError] = []
    with closing(mapped(prepared, files, model.threads)) as ready:
        for x in ready:
            waiting.append(x)
            if len(waiting) == count:
                yield from flush()
    yield from flush()


def _rows(model: Model, inputs: list[Array], batch: int) -> list[Array]:
    """float32 (classes,) for each input of one image; the batch is filled up with the last."""
    x = np.concatenate(inputs + [inputs[-1]] * (batch - len(inputs)))
    scores = np.asarray(model.run(x, outputs=[model.outputs[0].name]))
    if not is_scores(scores.shape):
        raise GraphError(
            f"this network has no score for each class of an image: its output is {scores.shape}. "
            "A detector is measured on annotations of COCO, a .json file"
        )
    kind = model.kind_of_scores
    rows = scores.reshape(batch, -1)[: len(inputs)]
    return [probabilities(row, kind).astype(np.float32) for row in rows]


def _labelled(model: Model, data: Path) -> tuple[list[Path], list[int], list[str], bool]:
    """The images of all folders, the class of each, the names of the network's classes, and if the
    order of the folders gave the classes."""
    if not data.is_dir():
        raise ImageError(f"{data}: no such folder")
    folders = sorted(p for p in data.iterdir() if p.is_dir() and p.name[0] != ".")
    if not folders:
        raise ImageError(f"{data}: has no folders; expected one with images for each class")
    width = _classes(model)
    names = [escaped(name) for name in model.labels or map(str, range(width))]
    numbers = {name.casefold().strip(): i for i, name in reversed(list(enumerate(names)))}
    numbers = {**{str(i): i for i in range(len(names))}, **numbers}
    classes = [numbers.get(escaped(p.name).casefold().strip()) for p in folders]
    by_order = all(i is None for i in classes) and len(folders) == len(names)
    if by_order:
        classes = list(range(len(folders)))
    files: list[Path] = []
    truth: list[int] = []
    for folder, i in zip(folders, classes, strict=True):
        if i is None:
            raise GraphError(
                f"{escaped(str(folder))}: is no class of this network; a folder has the name of a "
                f"class or its number, such as {names[0]!r} or 0"
            )
        here = image_files([folder])
        files += here
        truth += [i] * len(here)
    return files, truth, names, by_order


def _classes(model: Model) -> int:
    """The number of the network's classes."""
    shape = model.outputs[0].shape
    width = shape[1] if len(shape) > 1 else None
    if model.labels:
        return len(model.labels)
    if isinstance(width, int):
        return width
    raise GraphError("this network does not say its classes: give --labels")
