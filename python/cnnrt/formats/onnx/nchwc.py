"""Operators of com.microsoft.nchwc: images whose channels lie in blocks, and are padded to them.

ONNX Runtime writes them into models that it saves with all optimisations, for its own machine. Here
images keep their usual layout, with the channels that were added.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import _core
from ...errors import UnsupportedOperator
from ...graph import Array, Node
from .expansion import Adapter, Expansion, Surroundings
from .legacy import ALWAYS
from .microsoft import fused_conv


def block_size(channels: int) -> int:
    """Channels in a block of a file that was made for this machine: 16, or 8 without AVX-512.

    Other files are told by numbers of channels that are no multiples of 16.
    """
    wide = {"avx512", "neon"} & set(_core.isas())
    return 16 if wide and channels % 16 == 0 else 8


def plain_weight(blocked: Array, group: int) -> Array:
    """A weight (M, C / group, ...) in the plain order. It comes in blocks of output channels, and
    of input channels unless these are fewer than a block.

    Raises:
        UnsupportedOperator: the channels are no whole blocks.
    """
    m, c, *window = blocked.shape
    block = block_size(m)
    if m % block:
        raise UnsupportedOperator(f"{m} channels, which are no blocks of 8 or 16")
    depthwise = group > 1 and c == 1
    inner = 1 if depthwise or (group == 1 and c < block) else block
    if c % inner:
        raise UnsupportedOperator(f"{c} channels, which are no blocks of {inner}")
    # (M / block, C / inner, *window, inner, block)
    parts = blocked.reshape(m // block, c // inner, *window, inner, block)
    rank = len(window)
    order = (0, rank + 3, 1, rank + 2, *range(2, rank + 2))
    plain: Array = np.ascontiguousarray(parts.transpose(order)).reshape(blocked.shape)
    return plain


def _conv(node: Node, around: Surroundings) -> list[Node]:
    """FusedConv whose weight lies in blocks."""
    e = Expansion(node, around)
    weight = e.value(1, "a weight")
    plain = plain_weight(weight, node.attributes.get("group", 1))
    node.inputs[1] = e.constant(plain, weight.dtype, "weight")
    return fused_conv(node, around)


def _pool(op: str) -> Adapter:
    def adapter(node: Node, around: Surroundings) -> list[Node]:  # noqa: ARG001
        node.op = op
        return [node]

    return adapter


def _reorder_input(node: Node, around: Surroundings) -> list[Node]:
    """Adds channels up to a whole block."""
    e = Expansion(node, around)
    last = bool(e.attribute("channels_last", 0))
    x, out = node.inputs[0], node.outputs[0]
    shape = around.shape(x)
    if shape is None or not isinstance(shape[3 if last else 1], int):
        raise UnsupportedOperator("an unknown number of channels")
    channels = int(shape[3 if last else 1])
    wide = {"avx512", "neon"} & set(_core.isas())
    missing = -channels % (16 if wide else 8)
    if last:
        x = e.add("transpose", x, perm=[0, 3, 1, 2], out="" if missing else out)
    if missing:
        e.add("pad", x, e.constant([0] * 5 + [missing, 0, 0], np.int64), out=out)
    elif not last:
        e.add("identity", x, out=out)
    return e.nodes


def _reorder_output(node: Node, around: Surroundings) -> list[Node]:
    """Cuts off the channels that were added."""
    e = Expansion(node, around)
    channels, last = e.attribute("channels"), bool(e.attribute("channels_last", 0))
    limits = [e.constant([n], np.int64) for n in (0, channels, 1)]
    y = e.add("slice", node.inputs[0], *limits, out="" if last else node.outputs[0])
    if last:
        e.add("transpose", y, out=node.outputs[0], perm=[0, 2, 3, 1])
    return e.nodes


def _upsample(node: Node, around: Surroundings) -> list[Node]:
    e = Expansion(node, around)
    scales = e.constant(e.attribute("scales"), np.float32)
    rule: dict[str, Any] = {"mode": e.attribute("mode", "nearest")}
    rule["coordinate_transformation_mode"] = e.attribute(
        "coordinate_transformation_mode", "asymmetric"
    )
    out = node.outputs[0]
    e.add("resize", node.inputs[0], "", scales, out=out, nearest_mode="floor", **rule)
    return e.nodes


NCHWC = {
    f"com.microsoft.nchwc.{name}": [(ALWAYS, adapter)]
    for name, adapter in {
        "AveragePool": _pool("average_pool"),
        "Conv": _conv,
        "GlobalAveragePool": _pool("global_average_pool"),
        "GlobalMaxPool": _pool("global_max_pool"),
        "MaxPool": _pool("max_pool"),
        "ReorderInput": _reorder_input,
        "ReorderOutput": _reorder_output,
        "Upsample": _upsample,
    }.items()
}
"""Adapters by operator, as in `opsets.ADAPTERS`."""
