"""Checks that preprocessing and names of classes fit their network."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import FormatError, PreprocessingWarning
from ..graph import Dim, Graph, TensorSpec
from .steps import Layout, Preprocessing

ADVICE = (
    "For a network from torchvision or timm add the preset 'imagenet', or the name of its weights "
    "(convert --preset, export(preprocessing=), Preprocessing.preset)"
)


class ImageInput(NamedTuple):
    """An input that takes pictures."""

    spec: TensorSpec
    channels: int
    size: tuple[Dim, Dim]
    layout: Layout


def image_input(graph: Graph) -> ImageInput | None:
    """The network's one input, if that looks like pictures: four axes, one of 1 or 3 channels."""
    if len(graph.inputs) != 1 or len(graph.inputs[0].shape) != 4:
        return None
    spec = graph.inputs[0]
    _, a, b, c = spec.shape
    if a in (1, 3) and spec.kind == "tensor":
        return ImageInput(spec, 1 if a == 1 else 3, (b, c), "NCHW")
    if c in (1, 3) and spec.kind == "tensor":
        return ImageInput(spec, 1 if c == 1 else 3, (a, b), "NHWC")
    return None


def fixed_size(found: ImageInput) -> tuple[int, int] | None:
    """Height and width, if the network fixes both."""
    h, w = found.size
    return (h, w) if isinstance(h, int) and isinstance(w, int) else None


def fitted(preprocessing: Preprocessing, graph: Graph) -> Preprocessing:
    """The same preprocessing with its axes in the order that this network takes.

    Raises:
        FormatError: its size, its channels or its numbers are not what the network takes.
    """
    found = image_input(graph)
    if found is None:
        return preprocessing
    name, size = found.spec.name, preprocessing.size
    for have, want in zip(size, found.size, strict=True):
        if isinstance(want, int) and want != have:
            expected = " x ".join(str(n) if isinstance(n, int) else "any" for n in found.size)
            raise FormatError(
                f"preprocessing: its size {size[0]} x {size[1]} is not that of the input {name!r}, "
                f"{expected}; give that size, or resize to more than it and crop"
            )
    channels = len(preprocessing.mean)
    if channels != found.channels:
        raise FormatError(
            f"preprocessing: makes {channels} channels ({preprocessing.channels}); the input "
            f"{name!r} takes {found.channels}"
        )
    if found.spec.dtype.kind in "ui" and not _raw(preprocessing):
        raise FormatError(
            f"preprocessing: makes fractions; the input {name!r} takes {found.spec.dtype}: leave "
            "out scale, mean and std, or use the preset 'raw255'"
        )
    return dataclasses.replace(preprocessing, layout=found.layout)


def check_labels(labels: Sequence[str] | None, graph: Graph) -> None:
    """Checks that there is a label for each class, if the network has one output (N, classes).

    Raises:
        FormatError: there are more or fewer.
    """
    if not labels or len(graph.outputs) != 1:
        return
    spec = graph.outputs[0]
    shape = list(spec.shape)
    while len(shape) > 2 and shape[-1] == 1:
        shape.pop()
    if len(shape) == 2 and isinstance(shape[1], int) and len(labels) != shape[1]:
        raise FormatError(
            f"{len(labels)} labels for an output of shape {list(spec.shape)}: expected "
            f"{shape[1]}, one for each class in the order of the output"
        )


def warn_of_missing(graph: Graph, of: str, stacklevel: int = 2) -> None:
    """Warns that a network of pictures does not say how a picture becomes its input."""
    if image_input(graph) is None:
        return
    warnings.warn(
        f"{of} does not say how a picture becomes its input, so it cannot be given pictures. "
        f"{ADVICE}; with other numbers give size, resize, scale, mean and std as in its training",
        PreprocessingWarning,
        stacklevel=stacklevel + 1,
    )


def warn_of_unstated(
    preprocessing: Preprocessing, graph: Graph, stated: Iterable[str], stacklevel: int = 2
) -> None:
    """Warns of pixels that go in as 0 to 255, or of pictures that are cut and not resized, if
    nobody requested that.

    Args:
    stated: the fields that the caller named.
    """
    found, given = image_input(graph), set(stated)
    if found is None:
        return
    wrong = []
    numbers = given & {"scale", "mean", "std"} or found.spec.dtype.kind in "ui"
    if _raw(preprocessing) and not numbers and not _normalises(graph):
        wrong.append(
            "pixels go into the network as 0 to 255; most networks were trained on scaled ones. "
            "If this one was not, say scale=1"
        )
    cuts = preprocessing.crop and preprocessing.resize is None and preprocessing.pad is None
    if cuts and not given & {"resize", "crop", "pad"}:
        h, w = preprocessing.size
        wrong.append(
            f"pictures are not resized: the network sees the {h} x {w} pixels in their middle. "
            "Say resize, or crop='center' if that is meant"
        )
    if wrong:
        warnings.warn(
            f"preprocessing: {'; '.join(wrong)}. {ADVICE}",
            PreprocessingWarning,
            stacklevel=stacklevel + 1,
        )


def _raw(preprocessing: Preprocessing) -> bool:
    """True if the values of pixels stay 0 to 255."""
    return (
        preprocessing.scale == 1 and not any(preprocessing.mean) and set(preprocessing.std) == {1}
    )


ARITHMETIC = {"add", "sub", "mul", "div", "batch_normalization", "cast", "transpose", "identity"}
"""Operators of a network's own normalisation, such as Keras' Rescaling."""


def _normalises(graph: Graph) -> bool:
    """True if the first operator that changes the input is arithmetic with constants."""
    name = graph.inputs[0].name
    for node in graph.nodes:
        if name not in node.inputs:
            continue
        others = [other for other in node.inputs if other and other != name]
        if node.op not in ARITHMETIC or any(other not in graph.constants for other in others):
            return False
        if node.op not in ("cast", "transpose", "identity"):
            return True
        name = node.outputs[0]
    return False
