"""`python -m cnnrt compile`: a model with its weights packed for this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import feeds
from ..graph import Array
from ..model import Model, load
from .common import NamedShape, add_input, input_shapes

HELP = "write a file that loads faster: weights packed for this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes a model with its weights in the order in which this machine's kernels read them. "
        "Loading that file maps them: nothing is packed, and all processes share the pages. It "
        "also holds the model as it was, for other machines."
    )
    add = parser.add_argument
    add("source", help="model.bin or an ONNX file")
    add("-o", "--output", required=True, metavar="FILE", help="the file to write")
    add_input(parser)
    add("--tune", action="store_true", help="time the algorithms of 3x3 convolutions first")


def execute(options: argparse.Namespace) -> int:
    """Compiles a model.

    Raises:
        CnnrtError, OSError: the model cannot be loaded, or the file cannot be written.
    """
    model = load(options.source)
    x = _zeros(model, options.input) if options.input else None
    if options.tune:
        model.tune(x)
    model.save_compiled(options.output, x)
    size = Path(options.output).stat().st_size
    packed = model.memory().packed
    print(f"wrote {options.output}: {size:,} bytes, {packed:,} of them packed for {model.isa}")
    return 0


def _zeros(model: Model, given: Sequence[NamedShape]) -> dict[str, Array]:
    """Inputs of these shapes.

    Raises:
        ShapeError: the model does not take them.
    """
    shapes = feeds.shapes(model.inputs, input_shapes(given, model))
    return {spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in model.inputs}
