"""The task of a network from its file: metadata of its exporter, or its outputs."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import PreprocessingWarning
from ..graph import Array, Graph
from ..preprocessing.fitting import image_input
from .decode import yolox
from .decode.yolo import HEADER, layout_of
from .task import Task

ULTRALYTICS = ("classify", "detect", "segment", "pose")
"""ultralytics' names of tasks, and cnnrt's. It also has oriented boxes, which cnnrt does not
decode."""
ANY = 0
"""A size that is not known."""


class Output(NamedTuple):
    """An output of a network, as far as it is known before a run."""

    name: str
    shape: tuple[int, ...]
    kind: str
    """NumPy's letter of the kind of its dtype."""


def of_metadata(metadata: Mapping[str, str]) -> Task | None:
    """The task that ultralytics' metadata of an ONNX file state; None if there is none.

    What cannot be understood is left out with a `PreprocessingWarning`.
    """
    kind: Any = metadata.get("task", "")
    if kind not in ULTRALYTICS or "names" not in metadata:
        return None
    if kind == "classify":
        return Task("classify")
    try:
        parameters: dict[str, Any] = {}
        if kind == "pose":
            count, dimensions = ast.literal_eval(metadata["kpt_shape"])
            parameters |= {"keypoints": count, "dimensions": dimensions}
        said = f"{metadata.get('head', '')} {metadata.get('description', '')}".lower()
        detr = "rtdetr" in said.replace("-", "")
        return Task(kind, "detr" if detr else "yolo", parameters)
    except (ValueError, LookupError, TypeError, SyntaxError) as error:
        warnings.warn(
            f"what ultralytics says of the task is left out: {str(error)[:300]}",
            PreprocessingWarning,
            stacklevel=2,
        )
        return None


def of_graph(graph: Graph, labels: int | None) -> Task | None:
    """The task that the sizes of a network's input and outputs tell; None if they leave it open.

    Args:
        graph: the network.
        labels: the number of names of classes; None: there are none.
    """
    found = image_input(graph)
    h, w = (n if isinstance(n, int) else ANY for n in (found.size if found else (ANY, ANY)))
    outputs = [
        Output(
            spec.name, tuple(n if isinstance(n, int) else ANY for n in spec.shape), spec.dtype.kind
        )
        for spec in graph.outputs
    ]
    return _task(outputs, (h, w), labels)


def of_outputs(
    arrays: Mapping[str, Array], size: tuple[int, int], labels: int | None
) -> Task | None:
    """The task that the outputs of a run tell; None if they leave it open.

    Args:
        arrays: the outputs for one picture.
        size: height and width of the input.
        labels: as in `of_graph`.
    """
    outputs = [Output(name, y.shape, y.dtype.kind) for name, y in arrays.items()]
    return _task(outputs, size, labels)


def _task(outputs: Sequence[Output], size: tuple[int, int], labels: int | None) -> Task | None:
    return (
        _torchvision(outputs)
        or _scrfd(outputs)
        or _boxes_apart(outputs)
        or _yolo(outputs, size, labels)
    )


def _torchvision(outputs: Sequence[Output]) -> Task | None:
    """Boxes (N, 4), labels (N,) of integers and scores (N,), as torchvision alone gives them."""
    ranks = [len(o.shape) for o in outputs]
    boxes = [o for o in outputs if len(o.shape) == 2 and o.shape[1] == 4 and o.kind == "f"]
    labels = [o for o in outputs if len(o.shape) == 1 and o.kind in "iu"]
    scores = [o for o in outputs if len(o.shape) == 1 and o.kind == "f"]
    if not boxes or len(labels) != 1 or len(scores) != 1:
        return None
    if 4 in ranks:
        return Task("segment", "torchvision")
    return Task("pose" if 3 in ranks else "detect", "torchvision")


def _scrfd(outputs: Sequence[Output]) -> Task | None:
    """Scores (N, 1), distances (N, 4) and perhaps keypoints (N, 2 K) of three or five levels."""
    last = [o.shape[-1] if len(o.shape) in (2, 3) else ANY for o in outputs]
    levels = last.count(1)
    points = [n for n in last if n not in (1, 4)]
    fits = levels in (3, 5) and last.count(4) == levels and len(points) in (0, levels)
    even = len(set(points)) < 2 and all(n > ANY and n % 2 == 0 for n in points)
    return Task("detect", "scrfd") if fits and even else None


def _boxes_apart(outputs: Sequence[Output]) -> Task | None:
    """Boxes and scores in outputs of their own: DETR's, or SSD's."""
    boxes = [o for o in outputs if len(o.shape) in (2, 3, 4) and o.shape[-1] == 4]
    boxes = [o for o in boxes if "box" in o.name.lower()] or boxes
    rest = [o for o in outputs if o not in boxes[:1]]
    if not boxes or not rest:
        return None
    names = " ".join(o.name.lower() for o in outputs)
    if len(outputs) == 2 and "logits" in names and "box" in names:
        return Task("detect", "detr")
    named = "box" in names and ("score" in names or "conf" in names or "label" in names)
    wide = [o for o in rest if len(o.shape) in (2, 3) and o.shape[-1] != 4]
    return Task("detect", "ssd") if named and wide else None


def _yolo(outputs: Sequence[Output], size: tuple[int, int], labels: int | None) -> Task | None:
    flat = [o.shape for o in outputs if len(o.shape) == 3]
    deep = [o.shape for o in outputs if len(o.shape) == 4]
    if len(flat) != 1 or len(flat) + len(deep) != len(outputs) or len(deep) > 1:
        return None
    shape = flat[0][1:]
    if ANY in shape or ANY in size:
        return None
    coefficients = deep[0][1] if deep else 0
    form = layout_of(shape, size, labels, coefficients)
    if form is None or coefficients:
        return Task("segment", "yolo") if form else None
    numbers = shape[1] if form[1] else shape[0]
    header = HEADER[form[0]]
    if form[1] and yolox.strides_of(shape[0], size) and numbers >= 5 + (labels or 1):
        return Task("detect", "yolox")
    if labels == 1 and form[0] == "classes" and numbers == header + 1 + 51:
        return Task("pose", "yolo", {"keypoints": 17, "dimensions": 3})  # COCO's persons
    return Task("detect", "yolo")
