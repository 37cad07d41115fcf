"""`python -m cnnrt run model.bin photo.jpg --output large.png`: a larger picture."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from ..errors import GraphError, ImageError
from ..images import SUFFIXES, open_image
from ..model import Model
from ..storage.text import escaped
from .common import complain, images_of, print_json


def is_requested(options: argparse.Namespace) -> bool:
    """True if the result is to be a picture."""
    return bool(options.output) and Path(options.output).suffix.lower() in SUFFIXES


def execute(options: argparse.Namespace, model: Model) -> int:
    """Makes an image larger and saves it; 1 if it could not be read.

    Raises:
        CnnrtError, OSError: the network makes no pictures, or the result cannot be saved.
    """
    files = images_of(options)
    if len(files) != 1:
        raise GraphError(f"--output {options.output} is one image; {len(files)} were given")
    (file,) = files
    output = Path(options.output)
    if output.exists() and output.samefile(file):
        raise GraphError(f"--output {options.output} would write over the image that is read")
    try:
        picture = open_image(file, "RGB")
    except ImageError as error:
        complain(error)
        return 1
    start = time.perf_counter()
    made = model.upscale(picture)
    milliseconds = 1e3 * (time.perf_counter() - start)
    large = made.image
    large.save(options.output, quality=95)
    if options.json:
        document = {"image": os.fspath(file), "milliseconds": round(milliseconds, 3)}
        print_json([{**document, "output": options.output, "size": [large.height, large.width]}])
    else:
        sizes = f"{picture.width} x {picture.height} to {large.width} x {large.height} pixels"
        print(f"{escaped(os.fspath(file))} ({milliseconds:.3g} ms): {sizes}, {made.tiles} tiles")
    return 0
