"""Whether a network treats the images of a batch apart: each result as if its image came alone.

The proof compares the graph for a batch with the graph for one image, both after all passes: they
must have the same nodes, and every node that sees the batch must do to each slice along axis 0 what
its twin does to the one slice that it has. `RULES` says of which operators that is known, and on
what condition; of all others it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..graph import Array, Graph, Node
from ..ops import OPS
from ..ops.elementwise import Unary


@dataclass(frozen=True)
class Seen:
    """An input of a node, in the graph of the batch."""

    shape: tuple[int, ...]
    apart: bool
    """Whether its slices along axis 0 belong to the images; otherwise all images share it."""
    value: Array | None

    @property
    def rank(self) -> int:
        return len(self.shape)


Inputs = Sequence[Seen | None]
Rule = Callable[[Node, Inputs, int], bool]
"""(node, inputs, rank of the output) -> whether images stay apart."""


def _first(node: Node, inputs: Inputs, rank: int) -> bool:
    """Axis 0 of the first input is the batch, by the operator's definition; weights are shared."""
    return _at(0)(node, inputs, rank)


def _at(*batched: int) -> Rule:
    """The same of several inputs; those beyond the first may be absent."""

    def rule(_node: Node, inputs: Inputs, _rank: int) -> bool:
        return all(x is None or x.apart == (i in batched) for i, x in enumerate(inputs))

    return rule


def _broadcast(_node: Node, inputs: Inputs, rank: int) -> bool:
    return all(x is None or _aligned(x, rank) for x in inputs)


def _aligned(x: Seen, rank: int) -> bool:
    """Whether broadcasting to a result of so many axes meets each image with its own slice."""
    return x.rank == rank if x.apart else x.rank < rank or x.shape[0] == 1


def _along(node: Node, inputs: Inputs, _rank: int) -> bool:
    """What is done along `axis` of the first input is not done along axis 0."""
    x = inputs[0]
    return x is not None and x.apart and node["axis"] % x.rank != 0


def _concat(node: Node, inputs: Inputs, rank: int) -> bool:
    return all(x is not None and x.apart for x in inputs) and node["axis"] % rank != 0


def _from_axis(node: Node, inputs: Inputs, rank: int) -> bool:
    """Norms over `axis` and all after it, with scale and bias that broadcast."""
    return _along(node, inputs, rank) and _broadcast(node, inputs, rank)


def _transpose(node: Node, _inputs: Inputs, rank: int) -> bool:
    return bool(node["perm"]) and node["perm"][0] % rank == 0


def _values(x: Seen | None, default: Sequence[int]) -> list[int] | None:
    """The numbers in an optional input; None if they are not known."""
    if x is None:
        return list(default)
    return None if x.value is None else [int(v) for v in x.value.reshape(-1)]


def _axes_after_0(at: int) -> Rule:
    """The axes that input `at` (or, absent that, `axes`) lists; without it all of them."""

    def rule(node: Node, inputs: Inputs, _rank: int) -> bool:
        x = inputs[0]
        given = inputs[at] if len(inputs) > at else None
        listed = _values(given, node.attributes.get("axes") or ())
        return x is not None and bool(listed) and all(a % x.rank != 0 for a in listed or ())

    return rule


def _pad(_node: Node, inputs: Inputs, rank: int) -> bool:
    pads = _values(inputs[1], ())
    axes = _values(inputs[3] if len(inputs) > 3 else None, range(rank))
    if pads is None or axes is None:
        return False
    both = zip(axes, pads, pads[len(axes) :], strict=False)
    return all(a % rank != 0 or before == after == 0 for a, before, after in both)


def _resize(node: Node, inputs: Inputs, _rank: int) -> bool:
    """Axis 0 keeps its size, as the types say, and is not cropped."""
    return node["coordinate_transformation_mode"] != "tf_crop_and_resize" and _first(
        node, inputs, _rank
    )


def _matmul(_node: Node, inputs: Inputs, rank: int) -> bool:
    a, b = inputs
    if a is None or b is None:
        return False
    rows = rank == 2 and a.apart and not b.apart and b.rank == 2
    return rows or (rank > 2 and _aligned(a, rank) and _aligned(b, rank))


def _linear(node: Node, inputs: Inputs, rank: int) -> bool:
    """The last axis of x is multiplied by shared weights; another x may be added at the end."""
    return rank > 1 and _at(0, 3)(node, inputs, rank)


def _attention(_node: Node, inputs: Inputs, _rank: int) -> bool:
    query, key, value, *rest = inputs
    mask, *past = (*rest, None)
    both = all(x is not None and x.apart for x in (query, key, value))
    return both and not any(past) and (mask is None or (not mask.apart and _aligned(mask, 4)))


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        [name for name, op in OPS.items() if isinstance(op, Unary)]
        + ["activate", "cast", "clip", "dropout", "expand", "prelu", "where"]
        + ["add", "sub", "mul", "div", "min", "max", "mean", "sum", "pow"],
        _broadcast,
    ),
    **dict.fromkeys(
        ["average_pool", "max_pool", "lp_pool", "adaptive_average_pool", "adaptive_max_pool"]
        + ["global_average_pool", "global_max_pool", "global_lp_pool", "conv_transpose"]
        + ["instance_normalization", "group_normalization", "channel_normalization"]
        + ["lrn", "depth_to_space", "space_to_depth", "interleave"],
        _first,
    ),
    "batch_normalization": lambda node, *rest: not node["training_mode"] and _first(node, *rest),
    "conv": _at(0, 3, 4),  # x, what is added to it, and what scales its channels
    # Row-major slices keep their elements where axis 0 keeps its size, as the types say.
    **dict.fromkeys(["reshape", "flatten", "squeeze", "unsqueeze"], _first),
    **dict.fromkeys(["softmax", "log_softmax", "hardmax", "lp_normalization", "split"], _along),
    **dict.fromkeys(["gather", "quantize_linear", "dequantize_linear"], _along),
    **dict.fromkeys(["layer_normalization", "rms_normalization"], _from_axis),
    **dict.fromkeys([name for name in OPS if name.startswith("reduce_")], _axes_after_0(1)),
    "concat": _concat,
    "transpose": _transpose,
    "slice": _axes_after_0(3),
    "pad": _pad,
    "resize": _resize,
    "matmul": _matmul,
    "linear": _linear,
    "attention": _attention,
}


SHAPES = {"reshape": 1, "expand": 1, "resize": 3}
"""The input of an operator that is the shape of its output, by which graphs are compared anyway."""


def images_apart(batch: Graph, one: Graph) -> bool:
    """Whether each output of `batch` is, slice by slice along axis 0, what `one` makes of each
    slice of its inputs.

    Args:
        batch: a network specialised for inputs of several images.
        one: the same network, specialised for one image.
    """
    if len(batch.nodes) != len(one.nodes):
        return False
    apart = {spec.name for spec in batch.inputs}
    images = {batch.types[name].shape[0] for name in apart}.pop()
    for node, twin in zip(batch.nodes, one.nodes, strict=True):
        alike = (node.op, node.inputs, node.outputs) == (twin.op, twin.inputs, twin.outputs)
        if not alike or not _same_attributes(node, twin):
            return False
        shape = SHAPES.get(node.op)
        names = [name for i, name in enumerate(node.inputs) if name and i != shape]
        for name in names:
            if name in batch.constants and not _compare(name, batch, one, images, apart):
                return False
        outputs = list(filter(None, node.outputs))
        if not apart.intersection(names):
            if any(batch.types[y] != one.types[y] for y in outputs):
                return False
            continue
        rule = RULES.get(node.op)
        seen = [
            Seen(batch.types[name].shape, name in apart, batch.constants.get(name))
            if name in names
            else None
            for name in node.inputs
        ]
        if rule is None or not rule(node, seen, len(batch.types[outputs[0]].shape)):
            return False
        if any(batch.types[y].shape != _of_images(one.types[y].shape, images) for y in outputs):
            return False
        apart.update(outputs)
    return all(spec.name in apart for spec in batch.outputs)


def _of_images(one: tuple[int, ...], images: int) -> tuple[int, ...] | None:
    """The shape of so many tensors, of each of which axis 0 has one element."""
    return (images, *one[1:]) if one[:1] == (1,) else None


def _same_attributes(node: Node, twin: Node) -> bool:
    return node.attributes.keys() == twin.attributes.keys() and all(
        value is twin[name] or np.array_equal(value, twin[name])
        for name, value in node.attributes.items()
    )


def _compare(name: str, batch: Graph, one: Graph, images: int, apart: set[str]) -> bool:
    """Whether a constant is the same in both graphs, or for each image what it is for one (it is
    then added to `apart`)."""
    ours, theirs = batch.constants[name], one.constants.get(name)
    if ours is theirs:
        return True
    if theirs is None or ours.dtype != theirs.dtype:
        return False
    if ours.shape == theirs.shape:
        return bool(np.array_equal(ours, theirs))
    if ours.shape == _of_images(theirs.shape, images) and bool(np.equal(ours, theirs).all()):
        apart.add(name)
        return True
    return False
