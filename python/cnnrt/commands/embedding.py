"""`python -m cnnrt run --task embed`: vectors of images, and their cosines."""

from __future__ import annotations

import argparse
import os

import numpy as np

from ..errors import FormatError, ImageError
from ..graph import Array
from ..model import Model
from ..progress import progress_bar
from ..storage.text import escaped
from .arrays import write_npz
from .common import complain, images_of, print_json

WIDEST = 12
"""Images whose cosines are printed as a table; more are a list of the nearest of each."""


def is_requested(model: Model) -> bool:
    """True if the network is there to compare images."""
    return model.task is not None and model.task.kind == "embed"


def execute(options: argparse.Namespace, model: Model) -> int:
    """Prints the cosine of each two images; 1 if any image could not be read.

    Raises:
        CnnrtError, OSError: the network has no vectors, or they cannot be saved.
    """
    if options.output and not options.output.endswith(".npz"):
        raise FormatError(f"--output {options.output}: vectors are saved in a file of .npz")
    if model.labels:
        model.task = None  # a classifier's vectors are what its last layer reads
    files = images_of(options)
    names: list[str] = []
    rows: list[Array] = []
    with progress_bar(len(files)) as bar:
        for file in files:
            bar.update(1)
            try:
                rows.append(model.embed(file).vectors[0])
                names.append(os.fspath(file))
            except ImageError as error:
                complain(error)
    vectors = np.stack(rows) if rows else np.empty((0, 0), np.float32)
    if options.output:
        write_npz(options.output, {"images": np.array(names, dtype=str), "vectors": vectors})
    if options.json:
        pairs = zip(names, vectors.tolist(), strict=True)
        print_json([{"image": name, "vector": vector} for name, vector in pairs])
    elif rows:
        print("\n".join(_lines([escaped(name) for name in names], vectors)))
    return int(len(rows) < len(files))


def _lines(names: list[str], vectors: Array) -> list[str]:
    """The cosines as a table, or the nearest image of each."""
    lines = [f"{len(names)} images, vectors of {vectors.shape[1]} numbers; cosines:"]
    wide = max(map(len, names))
    if len(names) <= WIDEST:
        cosines = vectors @ vectors.T
        lines.append(" " * (wide + 5) + "".join(f"{i + 1:7}" for i in range(len(names))))
        return lines + [
            f"{name:{wide}} {i + 1:4}" + "".join(f"{value:7.3f}" for value in row)
            for i, (name, row) in enumerate(zip(names, cosines, strict=True))
        ]
    for i, name in enumerate(names):
        cosines = vectors @ vectors[i]
        cosines[i] = -2
        nearest = int(cosines.argmax())
        lines.append(f"{name:{wide}}  {cosines[nearest]:.3f}  {names[nearest]}")
    return lines
