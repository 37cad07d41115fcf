"""Parts that several commands share: kinds of arguments, and how an error is printed."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from ..errors import FormatError, GraphError, ShapeError
from ..graph import ANY_SHAPE, Array, TensorSpec
from ..images import SUFFIXES, image_files
from ..preprocessing import Preprocessing

if TYPE_CHECKING:
    from ..model import Model

LIMITS = ("min_score", "max_overlap", "max_detections")
"""The options that limit what a network finds, by their names in `Model.detect`."""

T = TypeVar("T")
NamedShape = tuple[str, tuple[int, ...]]
Shapes = dict[str, tuple[int, ...]]


def count(text: str) -> int:
    """An argument that is a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def limits_of(options: argparse.Namespace) -> dict[str, Any]:
    """The limits of what a network finds that are given, as arguments of `Model.detect`."""
    return {name: getattr(options, name) for name in LIMITS if getattr(options, name) is not None}


def refuse_for_others(options: argparse.Namespace, *names: str) -> None:
    """Ends the program if an option is given that only networks that find things have.

    Raises:
        GraphError: one is.
    """
    for name in names:
        if getattr(options, name) is not None:
            raise GraphError(
                f"--{name.replace('_', '-')} is for networks that detect, segment or find "
                "keypoints, and nothing in this file tells that it does; say it: --task, --family"
            )


def images_of(options: argparse.Namespace) -> list[Path]:
    """The images that are given.

    Pillow only warns of a picture of 90 million pixels and more; from here on that is an error.

    Raises:
        ImageError: there are none.
    """
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    return image_files(options.images)


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


def share(text: str) -> float:
    """An argument from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value


def number(text: str) -> float:
    """An argument such as 0.5 or 1/255."""
    try:
        return float(Fraction(text))
    except (ValueError, ArithmeticError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or fraction") from None


def named_shape(text: str) -> NamedShape:
    """An argument such as 1x3x224x224 or NAME=1x3x224x224; without a name that is empty."""
    name, _, sizes = text.rpartition("=")
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a shape such as 1x3x224x224 (a file of values goes to --data)"
        )
    return name, tuple(int(size) for size in sizes.split("x"))


def add_input(parser: argparse.ArgumentParser) -> None:
    """Declares --input, shapes of the network's inputs; see `input_shapes`, `planned_shapes`."""
    parser.add_argument(
        "--input",
        type=named_shape,
        action="append",
        default=[],
        metavar="[NAME=]1x3x224x224",
        help="shape of the input; once for each input of several (default: what the model states, "
        "and 1 for a batch)",
    )
    parser.add_argument("--shape", nargs="+", action=_FormerShape, help=argparse.SUPPRESS)


class _FormerShape(argparse.Action):
    """--shape, the former name of --input, also with its numbers apart by spaces."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002  (argparse gives them)
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        joined = ["x".join(values)] if all(v.isdecimal() for v in values) else values
        try:
            namespace.input = [*namespace.input, *map(named_shape, joined)]
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, f"{error}; it is --input now") from None


def add_data(parser: argparse.ArgumentParser) -> None:
    """Declares --data, the values of the network's inputs; see `read_data`."""
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="values of the input: an image, an .npy file of one array, or an .npz file of arrays "
        "by input name (default: random numbers)",
    )


def read_data(model: Model, path: str, preprocessing: Preprocessing | None) -> dict[str, Array]:
    """The arrays of a file by the names of the inputs; an image as the model's input.

    Args:
        preprocessing: what is done to an image; None: what the model says.

    Raises:
        FormatError: the file does not hold arrays.
        ImageError: it cannot be read as an image.
        GraphError: the model does not say how an image becomes its input.
    """
    first = model.inputs[0].name
    if Path(path).suffix.lower() in SUFFIXES:
        return {first: model.input_from(path) if preprocessing is None else preprocessing(path)}
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {first: found}
        with found:
            return {name: found[name] for name in found.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise FormatError(
            f"{path}: is neither an image nor an .npy or .npz file: {error}"
        ) from None


def input_shapes(given: Sequence[NamedShape], model: Model) -> Shapes | None:
    """Shapes given by --input, by the names of the inputs; None if it was not given.

    Raises:
        ShapeError: a shape is given twice, or for an input of several without its name.
    """
    return _by_name(given, [spec.name for spec in model.inputs]) or None


def _by_name(given: Sequence[NamedShape], names: Sequence[str]) -> Shapes:
    shapes: Shapes = {}
    for text, shape in given:
        if not text and len(names) > 1 and len(given) > 1:
            raise ShapeError(f"--input: say which: NAME=SHAPE, a name of {', '.join(names)}")
        name = text or names[0]
        if name not in names:
            raise ShapeError(f"--input: no input is named {name}; there are {', '.join(names)}")
        if name in shapes:
            raise ShapeError(f"--input: gives the shape of {name!r} twice")
        shapes[name] = shape
    return shapes


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


def tell(message: Warning | str, *_: Any, **__: Any) -> None:
    """Prints a warning as one line on stderr; takes the place of `warnings.showwarning`."""
    print(f"cnnrt: warning: {message}", file=sys.stderr)


def planned_shapes(
    specs: Sequence[TensorSpec], given: Sequence[NamedShape]
) -> tuple[Shapes, list[str]]:
    """The shape of each input, and the names of free sizes that are taken for 1 but are no batch.

    Raises:
        ShapeError: a shape is given for no input, or does not fit.
    """
    named = _by_name(given, [spec.name for spec in specs])
    shapes: Shapes = {}
    unknown: list[str] = []
    for spec in specs:
        if spec.name in named:
            shape = named[spec.name]
            if not spec.accepts(shape):
                raise ShapeError(f"--input: {spec.name!r} takes {list(spec.shape)}")
            shapes[spec.name] = shape
            continue
        shapes[spec.name] = tuple(1 if isinstance(n, str) else n for n in spec.shape)
        unknown += [n for n in spec.shape[1:] if isinstance(n, str)]
        unknown += ANY_SHAPE if spec.shape == ANY_SHAPE else []
    return shapes, list(dict.fromkeys(unknown))
