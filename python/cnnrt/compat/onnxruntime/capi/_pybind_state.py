"""The same names under another module's name, as in onnxruntime."""

from .onnxruntime_pybind11_state import *  # noqa: F403
