"""Nodes of older ONNX opsets, said as the latest opset says them.

An attribute that is not adapted here and that the latest opset does not have is unknown to cnnrt's
operator, so that the node is refused. onnx's own version converter is not used: of an Add of opset
6 that broadcasts along axis 1 it makes one that does so along axis 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ...errors import UnsupportedOperator
from ...graph import Array, Node

LATEST = 28
"""The opset up to which this file knows all changes of the operators that cnnrt has."""

MAX_CHANNELS = 2**20


class Surroundings(Protocol):
    """What an adaptation may ask for and add."""

    def value(self, name: str) -> Array | None:
        """The value of a constant."""

    def shape(self, name: str) -> tuple[int | str, ...] | None:
        """The shape of a tensor where it is known."""

    def add_constant(self, name: str, value: Array) -> str:
        """Adds a constant; returns its name, which is `name` or derived from it."""

    def add_tensor(self, name: str) -> str:
        """A name for a tensor between two nodes: `name` or one derived from it."""


Adapter = Callable[[Node, Surroundings], list[Node]]


def adapt(node: Node, opset: int, around: Surroundings) -> list[Node]:
    """The nodes of the latest opset that do what `node` does in `opset`; `node` may be changed.

    Raises:
        UnsupportedOperator: there are none.
    """
    nodes = [node]
    if opset < 6:
        node.attributes.pop("consumed_inputs", None)  # allowed to work in place
    for before, adapter in ADAPTERS.get(node.op, ()):
        if opset < before:
            nodes = [made for old in nodes for made in adapter(old, around)]
    return nodes


def to_input(attribute: str, index: int, dtype: Any = np.int64) -> Adapter:
    """An adapter that makes an attribute the input number `index`."""

    def adapter(node: Node, around: Surroundings) -> list[Node]:
        value = node.attributes.pop(attribute, None)
        if value is not None:
            node.inputs += [""] * (index + 1 - len(node.inputs))
            node.inputs[index] = around.add_constant(
                f"{node.name}.{attribute}", np.array(value, dtype)
            )
        return [node]

    return adapter


def without(*attributes: str) -> Adapter:
    """An adapter that removes attributes which change nothing in inference."""

    def adapter(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
        for attribute in attributes:
            node.attributes.pop(attribute, None)
        return [node]

    return adapter


def _batch_normalization(node: Node, around: Surroundings) -> list[Node]:
    """`spatial` 0 is refused, and so are the outputs of training before it had an attribute."""
    if node.attributes.get("training_mode", 0):
        return [node]
    if len(node.outputs) > 1:
        raise UnsupportedOperator("outputs of training; export the model in evaluation mode")
    if not node.attributes.pop("spatial", 1):
        raise UnsupportedOperator("spatial 0, statistics per element")
    return without("momentum")(node, around)


def _batch_normalization_6(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
    if not node.attributes.pop("is_test", 0):
        raise UnsupportedOperator("is_test 0; export the model in evaluation mode")
    return [node]


def _broadcast(node: Node, around: Surroundings) -> list[Node]:
    """The second input's axes are those of the first from `axis` on, or the last."""
    axis = node.attributes.pop("axis", None)
    if not node.attributes.pop("broadcast", 0) or axis is None:
        return [node]
    a, b = (around.shape(name) for name in node.inputs[:2])
    if a is None or b is None:
        raise UnsupportedOperator(f"broadcast along axis {axis} of inputs of unknown shapes")
    return _trailing_axes(node, around, len(a) - axis % len(a) - len(b), len(b))


def _prelu(node: Node, around: Surroundings) -> list[Node]:
    """One slope per channel, along axis 1."""
    x, slope = (around.shape(name) for name in node.inputs[:2])
    if x is None or slope is None:
        raise UnsupportedOperator("inputs of unknown shapes")
    many = len(slope) == 1 and slope != (1,)
    return _trailing_axes(node, around, len(x) - 2 if many else 0, 1)


def _trailing_axes(node: Node, around: Surroundings, count: int, rank: int) -> list[Node]:
    """The node with `count` axes of size 1 added behind the `rank` axes of its second input."""
    if count <= 0:
        return [node]
    axes = around.add_constant(f"{node.name}.axes", np.arange(rank, rank + count))
    aligned = around.add_tensor(f"{node.name}.aligned")
    unsqueeze = Node("unsqueeze", aligned, [node.inputs[1], axes], [aligned])
    node.inputs[1] = aligned
    return [unsqueeze, node]


def _dft(node: Node, around: Surroundings) -> list[Node]:
    """The axis becomes an input, and is no longer 1 where it is not given."""
    node.attributes.setdefault("axis", 1)
    return to_input("axis", 2)(node, around)


def _concat(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
    node.attributes.setdefault("axis", 1)
    return [node]


def _split(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
    """Equal parts are no longer implied by the number of outputs."""
    if len(node.inputs) < 2:
        node.attributes.setdefault("num_outputs", len(node.outputs))
    return [node]


def _resize(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
    """Upsample and Resize-10: x, scales -> x, roi, scales, with the only rule there was."""
    if len(node.inputs) < 2:
        raise UnsupportedOperator("no scales")
    node.op, node.inputs = "resize", [node.inputs[0], "", node.inputs[1]]
    mode = node.attributes.get("mode", "nearest")
    node.attributes["mode"] = "linear" if mode == "bilinear" else mode
    node.attributes["coordinate_transformation_mode"] = "asymmetric"
    node.attributes["nearest_mode"] = "floor"
    return [node]


def _absent_if_empty(node: Node, around: Surroundings) -> list[Node]:
    """Resize: inputs without elements, as opset 11 wanted them, are left out."""
    for i, name in enumerate(node.inputs[1:], 1):
        value = around.value(name)
        if value is not None and not value.size:
            node.inputs[i] = ""
    return [node]


def _softmax(node: Node, around: Surroundings) -> list[Node]:
    """Over all axes from `axis` on, as if x were a matrix."""
    shape = around.shape(node.inputs[0])
    axis = node.attributes.pop("axis", 1)
    if shape is not None and axis % max(len(shape), 1) == len(shape) - 1:
        node.attributes["axis"] = -1
        return [node]
    (x, y), name = (node.inputs[0], node.outputs[0]), node.name
    matrix, result, size = (
        around.add_tensor(f"{name}.{part}") for part in ("matrix", "result", "shape")
    )
    return [
        Node("flatten", matrix, [x], [matrix], {"axis": axis}),
        Node(node.op, result, [matrix], [result], {"axis": -1}),
        Node("shape", size, [x], [size]),
        Node("reshape", name, [result, size], [y]),
    ]


def _group_normalization(node: Node, around: Surroundings) -> list[Node]:
    """Scale and bias per group become scale and bias per channel."""
    shape = around.shape(node.inputs[0]) or ()
    channels = shape[1] if len(shape) > 1 else None
    for i in (1, 2):
        value = around.value(node.inputs[i])
        # The bound is for files that claim anything: it is an array of this size that is made.
        if value is None or not isinstance(channels, int) or channels > MAX_CHANNELS:
            raise UnsupportedOperator("scale and bias per group, or an unknown number of channels")
        repeated = np.repeat(value, channels // max(value.size, 1))
        node.inputs[i] = around.add_constant(f"{node.inputs[i]}.per_channel", repeated)
    return [node]


def _renamed(op: str) -> Adapter:
    def adapter(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
        node.op = op
        return [node]

    return adapter


def _sequence(*adapters: Adapter) -> Adapter:
    def adapter(node: Node, around: Surroundings) -> list[Node]:
        for one in adapters:
            (node,) = one(node, around)
        return [node]

    return adapter


BROADCASTING = ["add", "sub", "mul", "div", "pow", "and", "or", "xor", "equal", "greater", "less"]
REDUCTIONS = ("l1", "l2", "log_sum", "log_sum_exp", "max", "mean", "min", "prod", "sum_square")
ALWAYS = LATEST + 1

ADAPTERS: dict[str, Sequence[tuple[int, Adapter]]] = {
    **{op: [(7, _broadcast)] for op in BROADCASTING},
    "batch_normalization": [(7, _batch_normalization_6), (ALWAYS, _batch_normalization)],
    "clip": [(11, _sequence(to_input("min", 1, np.float32), to_input("max", 2, np.float32)))],
    "concat": [(4, _concat)],
    "dft": [(20, _dft)],
    "dropout": [(12, without("ratio", "is_test")), (ALWAYS, without("seed"))],
    "gemm": [(7, without("broadcast"))],
    "group_normalization": [(21, _group_normalization)],
    "hardmax": [(13, _softmax)],
    "log_softmax": [(13, _softmax)],
    "pad": [(11, _sequence(to_input("pads", 1), to_input("value", 2, np.float32)))],
    "prelu": [(7, _prelu)],
    "reduce_sum": [(13, to_input("axes", 1))],
    **{f"reduce_{kind}": [(18, to_input("axes", 1))] for kind in REDUCTIONS},
    "reshape": [(5, to_input("shape", 1))],
    "resize": [(11, _resize), (ALWAYS, _absent_if_empty)],
    "scatter": [(ALWAYS, _renamed("scatter_elements"))],
    "slice": [
        (10, _sequence(to_input("starts", 1), to_input("ends", 2), to_input("axes", 3))),
    ],
    "softmax": [(13, _softmax)],
    "split": [(13, to_input("split", 1)), (18, _split)],
    "squeeze": [(13, to_input("axes", 1))],
    "topk": [(10, to_input("k", 1))],
    "unsqueeze": [(13, to_input("axes", 1))],
    "upsample": [(9, to_input("scales", 1, np.float32)), (ALWAYS, _resize)],
}
"""For each operator (opset, adapter): nodes of opsets before that are adapted, in this order."""
