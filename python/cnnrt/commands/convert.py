"""`python -m cnnrt convert`: model.bin from ONNX and back, with labels and preprocessing."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from .. import formats
from ..errors import FormatError
from ..preprocessing import CHANNELS, INTERPOLATIONS, Preprocessing
from .common import count, number

HELP = "write model.bin from an ONNX file, or ONNX from model.bin"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes a model with its labels and the preprocessing of its images into one file. "
        "Values of pixels, 0 to 255, become (value * SCALE - MEAN) / STD."
    )
    add = parser.add_argument
    add("source", help="an ONNX file, or a model.bin to be changed")
    add("target", help="the model.bin to write, or a file that ends in .onnx")
    add("--labels", metavar="FILE", help="text file with the name of one class per line")
    add("--float16", action="store_true", help="store the weights in half the space")
    image = parser.add_argument_group("preprocessing of images").add_argument
    per_pixel: Any = {"type": number, "metavar": "X"}
    image("--size", type=count, nargs=2, metavar=("H", "W"), help="(default: that of the input)")
    image(
        "--resize",
        type=count,
        nargs="+",
        metavar="N",
        help="length of the shorter side before the crop, or height and width (default: no resize)",
    )
    image("--crop", choices=("center", "none"), help="cut out the centre (default) or not")
    image("--interpolation", choices=INTERPOLATIONS, help="(default: bilinear)")
    image("--channels", choices=CHANNELS, help="(default: RGB)")
    image("--scale", **per_pixel, help="such as 1/255 (default: 1)")
    image("--mean", nargs="+", **per_pixel, help="one per channel (default: 0)")
    image("--std", nargs="+", **per_pixel, help="one per channel (default: 1)")


def execute(options: argparse.Namespace) -> int:
    document = formats.read(options.source)
    labels = _read_labels(options.labels) if options.labels else document.labels
    _check_labels(labels, document)
    described: dict[str, Any] = {
        "preprocessing": _preprocessing(options, document),
        "labels": labels,
        "notice": document.metadata.get("notice"),
    }
    if options.target.endswith(".onnx"):
        if options.float16:
            options.usage_error("--float16 is for model.bin")
        from ..formats.onnx.writer import write_onnx  # noqa: PLC0415  (needs a package)

        write_onnx(options.target, document.graph, **described)
    else:
        formats.write_model(options.target, document.graph, **described, float16=options.float16)
    size = Path(options.target).stat().st_size
    print(f"wrote {options.target}: {size:,} bytes, {len(document.graph.nodes)} operators")
    return 0


def _read_labels(path: str) -> list[str]:
    """The lines of a text file, without empty ones at the end."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise FormatError(f"{path}: is not a text file in UTF-8") from None
    return [line.strip() for line in text.rstrip().splitlines()]


def _check_labels(labels: list[str] | None, document: formats.Document) -> None:
    """Checks that there is a label for each class, where the number of classes is known."""
    shape = document.graph.outputs[0].shape
    if labels and len(shape) >= 2 and isinstance(shape[1], int) and len(labels) != shape[1]:
        raise FormatError(f"{len(labels)} labels for an output of shape {list(shape)}")


def _preprocessing(options: argparse.Namespace, document: formats.Document) -> Preprocessing | None:
    """The preprocessing that the options ask for, based on that which the model has."""
    names = ("size", "resize", "crop", "interpolation", "channels", "scale", "mean", "std")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if not given:
        return document.preprocessing
    if "crop" in given:
        given["crop"] = None if given["crop"] == "none" else given["crop"]
    if len(given.get("resize", ())) == 1:
        given["resize"] = given["resize"][0]
    if "channels" in given:  # the numbers per channel that the model has may be too few or many
        given = {"mean": (), "std": (), **given}
    try:
        if document.preprocessing:
            return dataclasses.replace(document.preprocessing, **given)
        return Preprocessing(**{"size": _input_size(document), **given})
    except ValueError as error:
        options.usage_error(str(error))  # exits
        raise


def _input_size(document: formats.Document) -> tuple[Any, ...]:
    """Height and width of the network's input, for want of --size."""
    sizes = [spec.shape[2:] for spec in document.graph.inputs if len(spec.shape) == 4]
    if len(sizes) != 1 or not all(isinstance(n, int) for n in sizes[0]):
        raise ValueError("the model's input does not say its height and width: give --size H W")
    return sizes[0]
