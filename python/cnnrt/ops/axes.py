"""Axes of an operator: how the positions of an output follow those of an input.

Every operator states them (`Op.axes`), as tract's operators do by `axes_mapping`. From that alone
follow the receptive field of a tensor and the independence of a batch's images. So do the axes
along which a selection of rows may be computed before an operator instead of behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import NodeTypes


@dataclass(frozen=True)
class Link:
    """How an output depends on the positions along one axis of an input.

    Along `outputs`, position i depends on the input positions within `reach` / 2 of
    `start` + i `step`.
    """

    outputs: tuple[int, ...] = ()
    """The output axes along which the position moves; none: the axis ends here."""
    reach: float | None = 0.0
    """Distance from the first to the last input position behind one output position; None: all."""
    step: float | None = 1.0
    """Input positions from one output position to the next; None: in an order of their own."""
    start: float = 0.0
    """Centre of the input positions on which output position 0 depends."""
    uniform: bool = True
    """False if the treatment of a position also depends on its index."""

    @property
    def follows(self) -> int | None:
        """The output axis whose position i depends on position i of this axis alone, if any."""
        plain = (self.reach, self.step, self.start, self.uniform) == (0, 1, 0, True)
        return self.outputs[0] if plain and len(self.outputs) == 1 else None


Links = Sequence[Link] | None
"""A link for each axis of an input; None: the input is absent, or only its type matters."""

ALL = Link((), None)
"""Every position of the output depends on all of the axis."""


def follow(axis: int) -> Link:
    """Position i of an output axis depends on position i alone."""
    return Link((axis,))


def mixed(*axes: int) -> Link:
    """Each position along these output axes depends, in its own way, on all of the input axis."""
    return Link(axes, None, None, uniform=False)


def picked(*axes: int) -> Link:
    """Each position along these output axes depends on one position, in an order of their own."""
    return Link(axes, 0.0, None, uniform=False)


@dataclass(frozen=True)
class AxesMapping:
    """The links of all inputs to the outputs of a node."""

    first: Sequence[Links]
    """Links to the first output, and to all others that are not in `others`."""
    others: Sequence[Sequence[Links]] = ()
    """Links to the second output and those after it."""

    def links(self, output: int = 0) -> Sequence[Links]:
        """The links of all inputs to an output."""
        return self.others[output - 1] if 0 < output <= len(self.others) else self.first


def every(types: NodeTypes, index: int, link: Link = ALL) -> Links:
    """The same link for all axes of an input."""
    x = types.inputs[index] if index < len(types.inputs) else None
    return None if x is None else (link,) * x.rank


def aligned(types: NodeTypes, index: int, rank: int) -> Links:
    """The links of an input that broadcasts, as in NumPy, to an output of `rank` axes."""
    x = types.inputs[index] if index < len(types.inputs) else None
    if x is None:
        return None
    shift = rank - x.rank
    return [follow(axis + shift) if axis + shift >= 0 else ALL for axis in range(x.rank)]


def elementwise(types: NodeTypes) -> AxesMapping:
    """The mapping of inputs that all broadcast to each other."""
    rank = max((x.rank for x in types.inputs if x), default=0)
    return AxesMapping([aligned(types, i, rank) for i in range(len(types.inputs))])


def along(types: NodeTypes, *axes: int, link: Link | None = None) -> AxesMapping:
    """The mapping of an operator that works along `axes` of its first input, and keeps them.

    Other inputs, if there are any, act on all positions alike.

    Args:
        types: types of the inputs.
        axes: counted from the front or the end.
        link: the link along these axes; by default each position depends on all.
    """
    rank = types.rank(0)
    inside = {axis % rank for axis in axes}
    first = [(link or mixed(a)) if a in inside else follow(a) for a in range(rank)]
    return AxesMapping([first, *others(types, 1)])


def others(types: NodeTypes, first: int) -> list[Links]:
    """The links of inputs, from number `first` on, that act on all positions alike."""
    return [every(types, i) for i in range(first, len(types.inputs))]


def mixes_all_axes(types: NodeTypes) -> AxesMapping:
    """The mapping of an operator each of whose outputs depends on everything."""
    made = mixed(*range(max((y.rank for y in types.outputs if y), default=0)))
    return AxesMapping([every(types, i, made) for i in range(len(types.inputs))])
