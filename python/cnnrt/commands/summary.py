"""`python -m cnnrt summary`: the layers of a network, their costs and their receptive fields."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import pages
from ..model import load
from ..process.extras import require
from .common import add_input, input_shapes, print_json

HELP = "list the layers of a network, what they cost and how much of the image they see"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints a row per layer: operator (with what is fused into it), output shape, parameters, "
        "multiply-accumulates with their share of the total, and the receptive field as "
        "SIZE /JUMP @START in pixels of the input, 'all' where it is the whole image."
    )
    add = parser.add_argument
    add("model", help="model.bin or an ONNX file")
    add_input(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--html", metavar="FILE", help="write a page instead")


def execute(options: argparse.Namespace) -> int:
    if options.html:
        require("--html", "jinja2")
    model = load(options.model)
    summary = model.summary(input_shapes(options.input, model))
    if options.json:
        print_json(summary.to_json())
    elif options.html:
        title = f"{Path(options.model).name}: layers"
        largest = max((layer.share for layer in summary.layers), default=0) or 1
        pages.write(options.html, "summary.html", title=title, summary=summary, largest=largest)
        print(f"wrote {options.html}")
    else:
        print(summary)
    return 0
