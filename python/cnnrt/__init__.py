"""cnnrt, the convolutional-network runtime for CPUs.

import cnnrt

model = cnnrt.load("model.bin")
y = model(x)                             # NumPy in, NumPy out
model.classify("photo.png", top=5)       # labels and probabilities
model.run(x, outputs=["layer3.1.relu"])  # any inner tensor
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from . import kernels
from .errors import (
    CnnrtError,
    FormatError,
    GraphError,
    ImageError,
    MemoryLimitError,
    ShapeError,
    UnsupportedOperator,
)
from .graph import TensorSpec
from .model import Classification, Model, load
from .preprocessing import Preprocessing
from .process.limits import set_memory_limit
from .process.locks import importing
from .process.threads import get_num_threads, set_num_threads

try:
    __version__ = version("cnnrt")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0"


if TYPE_CHECKING:
    from .formats.pytorch import export
    from .images import image_files
    from .inspection.activation_maps import ActivationMap, activation_map
    from .transfer.adapting import Adaptation, adapt
    from .transfer.features import FeatureExtractor

_ON_DEMAND = {
    "ActivationMap": "inspection.activation_maps",
    "Adaptation": "transfer.adapting",
    "FeatureExtractor": "transfer.features",
    "activation_map": "inspection.activation_maps",
    "adapt": "transfer.adapting",
    "export": "formats.pytorch",
    "image_files": "images",
}
"""What is imported when it is first used: running a network takes none of it, nor Pillow."""


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module 'cnnrt' has no attribute {name!r}")
    with importing:
        value = getattr(import_module(f".{_ON_DEMAND[name]}", __name__), name)
    globals()[name] = value
    return value


__all__ = [
    "ActivationMap",
    "Adaptation",
    "Classification",
    "CnnrtError",
    "FeatureExtractor",
    "FormatError",
    "GraphError",
    "ImageError",
    "MemoryLimitError",
    "Model",
    "Preprocessing",
    "ShapeError",
    "TensorSpec",
    "UnsupportedOperator",
    "activation_map",
    "adapt",
    "export",
    "get_num_threads",
    "image_files",
    "kernels",
    "load",
    "set_memory_limit",
    "set_num_threads",
]
