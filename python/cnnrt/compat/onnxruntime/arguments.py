"""Checks of the arguments of a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph import TensorSpec
from .errors import Fail, InvalidArgument, status
from .options import RunOptions
from .types import NAMES, element_name


def check_running(options: RunOptions) -> None:
    """Raises Fail if a run is to end."""
    if options.terminate:
        raise status(Fail, "Exiting due to terminate flag being set to true.")


def checked(spec: TensorSpec, value: Any) -> Any:
    """One input, if it is an array of the right type or something that NumPy makes one of."""
    if spec.kind != "tensor":
        return value
    if not isinstance(value, np.ndarray):
        value = np.asarray(value, spec.dtype.numpy if isinstance(value, (list, tuple)) else None)
    if value.dtype != spec.dtype.numpy:
        texts = value.dtype.kind in "US"
        actual = "string" if texts else NAMES.get(value.dtype.name, value.dtype.name)
        raise status(
            InvalidArgument,
            f"Unexpected input data type for {spec.name!r}. Actual: (tensor({actual})) , expected: "
            f"(tensor({element_name(spec.dtype)}))",
        )
    if not spec.accepts(value.shape):
        raise status(
            InvalidArgument,
            f"Got invalid dimensions for input: {spec.name}: got {list(value.shape)}, expected "
            f"{list(spec.shape)}. Please fix either the inputs/outputs or the model.",
        )
    return value
