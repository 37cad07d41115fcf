"""The scale of a network that makes pictures of pictures, and how far a pixel sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..errors import CnnrtError, GraphError, ShapeError
from ..graph import Dim, Graph
from ..passes.infer import infer
from ..preprocessing import Preprocessing
from ..tasks.upscale import Reach
from .receptive_field import Field, receptive_fields

SIDES = (64, 96, 128, 192, 256)
"""Pixels tried for a free side. One of them is a multiple of what the usual networks need."""

COPIES = 3
"""The result of a run while it becomes pixels: as it is, scaled, and rounded."""


def reach_of(
    graph: Graph,
    preprocessing: Preprocessing | None,
    run_bytes: Callable[[tuple[int, ...]], int],
) -> Reach:
    """The scale and the receptive field of a network from pictures to pictures.

    Args:
        graph: as it was read, before any pass.
        preprocessing: tells the order of the axes.
        run_bytes: the bytes that a run takes for an input of a shape.

    Raises:
        GraphError: it does not make one picture of one picture.
    """
    source = graph.inputs[0]
    channels_last = preprocessing is not None and preprocessing.layout == "NHWC"
    if len(graph.inputs) != 1 or len(source.shape) != 4:
        raise GraphError(
            "upscaling takes a network of one input with four axes, a picture; this one has "
            f"{len(graph.inputs)}, the first {list(source.shape)}"
        )
    at = (1, 2) if channels_last else (2, 3)
    sizes = (_fixed(source.shape[at[0]]), _fixed(source.shape[at[1]]))
    typed, shape = _inferred(graph, sizes, at)
    made = typed.types[graph.outputs[0].name].shape
    spatial = [shape[a] for a in at]
    result = [made[a] for a in at] if len(made) == 4 else []
    scale = result[0] // spatial[0] if result else 0
    if scale < 1 or result != [scale * n for n in spatial]:
        raise GraphError(
            f"this model does not upscale: of an input {list(shape)} it makes {list(made)}; "
            "expected a picture whose sides are whole multiples"
        )
    fields = {} if channels_last else receptive_fields(typed)
    own = fields.get(graph.outputs[0].name, (None, None))
    stride = math.lcm(*(_jump(field) for view in fields.values() for field in view))
    pixels = spatial[0] * spatial[1]
    nbytes = run_bytes(shape) + COPIES * typed.types[graph.outputs[0].name].nbytes
    if None not in sizes:
        stride = 1
    return Reach(scale, _radius(own, stride), stride, nbytes / pixels, sizes)


def _fixed(dim: Dim) -> int | None:
    return dim if isinstance(dim, int) else None


def _inferred(
    graph: Graph, sizes: tuple[int | None, int | None], at: tuple[int, int]
) -> tuple[Graph, tuple[int, ...]]:
    """A copy of the graph with the types of all tensors, and the shape of its input."""
    source = graph.inputs[0]
    problem: CnnrtError | None = None
    for side in SIDES:
        shape = [dim if isinstance(dim, int) else 1 for dim in source.shape]
        for axis, size in zip(at, sizes, strict=True):
            shape[axis] = size or side
        typed = graph.copy()
        try:
            infer(typed, {source.name: tuple(shape)})
        except ShapeError as error:
            problem = problem or error
            continue
        return typed, tuple(shape)
    raise GraphError(f"no picture of {SIDES} pixels a side fits the network: {problem}")


def _jump(field: Field | None) -> int:
    """Pixels from one field to the next, if they are a whole number of them."""
    if field is None or field.jump is None or field.jump != int(field.jump):
        return 1
    return max(1, int(field.jump))


def _radius(fields: Sequence[Field | None], stride: int) -> int | None:
    """Pixels to each side that a pixel of the output depends on.

    A field whose place is not known may lie anywhere in the block of `stride` pixels around it.
    """
    reached = 0
    for field in fields:
        if field is None:
            return None
        reached = max(reached, math.ceil(field.size / 2) + stride - 1)
    return reached
