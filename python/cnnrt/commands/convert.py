"""`python -m cnnrt convert`: model.bin from ONNX and back, with labels and preprocessing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import formats
from ..preprocessing import CHANNELS, INTERPOLATIONS
from ..preprocessing.fitting import warn_of_missing
from ..process.extras import require
from ..quantization.weight_blocks import with_int8_weights
from .common import count, number
from .describing import PRESET_HELP, add_task, described_by, stated_task

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
    add(
        "--multi-label",
        action="store_true",
        help="several classes may hold at once: each score goes through a sigmoid, not a softmax",
    )
    add_task(parser)
    add("--float16", action="store_true", help="store the weights in half the space")
    add(
        "--int8-weights",
        action="store_true",
        help="store the weights of fully connected layers in a quarter of the space",
    )
    image = parser.add_argument_group("preprocessing of images").add_argument
    per_pixel: Any = {"type": number, "metavar": "X"}
    image("--preset", metavar="NAME", help=PRESET_HELP)
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
    if options.target.endswith(".onnx"):
        require("writing ONNX", "onnx")
    document = formats.read(options.source)
    found = described_by(options, document)
    described: dict[str, Any] = {
        **found._asdict(),
        "notice": document.metadata.get("notice"),
        "task": stated_task(options) or document.task,
    }
    graph = document.graph
    if options.int8_weights:
        graph = with_int8_weights(graph)
    if found.preprocessing is None:
        warn_of_missing(graph, options.target)
    if options.target.endswith(".onnx"):
        if options.float16:
            options.usage_error("--float16 is for model.bin")
        from ..formats.onnx.writer import write_onnx  # noqa: PLC0415  (needs a package)

        write_onnx(options.target, graph, **described)
    else:
        formats.write_model(options.target, graph, **described, float16=options.float16)
    size = Path(options.target).stat().st_size
    print(f"wrote {options.target}: {size:,} bytes, {len(graph.nodes)} operators")
    return 0
