"""`python -m cnnrt view`: the graph of a network as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import feeds
from ..analysis import drawing
from ..model import load
from ..process.extras import require
from .common import add_input, input_shapes

HELP = "draw the graph of a network as an HTML page that works offline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes one HTML file: operators coloured by family, shapes on the edges, attributes and "
        "the weights' statistics on a click; drag, zoom and search. No network is needed."
    )
    add = parser.add_argument
    add("model", help="model.bin or an ONNX file")
    add("-o", "--output", metavar="FILE", help="(default: the model's name with .html)")
    add("--fused", action="store_true", help="draw what runs, after fusion, not what was read")
    add_input(parser)


def execute(options: argparse.Namespace) -> int:
    require("a page", "jinja2")
    model = load(options.model)
    output = options.output or f"{Path(options.model).stem}.html"
    shapes = feeds.shapes(model.inputs, input_shapes(options.input, model))
    title = Path(options.model).name + (", after fusion" if options.fused else "")
    drawing.write_page(output, model.graph, shapes, title=title, fused=options.fused)
    print(f"wrote {output}")
    return 0
