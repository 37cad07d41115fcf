"""Pictures as a network's input, by its preprocessing or by what is usual in its family."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from .. import feeds
from ..errors import GraphError, PreprocessingWarning
from ..graph import Array, TensorSpec
from ..preprocessing import Preprocessing
from .boxes import Placement
from .network import Network
from .task import Task

USUAL: dict[str, Mapping[str, Any]] = {
    "yolo": {"pad": 114, "scale": 1 / 255},
    "yolox": {"pad": 114, "align": "start", "channels": "BGR"},
    "scrfd": {"pad": 0, "align": "start", "mean": (127.5,) * 3, "std": (128.0,) * 3},
}
"""Preprocessing of families whose own code always does the same."""
SIDE = 640
"""Pixels of a side of an input whose size is free, as is usual in these families."""


def usual(task: Task | None, spec: TensorSpec) -> Preprocessing | None:
    """The usual preprocessing of a task's family; None if there is none."""
    fields = USUAL.get(task.family if task else "")
    if fields is None or len(spec.shape) != 4:
        return None
    h, w = (n if isinstance(n, int) else SIDE for n in spec.shape[2:])
    return Preprocessing(size=(h, w), **fields)


def input_of(network: Network, task: Task | None, picture: Image.Image) -> tuple[Array, Placement]:
    """The network's input for a picture in RGB, and the place of the picture in it.

    Raises:
        GraphError: the model does not say how a picture becomes its input.
        ShapeError: its preprocessing makes another size than the input takes.
        ImageError: the picture is too long and thin.
    """
    spec = network.graph.inputs[0]
    steps = network.preprocessing
    if steps is None and task is not None and task.family == "torchvision":
        steps = _torchvision(spec, picture)
    if steps is None:
        steps = usual(task, spec)
        if steps is None:
            raise GraphError(
                "this model does not say how an image becomes its input. Say it when the file is "
                "made (cnnrt convert --preset letterbox01; export(preprocessing=...)) or now: "
                "model.preprocessing = cnnrt.Preprocessing.preset('letterbox01')"
            )
        warnings.warn(
            f"this model does not say how a picture becomes its input: taken as is usual for "
            f"{task}, {steps}; set model.preprocessing, or cnnrt convert keeps it in a file",
            PreprocessingWarning,
            stacklevel=2,
        )
    x = steps(picture)
    if len(spec.shape) == 3:  # torchvision's detectors take a picture without an axis of images
        return x[0], Placement.of(steps, (picture.height, picture.width))
    return feeds.of_images(spec, x), Placement.of(steps, (picture.height, picture.width))


def _torchvision(spec: TensorSpec, picture: Image.Image) -> Preprocessing:
    """Values from 0 to 1, at the picture's own size if the input takes any: the network resizes and
    normalises by itself."""
    own = (picture.height, picture.width)
    h, w = (n if isinstance(n, int) else k for n, k in zip(spec.shape[-2:], own, strict=True))
    return Preprocessing(size=(h, w), resize=(h, w), scale=1 / 255)


def joined(inputs: list[Array], count: int) -> Array:
    """Inputs of one picture each as one of `count`, filled up with the last."""
    return np.concatenate(inputs + [inputs[-1]] * (count - len(inputs)))
