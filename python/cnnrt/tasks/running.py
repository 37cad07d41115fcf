"""From a picture through the network to what was found in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import feeds
from ..errors import GraphError
from ..graph import Array
from ..images import open_image
from ..preprocessing import as_list
from ..preprocessing.steps import IMAGE_CHANNELS, ImageChannels
from . import recognise
from .boxes import Candidates, Placement, choose
from .decode import decoder
from .decode.outputs import Outputs
from .network import Network, Thresholds
from .results import Detections
from .task import FAMILIES, Kind, Task


class View(NamedTuple):
    """The outputs of a network for one picture."""

    arrays: dict[str, Array]
    placement: Placement


def detections(
    network: Network, kind: Kind, image: Any, thresholds: Thresholds, channels: ImageChannels
) -> Any:
    """The things that a network finds in a picture, or in each of a list; see `Model.detect`."""
    thresholds.check()
    several = as_list(image)
    pictures = [image] if several is None else several
    found = [_found(network, kind, view, thresholds) for view in views(network, pictures, channels)]
    return found[0] if several is None else found


def views(network: Network, images: Sequence[Any], channels: ImageChannels) -> Iterator[View]:
    """The outputs of a network for each picture, in order.

    Several run together if the network takes that many and no other number.

    Raises:
        ImageError: a picture cannot be read.
        GraphError: the model does not say how a picture becomes its input.
        ValueError: `channels` is unknown.
    """
    if channels not in IMAGE_CHANNELS:
        raise ValueError(f"channels {channels!r}; expected one of {', '.join(IMAGE_CHANNELS)}")
    names = [spec.name for spec in network.graph.outputs]
    batch = _batch(network)
    for start in range(0, len(images), batch):
        here = [_input(network, image, channels) for image in images[start : start + batch]]
        filled = [x for x, _ in here] + [here[-1][0]] * (batch - len(here))
        outputs = network.run(filled[0] if batch == 1 else np.concatenate(filled))
        table = outputs if isinstance(outputs, dict) else {names[0]: outputs}
        for i, (_, placement) in enumerate(here):
            part = {k: np.asarray(y) if batch == 1 else y[i : i + 1] for k, y in table.items()}
            yield View(part, placement)


def _batch(network: Network) -> int:
    """Pictures that the network takes at a time."""
    shape = network.graph.inputs[0].shape
    return shape[0] if len(shape) == 4 and isinstance(shape[0], int) and shape[0] > 0 else 1


def _input(network: Network, image: Any, channels: ImageChannels) -> tuple[Array, Placement]:
    """The network's input for one picture, and the place of the picture in it."""
    if network.preprocessing is None:
        raise GraphError(
            "this model does not say how an image becomes its input. Say it when the file is "
            "made (cnnrt convert --preset letterbox01; export(preprocessing=...)) or now: "
            "model.preprocessing = cnnrt.Preprocessing.preset('letterbox01')"
        )
    picture = open_image(image, "RGB", bgr=channels == "BGR")
    x = feeds.of_images(network.graph.inputs[0], network.preprocessing(picture))
    return x, Placement.of(network.preprocessing, (picture.height, picture.width))


def task_of(network: Network, kind: Kind, view: View) -> Task:
    """The network's task, with its family: as the model says, or as its outputs tell.

    Raises:
        GraphError: it has another task, or nothing tells its family.
    """
    task = network.task
    labels = network.labels
    shapes = {name: y.shape for name, y in view.arrays.items()}
    if task is None or (task.kind == kind and not task.family):
        told = recognise.of_shapes(
            shapes, view.placement.input_size, len(labels) if labels else None
        )
        if told is not None and told.kind == kind and task is not None:
            task = Task(kind, told.family, {**told.parameters, **task.parameters})
        else:
            task = task or told
    if task is not None and task.kind == kind and (task.family or not FAMILIES[kind]):
        return task
    given = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    known = f"its task is {str(task)!r}" if task else "nothing in it tells its task"
    raise GraphError(
        f"this model cannot {kind}: {known}; its outputs are {given}. If it can, say its family: "
        f"model.task = cnnrt.Task({kind!r}, family), or --task {kind} --family; a family is one of "
        f"{', '.join(FAMILIES[kind])}"
    )


def _found(network: Network, kind: Kind, view: View, thresholds: Thresholds) -> Detections:
    """The things found in one picture."""
    task = task_of(network, kind, view)
    labels = network.labels
    candidates = decoder(task.family)(
        Outputs(
            view.arrays,
            task,
            view.placement.input_size,
            len(labels) if labels else None,
            thresholds.min_score,
        )
    )
    overlap = thresholds.max_overlap
    if overlap is None:
        overlap = task.get("max_overlap", candidates.max_overlap)
    agnostic = thresholds.class_agnostic
    chosen = choose(
        candidates,
        min_score=thresholds.min_score,
        max_overlap=overlap,
        max_detections=thresholds.max_detections,
        class_agnostic=task.get("class_agnostic", False) if agnostic is None else agnostic,
    )
    return _placed(candidates, chosen, labels or [], view.placement)


def _placed(
    found: Candidates, chosen: Array, labels: Sequence[str], placement: Placement
) -> Detections:
    """Chosen candidates in the picture."""
    boxes = placement.boxes(found.boxes[chosen])
    classes = found.classes[chosen].astype(np.int64)
    points = None if found.keypoints is None else placement.keypoints(found.keypoints[chosen])
    return Detections(
        boxes,
        found.scores[chosen].astype(np.float32),
        classes,
        tuple(labels[i] if 0 <= i < len(labels) else str(i) for i in classes.tolist()),
        placement.size,
        None if found.masks is None else found.masks(chosen, boxes, placement),
        points,
    )
