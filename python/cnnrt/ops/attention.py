"""Attention and rotary position embedding.

Shapes: query (N, heads, L, D), key (N, kv_heads, S, D), value (N, kv_heads, S, E). Each may have
its heads packed: (N, L, heads * D).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from . import NodeTypes, Op, register, shape_error
from .axes import ALL, AxesMapping, Link, Links, every, follow, mixed, mixes_all_axes
from .common import Inputs, at_least, check_indices, check_kind, dtype_of, fits, operands


def split_heads(x: Array, heads: int | None) -> Array:
    """(N, L, heads * D) -> (N, heads, L, D); four axes stay."""
    if x.ndim == 4:
        return x
    count = heads or 1
    packed = x.reshape((*x.shape[:2], count, x.shape[2] // count))
    return np.asarray(packed.transpose(0, 2, 1, 3))


def join_heads(x: Array) -> Array:
    """(N, heads, L, D) -> (N, L, heads * D)."""
    return np.asarray(
        x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])
    )


@register
class Attention(Op):
    """softmax(scale query key^T + bias) value, as ONNX's of opset 25.

    The fourth input is a mask (bool: keys to attend to; float: added). Then come the past keys and
    values, or the number of valid keys of each image. The past comes before the new. Outputs after
    the result: the present keys and values, and the scores at a stage (`qk_matmul_output_mode`).
    """

    name = "attention"
    all_pairs = True
    attributes = {
        "is_causal": 0,
        "kv_num_heads": None,
        "left_window_size": -1,
        "q_num_heads": None,
        "qk_matmul_output_mode": 0,
        "right_window_size": -1,
        "scale": None,
        "softcap": 0.0,
        "softmax_precision": None,
    }

    def split(
        self, node: Node, inputs: Inputs, shape: tuple[int, ...], heads: str
    ) -> tuple[int, ...]:
        """The shape of an operand with an axis for its heads."""
        if len(shape) == 4:
            return shape
        if len(shape) != 3 or node[heads] is None:
            raise shape_error(node, inputs, f"takes 4 axes, or 3 and {heads}")
        count = at_least(node, heads, 1)
        if shape[2] % count:
            raise shape_error(node, inputs, f"{shape[2]} does not split into {count} heads")
        return (shape[0], count, shape[1], shape[2] // count)

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        query, key, value, mask, past_key, past_value, valid = operands(node, inputs, 3, 7)
        q = self.split(node, inputs, query.shape, "q_num_heads")
        k = self.split(node, inputs, key.shape, "kv_num_heads")
        v = self.split(node, inputs, value.shape, "kv_num_heads")
        check_kind(node, inputs, query, "f", "floats")
        if {x.type.dtype for x in (key, value, past_key, past_value) if x} != {query.type.dtype}:
            raise shape_error(node, inputs, "all but the mask must have the same dtype")
        check_kind(node, inputs, mask, "bf", "truth values or floats")
        check_kind(node, inputs, valid, "iu", "integers")
        dtype_of(node, "softmax_precision", query.type.dtype)
        if node["scale"] is not None and not node["scale"] >= 0:
            raise shape_error(node, inputs, f"scale {node['scale']}")
        if (past_key is None) != (past_value is None) or (past_key and valid):
            raise shape_error(node, inputs, "takes past keys and values, or numbers of valid keys")
        if k[:3] != v[:3] or q[0] != k[0] or q[3] != k[3] or q[1] % k[1]:
            raise shape_error(node, inputs, "query, key and value do not fit each other")
        total = k[2]
        if past_key:
            lead = past_key.shape[:2]
            if past_key.rank != 4 or lead != k[:2] or past_key.shape[3] != k[3]:
                raise shape_error(node, inputs, "past keys do not fit the keys")
            if past_value.shape != (*past_key.shape[:3], v[3]):
                raise shape_error(node, inputs, "past values do not fit past keys")
            total += past_key.shape[2]
        if valid and valid.shape != q[:1]:
            raise shape_error(node, inputs, "takes one number of valid keys per image")
        scores = (*q[:3], total)
        if mask:
            if mask.rank == 0 or mask.shape[-1] > total:
                raise shape_error(node, inputs, f"mask must be for at most {total} keys")
            fits(node, inputs, mask, (*scores[:3], mask.shape[-1]), "mask")
        if at_least(node, "qk_matmul_output_mode", 0) > 3:
            raise shape_error(node, inputs, "qk_matmul_output_mode is beyond 3")
        out = (*q[:3], v[3]) if query.rank == 4 else (q[0], q[2], q[1] * v[3])
        shapes = [out, (*k[:2], total, k[3]), (*v[:2], total, v[3]), scores]
        return [TensorType(shape, query.type.dtype) for shape in shapes][: len(node.outputs)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        rank = types.rank(0)
        heads, tokens = (1, 2) if rank == 4 else (2, 1)
        by_position = node["is_causal"] or node["left_window_size"] >= 0
        query = Link((tokens,), uniform=not by_position and node["right_window_size"] < 0)
        alike = rank == 4 and types.shape(0)[1] == types.shape(1)[1]
        group = follow(1) if alike else mixed(heads)

        def operand(index: int, head: Link, token: Link, depth: Link) -> Links:
            if not types.has(index):
                return None
            if types.rank(index) == 4:
                return (follow(0), head, token, depth)
            return (follow(0), token, mixed(*{heads, rank - 1}))

        value = follow(3) if rank == 4 else mixed(2)
        first = [
            operand(0, follow(1) if rank == 4 else mixed(2), query, ALL),
            *(operand(1 + i, group, ALL, depth) for i, depth in enumerate((ALL, value))),
        ]
        if types.has(3):
            mask = (follow(0), follow(1) if rank == 4 else mixed(2), query, ALL)
            first.append(mask[4 - types.rank(3) :])
        elif len(types.inputs) > 3:
            first.append(None)
        first += [operand(4 + i, group, ALL, depth) for i, depth in enumerate((ALL, value))]
        first = [*first, every(types, 6, follow(0))][: len(types.inputs)]
        return AxesMapping(first, [mixes_all_axes(types).first] * 3)

    def macs(self, node: Node, types: NodeTypes) -> int:
        """Scores and their products with the values; heads must lie on an axis of their own."""
        q, k, v = (types.shape(i) for i in range(3))
        if not len(q) == len(k) == len(v) == 4:
            return 0
        return math.prod(q[:3]) * k[2] * (q[3] + v[3])

    def bias(
        self, node: Node, scores: tuple[int, ...], mask: Any, past: int, valid: Any, dtype: Any
    ) -> Array:
        """The term added to scores (N, heads, L, S): the mask, and -inf for keys that do not count.

        Query i is at position i + offset, and the causal and sliding windows are relative to that.
        """
        length, total = scores[-2:]
        allowed = np.ones((scores[0], 1, length, total), bool)
        offset: Any = past
        if valid is not None:
            offset = valid.reshape(-1, 1, 1, 1) - length
            allowed &= np.arange(total) < valid.reshape(-1, 1, 1, 1)
        ahead = np.arange(total) - (np.arange(length)[:, None] + offset)
        right = node["right_window_size"]
        for bound in [0] * bool(node["is_causal"]) + [right] * (right >= 0):
            allowed = allowed & (ahead <= bound)
        if node["left_window_size"] >= 0:
            allowed = allowed & (-ahead <= node["left_window_size"])
        added = np.zeros((1,) * 4, dtype)
        if mask is not None:
            missing = [(0, 0)] * (mask.ndim - 1) + [(0, total - mask.shape[-1])]
            if mask.dtype == bool:
                allowed = allowed & np.pad(mask, missing)
            else:
                added = np.pad(mask, missing, constant_values=-np.inf)
        return np.where(allowed, added, np.array(-np.inf, dtype))

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        query, key, value, mask, past_key, past_value, valid = (*inputs, *[None] * 4)[:7]
        q = split_heads(query, node["q_num_heads"])
        k = split_heads(key, node["kv_num_heads"])
        v = split_heads(value, node["kv_num_heads"])
        past = 0
        if past_key is not None:
            past = past_key.shape[2]
            k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
        present = k, v
        repeats = q.shape[1] // k.shape[1]
        k, v = np.repeat(k, repeats, axis=1), np.repeat(v, repeats, axis=1)
        scale = 1 / math.sqrt(q.shape[3]) if node["scale"] is None else node["scale"]
        root = q.dtype.type(math.sqrt(scale))
        scores = (q * root) @ (k * root).swapaxes(-1, -2)
        stages = [scores]
        if node["softcap"] > 0:
            scores = np.tanh(scores / node["softcap"]) * node["softcap"]
        stages.append(scores)
        bias = self.bias(node, scores.shape, mask, past, valid, q.dtype)
        scores = scores + bias
        stages.append(scores)
        wide = scores.astype(dtype_of(node, "softmax_precision", q.dtype))
        with np.errstate(invalid="ignore"):
            high = wide.max(axis=-1, keepdims=True, initial=-np.inf)
            powers = np.exp(wide - np.where(np.isfinite(high), high, 0))
            weights = powers / powers.sum(axis=-1, keepdims=True)
        attends = bias.max(axis=-1, keepdims=True, initial=-np.inf) > -np.inf
        weights = np.where(attends, weights, 0).astype(q.dtype)
        stages.append(weights)
        y = weights @ v
        stage = stages[node["qk_matmul_output_mode"]].astype(q.dtype)
        result = y if query.ndim == 4 else join_heads(y)
        return (result, *present, stage)[: len(node.outputs)]


@register
class RotaryEmbedding(Op):
    """Pairs of elements of each head rotated by an angle that depends on the position.

    Inputs are x (N, heads, L, D) or (N, L, heads * D), the cosines, and the sines. These are
    (positions, R / 2) with `position_ids` (N, L), else (N, L, R / 2). The first R =
    `rotary_embedding_dim` elements of each head (0: all) are rotated; pairs are neighbours if
    `interleaved`, else from the two halves.
    """

    name = "rotary_embedding"
    attributes = {"interleaved": 0, "num_heads": None, "rotary_embedding_dim": 0}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, cos, sin, positions = operands(node, inputs, 3, 4)
        heads = 1 if node["num_heads"] is None else at_least(node, "num_heads", 1)
        if x.rank not in (3, 4) or (x.rank == 3 and x.shape[2] % heads):
            raise shape_error(node, inputs, "takes 4 axes, or 3 and num_heads")
        length, depth = (x.shape[1], x.shape[2] // heads) if x.rank == 3 else x.shape[2:]
        rotated = at_least(node, "rotary_embedding_dim", 0) or depth
        lead = cos.shape[:1] if positions else (x.shape[0], length)
        if rotated % 2 or rotated > depth or not cos.shape == sin.shape == (*lead, rotated // 2):
            raise shape_error(node, inputs, f"cosines and sines must be for {rotated} elements")
        if positions and positions.shape != (x.shape[0], length):
            raise shape_error(node, inputs, f"takes positions for {length} tokens")
        if positions:
            check_indices(node, inputs, positions, cos.shape[0])
        return [x.type]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        tokens, depth = (2, 3) if types.rank(0) == 4 else (1, 2)
        x = [follow(axis) for axis in range(depth)] + [mixed(depth)]
        if types.has(3):
            angles: Links = (ALL, mixed(depth))
            return AxesMapping([x, angles, angles, (follow(0), follow(tokens))])
        angles = (follow(0), follow(tokens), mixed(depth))
        return AxesMapping([x, angles, angles][: len(types.inputs)])

    def reference(
        self, node: Node, x: Any, cos: Any, sin: Any, positions: Any = None
    ) -> tuple[Array, ...]:
        if positions is not None:
            cos, sin = cos[positions], sin[positions]
        cos, sin = cos[:, None], sin[:, None]
        y = split_heads(x, node["num_heads"]).copy()
        rotated = y[..., : 2 * cos.shape[-1]]
        if node["interleaved"]:
            a, b = rotated[..., 0::2], rotated[..., 1::2]
        else:
            a, b = np.split(rotated, 2, axis=-1)
        # Both are views of y, and are computed before either is written.
        a[...], b[...] = cos * a - sin * b, sin * a + cos * b
        return (y if x.ndim == 4 else join_heads(y),)
