"""Names that ONNX's operators have in cnnrt."""

from __future__ import annotations

import re
from functools import cache

WHOLE_WORDS = (
    *("MatMul", "TopK", "PRelu", "SwiGLU", "NaN", "CumSum", "CumProd", "ArgMax", "ArgMin"),
    *("QLinear", "Col2Im"),
)
"""Parts of ONNX's names that are one word in cnnrt's."""


@cache
def snake_case(op_type: str) -> str:
    """cnnrt's name of an ONNX operator: "BatchNormalization" is "batch_normalization"."""
    for word in WHOLE_WORDS:
        op_type = op_type.replace(word, word.capitalize())
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", op_type).lower()
