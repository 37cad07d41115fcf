"""Networks in 8 bits: `quantize` makes them from images, after training."""

from __future__ import annotations

from .quantizer import post_training, quantize
from .ranges import CalibrationError
from .report import Changed, LayerReport, Quantization, TensorReport

__all__ = [
    "CalibrationError",
    "Changed",
    "LayerReport",
    "Quantization",
    "TensorReport",
    "post_training",
    "quantize",
]
