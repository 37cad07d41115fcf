"""Translates nodes of older ONNX opsets to the latest one.

An attribute that is not adapted here and that the latest opset does not have is unknown to cnnrt's
operator, so the node is refused. onnx's own version converter is not used. It turns an Add of opset
6 that broadcasts along axis 1 into one along axis 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import UnsupportedOperator
from ...graph import Node
from .expansion import Adapter, Expansion, Surroundings
from .legacy import ALWAYS, LEGACY
from .microsoft_quantized import MICROSOFT
from .nchwc import NCHWC

LATEST = 28
"""The opset up to which this file knows all changes of the operators that cnnrt has."""

MAX_CHANNELS = 2**20


def adapt(node: Node, opset: int, around: Surroundings) -> list[Node]:
    """The nodes of the latest opset that do what `node` does in `opset`; `node` may be changed.

    Raises:
        UnsupportedOperator: the latest opset has no such nodes.
    """
    nodes = [node]
    if opset < 6:
        node.attributes.pop("consumed_inputs", None)  # allowed to work in place
    for before, adapter in ADAPTERS.get(node.op, ()):
        if opset < before:
            nodes = [made for old in nodes for made in adapter(old, around)]
    if left := [] if node in nodes else list(node.attributes):
        raise UnsupportedOperator(f"attribute {left[0]!r} is not supported")
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
    """An adapter that removes attributes without effect on inference."""

    def adapter(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
        for attribute in attributes:
            node.attributes.pop(attribute, None)
        return [node]

    return adapter


def _batch_normalization(node: Node, around: Surroundings) -> list[Node]:
    """Refuses `spatial` 0, and the outputs of training before it had an attribute."""
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
    """The axes of the second input are those of the first from `axis` on, or else the last ones."""
    axis = node.attributes.pop("axis", None)
    if not node.attributes.pop("broadcast", 0) or axis is None:
        return [node]
    a, b = (around.shape(name) for name in node.inputs[:2])
    if a is None or b is None:
        raise UnsupportedOperator(f"broadcast along axis {axis} of inputs of unknown shapes")
    return _trailing_axes(node, around, len(a) - axis % len(a) - len(b), len(b))


def _cast_1(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
    """The dtype is given by its name in ONNX, such as "FLOAT"."""
    name = str(node.attributes.get("to", "")).lower()
    node.attributes["to"] = {"float": "float32", "double": "float64"}.get(name, name)
    return [node]


def _whole_p(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
    """Makes p an integer; it was a float."""
    p = node.attributes.get("p", 2.0)
    if p != int(p):
        raise UnsupportedOperator(f"p {p}, which is no integer")
    node.attributes["p"] = int(p)
    return [node]


def _pad_1(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
    node.attributes["pads"] = node.attributes.pop("paddings", None)
    return [node]


def _split_1(node: Node, around: Surroundings) -> list[Node]:
    """The sizes of the parts were an attribute or an input, of any dtype."""
    if len(node.inputs) > 1:
        sizes = Expansion(node, around).value(1, "sizes")
        node.attributes["split"] = sizes.astype(np.int64).tolist()
        node.inputs = node.inputs[:1]
    return [node]


def _tile_1(node: Node, around: Surroundings) -> list[Node]:
    """The number of copies along one axis, both floats, becomes the numbers along all axes."""
    e = Expansion(node, around)
    repeats = np.ones(e.rank(), np.int64)
    repeats[int(e.value(2, "an axis").reshape(()))] = int(e.value(1, "a count").reshape(()))
    e.add("tile", node.inputs[0], e.constant(repeats, np.int64), out=node.outputs[0])
    return e.nodes


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
    """The axis becomes an input. If absent, it is no longer 1."""
    node.attributes.setdefault("axis", 1)
    return to_input("axis", 2)(node, around)


def _split(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
    """Equal parts are no longer implied by the number of outputs."""
    if len(node.inputs) < 2:
        node.attributes.setdefault("num_outputs", len(node.outputs))
    return [node]


def _resize(node: Node, around: Surroundings) -> list[Node]:
    """Upsample and Resize-10: x, scales become x, roi, scales, with the only rule of that time.

    Nearest elements lie below when an axis grows and above when it shrinks.
    """
    if len(node.inputs) < 2:
        raise UnsupportedOperator("no scales")
    e = Expansion(node, around)
    mode = e.attribute("mode", "nearest")
    rule = {"coordinate_transformation_mode": "asymmetric"}
    rule["mode"] = "linear" if mode == "bilinear" else mode
    x, scales = node.inputs
    value = around.value(scales)
    if mode != "nearest" or value is None or not (value < 1).any():
        e.add("resize", x, "", scales, out=node.outputs[0], nearest_mode="floor", **rule)
        return e.nodes
    if (value > 1).any():
        grown = e.constant(np.maximum(value, 1), value.dtype)
        x = e.add("resize", x, "", grown, nearest_mode="floor", **rule)
    shrunk = e.constant(np.minimum(value, 1), value.dtype)
    e.add("resize", x, "", shrunk, out=node.outputs[0], nearest_mode="ceil", **rule)
    return e.nodes


def _upsample_1(node: Node, around: Surroundings) -> list[Node]:
    """The scales of height and width become an input."""
    height, width = (node.attributes.pop(f"{axis}_scale", None) for axis in ("height", "width"))
    if height is not None and width is not None:
        node.attributes["scales"] = [1.0, 1.0, height, width]
    return to_input("scales", 1, np.float32)(node, around)


def _align_corners(node: Node, around: Surroundings) -> list[Node]:
    """Resize before 19 aligns the corners of the rounded sizes, as other runtimes do; since 19,
    those of the sizes before rounding. Scales become sizes."""
    mode = node.attributes.get("coordinate_transformation_mode")
    if mode != "align_corners" or len(node.inputs) != 3 or node.attributes.get("antialias"):
        return [node]
    e = Expansion(node, around)
    x, _, scales = node.inputs
    size = e.add("shape", x)
    if "axes" in node.attributes:
        size = e.add("gather", size, e.constant(node.attributes["axes"], np.int64))
    size = e.add("mul", e.add("cast", size, to="float32"), scales)
    node.inputs = [x, "", "", e.add("cast", e.add("floor", size), to="int64")]
    return [*e.nodes, node]


def _grid_sample(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
    """Modes have the names from before opset 20, which other runtimes accept in later files too."""
    old = {"bilinear": "linear", "bicubic": "cubic"}
    mode = node.attributes.get("mode", "linear")
    node.attributes["mode"] = old.get(mode, mode)
    return [node]


def _cast_like(node: Node, around: Surroundings) -> list[Node]:
    """A cast, if the dtype is known. One that NumPy does not have, no tensor's own dtype shows."""
    like = node.inputs[1]
    dtype = around.dtype(like)
    if to := around.narrow(like) or (dtype and dtype.name):
        node.op, node.inputs = "cast", node.inputs[:1]
        node.attributes["to"] = to
    return [node]


def _quantize_linear(node: Node, around: Surroundings) -> list[Node]:
    """Keeps the dtype of the zero point, if NumPy does not have it."""
    narrow = around.narrow(node.inputs[2]) if len(node.inputs) > 2 else None
    if narrow:
        node.attributes["output_dtype"] = narrow
    return [node]


def default(attribute: str, value: Any) -> Adapter:
    """An adapter that states an attribute's former default."""

    def adapter(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
        node.attributes.setdefault(attribute, value)
        return [node]

    return adapter


def _absent_if_empty(node: Node, around: Surroundings) -> list[Node]:
    """Resize: leaves out inputs without elements, which opset 11 requires."""
    for i, name in enumerate(node.inputs[1:], 1):
        value = around.value(name)
        if value is not None and not value.size:
            node.inputs[i] = ""
    return [node]


def _softmax(node: Node, around: Surroundings) -> list[Node]:
    """Softmax over all axes from `axis` on, as if x were a matrix."""
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
    """Scale and bias were per group: each group is an instance of one channel."""
    e = Expansion(node, around)
    shape = around.shape(node.inputs[0]) or ()
    channels = shape[1] if len(shape) > 1 else None
    values = [v for name in node.inputs[1:3] if (v := around.value(name)) is not None]
    # The bound is for files that claim anything: arrays of this size are made.
    if len(values) == 2 and isinstance(channels, int) and channels <= MAX_CHANNELS:
        for i, value in enumerate(values, 1):
            repeated = np.repeat(value, channels // max(value.size, 1))
            node.inputs[i] = around.add_constant(f"{node.inputs[i]}.per_channel", repeated)
        return [node]
    x, scale, bias = node.inputs
    groups = e.add("reshape", x, e.constant([0, e.attribute("num_groups"), -1], np.int64))
    epsilon = e.attribute("epsilon", 1e-5)
    y = e.add("instance_normalization", groups, scale, bias, epsilon=epsilon)
    e.add("reshape", y, e.add("shape", x), out=node.outputs[0])
    return e.nodes


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


def _scan(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
    """Opset 8: lengths come first, and every other tensor has an axis of images."""
    directions = node.attributes.pop("directions", ())
    node.attributes |= {"batched": 1, "scan_input_directions": directions}
    return [node]


ADAPTERS: dict[str, Sequence[tuple[int, Adapter]]] = {
    **{op: [(7, _broadcast)] for op in BROADCASTING},
    "batch_normalization": [(7, _batch_normalization_6), (ALWAYS, _batch_normalization)],
    "clip": [(11, _sequence(to_input("min", 1, np.float32), to_input("max", 2, np.float32)))],
    "concat": [(4, default("axis", 1))],
    "dft": [(20, _dft)],
    "cast": [(6, _cast_1)],
    "cast_like": [(ALWAYS, _cast_like)],
    "dropout": [(12, without("ratio", "is_test")), (ALWAYS, without("seed"))],
    "gemm": [(7, without("broadcast"))],
    "global_lp_pool": [(2, _whole_p)],
    "grid_sample": [(ALWAYS, _grid_sample)],
    "group_normalization": [(21, _group_normalization)],
    **{op: [(7, without("output_sequence"))] for op in ("gru", "lstm", "rnn")},
    "hardmax": [(13, _softmax)],
    "log_softmax": [(13, _softmax)],
    "lp_pool": [(2, _whole_p)],
    "pad": [(2, _pad_1), (11, _sequence(to_input("pads", 1), to_input("value", 2, np.float32)))],
    "prelu": [(7, _prelu)],
    "quantize_linear": [(ALWAYS, _quantize_linear)],
    "reduce_sum": [(13, to_input("axes", 1))],
    **{f"reduce_{kind}": [(18, to_input("axes", 1))] for kind in REDUCTIONS},
    "reshape": [(5, to_input("shape", 1))],
    "resize": [(11, _resize), (ALWAYS, _absent_if_empty), (19, _align_corners)],
    "roi_align": [(16, default("coordinate_transformation_mode", "output_half_pixel"))],
    "scan": [(9, _scan)],
    "scatter": [(ALWAYS, _renamed("scatter_elements"))],
    "selu": [(6, _sequence(default("alpha", 1.6732), default("gamma", 1.0507)))],
    "slice": [
        (10, _sequence(to_input("starts", 1), to_input("ends", 2), to_input("axes", 3))),
    ],
    "softmax": [(13, _softmax)],
    "split": [(2, _split_1), (13, to_input("split", 1)), (18, _split)],
    "squeeze": [(13, to_input("axes", 1))],
    "topk": [(10, to_input("k", 1))],
    "unsqueeze": [(13, to_input("axes", 1))],
    "tile": [(6, _tile_1)],
    "upsample": [(7, _upsample_1), (9, to_input("scales", 1, np.float32)), (ALWAYS, _resize)],
    **LEGACY,
    **MICROSOFT,
    **NCHWC,
}
"""Pairs (opset, adapter) for each operator: nodes of earlier opsets are adapted, in this order."""
