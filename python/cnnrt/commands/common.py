"""Parts that several commands share: kinds of arguments, and how an error is printed."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ShapeError
from ..graph import ANY_SHAPE, TensorSpec

if TYPE_CHECKING:
    from ..model import Model

T = TypeVar("T")


def count(text: str) -> int:
    """An argument that is a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def list_of(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    """An argument that is several of a kind, with commas."""

    def parse(text: str) -> list[T]:
        return [kind(word.strip()) for word in text.split(",")]

    return parse


def seconds(text: str) -> float:
    """An argument that is a time above zero."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a time above zero")
    return value


def number(text: str) -> float:
    """An argument such as 0.5 or 1/255."""
    try:
        return float(Fraction(text))
    except (ValueError, ArithmeticError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or fraction") from None


def named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """An argument such as 1x3x224x224 or NAME=1x3x224x224; without a name that is empty."""
    name, _, sizes = text.rpartition("=")
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes):
        raise argparse.ArgumentTypeError(f"{text!r} is not a shape such as 1x3x224x224")
    return name, tuple(int(size) for size in sizes.split("x"))


def add_input(parser: argparse.ArgumentParser) -> None:
    """Declares --input, the shapes of the network's inputs; see `input_shapes`."""
    parser.add_argument(
        "--input",
        type=named_shape,
        action="append",
        default=[],
        metavar="[NAME=]1x3x224x224",
        help="shape of the input; once for each input of several (default: what the model states)",
    )


def input_shapes(
    given: list[tuple[str, tuple[int, ...]]], model: Model
) -> dict[str, tuple[int, ...]] | None:
    """Shapes given by --input, by the names of the inputs; None if it was not given."""
    first = model.inputs[0].name
    return {name or first: shape for name, shape in given} or None


def print_json(document: Any) -> None:
    """Prints a JSON document. Numbers that JSON does not have, infinity and NaN, become null."""
    print(json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _finite(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [_finite(value) for value in document]
    if isinstance(document, float) and not math.isfinite(document):
        return None
    return document


def complain(error: Exception) -> None:
    """Prints an error as one line on stderr."""
    reason = getattr(error, "strerror", None)
    name = getattr(error, "filename", None)
    print(f"cnnrt: error: {f'{name}: {reason}' if reason and name else error}", file=sys.stderr)


Shapes = dict[str, tuple[int, ...]]


def add_shape_argument(parser: argparse.ArgumentParser) -> None:
    """Declares --shape, for inputs whose sizes the model leaves free; see `planned_shapes`."""
    parser.add_argument(
        "--shape",
        type=named_shape,
        action="append",
        default=[],
        metavar="[NAME=]1x3x224x224",
        help="shape of an input whose sizes are free (default: 1 for a batch)",
    )


def planned_shapes(
    specs: Sequence[TensorSpec], given: Sequence[tuple[str, tuple[int, ...]]]
) -> tuple[Shapes, list[str]]:
    """The shape of each input, and the names of free sizes that are taken for 1 but are no batch.

    Raises:
        ShapeError: a shape is given for no input, or does not fit.
    """
    named = {name or specs[0].name: shape for name, shape in given}
    shapes: Shapes = {}
    unknown: list[str] = []
    for spec in specs:
        if spec.name in named:
            shape = named.pop(spec.name)
            if not spec.accepts(shape):
                raise ShapeError(f"--shape: input {spec.name!r} takes {list(spec.shape)}")
            shapes[spec.name] = shape
            continue
        shapes[spec.name] = tuple(1 if isinstance(n, str) else n for n in spec.shape)
        unknown += [n for n in spec.shape[1:] if isinstance(n, str)]
        unknown += ANY_SHAPE if spec.shape == ANY_SHAPE else []
    if named:
        names = ", ".join(spec.name for spec in specs)
        raise ShapeError(f"--shape: no input is named {', '.join(named)}; there are {names}")
    return shapes, list(dict.fromkeys(unknown))
