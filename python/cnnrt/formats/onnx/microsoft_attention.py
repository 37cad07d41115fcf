"""Attention operators of the domain com.microsoft, as ONNX's own `attention`."""

from __future__ import annotations

import numpy as np

from ...errors import UnsupportedOperator
from ...graph import Node
from .expansion import Adapter, Expansion, Surroundings


def _attend(e: Expansion, q: str, k: str, v: str, heads: int, mask: str, past: list[str]) -> None:
    """Attention of (N, L, heads * D); the second and third outputs are present keys and values."""
    scale = e.attribute("scale")
    attributes = {
        "q_num_heads": heads,
        "kv_num_heads": heads,
        "is_causal": int(e.attribute("unidirectional", 0)),
        "scale": None if scale == 0 else scale,
    }
    outputs = e.outputs[: 3 if any(e.outputs[1:3]) else 1]
    e.add_many("attention", (q, k, v, mask, *past), outputs, **attributes)


def _padding_mask(e: Expansion, mask: str, keys: str, index: int) -> str:
    """The tensor that a mask of the keys adds to the scores (N, heads, L, S).

    Args:
        mask: 1 for each key to attend to, (N, S) or (N, L, S), or the number of valid keys, (N).
        keys: (N, S, ...), of which S is needed.
        index: number of the mask among the inputs.
    """
    missing = float(e.attribute("mask_filter_value", -10000.0))
    if not mask:
        return ""
    rank = e.rank(index)
    if rank == 1:
        count = e.add("squeeze", e.add("shape", keys, start=1, end=2))
        zero, one = (e.constant(v, np.int64) for v in (0, 1))
        places = e.add("range", zero, count, one)
        number = e.add("unsqueeze", e.add("cast", mask, to="int64"), e.constant([1], np.int64))
        on = e.add("cast", e.add("less", places, number), to="float32")
    elif rank in (2, 3):
        on = e.add("cast", mask, to="float32")
    else:
        raise UnsupportedOperator(f"a mask of {rank} axes")
    axes = e.constant([1] if rank == 3 else [1, 2], np.int64)
    off = e.add("sub", e.constant(1, np.float32), e.add("unsqueeze", on, axes))
    return e.add("mul", off, e.constant(missing, np.float32))


def _summed(e: Expansion, *masks: str) -> str:
    first, *rest = [mask for mask in masks if mask] or [""]
    for mask in rest:
        first = e.add("add", first, mask)
    return first


def _attention(node: Node, around: Surroundings) -> list[Node]:
    """Attention with one weight for queries, keys and values. Inputs are x, the weight, bias, mask,
    past (2, N, heads, P, D) and a tensor added to the scores. A second output has past and present
    together."""
    e = Expansion(node, around)
    x, weight, bias, mask, past, added = e.inputs[:6]
    y = e.add("matmul", x, weight)
    y = e.add("add", y, bias) if bias else y
    packed(e, y, mask, 3, past, added)
    return e.nodes


def packed(e: Expansion, y: str, mask: str, mask_index: int, past: str, added: str = "") -> None:
    """Attention of queries, keys and values side by side along the last axis of y."""
    heads = e.attribute("num_heads")
    sizes = e.attribute("qkv_hidden_sizes")
    for name in ("do_rotary", "past_present_share_buffer"):
        if e.attribute(name, 0):
            raise UnsupportedOperator(f"attribute {name!r}")
    e.attribute("rotary_embedding_dim")
    if sizes:
        q, k, v = e.add_many("split", (y, e.constant(sizes, np.int64)), [""] * 3, axis=-1)
    else:
        q, k, v = e.add_many("split", (y,), [""] * 3, axis=-1, num_outputs=3)
    present = e.outputs[1]
    before: list[str] = []
    if past:
        one = [e.constant([i], np.int64) for i in (0, 1)]
        zero = e.constant([0], np.int64)
        before = [e.add("squeeze", e.add("gather", past, i, axis=0), zero) for i in one]
    bias = _summed(e, _padding_mask(e, mask, y, mask_index), added)
    if present:
        names = [e.around.add_tensor(f"{e.node.name}.{part}") for part in ("keys", "values")]
        e.outputs[1:3] = names
    _attend(e, q, k, v, heads, bias, before)
    if present:
        zero = e.constant([0], np.int64)
        e.add("concat", *(e.add("unsqueeze", n, zero) for n in names), out=present, axis=0)


def _multi_head_attention(node: Node, around: Surroundings) -> list[Node]:
    """Attention of query, key and value (N, L, heads * D). Further inputs are their bias, a mask of
    the keys, a tensor added to the scores, past keys and past values."""
    e = Expansion(node, around)
    query, key, value, bias, mask, added, past_key, past_value = e.inputs[:8]
    if not key or not value or e.rank(0) != 3 or e.rank(1) != 3:
        raise UnsupportedOperator("query, key and value packed into one tensor")
    if bias:
        shapes = [around.shape(name) for name in (query, key, value)]
        sizes = [shape[-1] if shape else None for shape in shapes]
        parts = [e.constant(n, np.int64) for n in sizes if isinstance(n, int)]
        if len(parts) != 3:
            raise UnsupportedOperator("a bias of inputs of unknown sizes")
        split = e.constant(sizes, np.int64)
        biases = e.add_many("split", (bias, split), [""] * 3, axis=0)
        pairs = zip((query, key, value), biases, strict=True)
        query, key, value = (e.add("add", *pair) for pair in pairs)
    past = [past_key, past_value] if past_key else []
    scores = _summed(e, _padding_mask(e, mask, key, 4), added)
    _attend(e, query, key, value, e.attribute("num_heads"), scores, past)
    return e.nodes


ATTENTION: dict[str, Adapter] = {
    "Attention": _attention,
    "MultiHeadAttention": _multi_head_attention,
}
