"""Networks in 8 bits: `quantize` makes them from images, after training."""

from __future__ import annotations

from .onnxruntime_names import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from .quantizer import post_training, quantize
from .ranges import CalibrationError
from .report import Changed, LayerReport, Quantization, TensorReport

__all__ = [
    "CalibrationDataReader",
    "CalibrationError",
    "CalibrationMethod",
    "Changed",
    "LayerReport",
    "QuantFormat",
    "QuantType",
    "Quantization",
    "TensorReport",
    "post_training",
    "quantize",
    "quantize_dynamic",
    "quantize_static",
]
