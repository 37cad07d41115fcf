"""The task of a network from its file: metadata of its exporter, or the shapes of its outputs."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from typing import Any

from ..errors import PreprocessingWarning
from ..graph import Graph
from ..preprocessing.fitting import image_input
from .decode.yolo import MAX_SELECTED, layout_of
from .task import Task

ULTRALYTICS = {"classify": "classify", "detect": "detect", "segment": "segment", "pose": "pose"}
"""ultralytics' names of tasks, and cnnrt's. It also has oriented boxes, which cnnrt does not
decode."""


def of_metadata(metadata: Mapping[str, str]) -> Task | None:
    """The task that ultralytics' metadata of an ONNX file state; None if there is none.

    What cannot be understood is left out with a `PreprocessingWarning`.
    """
    kind = ULTRALYTICS.get(metadata.get("task", ""))
    if kind is None or "names" not in metadata:
        return None
    if kind == "classify":
        return Task("classify")
    try:
        parameters: dict[str, Any] = {}
        if kind == "pose":
            count, dimensions = ast.literal_eval(metadata["kpt_shape"])
            parameters |= {"keypoints": count, "dimensions": dimensions}
        return Task(kind, "yolo", parameters)  # type: ignore[arg-type]  # of ULTRALYTICS
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
        labels: the number of names of classes; None: there are none.
    """
    found = image_input(graph)
    if found is None:
        return None
    h, w = (n if isinstance(n, int) else 0 for n in found.size)
    shapes = {
        spec.name: tuple(n if isinstance(n, int) else 0 for n in spec.shape)
        for spec in graph.outputs
    }
    return of_shapes(shapes, (h, w), labels)


def of_shapes(
    shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int], labels: int | None
) -> Task | None:
    """The task that the shapes of a network's outputs tell; None if they leave it open.

    Args:
        shapes: the outputs' shapes for one picture by name, with 0 for a size that is not known.
        size: height and width of the input, with 0 likewise.
        labels: as in `of_graph`.
    """
    return _yolo(list(shapes.values()), size, labels)


def _yolo(shapes: list[tuple[int, ...]], size: tuple[int, int], labels: int | None) -> Task | None:
    flat = [shape for shape in shapes if len(shape) == 3]
    deep = [shape for shape in shapes if len(shape) == 4]
    if len(flat) != 1 or len(deep) + 1 != len(shapes) or len(deep) > 1 or 0 in flat[0][1:]:
        return None
    shape = flat[0][1:]
    coefficients = deep[0][1] if deep else 0
    if coefficients:
        form = layout_of(shape, size, labels, coefficients)
        return Task("segment", "yolo") if form else None
    form = layout_of(shape, size, labels)
    if form is None:
        return None
    numbers = shape[1] if form[1] else shape[0]
    header = {"classes": 4, "objectness": 5, "selected": 6, "indexed": 7}[form[0]]
    beside = numbers - header - (labels or 0 if header < 6 else 0)
    if labels is not None and beside and beside % 3 == 0 and max(shape) > MAX_SELECTED:
        return Task("pose", "yolo", {"keypoints": beside // 3, "dimensions": 3})
    return Task("detect", "yolo")
