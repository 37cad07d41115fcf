"""Measuring a detector on annotations in COCO's format, with pycocotools."""

from __future__ import annotations

import copy
import io
import os
from contextlib import closing, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import pages
from ..errors import FormatError, GraphError, ImageError
from ..graph import Array
from ..images import open_image
from ..model import Model
from ..process.extras import missing
from ..process.locks import importing
from ..process.pipeline import mapped
from ..progress import progress_bar
from ..storage.text import escaped
from ..tasks import recognise
from ..tasks.results import Detections
from .annotations import Annotations, Json, read_annotations

Overlap = str
"""The thing compared: "bbox", "segm" or "keypoints", as pycocotools calls it."""
OVERLAPS: dict[str, tuple[Overlap, ...]] = {
    "detect": ("bbox",),
    "segment": ("bbox", "segm"),
    "pose": ("bbox", "keypoints"),
}
NEEDED = {"segm": "segmentation", "keypoints": "keypoints"}
"""The key that annotations must have for each of these."""
BOX_FIGURES = (
    *("mAP", "mAP 50", "mAP 75", "mAP small", "mAP medium", "mAP large"),
    *("recall 1", "recall 10", "recall 100", "recall small", "recall medium", "recall large"),
)
KEYPOINT_FIGURES = (
    *("mAP", "mAP 50", "mAP 75", "mAP medium", "mAP large"),
    *("recall", "recall 50", "recall 75", "recall medium", "recall large"),
)
"""The names of pycocotools' figures in its order; `recall 10` is that of ten things a picture."""
MIN_SCORE = 0.001
"""Score from which a thing counts, as is usual for average precision."""
PERSON = 17
"""Keypoints of COCO's persons, the only ones whose tolerances pycocotools knows."""
SHOWN, SHOWN_SCORE, SIDE = 12, 0.25, 480
"""Pictures of a page, the score of what they show, and the pixels of their longer side."""


@dataclass(frozen=True)
class Precision:
    """The average precision of boxes, masks or keypoints."""

    overlap: Overlap
    """The thing compared: "bbox", "segm" or "keypoints"."""
    figures: dict[str, float | None]
    """pycocotools' figures by name, from 0 to 1; None: there is nothing to average."""
    classes: dict[str, tuple[float | None, float | None, int]]
    """For each category: mAP, mAP 50, and the number of things."""


@dataclass(frozen=True)
class CocoEvaluation:
    """Average precision of a detector."""

    model: Model
    annotations: Annotations
    precisions: list[Precision]
    results: list[Json]
    """All that was found, as COCO's results are written: pycocotools finds the same figures."""
    unread: list[tuple[Path, str]]
    """The images that could not be read, which do not count, and why."""
    notes: list[str]
    """Misfits: classes without a category, masks that the annotations lack."""
    mistakes: list[tuple[int, int, int]]
    """The images with the most mistakes: number, things missed, things that are not there."""

    def to_json(self) -> Json:
        """The figures, as JSON has them."""
        return {
            "images": len(self.annotations.files) - len(self.unread),
            "unread": [str(file) for file, _ in self.unread],
            "notes": self.notes,
            **{
                one.overlap: {
                    **one.figures,
                    "classes": {
                        name: {"mAP": ap, "mAP 50": ap50, "things": count}
                        for name, (ap, ap50, count) in one.classes.items()
                    },
                }
                for one in self.precisions
            },
        }

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes an HTML page: figures, a table of classes, pictures with the most mistakes.

        Raises:
            ImportError: Jinja is not installed (``pip install 'cnnrt[html]'``).
            OSError: the file cannot be written.
        """
        name = escaped(self.model.graph.name)
        count = len(self.annotations.files) - len(self.unread)
        pages.write(
            path,
            "evaluate_coco.html",
            title=f"{name}, measured on {count} pictures",
            precisions=self.precisions,
            notes=self.notes,
            unread=len(self.unread),
            shown=[self._shown(*one) for one in self.mistakes],
        )

    def _shown(self, number: int, missed: int, extra: int) -> Json:
        """A picture of the page, with what is found in it."""
        picture = open_image(self.annotations.files[number], "RGB")
        drawn = self.model.detect(picture, SHOWN_SCORE).draw(picture)
        drawn.thumbnail((SIDE, SIDE))
        return {
            "picture": pages.picture(drawn),
            "name": self.annotations.files[number].name,
            "missed": missed,
            "extra": extra,
        }


def evaluate_coco(
    model: Model,
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    *,
    min_score: float = MIN_SCORE,
    max_overlap: float | None = None,
    max_detections: int = 300,
    progress: bool | None = None,
) -> CocoEvaluation:
    """Runs a detector on annotated pictures, and has pycocotools compare.

    Masks are compared too if the network segments, and keypoints if it finds poses. The area of a
    found mask is that of its pixels, as the area of an annotated one.

    Args:
        model: a network that detects, segments or finds keypoints.
        annotations: a .json file in COCO's format. Categories are matched with the network's
            labels by name. If none matches and they are as many, they go by the order of their
            numbers.
        images: the folder of the pictures; None: that of the annotations.
        min_score: as in `Model.detect`, and so the next two.
        progress: shows a bar on stderr, if tqdm is installed; None: if stderr is a terminal.

    Raises:
        FormatError: the annotations cannot be read, or no category is a class of the network.
        ImageError: no picture can be read.
        GraphError: the network finds no things.
        ImportError: pycocotools is not installed (``pip install 'cnnrt[evaluate]'``).
    """
    _pycocotools()
    kind = kind_of(model)
    if kind is None:
        raise GraphError(
            "average precision is that of a network that finds things, and nothing in this file "
            "tells that it does; say it: --task, --family"
        )
    truth = read_annotations(annotations, images)
    categories, notes = _categories(model, truth)
    find = getattr(model, kind)
    results: list[Json] = []
    unread: list[tuple[Path, str]] = []
    seen: list[int] = []
    with (
        progress_bar(len(truth.files), show=progress) as bar,
        closing(mapped(_opened, truth.files.items(), model.threads)) as pictures,
    ):
        for number, picture in pictures:
            if isinstance(picture, ImageError):
                unread.append((truth.files[number], str(picture)))
            else:
                found = find(
                    picture,
                    min_score,
                    max_overlap=max_overlap,
                    max_detections=max_detections,
                )
                if not isinstance(found, Detections):
                    raise GraphError("average precision is of things; this network tells pixels")
                seen.append(number)
                results += _results(found, number, categories)
            bar.update(1)
    if not seen:
        raise ImageError(f"{unread[0][1]}; is {truth.files[next(iter(truth.files))].parent} right?")
    precisions: list[Precision] = []
    mistakes: list[tuple[int, int, int]] = []
    for overlap in OVERLAPS[kind]:
        lacking = _lacking(overlap, truth, results)
        if lacking:
            notes.append(lacking)
            continue
        measured = _measured(truth, results, seen, overlap)
        precisions.append(_precision(measured, truth, overlap))
        mistakes = mistakes or _mistakes(measured)
    return CocoEvaluation(model, truth, precisions, results, unread, notes, mistakes)


def kind_of(model: Model) -> str | None:
    """The task of a network that finds things; None: it is for something else."""
    labels = len(model.labels) if model.labels else None
    task = model.task or recognise.of_graph(model.graph, labels)
    return task.kind if task and task.kind in OVERLAPS else None


def _opened(entry: tuple[int, Path]) -> tuple[int, Image.Image | ImageError]:
    number, file = entry
    try:
        return number, open_image(file, "RGB")
    except ImageError as error:
        return number, error


def _categories(model: Model, truth: Annotations) -> tuple[dict[int, int], list[str]]:
    """The category of each of the network's classes, and what did not fit."""
    by_name = {name.casefold().strip(): number for number, name in truth.categories.items()}
    labels = model.labels or []
    found = {
        i: by_name[name.casefold().strip()]
        for i, name in enumerate(labels)
        if name.casefold().strip() in by_name
    }
    if not found:
        if labels and len(labels) != len(truth.categories):
            raise FormatError(
                f"none of the {len(truth.categories)} categories is one of the network's "
                f"{len(labels)} classes; they begin with "
                f"{escaped(next(iter(truth.categories.values())))!r} and {escaped(labels[0])!r}"
            )
        numbers = sorted(truth.categories)
        return dict(enumerate(numbers)), ["the categories are the classes by their order"]
    notes = []
    if unknown := truth.categories.keys() - found.values():
        names = ", ".join(sorted(escaped(truth.categories[i]) for i in unknown))
        notes.append(f"categories that the network does not know count as missed: {names}")
    if left := len(labels) - len(found):
        notes.append(f"{left} of the network's classes are no category, and do not count")
    return found, notes


def _results(found: Detections, image: int, categories: dict[int, int]) -> list[Json]:
    """Things found as COCO's results, without classes that are no category."""
    known = found[[int(i) in categories for i in found.classes]]
    table = [categories.get(i, 0) for i in range(int(found.classes.max(initial=0)) + 1)]
    return list(known.to_coco(image, table))


def _lacking(overlap: Overlap, truth: Annotations, results: list[Json]) -> str | None:
    """The reason why something cannot be compared; None: it can."""
    key = NEEDED.get(overlap)
    if key and not truth.all_have(key):
        return f"the annotations have no {key}: boxes alone are compared"
    if key == "keypoints" and any(len(one.get(key, ())) != 3 * PERSON for one in results):
        return f"keypoints are compared for persons with {PERSON} of them alone"
    return None


def _pycocotools() -> tuple[Any, Any]:
    """The classes `COCO` and `COCOeval`.

    Raises:
        ImportError: pycocotools is not installed.
    """
    try:
        with importing:
            from pycocotools.coco import COCO  # noqa: PLC0415  (an optional dependency)
            from pycocotools.cocoeval import COCOeval  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(missing("mean average precision", "pycocotools", error)) from error
    return COCO, COCOeval


def _measured(truth: Annotations, results: list[Json], seen: list[int], overlap: Overlap) -> Any:
    """pycocotools' evaluation, accumulated and summed up."""
    coco_of, evaluation_of = _pycocotools()
    compared = copy.deepcopy(results)  # pycocotools adds to them
    if overlap in NEEDED:
        for one in compared:  # otherwise their area would be that of the box
            del one["bbox"]
    try:
        with redirect_stdout(io.StringIO()):
            known = coco_of()
            known.dataset = copy.deepcopy(truth.document)
            known.createIndex()
            found = known.loadRes(compared) if compared else _nothing(coco_of, truth)
            evaluation = evaluation_of(known, found, overlap)
            evaluation.params.imgIds = sorted(seen)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
    except Exception as error:  # pycocotools raises whatever the damage leads to
        raise FormatError(f"pycocotools cannot compare {overlap}: {error!r}") from None
    return evaluation


def _nothing(coco_of: Any, truth: Annotations) -> Any:
    """No results at all, which pycocotools cannot load."""
    empty = coco_of()
    empty.dataset = {**truth.document, "annotations": []}
    empty.createIndex()
    return empty


def _precision(evaluation: Any, truth: Annotations, overlap: Overlap) -> Precision:
    names = KEYPOINT_FIGURES if overlap == "keypoints" else BOX_FIGURES
    figures = {
        name: None if value < 0 else float(value)
        for name, value in zip(names, evaluation.stats, strict=True)
    }
    precision = evaluation.eval["precision"][..., 0, -1]  # all areas, the most things
    counts = dict.fromkeys(truth.categories, 0)
    images = set(evaluation.params.imgIds)
    for one in truth.document["annotations"]:
        if not one["iscrowd"] and one["image_id"] in images:
            counts[one["category_id"]] += 1
    classes = {
        escaped(truth.categories[number]): (
            _mean(precision[..., k]),
            _mean(precision[0, :, k]),
            counts[number],
        )
        for k, number in enumerate(evaluation.params.catIds)
    }
    return Precision(overlap, figures, classes)


def _mean(precision: Array) -> float | None:
    """The mean of precisions; -1 stands for those that are not defined."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None


def _mistakes(evaluation: Any) -> list[tuple[int, int, int]]:
    """The images with the most mistakes: their number, things missed, things not there.

    A thing found has a score of `SHOWN_SCORE` and overlaps a true one by half.
    """
    table: dict[int, Array] = {}
    whole = evaluation.params.areaRng[0]
    for one in evaluation.evalImgs:
        if one is None or one["aRng"] != whole:
            continue
        sure = np.asarray(one["dtScores"]) >= SHOWN_SCORE
        ignored = np.asarray(one["dtIgnore"])[0].astype(bool)
        matches = np.asarray(one["dtMatches"])[0]
        true = int((~np.asarray(one["gtIgnore"]).astype(bool)).sum())
        right = int((sure & ~ignored & (matches > 0)).sum())
        wrong = int((sure & ~ignored & (matches == 0)).sum())
        here = table.setdefault(int(one["image_id"]), np.zeros(2, np.int64))
        here += (true - right, wrong)
    rows = [(number, int(m), int(e)) for number, (m, e) in table.items() if m + e]
    return sorted(rows, key=lambda row: (-row[1] - row[2], row[0]))[:SHOWN]
