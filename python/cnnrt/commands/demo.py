"""`python -m cnnrt demo`: LeNet-5 reads the handwritten digits in the package."""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from ..model import load

HELP = "read handwritten digits with the LeNet-5 included"

SHADES = " .:-=+*#%@"
"""Characters from black to white, on a dark terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares no arguments: the command has none."""
    parser.description = "Prints ten digits of the MNIST test set and what LeNet-5 reads in them."


def execute(options: argparse.Namespace) -> int:  # noqa: ARG001
    with resources.as_file(resources.files("cnnrt") / "data") as folder:
        model = load(folder / "lenet5.bin")
        blocks = []
        for file in sorted((folder / "digits").glob("*.png")):
            best = model.classify(file, top=1)[0]
            art = _ascii_art(file)
            blocks.append([*art, f"{best.label} ({best.probability:.1%})".center(len(art[0])), ""])
    for i in range(0, len(blocks), 3):
        for row in zip(*blocks[i : i + 3], strict=True):
            print("  ".join(row).rstrip())
    print(f"{len(blocks)} digits of the MNIST test set, read by LeNet-5.")
    return 0


def _ascii_art(file: Path) -> list[str]:
    """A picture of 28 x 28 pixels, without its border, as 12 lines of 24 characters."""
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("L"))[2:26, 2:26]
    rows = pixels.reshape(12, 2, 24).mean(axis=1)  # a character is twice as high as wide
    return ["".join(SHADES[int(v) * len(SHADES) // 256] for v in row) for row in rows]
