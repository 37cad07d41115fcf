"""`python -m cnnrt evaluate`: a network measured on images whose classes or things are known."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import FormatError, ImageError
from ..evaluation.classes import ClassEvaluation, evaluate_classes
from ..evaluation.coco import MIN_SCORE, CocoEvaluation, evaluate_coco, kind_of
from ..model import Model
from ..process.extras import require
from ..storage.files import atomic_write
from .common import LIMITS, complain, count, limits_of, print_json, refuse_for_others, share
from .confusion import WIDEST, confusion_lines
from .describing import PRESET_HELP, add_task, load_described

HELP = "measure a network on labelled images: accuracy, or mean average precision"

FEW = 10
"""Pairs of confused classes that are listed if the table is too wide."""
TITLES = {"bbox": "boxes", "segm": "masks", "keypoints": "keypoints"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measures a network. A classifier takes a folder with a folder of images for each class, "
        "and gets its accuracy. A network that finds things takes annotations in COCO's format, "
        "and pycocotools finds its mean average precision (pip install pycocotools)."
    )
    add = parser.add_argument
    add("model", help="model.bin or an ONNX file")
    add("data", help="a folder of folders, or a .json file of annotations, or a folder with one")
    add("--images", metavar="FOLDER", help="of the pictures (default: that of the annotations)")
    add("--page", metavar="FILE", help="write an HTML page: figures, classes, mistakes")
    add("--json", action="store_true", help="print JSON")
    add("--output", metavar="FILE", help="x.json: save what was found, as results of COCO")
    add("--min-score", type=share, metavar="X", help=f"of things (default: {MIN_SCORE})")
    add("--max-overlap", type=share, metavar="X", help="of two boxes of a class (default: usual)")
    add("--max-detections", type=count, metavar="N", help="in an image, at most (default: 300)")
    add("--preset", metavar="NAME", help=PRESET_HELP)
    add("--labels", metavar="FILE", help="text file with the name of one class per line")
    add("--threads", type=count, metavar="N", help="threads to use (default: the cores there are)")
    add_task(parser)


def execute(options: argparse.Namespace) -> int:
    """Measures a network and prints the figures; 1 if any image could not be read.

    Raises:
        CnnrtError, OSError, ImportError: the network or the data cannot be read, a page cannot be
            written, or a package is missing.
    """
    if options.page:
        require("--page", "jinja2")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    model = load_described(options)
    annotations = _annotations(Path(options.data)) if kind_of(model) else None
    found: ClassEvaluation | CocoEvaluation
    if annotations is None:
        found = _classes(options, model)
        lines = _lines_of_classes(found)
    else:
        found = _coco(options, model, annotations)
        lines = _lines_of_coco(found)
    for _, reason in found.unread:
        complain(ImageError(reason))
    if options.page:
        found.report(options.page)
    if options.json:
        print_json(found.to_json())
        return int(bool(found.unread))
    print("\n".join(lines))
    for name in filter(None, (options.output, options.page)):
        print(f"wrote {name}: {Path(name).stat().st_size:,} bytes")
    return int(bool(found.unread))


def _annotations(data: Path) -> Path:
    """The file of annotations that is given, or the only one in a folder.

    Raises:
        FormatError: there is none, or there are several.
    """
    if not data.is_dir():
        return data
    found = sorted(data.glob("*.json"))
    if len(found) != 1:
        raise FormatError(
            f"{data}: has {len(found)} .json files; a network that finds things is measured on "
            "annotations in COCO's format: give their file"
        )
    return found[0]


def _classes(options: argparse.Namespace, model: Model) -> ClassEvaluation:
    refuse_for_others(options, "images", "output", *LIMITS)
    if options.data.endswith(".json"):
        raise FormatError(
            f"{options.data}: annotations are for a network that finds things, and nothing in this "
            "file tells that it does; say it: --task, --family"
        )
    return evaluate_classes(model, options.data)


def _coco(options: argparse.Namespace, model: Model, annotations: Path) -> CocoEvaluation:
    found = evaluate_coco(model, annotations, options.images, **limits_of(options))
    if options.output:
        atomic_write(options.output, [json.dumps(found.results).encode()])
    return found


def _lines_of_classes(found: ClassEvaluation) -> list[str]:
    measured, involved = found.measured, found.involved
    low, high = measured.interval
    lines = [
        f"{len(measured.files)} images of {len(np.unique(measured.classes))} classes",
        f"accuracy: {measured.accuracy:.2%} (95 % confidence: {low:.2%} to {high:.2%})",
        f"right class among the best five: {measured.top_accuracy(5):.2%}",
    ]
    if found.by_order:
        lines.append("the folders are the classes in the order of their names")
    if len(involved) <= WIDEST:
        confusion = measured.confusion[np.ix_(involved, involved)]
        return [*lines, "", *confusion_lines(confusion, [found.labels[i] for i in involved])]
    lines += ["", "most often confused:"]
    return lines + [f"  {n:5}  {a} taken for {b}" for a, b, n in found.confused(FEW)]


def _lines_of_coco(found: CocoEvaluation) -> list[str]:
    count = len(found.annotations.files) - len(found.unread)
    lines = [f"{count} images, {len(found.results)} things found", *found.notes]
    for one in found.precisions:
        lines += ["", f"{TITLES[one.overlap]}:"]
        lines += [f"  {_figure(value)}  {name}" for name, value in one.figures.items()]
        wide = max(map(len, one.classes))
        lines += ["", f"  {'class':{wide}}  things    mAP  mAP 50"]
        lines += [
            f"  {name:{wide}}  {things:6}  {_figure(whole)}  {_figure(half):>6}"
            for name, (whole, half, things) in one.classes.items()
        ]
    return lines


def _figure(value: float | None) -> str:
    return "    -" if value is None else f"{value:.3f}"
