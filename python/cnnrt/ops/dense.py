"""Matrix products: gemm, matmul, einsum, and `linear`, the form that the passes make of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import Array, Node, TensorType
from . import REQUIRED, NodeTypes, Op, register, shape_error
from .axes import ALL, AxesMapping, Links, aligned, every, follow
from .common import Inputs, broadcast, fits, operands
from .elementwise import activated
from .products import product


def product_macs(types: NodeTypes, first: int = 0) -> int:
    """The multiply-adds of a product whose factor number `first` is summed over its last axis."""
    return types.output.size * types.shape(first)[-1]


@register
class Linear(Op):
    """activation(x weight^T + bias + residual), an operator of cnnrt alone.

    Shapes: x (..., K), weight (N, K), bias (N), residual (..., N) -> (..., N).
    """

    name = "linear"
    all_pairs = True
    attributes = {"activation": None}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, weight, bias, residual = operands(node, inputs, 2, 4)
        if x.rank < 1 or weight.rank != 2 or weight.shape[1] != x.shape[-1]:
            raise shape_error(node, inputs, "weight must have shape (N, K) with K the last of x")
        if bias and bias.shape != weight.shape[:1]:
            raise shape_error(node, inputs, f"bias must have shape ({weight.shape[0]},)")
        out = TensorType((*x.shape[:-1], weight.shape[0]), x.type.dtype)
        if residual and residual.shape != out.shape:
            raise shape_error(node, inputs, f"residual must have shape {out.shape}")
        return [out]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        last = types.rank(0) - 1
        x = [follow(axis) for axis in range(last)] + [ALL]
        made = [x, (follow(last), ALL), every(types, 2, follow(last)), aligned(types, 3, last + 1)]
        return AxesMapping(made[: len(types.inputs)])

    def macs(self, node: Node, types: NodeTypes) -> int:
        return product_macs(types)

    def reference(
        self, node: Node, x: Any, weight: Any, bias: Any = None, residual: Any = None
    ) -> tuple[Array, ...]:
        y = x @ weight.T
        for term in (bias, residual):
            y = y if term is None else y + term
        return (activated(node, y.astype(x.dtype, copy=False)),)


@register
class Gemm(Op):
    """alpha a b + beta c, with a and b of two axes, transposed on demand; c broadcasts."""

    name = "gemm"
    all_pairs = True
    attributes = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        a, b, c = operands(node, inputs, 2, 3)
        if a.rank != 2 or b.rank != 2:
            raise shape_error(node, inputs, "a and b need two axes")
        (m, k), (k_b, n) = a.shape, b.shape
        if node["transA"]:
            m, k = k, m
        if node["transB"]:
            k_b, n = n, k_b
        if k != k_b:
            raise shape_error(node, inputs, f"a has {k} columns and b {k_b} rows")
        fits(node, inputs, c, (m, n), "c")
        return [TensorType((m, n), a.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        a = (ALL, follow(0)) if node["transA"] else (follow(0), ALL)
        b = (follow(1), ALL) if node["transB"] else (ALL, follow(1))
        return AxesMapping([a, b, aligned(types, 2, 2)][: len(types.inputs)])

    def macs(self, node: Node, types: NodeTypes) -> int:
        return types.output.size * types.shape(0)[0 if node["transA"] else 1]

    def reference(self, node: Node, a: Any, b: Any, c: Any = None) -> tuple[Array, ...]:
        y = product(a.T if node["transA"] else a, b.T if node["transB"] else b)
        alpha, beta = node["alpha"], node["beta"]
        if alpha != 1:
            y = alpha * y
        if c is not None and beta != 0:
            y = y + (c if beta == 1 else beta * c)
        return (y.astype(a.dtype, copy=False),)


def matmul_shape(
    node: Node, inputs: Inputs, a: tuple[int, ...], b: tuple[int, ...]
) -> tuple[int, ...]:
    """The shape of a product as NumPy's matmul has it: vectors lend an axis, batches broadcast.

    Raises:
        ShapeError: the shapes do not fit.
    """
    if not a or not b:
        raise shape_error(node, inputs, "a product of matrices takes no scalars")
    left = a if len(a) > 1 else (1, *a)
    right = b if len(b) > 1 else (*b, 1)
    if left[-1] != right[-2]:
        raise shape_error(node, inputs, f"a has {left[-1]} columns and b {right[-2]} rows")
    batch = broadcast(node, inputs, left[:-2], right[:-2])
    return (*batch, *left[-2:-1][: len(a) > 1], *right[-1:][: len(b) > 1])


def matmul_links(a: int, b: int) -> tuple[Links, Links]:
    """The links of the factors of NumPy's matmul, which have `a` and `b` axes."""
    rank = max(a, b) - (a == 1) - (b == 1)
    rows, columns = rank - 1 - (b > 1), rank - 1
    batch = rank - (a > 1) - (b > 1)
    left = [follow(batch - (a - 2) + axis) for axis in range(a - 2)]
    right = [follow(batch - (b - 2) + axis) for axis in range(b - 2)]
    return (
        (*left, *[follow(rows)] * (a > 1), ALL),
        (*right, ALL, *[follow(columns)] * (b > 1)),
    )


@register
class MatMul(Op):
    """The product of matrices, or of batches of them, as NumPy's matmul."""

    name = "matmul"
    all_pairs = True

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        a, b = operands(node, inputs, 2, 2)
        return [TensorType(matmul_shape(node, inputs, a.shape, b.shape), a.type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        return AxesMapping(matmul_links(types.rank(0), types.rank(1)))

    def macs(self, node: Node, types: NodeTypes) -> int:
        return product_macs(types)

    def reference(self, node: Node, a: Any, b: Any) -> tuple[Array, ...]:
        return (np.asarray(product(a, b), dtype=a.dtype),)


@register
class Einsum(Op):
    """Einstein's summation by `equation`, as NumPy's einsum."""

    name = "einsum"
    all_pairs = True
    attributes = {"equation": REQUIRED}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        given = operands(node, inputs, max(1, len(inputs)))
        left, arrow, right = node["equation"].replace(" ", "").partition("->")
        terms = left.split(",")
        if len(terms) != len(given):
            raise shape_error(node, inputs, f"{node['equation']!r} has {len(terms)} terms")
        sizes: dict[str, int] = {}
        rest: tuple[int, ...] = ()  # axes of the ellipses
        for term, x in zip(terms, given, strict=True):
            before, dots, after = term.partition("...")
            spare = x.rank - len(before) - len(after)
            if spare < 0 or (spare and not dots):
                raise shape_error(node, inputs, f"term {term!r} for {x.rank} axes")
            rest = broadcast(node, inputs, rest, x.shape[len(before) : len(before) + spare])
            named = (*x.shape[: len(before)], *x.shape[len(before) + spare :])
            here: dict[str, int] = {}
            for letter, size in zip(before + after, named, strict=True):
                known = sizes.get(letter, 1)  # an axis of size 1 broadcasts to another term's
                if here.setdefault(letter, size) != size or (
                    1 not in (size, known) and size != known
                ):
                    raise shape_error(node, inputs, f"{letter!r} is both {known} and {size}")
                sizes[letter] = known if size == 1 else size
        if not arrow:
            letters = left.replace(",", "").replace(".", "")
            right = "..." + "".join(sorted(c for c in sizes if letters.count(c) == 1))
        before, dots, after = right.partition("...")
        if not set(before + after) <= set(sizes):
            raise shape_error(node, inputs, f"{node['equation']!r} makes an axis of nothing")
        shape = (
            *(sizes[c] for c in before),
            *(rest if dots else ()),
            *(sizes[c] for c in after),
        )
        return [TensorType(shape, given[0].type.dtype)]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        left, arrow, right = node["equation"].replace(" ", "").partition("->")
        letters = left.replace(",", "").replace(".", "")
        if not arrow:
            once = sorted(c for c in set(letters) if letters.count(c) == 1)
            right = "..." + "".join(once)
        before, _, after = right.partition("...")
        rank = types.output.rank
        place = {c: i for i, c in enumerate(before)}
        place |= {c: rank - len(after) + i for i, c in enumerate(after)}
        made: list[Links] = []
        for index, term in enumerate(left.split(",")):
            head, _, tail = term.partition("...")
            spare = types.rank(index) - len(head) - len(tail)
            middle = rank - len(after) - spare
            links = [follow(place[c]) if c in place else ALL for c in head]
            links += [follow(middle + i) for i in range(spare)]
            links += [follow(place[c]) if c in place else ALL for c in tail]
            made.append(links)
        return AxesMapping(made)

    def macs(self, node: Node, types: NodeTypes) -> int:
        """The product of the sizes of all letters; 0 for one term, or if an input is empty."""
        terms = node["equation"].replace(" ", "").partition("->")[0].split(",")
        if len(terms) < 2 or not all(x.type.size for x in types.inputs if x is not None):
            return 0
        sizes: dict[str, int] = {}
        rest = 1
        for index, term in enumerate(terms):
            before, _, after = term.partition("...")
            shape = types.shape(index)
            inner = shape[len(before) : len(shape) - len(after)]
            rest = max(rest, math.prod(inner))
            named = (*shape[: len(before)], *shape[len(shape) - len(after) :])
            for letter, size in zip(before + after, named, strict=True):
                sizes[letter] = max(sizes.get(letter, 1), size)
        return rest * math.prod(sizes.values())

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        work = math.prod(x.size for x in inputs)  # 0: a path would multiply the others
        y = np.einsum(node["equation"], *inputs, optimize=work > 1 << 16)
        return (np.asarray(y, dtype=inputs[0].dtype),)
