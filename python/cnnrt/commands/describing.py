"""Options for the preprocessing of pictures and the names of classes."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from ..errors import FormatError
from ..formats import Document
from ..model import Model, load
from ..preprocessing import PRESETS, Preprocessing
from ..preprocessing.descriptions import Description
from ..preprocessing.fitting import (
    check_labels,
    fitted,
    fixed_size,
    image_input,
    warn_of_unstated,
)
from ..preprocessing.presets import Found, named
from ..tasks.task import FAMILIES, KINDS, Task

PRESET_HELP = (
    "all of these at once: "
    + "; ".join(f"{name} ({preset.about})" for name, preset in PRESETS.items())
    + "; or the name of weights, such as ResNet18_Weights.DEFAULT (torchvision) or "
    "timm/resnet18.a1_in1k, which also name the classes"
)
FIELDS = ("size", "resize", "crop", "interpolation", "channels", "scale", "mean", "std")


def described_by(options: argparse.Namespace, document: Document) -> Description:
    """The preprocessing and the labels that the options describe, in place of those of the model.

    It warns of pixels left at 0 to 255, and of pictures cut but not resized.

    Raises:
        FormatError: they do not fit the network, or a file of labels cannot be read.
        ImportError: the package that knows a preset is missing.
    """
    preset = _preset(options, document)
    labels = document.labels
    if options.labels:
        labels = read_labels(options.labels)
    elif preset and preset.labels:
        labels = preset.labels
    check_labels(labels, document.graph)
    preprocessing, stated = _preprocessing(options, document, preset)
    if preprocessing is not None and stated is not None:
        preprocessing = fitted(preprocessing, document.graph)
        warn_of_unstated(preprocessing, document.graph, stated)
    multi_label = document.multi_label or getattr(options, "multi_label", False)
    return Description(preprocessing, labels, multi_label)


def add_task(parser: Any) -> None:
    """Declares --task and --family of a parser or a group of arguments; see `stated_task`."""
    families = {family for known in FAMILIES.values() for family in known}
    parser.add_argument(
        "--task", choices=KINDS, help="what the network is for (default: as its file tells)"
    )
    parser.add_argument(
        "--family",
        choices=sorted(families),
        help="form of the outputs (default: as their shapes tell)",
    )


def stated_task(options: argparse.Namespace) -> Task | None:
    """The task that --task and --family state; None: they are not given."""
    if options.task is None:
        if options.family:
            options.usage_error("--family: give --task too")
        return None
    try:
        return Task(options.task, options.family or "")
    except ValueError as error:
        options.usage_error(f"--family: {error}")  # exits
        raise


def load_described(options: argparse.Namespace) -> Model:
    """The model of `options.model`, with the preprocessing and the labels that options describe.

    Raises:
        FormatError, UnsupportedOperator: see `cnnrt.load`, and `described_by`.
    """
    task = stated_task(options)
    model = load(options.model, threads=options.threads)
    model.task = task or model.task
    if options.preset or options.labels:
        own = Document(model.graph, model.preprocessing, model.labels, {})
        found = described_by(options, own)
        model.preprocessing, model.labels = found.preprocessing, found.labels
    return model


def read_labels(path: str) -> list[str]:
    """The lines of a text file, without empty ones at the end."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise FormatError(f"{path}: is not a text file in UTF-8") from None
    return [line.strip() for line in text.rstrip().splitlines()]


def _preset(options: argparse.Namespace, document: Document) -> Found | None:
    if not options.preset:
        return None
    found = image_input(document.graph)
    size = options.size if getattr(options, "size", None) else found and fixed_size(found)
    try:
        return named(options.preset, tuple(size) if size else None)
    except ValueError as error:
        options.usage_error(f"--preset: {error}")  # exits
        raise


def _preprocessing(
    options: argparse.Namespace, document: Document, preset: Found | None
) -> tuple[Preprocessing | None, set[str] | None]:
    """The preprocessing that the options describe, based on the preset's or the model's. None if
    there is nothing new. With it come the fields that are stated."""
    given: dict[str, Any] = {
        name: value for name in FIELDS if (value := getattr(options, name, None)) is not None
    }
    based = preset.preprocessing if preset else document.preprocessing
    if not given:
        return based, set(FIELDS) if preset else None
    if "crop" in given:
        given["crop"] = None if given["crop"] == "none" else given["crop"]
    if len(given.get("resize", ())) == 1:
        given["resize"] = given["resize"][0]
    stated = set(FIELDS) if based else set(given)
    if "channels" in given:  # the numbers per channel that the model has may be too few or many
        given = {"mean": (), "std": (), **given}
    try:
        if based:
            if "resize" in given:
                given["pad"] = None
            return dataclasses.replace(based, **given), stated
        return Preprocessing(**{"size": _input_size(document), **given}), stated
    except ValueError as error:
        options.usage_error(str(error))  # exits
        raise


def _input_size(document: Document) -> tuple[int, int]:
    """Height and width of the network's input, in place of --size."""
    found = image_input(document.graph)
    size = fixed_size(found) if found else None
    if size is None:
        raise ValueError("the model's input does not say its height and width: give --size H W")
    return size
