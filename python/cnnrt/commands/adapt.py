"""`python -m cnnrt adapt`: a new head for a trained network, from folders of images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..process.extras import require
from ..transfer.adapting import Adaptation, adapt
from ..transfer.features import AUTO
from .common import count, print_json
from .confusion import WIDEST, confusion_lines

HELP = "teach a trained network new classes, from folders of images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Gives a trained network a new last layer, which tells the classes of your images. Their "
        "features are computed once with the frozen network, logistic regression makes the layer "
        "(pip install scikit-learn). Features are kept on disk (CNNRT_CACHE, or "
        "the user's cache folder): when images are added, only those cost time."
    )
    add = parser.add_argument
    add("model", help="model.bin or an ONNX file")
    add("data", help="a folder that has a folder of images for each class")
    add("-o", "--output", required=True, metavar="FILE", help="the new model.bin to write")
    add("--layer", default=AUTO, help="where to cut (default: before the classifier)")
    measure = parser.add_mutually_exclusive_group().add_argument
    measure(
        "--test-split",
        type=_share,
        default=0.2,
        metavar="SHARE",
        help="share of each class's images to measure on (default: 0.2); 0: cross-validation",
    )
    measure("--test", metavar="FOLDER", help="a folder like data, with images to measure on")
    add("--compare-pixels", action="store_true", help="also measure the same head on raw pixels")
    add("--html", metavar="FILE", help="write a report: confusion matrix, images least sure of")
    add("--json", action="store_true", help="print JSON")
    add("--float16", action="store_true", help="store the weights in half the space")
    add("--threads", type=count, metavar="N", help="threads to use (default: the cores there are)")
    add("--no-cache", action="store_true", help="neither read nor keep features on disk")


def execute(options: argparse.Namespace) -> int:
    if options.html:
        require("--html", "jinja2")
    adaptation = adapt(
        options.model,
        options.data,
        layer=options.layer,
        test_split=options.test_split,
        test=options.test,
        compare_pixels=options.compare_pixels,
        threads=options.threads,
        cache=not options.no_cache,
    )
    adaptation.save(options.output, float16=options.float16)
    if options.html:
        adaptation.report(options.html)
    if options.json:
        print_json(_document(adaptation))
    else:
        print(_text(adaptation))
        for name in filter(None, (options.output, options.html)):
            print(f"wrote {name}: {Path(name).stat().st_size:,} bytes")
    return 0


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to less than 1")
    return value


def _text(adaptation: Adaptation) -> str:
    lines = [
        f"{adaptation.training} training images of {len(adaptation.labels)} classes, "
        f"{adaptation.features} features of layer {adaptation.layer!r}",
        f"logistic regression, C = {adaptation.strength:g}",
    ]
    measured = adaptation.measured
    if measured is None:
        return "\n".join([*lines, "not measured: a class has a single image"])
    low, high = measured.interval
    lines.append(
        f"accuracy: {measured.accuracy:.1%} of {len(measured.files)} {measured.how} "
        f"(95 % confidence: {low:.1%} to {high:.1%})"
    )
    if adaptation.pixels:
        lines.append(f"accuracy of the same head on pixels: {adaptation.pixels.accuracy:.1%}")
    if len(adaptation.labels) <= WIDEST:
        lines += ["", *confusion_lines(measured.confusion, adaptation.labels)]
    lines += ["", "least sure of:"]
    for i in measured.least_sure(5):
        best = int(measured.predictions[i])
        lines.append(
            f"  {measured.probabilities[i, best]:4.0%}  {adaptation.labels[best]}  "
            f"{measured.files[i]}"
        )
    return "\n".join([*lines, ""])


def _document(adaptation: Adaptation) -> dict[str, Any]:
    document: dict[str, Any] = {
        "labels": adaptation.labels,
        "layer": adaptation.layer,
        "features": adaptation.features,
        "training": adaptation.training,
        "strength": adaptation.strength,
    }
    measured = adaptation.measured
    if measured:
        document["measured"] = {
            "how": measured.how,
            "images": len(measured.files),
            "accuracy": measured.accuracy,
            "interval": list(measured.interval),
            "confusion": measured.confusion.tolist(),
            "least_sure": [str(measured.files[i]) for i in measured.least_sure(5)],
        }
    if adaptation.pixels:
        document["pixels"] = {"accuracy": adaptation.pixels.accuracy}
    return document
