"""cnnrt, the convolutional-network runtime for CPUs.

import cnnrt

model = cnnrt.load("model.bin")
y = model(x)                             # NumPy in, NumPy out
model.classify("photo.png", top=5)       # labels and probabilities
model.run(x, outputs=["layer3.1.relu"])  # any inner tensor
"""

from __future__ import annotations

import os
import sys
import threading
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .errors import (
    CnnrtError,
    FormatError,
    GraphError,
    ImageError,
    MemoryLimitError,
    MissingKernelWarning,
    OpenMPError,
    PreprocessingWarning,
    ShapeError,
    UnsupportedOperator,
    WorkLimitError,
)

if TYPE_CHECKING:
    from . import kernels, video
    from .classification import Classification
    from .evaluation.classes import evaluate_classes
    from .evaluation.coco import evaluate_coco
    from .formats.pytorch import export
    from .graph import TensorSpec
    from .images import image_files
    from .inspection.activation_maps import ActivationMap, activation_map
    from .model import Model, load
    from .preprocessing import Preprocessing
    from .process.limits import set_memory_limit, set_work_limit
    from .process.threads import (
        get_num_threads,
        get_threading,
        set_num_threads,
        set_threading,
    )
    from .quantization.quantizer import quantize
    from .tasks.results import Detection, Detections, Segmentation
    from .tasks.task import Task
    from .transfer.adapting import Adaptation, adapt
    from .transfer.features import FeatureExtractor

    __version__: str

_ON_DEMAND = {
    "ActivationMap": "inspection.activation_maps",
    "Adaptation": "transfer.adapting",
    "Classification": "classification",
    "Detection": "tasks.results",
    "Detections": "tasks.results",
    "FeatureExtractor": "transfer.features",
    "Model": "model",
    "Preprocessing": "preprocessing",
    "Segmentation": "tasks.results",
    "Task": "tasks.task",
    "TensorSpec": "graph",
    "activation_map": "inspection.activation_maps",
    "adapt": "transfer.adapting",
    "evaluate_classes": "evaluation.classes",
    "evaluate_coco": "evaluation.coco",
    "export": "formats.pytorch",
    "get_num_threads": "process.threads",
    "get_threading": "process.threads",
    "image_files": "images",
    "load": "model",
    "quantize": "quantization.quantizer",
    "set_memory_limit": "process.limits",
    "set_num_threads": "process.threads",
    "set_threading": "process.threads",
    "set_work_limit": "process.limits",
}
"""Modules of names that are imported on first use: `import cnnrt` takes milliseconds."""


importing = threading.RLock()
"""Held while a module is imported on demand, as in `with importing: import onnx`. Forks wait for
it. Otherwise a child would wait for ever for a module that a thread of its parent was importing."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=importing.acquire,
        after_in_parent=importing.release,
        after_in_child=importing.release,
    )


def import_on_demand(name: str) -> ModuleType:
    """The module of this package with a relative name, as `.model`.

    An error, or a signal handler that raises, may end an import in its midst. The modules that it
    left are then removed, so the next import begins anew. Otherwise the table of operators would
    stay incomplete, as those modules would not run again.
    """
    with importing:
        before = set(sys.modules)
        try:
            return import_module(name, __name__)
        except BaseException:
            for made in sys.modules.keys() - before - {f"{__name__}._core"}:
                package, _, child = made.rpartition(".")
                if made.startswith(f"{__name__}."):
                    del sys.modules[made]
                    vars(sys.modules.get(package, ModuleType(package))).pop(child, None)
            raise


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _ON_DEMAND or name in ("kernels", "video"):
        module = import_on_demand(f".{_ON_DEMAND.get(name, name)}")
        value = getattr(module, name) if name in _ON_DEMAND else module
    else:
        raise AttributeError(f"module 'cnnrt' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    """The version of the installed package; "0" in a source tree that is not installed."""
    with importing:
        from importlib.metadata import (  # noqa: PLC0415  (takes 20 ms)
            PackageNotFoundError,
            version,
        )

    try:
        return version("cnnrt")
    except PackageNotFoundError:
        return "0"


__all__ = [
    "ActivationMap",
    "Adaptation",
    "Classification",
    "CnnrtError",
    "Detection",
    "Detections",
    "FeatureExtractor",
    "FormatError",
    "GraphError",
    "ImageError",
    "MemoryLimitError",
    "MissingKernelWarning",
    "Model",
    "OpenMPError",
    "Preprocessing",
    "PreprocessingWarning",
    "Segmentation",
    "ShapeError",
    "Task",
    "TensorSpec",
    "UnsupportedOperator",
    "WorkLimitError",
    "activation_map",
    "adapt",
    "evaluate_classes",
    "evaluate_coco",
    "export",
    "get_num_threads",
    "get_threading",
    "image_files",
    "kernels",
    "load",
    "quantize",
    "set_memory_limit",
    "set_num_threads",
    "set_threading",
    "set_work_limit",
    "video",
]
