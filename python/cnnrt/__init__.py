"""cnnrt, the convolutional-network runtime for CPUs.

import cnnrt

model = cnnrt.load("model.bin")
y = model(x)                             # NumPy in, NumPy out
model.classify("photo.png", top=5)       # labels and probabilities
model.run(x, outputs=["layer3.1.relu"])  # any inner tensor
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from . import kernels
from .errors import (
    CnnrtError,
    FormatError,
    GraphError,
    ImageError,
    ShapeError,
    UnsupportedOperator,
)
from .graph import TensorSpec
from .model import Classification, Model, load
from .preprocessing import Preprocessing
from .threads import get_num_threads, set_num_threads

try:
    __version__ = version("cnnrt")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0"


def export(*args: Any, **kwargs: Any) -> None:
    """Writes a PyTorch module to a file; see `cnnrt.exporting.export`."""
    from .exporting import export as write  # noqa: PLC0415  (loads PyTorch)

    write(*args, **kwargs)


__all__ = [
    "Classification",
    "CnnrtError",
    "FormatError",
    "GraphError",
    "ImageError",
    "Model",
    "Preprocessing",
    "ShapeError",
    "TensorSpec",
    "UnsupportedOperator",
    "export",
    "get_num_threads",
    "kernels",
    "load",
    "set_num_threads",
]
