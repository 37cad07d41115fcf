"""The arrays that a network is fed: checked against its inputs, or generated for a measurement."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import PreprocessingWarning, ShapeError
from .graph import ANY_SHAPE, Array, TensorSpec

Inputs = Any
"""An array, or a dict of arrays by input name."""
Shapes = Sequence[int] | Mapping[str, Sequence[int]]
"""The shape of an input, or a dict of shapes by input name."""


def arrays(specs: Sequence[TensorSpec], x: Inputs) -> list[Any]:
    """The inputs in order, contiguous and of the dtypes that the network takes.

    Raises:
        ShapeError: an input is missing or unknown, or its shape or dtype does not fit.
    """
    names = [spec.name for spec in specs]
    if isinstance(x, Mapping):
        unknown = [k for k in x if k not in names]
        missing = [k for k in names if k not in x]
        if unknown or missing:
            raise ShapeError(
                f"inputs by name: missing {missing or 'none'}, unknown {unknown or 'none'}; "
                f"the model takes {', '.join(names)}"
            )
        given = [x[name] for name in names]
    elif len(names) != 1:
        raise ShapeError(
            f"this model has {len(names)} inputs; give a dict of arrays by name: {', '.join(names)}"
        )
    else:
        given = [x]
    return [as_input(spec, value) for spec, value in zip(specs, given, strict=True)]


def shapes(specs: Sequence[TensorSpec], x: Inputs | Shapes | None) -> dict[str, tuple[int, ...]]:
    """The shapes of the inputs by name: those of `x`, or those that the network states.

    Args:
        specs: the network's inputs.
        x: arrays or shapes. None: the sizes stated, and 1 for a free size of the first axis.

    Raises:
        ShapeError: the network does not take such an input, or its sizes are free.
    """
    names = [spec.name for spec in specs]
    given = {} if x is None else dict(x) if isinstance(x, Mapping) else {names[0]: x}
    if unknown := given.keys() - set(names):
        raise ShapeError(
            f"no input is named {sorted(unknown)[0]!r}; the model takes {', '.join(names)}"
        )
    found = {}
    for spec in specs:
        if spec.name in given:
            value = given[spec.name]
            shape = tuple(np.shape(value) if hasattr(value, "shape") else map(int, value))
        elif any(isinstance(n, str) for n in spec.shape[1:]) or spec.shape == ANY_SHAPE:
            raise ShapeError(
                f"input {spec.name!r} has free sizes: {_shape_text(spec)}; give it: an input, or "
                "for a summary its shape (on the command line --input "
                f"{spec.name}=1x3x224x224)"
            )
        else:
            shape = tuple(1 if isinstance(size, str) else size for size in spec.shape)
        if not spec.accepts(shape):
            raise ShapeError(f"input {spec.name!r} takes shape {_shape_text(spec)}, not {shape}")
        found[spec.name] = shape
    return found


def example(specs: Sequence[TensorSpec], x: Inputs | Shapes | None) -> list[Any]:
    """Inputs in order: the arrays given, or random ones of the shapes that `shapes` finds."""
    values = list(x.values()) if isinstance(x, Mapping) else [x]
    if any(hasattr(value, "shape") for value in values):
        return arrays(specs, x)
    random = np.random.default_rng(0)
    found = shapes(specs, x)
    return [
        random.standard_normal(found[spec.name]).astype(spec.dtype)
        if spec.dtype.kind == "f"
        else np.zeros(found[spec.name], spec.dtype)
        for spec in specs
    ]


def zeros(specs: Sequence[TensorSpec]) -> list[Any]:
    """Inputs of the sizes that the network states, and of 1 for a free size of the first axis.

    Raises:
        ShapeError: other sizes of an input are free.
    """
    found = shapes(specs, None)
    return [np.zeros(found[spec.name], spec.dtype) for spec in specs]


def of_images(spec: TensorSpec, x: Array) -> Array:
    """The result of a preprocessing in the dtype that an input takes.

    Raises:
        ShapeError: it is of another size.
    """
    batch = spec.shape[0] if spec.shape and isinstance(spec.shape[0], int) else len(x)
    if not spec.accepts((batch, *x.shape[1:])):
        raise ShapeError(
            f"the model's preprocessing makes arrays of shape {x.shape}, and its input "
            f"{spec.name!r} takes {_shape_text(spec)}: give it a preprocessing of that size "
            "(cnnrt convert --size; model.preprocessing = ...)"
        )
    return np.rint(x).astype(spec.dtype.numpy) if spec.dtype.kind in "ui" else x


def shapes_of(values: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
    """The shapes of arrays; () for the elements of sequences and optionals."""
    return tuple(value.shape if isinstance(value, np.ndarray) else () for value in values)


def as_input(spec: TensorSpec, value: Any, any_shape: bool = False) -> Any:
    """A value as the contiguous array that an input takes, or as the list of a sequence.

    Raises:
        ShapeError: its shape or dtype does not fit.
    """
    if spec.kind != "tensor":
        return _as_elements(spec, value)
    if isinstance(value, (str, os.PathLike)) or hasattr(value, "getbands"):
        raise ShapeError(
            f"input {spec.name!r} takes an array, not a {type(value).__name__}; a picture goes to "
            "model.classify(image) or model(model.input_from(image))"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise ShapeError(f"input {spec.name!r} is no array: {error}") from None
    if not any_shape and not spec.accepts(array.shape):
        raise ShapeError(
            f"input {spec.name!r} takes shape {_shape_text(spec)}, not {tuple(array.shape)}"
            f"{_hint(spec, array)}"
        )
    if not np.can_cast(array.dtype, spec.dtype.numpy, "same_kind"):
        raise ShapeError(f"input {spec.name!r} takes {spec.dtype}, not {array.dtype}")
    if array.dtype == np.uint8 and spec.dtype.kind == "f" and array.ndim == 4:
        warnings.warn(
            f"input {spec.name!r} takes {spec.dtype}; an array of uint8 goes in as it is, 0 to "
            "255. model.input_from(image) prepares pictures; x.astype('float32') if that is meant",
            PreprocessingWarning,
            stacklevel=6,
        )
    return np.ascontiguousarray(array, dtype=spec.dtype.numpy).reshape(array.shape)


def _hint(spec: TensorSpec, array: Array) -> str:
    """Advice for an array of another shape; empty if nothing comes to mind."""
    shape = array.shape
    if len(spec.shape) == 4 and len(shape) == 4:
        for axes in ((0, 3, 1, 2), (0, 2, 3, 1)):
            if spec.accepts([shape[i] for i in axes]):
                order = "channels last" if axes[1] == 3 else "channels first"
                return f"; are its {order}? x.transpose{axes} turns it round"
    if len(spec.shape) == 4 and len(shape) in (2, 3):
        if array.dtype == np.uint8:
            return "; a picture goes to model.classify(image) or model(model.input_from(image))"
        if spec.accepts((1, *shape)):
            return "; the first axis counts the images: x[None]"
        if len(shape) == 3 and spec.accepts((1, shape[2], *shape[:2])):
            return "; are its channels last? x.transpose(2, 0, 1)[None] turns it round"
        if len(shape) == 2 and spec.accepts((1, 1, *shape)):
            return "; it lacks the axes of images and channels: x[None, None]"
    return ""


def _as_elements(spec: TensorSpec, value: Any) -> Any:
    """The list of arrays that a sequence takes; for an optional also one array or None.

    Raises:
        ShapeError: it is something else, or an element has another dtype.
    """
    element = dataclasses.replace(spec, kind="tensor")
    if isinstance(value, (list, tuple)):
        return [as_input(element, x, any_shape=True) for x in value]
    if spec.kind == "optional":
        return None if value is None else as_input(element, value, any_shape=True)
    raise ShapeError(f"input {spec.name!r} takes a list of arrays, not {type(value).__name__}")


def _shape_text(spec: TensorSpec) -> str:
    return f"({', '.join(str(d) for d in spec.shape)}{',' if len(spec.shape) == 1 else ''})"


def as_batch(image: Any) -> list[Any] | None:
    """The pictures of a list or a tuple; None: it is a single one."""
    return list(image) if isinstance(image, (list, tuple)) else None
