"""The command line: run a model on images, convert models, a demonstration.

Exit status 0; 2 for wrong usage; 1 with one line on stderr for what cannot be read or written; 130
after an interruption.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from . import __version__, formats
from .errors import CnnrtError, FormatError
from .preprocessing import CHANNELS, INTERPOLATIONS, Preprocessing


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        status = command(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of stdout, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (CnnrtError, OSError, ImportError) as error:
        _complain(error)
        return 1


def _complain(error: Exception) -> None:
    reason = getattr(error, "strerror", None)
    name = getattr(error, "filename", None)
    print(f"cnnrt: error: {f'{name}: {reason}' if reason and name else error}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cnnrt", description="Convolutional networks on CPUs.")
    parser.add_argument("--version", action="version", version=f"cnnrt {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands.add_parser("run", help="name what is in images"))
    _add_convert(commands.add_parser("convert", help="write model.bin from an ONNX file"))
    demo = commands.add_parser("demo", help="read handwritten digits with the LeNet-5 included")
    demo.set_defaults(command=_demo)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Runs a model on images. Prints the likeliest classes of each and the time that the "
        "network took; for a model without labels, the shapes and ranges of its outputs."
    )
    add = parser.add_argument
    add("model", help="model.bin or an ONNX file")
    add("images", nargs="+", metavar="image", help="images, or folders of them")
    add("--top", type=_count, default=5, metavar="N", help="classes to print (default: 5)")
    add("--threads", type=_count, metavar="N", help="threads to use (default: the cores there are)")
    add("--json", action="store_true", help="print JSON: a list with one object per image")
    add("--output", metavar="FILE.npz", help="save the outputs of all images, as NumPy arrays")
    parser.set_defaults(command=_run)


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes a model with its labels and the preprocessing of its images into one file. "
        "Values of pixels, 0 to 255, become (value * SCALE - MEAN) / STD."
    )
    add = parser.add_argument
    add("source", help="an ONNX file, or a model.bin to be changed")
    add("target", help="the model.bin to write")
    add("--labels", metavar="FILE", help="text file with the name of one class per line")
    add("--float16", action="store_true", help="store the weights in half the space")
    image = parser.add_argument_group("preprocessing of images").add_argument
    number: Any = {"type": _number, "metavar": "X"}
    image("--size", type=_count, nargs=2, metavar=("H", "W"), help="(default: that of the input)")
    image(
        "--resize",
        type=_count,
        nargs="+",
        metavar="N",
        help="length of the shorter side before the crop, or height and width (default: no resize)",
    )
    image("--crop", choices=("center", "none"), help="cut out the centre (default) or not")
    image("--interpolation", choices=INTERPOLATIONS, help="(default: bilinear)")
    image("--channels", choices=CHANNELS, help="(default: RGB)")
    image("--scale", **number, help="such as 1/255 (default: 1)")
    image("--mean", nargs="+", **number, help="one per channel (default: 0)")
    image("--std", nargs="+", **number, help="one per channel (default: 1)")
    parser.set_defaults(command=_convert, usage_error=parser.error)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def _number(text: str) -> float:
    try:
        return float(Fraction(text))
    except (ValueError, ArithmeticError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or fraction") from None


def _run(options: argparse.Namespace) -> int:
    from . import runner  # noqa: PLC0415  (`convert` and `--help` do without)

    return runner.run_images(
        options.model,
        options.images,
        top=options.top,
        threads=options.threads,
        as_json=options.json,
        output=options.output,
        complain=_complain,
    )


def _demo(options: argparse.Namespace) -> int:  # noqa: ARG001
    from . import runner  # noqa: PLC0415

    runner.demonstrate()
    return 0


def _convert(options: argparse.Namespace) -> int:
    document = formats.read(options.source)
    labels = _read_labels(options.labels) if options.labels else document.labels
    _check_labels(labels, document)
    formats.write_model(
        options.target,
        document.graph,
        preprocessing=_preprocessing(options, document),
        labels=labels,
        notice=document.metadata.get("notice"),
        float16=options.float16,
    )
    size = Path(options.target).stat().st_size
    print(f"wrote {options.target}: {size:,} bytes, {len(document.graph.nodes)} operators")
    return 0


def _read_labels(path: str) -> list[str]:
    """The lines of a text file, without empty ones at the end."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise FormatError(f"{path}: is not a text file in UTF-8") from None
    return [line.strip() for line in text.rstrip().splitlines()]


def _check_labels(labels: list[str] | None, document: formats.Document) -> None:
    """Checks that there is a label for each class, where the number of classes is known."""
    shape = document.graph.outputs[0].shape
    if labels and len(shape) >= 2 and isinstance(shape[1], int) and len(labels) != shape[1]:
        raise FormatError(f"{len(labels)} labels for an output of shape {list(shape)}")


def _preprocessing(options: argparse.Namespace, document: formats.Document) -> Preprocessing | None:
    """The preprocessing that the options ask for, based on that which the model has."""
    names = ("size", "resize", "crop", "interpolation", "channels", "scale", "mean", "std")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if not given:
        return document.preprocessing
    if "crop" in given:
        given["crop"] = None if given["crop"] == "none" else given["crop"]
    if len(given.get("resize", ())) == 1:
        given["resize"] = given["resize"][0]
    if "channels" in given:  # the numbers per channel that the model has may be too few or many
        given = {"mean": (), "std": (), **given}
    try:
        if document.preprocessing:
            return dataclasses.replace(document.preprocessing, **given)
        return Preprocessing(**{"size": _input_size(document), **given})
    except ValueError as error:
        options.usage_error(str(error))  # exits
        raise


def _input_size(document: formats.Document) -> tuple[Any, ...]:
    """Height and width of the network's input, for want of --size."""
    sizes = [spec.shape[2:] for spec in document.graph.inputs if len(spec.shape) == 4]
    if len(sizes) != 1 or not all(isinstance(n, int) for n in sizes[0]):
        raise ValueError("the model's input does not say its height and width: give --size H W")
    return sizes[0]
