"""From a picture through the network to what was found in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import GraphError
from ..feeds import as_batch
from ..graph import Array
from ..images import open_image
from ..preprocessing.fitting import image_input
from ..preprocessing.steps import IMAGE_CHANNELS, ImageChannels
from . import recognise
from .boxes import Candidates, Placement, choose
from .decode import decoder
from .decode.outputs import Outputs
from .decode.semantic import classes_of_pixels
from .inputs import input_of, joined
from .network import Network, Thresholds
from .results import Detections, Segmentation
from .task import FAMILIES, Kind, Task

LABELS: dict[str, Sequence[str]] = {"scrfd": ("face",), "db": ("text",)}
"""The classes of families that have but one."""


class View(NamedTuple):
    """The outputs of a network for one picture."""

    arrays: dict[str, Array]
    placement: Placement


def found(
    network: Network, kind: Kind, image: Any, thresholds: Thresholds, channels: ImageChannels
) -> Any:
    """The things that a network finds in a picture, or in each of a list; see `Model.detect`."""
    thresholds.check()
    several = as_batch(image)
    pictures = [image] if several is None else several
    results = [_found(network, kind, v, thresholds) for v in views(network, pictures, channels)]
    return results[0] if several is None else results


def views(network: Network, images: Sequence[Any], channels: ImageChannels) -> Iterator[View]:
    """The outputs of a network for each picture, in order.

    Several run together if the network takes that many and no other number.

    Raises:
        ImageError: a picture cannot be read.
        GraphError: the model does not say how a picture becomes its input, or takes no picture.
        ValueError: `channels` is unknown.
    """
    if channels not in IMAGE_CHANNELS:
        raise ValueError(f"channels {channels!r}; expected one of {', '.join(IMAGE_CHANNELS)}")
    graph = network.graph
    if len(graph.inputs) != 1:
        raise GraphError(f"a picture is one input; this model takes {len(graph.inputs)}")
    told = network.task or recognise.of_graph(graph, _count(network))
    shape = graph.inputs[0].shape
    batch = shape[0] if len(shape) == 4 and isinstance(shape[0], int) and shape[0] > 0 else 1
    for start in range(0, len(images), batch):
        pictures = [
            open_image(image, "RGB", bgr=channels == "BGR")
            for image in images[start : start + batch]
        ]
        inputs = [input_of(network, told, picture) for picture in pictures]
        x = [x for x, _ in inputs]
        outputs = network.run(x[0] if batch == 1 else joined(x, batch))
        table = outputs if isinstance(outputs, dict) else {graph.outputs[0].name: outputs}
        arrays = {name: np.asarray(y) for name, y in table.items()}
        for i, (_, placement) in enumerate(inputs):
            part = arrays if batch == 1 else {k: y[i : i + 1] for k, y in arrays.items()}
            yield View(part, placement)


def _count(network: Network) -> int | None:
    """The number of names of classes; None: there are none."""
    return len(network.labels) if network.labels else None


def task_of(network: Network, kind: Kind, view: View) -> Task:
    """The network's task, with its family: as the model says, or as its outputs tell.

    Raises:
        GraphError: it has another task, or nothing tells its family.
    """
    task = network.task
    if task is None or (task.kind == kind and not task.family):
        told = recognise.of_outputs(view.arrays, view.placement.input_size, _count(network))
        if task is not None and told is not None and told.kind == kind:
            task = Task(kind, told.family, {**told.parameters, **task.parameters})
        else:
            task = task or told
    if task is not None and task.kind == kind and (task.family or not FAMILIES[kind]):
        return task
    if task is not None and kind == "detect" and task.family in FAMILIES["detect"]:
        return task  # masks and keypoints come with boxes
    given = ", ".join(f"{name} {list(y.shape)}" for name, y in view.arrays.items())
    known = f"its task is {str(task)!r}" if task else "nothing in it tells its task"
    raise GraphError(
        f"this model cannot {kind}: {known}; its outputs are {given}. If it can, say its family: "
        f"model.task = cnnrt.Task({kind!r}, family), or --task {kind} --family; a family is one of "
        f"{', '.join(FAMILIES[kind])}"
    )


def _found(network: Network, kind: Kind, view: View, thresholds: Thresholds) -> Any:
    """The things found in one picture, or the classes of its pixels."""
    task = task_of(network, kind, view)
    labels = network.labels or LABELS.get(task.family, ())
    image = image_input(network.graph)
    outputs = Outputs(
        view.arrays,
        task,
        view.placement.input_size,
        _count(network),
        thresholds.min_score,
        channels_last=image is not None and image.layout == "NHWC",
    )
    if task.family == "semantic":
        return Segmentation(classes_of_pixels(outputs, view.placement), tuple(labels))
    candidates = decoder(task.family)(outputs)
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
    if kind != "segment":
        candidates = candidates._replace(masks=None)
    return _placed(candidates, chosen, labels, view.placement)


def _placed(
    candidates: Candidates, chosen: Array, labels: Sequence[str], placement: Placement
) -> Detections:
    """Chosen candidates in the picture."""
    boxes = placement.boxes(candidates.boxes[chosen])
    classes = candidates.classes[chosen].astype(np.int64)
    points, masks = candidates.keypoints, candidates.masks
    return Detections(
        boxes,
        candidates.scores[chosen].astype(np.float32),
        classes,
        tuple(labels[i] if 0 <= i < len(labels) else str(i) for i in classes.tolist()),
        placement.size,
        None if masks is None else masks(chosen, boxes, placement),
        None if points is None else placement.keypoints(points[chosen]),
    )
