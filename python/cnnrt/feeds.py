"""The arrays that a network is fed: checked against its inputs, or generated for a measurement."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import ShapeError
from .graph import ANY_SHAPE, TensorSpec

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
            raise ShapeError(f"input {spec.name!r} has free sizes: {_shape_text(spec)}; give it")
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
    """Inputs of the sizes that the network states, and of 1 for each free size.

    Raises:
        ShapeError: not even the rank of an input is stated.
    """
    for spec in specs:
        if spec.shape == ANY_SHAPE:
            shapes(specs, None)  # raises the error that says which to give
    return [
        np.zeros([d if isinstance(d, int) else 1 for d in spec.shape], spec.dtype) for spec in specs
    ]


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
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise ShapeError(f"input {spec.name!r} is no array: {error}") from None
    if not any_shape and not spec.accepts(array.shape):
        raise ShapeError(
            f"input {spec.name!r} takes shape {_shape_text(spec)}, not {tuple(array.shape)}"
        )
    if not np.can_cast(array.dtype, spec.dtype.numpy, "same_kind"):
        raise ShapeError(f"input {spec.name!r} takes {spec.dtype}, not {array.dtype}")
    return np.ascontiguousarray(array, dtype=spec.dtype.numpy).reshape(array.shape)


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
