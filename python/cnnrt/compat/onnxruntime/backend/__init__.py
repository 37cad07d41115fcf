"""ONNX's backend interface, as onnxruntime has it.

Interface: https://onnx.ai/onnx/api/backend.html
"""

from .backend import OnnxRuntimeBackend, is_compatible, prepare, run, supports_device
from .backend_rep import OnnxRuntimeBackendRep

__all__ = [
    "OnnxRuntimeBackend",
    "OnnxRuntimeBackendRep",
    "is_compatible",
    "prepare",
    "run",
    "supports_device",
]
