"""Receptive fields: how much of the input an element of each tensor sees, along each axis.

A window of k taps with stride s, dilation d and padding p turns the field of its input into that of
its output:

    size' = size + d (k - 1) jump,   jump' = jump s,   start' = start + (d (k - 1) / 2 - p) jump

(Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016; Araujo, Norris and
Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill, 2019). Where branches
meet, their fields are united. An operator that mixes all positions, such as global pooling,
attention or a linear layer over a flattened map, sees everything. So does a product with such a
tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from ..graph import Graph
from ..ops import NodeTypes, axes_mapping
from ..ops.axes import Link


@dataclass(frozen=True)
class Field:
    """Field of one element along one spatial axis of the input, in its elements."""

    size: float
    jump: float | None = 1.0
    """The distance between the fields of neighbours; None: they do not lie at equal distances."""
    start: float | None = 0.5
    """The centre of the first element's field; that of the first pixel is 0.5."""

    def through(self, link: Link) -> Field | None:
        """The field of an output element that is linked to this one."""
        if self.jump is None or link.step is None:
            return self.spread(link) if link.reach == 0 else None
        start = None if self.start is None else self.start + link.start * self.jump
        return Field(self.size + (link.reach or 0) * self.jump, self.jump * link.step, start)

    def spread(self, link: Link) -> Field | None:
        """Like `through`, if several axes of the tensor move along the input, of which this is
        one."""
        return self.scattered() if link.reach == 0 else None

    def scattered(self) -> Field:
        """The same field, for elements whose order no jump describes."""
        return Field(self.size, None, None)

    def united(self, other: Field) -> Field:
        """The field of an element that depends on one element of each field."""
        if self == other:
            return self
        if self.start is None or other.start is None or not self.jump or not other.jump:
            return Field(max(self.size, other.size), None, None)
        low = min(self.start - self.size / 2, other.start - other.size / 2)
        high = max(self.start + self.size / 2, other.start + other.size / 2)
        return Field(high - low, max(self.jump, other.jump), (low + high) / 2)


@dataclass(frozen=True)
class Seen:
    """Field of a tensor's elements along one spatial axis of the input."""

    field: Field | None
    """The field; None: all of the input."""
    axes: tuple[int, ...] = ()
    """The tensor's axes that move along this spatial axis."""


View = tuple[Seen, ...]
"""Fields by spatial axis of the input; empty if a tensor does not depend on the input at all."""

ALL = Seen(None)


def receptive_fields(graph: Graph) -> dict[str, tuple[Field | None, ...]]:
    """The fields of all tensors of a graph whose types are known, one per spatial axis.

    The spatial axes are the third and following of the first input that has three axes or more;
    None stands for all of the input. Tensors that depend on no such input have no entry.
    """
    views: dict[str, View] = {}
    ranks = {s.name: graph.types[s.name].rank for s in graph.inputs if s.name in graph.types}
    spatial = max((rank - 2 for rank in ranks.values()), default=0)
    for name, rank in ranks.items():
        if rank >= 3:
            own = [Seen(Field(1.0), (2 + i,)) for i in range(rank - 2)]
            views[name] = (*[ALL] * (spatial - len(own)), *own)
    for node in graph.nodes:
        inputs = [views.get(name, ()) for name in node.inputs]
        if not any(inputs):
            continue
        types = NodeTypes.of(node, graph)
        mapping = axes_mapping(node, types)
        for index, name in enumerate(node.outputs):
            if name:
                each = enumerate(zip(inputs, mapping.links(index), strict=True))
                views[name] = _union(
                    [
                        _through(view, links, types.shape(i))
                        for i, (view, links) in each
                        if view and links is not None
                    ]
                )
    return {name: tuple(seen.field for seen in view) for name, view in views.items()}


def _through(view: View, links: Sequence[Link], shape: Sequence[int]) -> View:
    """Field of an output by way of one input, given the sizes of that input's axes."""
    return tuple(_seen(seen, links, shape) for seen in view)


def _seen(seen: Seen, links: Sequence[Link], shape: Sequence[int]) -> Seen:
    field = seen.field
    for axis in seen.axes:
        if axis >= len(links):  # an input with more axes than its operator describes
            return ALL
        link = links[axis]
        if link.reach is None and shape[axis] == 1:
            continue
        if field is None or link.reach is None:
            return ALL
        field = field.through(link) if len(seen.axes) == 1 else field.spread(link)
    axes = sorted({output for axis in seen.axes for output in links[axis].outputs})
    return Seen(field, tuple(axes)) if field else ALL


def _union(views: Sequence[View]) -> View:
    return reduce(_united, [view for view in views if view], ())


def _united(a: View, b: View) -> View:
    if not a or not b:
        return a or b
    made = []
    for x, y in zip(a, b, strict=True):
        if x.field is None or y.field is None:
            made.append(ALL)
        elif x.axes == y.axes:
            made.append(Seen(x.field.united(y.field), x.axes))
        else:
            axes = tuple(sorted({*x.axes, *y.axes}))
            made.append(Seen(x.field.united(y.field).scattered(), axes))
    return tuple(made)


def text(fields: Sequence[Field | None] | None) -> str:
    """ "7x7 /4 @0.5": size, jump and start, per axis if they differ; "all" for everything."""
    if not fields:
        return "-"
    if all(field is None for field in fields):
        return "all"
    parts = []
    for prefix, name in (("", "size"), ("/", "jump"), ("@", "start")):
        values = ["all" if f is None else _number(getattr(f, name)) for f in fields]
        if name == "size":
            parts.append("x".join(values))
        elif "?" not in values:
            parts.append(prefix + ",".join(values if len(set(values)) > 1 else values[:1]))
    return " ".join(parts)


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}" if value % 1 else str(math.floor(value))
