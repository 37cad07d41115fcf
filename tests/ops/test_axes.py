"""Compares axes mappings with the behaviour of the references.

A changed slice of an input may change only the output positions that its link names. If positions
follow each other, reversing those of the inputs must reverse those of the outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from cnnrt.graph import Array, Node, TensorType
from cnnrt.lowering import LOWERINGS
from cnnrt.ops import OPS, NodeTypes, Op, Operand, axes_mapping, complete
from cnnrt.ops.axes import AxesMapping, Link
from cnnrt.ops.shape import equal_products
from standard_cases import CASES, REFUSED

rng = np.random.default_rng(0)
f = rng.standard_normal


def own(op: str, *inputs: Array | None, outputs: int = 1, **attributes: Any) -> Any:
    """A case of an operator, or of inputs, that the ONNX standard does not have."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    node = Node(op, op, names, [f"y{i}" for i in range(outputs)], attributes)
    feeds = {name: x for name, x in zip(names, inputs, strict=True) if x is not None}
    return pytest.param(node, feeds, id=f"{op}-{'-'.join(map(str, attributes.values()))}")


CHANGED: dict[str, Any] = {"float16": 0.75, "float32": 0.75, "float64": 0.75, "uint8": 3}
"""Amounts that are added to inputs; their dtypes are none of indices."""

Q = rng.integers(0, 255, (2, 3, 4), dtype=np.uint8)
ONE, ZERO = np.ones(1, np.float32), np.zeros(1, np.uint8)

OWN = [
    own("activate", f((2, 3)), activation=("relu", 0.0, 0.0)),
    own("adaptive_average_pool", f((2, 3, 6, 7)), output_size=[3, 2]),
    own("adaptive_max_pool", f((2, 3, 6, 1)), output_size=[6, 1]),
    own("channel_normalization", f((2, 5, 3)), f(5), f(5)),
    own("conv", f((2, 4, 6, 5)), f((6, 2, 3, 1)), f(6), f((2, 6, 4, 5)), f((2, 4, 1, 1)), group=2),
    own("conv", f((2, 3, 5)), f((3, 1, 1)), None, None, f((2, 3, 1)), group=3),
    own("interleave", f((2, 12, 3, 4)), group=1, strides=[2, 3], pads=[1, 0, 0, 2]),
    own("linear", f((2, 3, 4)), f((5, 4)), f(5), f((2, 3, 5))),
    own("matmul", f((2, 1, 3, 4)), f((5, 4, 6))),
    own("matmul", f(4), f((2, 3, 4, 5))),
    own("matmul", f((2, 3, 4)), f(4)),
    own("max_pool", f((2, 3, 6)), outputs=2, kernel_shape=[1], strides=[1]),
    own("reshape", f((2, 3, 1, 4)), np.array([2, 1, 12])),
    own("resize", f((3, 2, 4)), None, np.array([1.2, 1, 2], np.float32), mode="linear"),
    own("scatter_elements", f((3, 4)), np.array([[1, 2]]), f((1, 2)), axis=1),
    own("slice", f((3, 5)), np.array([-1]), np.array([-9]), np.array([0]), np.array([-1])),
    own("trilu", f((4, 4)), np.array(0)),
    own("qlinear_add", Q, ONE, ZERO, Q[:, :1], ONE, ZERO, ONE, ZERO),
    own("qlinear_mul", Q, ONE, ZERO, Q, ONE, ZERO, ONE, ZERO),
    own("qlinear_softmax", Q, ONE, ZERO, ONE, ZERO, axis=1),
    own("qlinear_average_pool", Q, ONE, ZERO, ONE, ZERO, kernel_shape=[2], strides=[2]),
    own("qlinear_global_average_pool", Q, ONE, ZERO, ONE, ZERO),
    own("inverse", f((2, 3, 3))),
    own("det", f((2, 3, 3))),
    own("attention", *(f((2, 2, 3, 4)) for _ in range(3)), is_causal=1),
    own("attention", *(f((2, 2, 3, 4)) for _ in range(3))),
]

GIVEN = [
    pytest.param(*case.values[:2], id=case.id)
    for case in CASES
    if not any(part in str(case.id) for part in REFUSED)
    and not OPS[case.values[0].op].runs_on_values
]


def prepared(node: Node, feeds: dict[str, Array]) -> tuple[list[Any], AxesMapping]:
    """The inputs of a node, and its axes mapping."""
    complete(node)
    arrays = [feeds[i] if i else None for i in node.inputs]
    operands = [
        None if a is None else Operand(i, TensorType(a.shape, a.dtype), a)
        for i, a in zip(node.inputs, arrays, strict=True)
    ]
    types = NodeTypes(operands, OPS[node.op].infer(node, operands))
    return arrays, OPS[node.op].axes(node, types)


def computed(node: Node, arrays: Sequence[Any]) -> tuple[Array, ...]:
    with np.errstate(all="ignore"):
        return OPS[node.op].reference(node, *arrays)


def alike(a: Array, b: Array) -> Array:
    """For each element of a, True if it is the same in b apart from rounding."""
    if a.shape != b.shape:
        return np.zeros(a.shape, bool)
    if a.dtype.kind in "fc":
        return np.isclose(a, b, 1e-4, 1e-5, equal_nan=True)
    return np.asarray(a == b)


def reached(link: Link, position: int, size: int) -> Array:
    """For each of `size` output positions, True if it may depend on this input position."""
    assert link.reach is not None
    assert link.step is not None
    whole = link.step == int(link.step) and (link.start - link.reach / 2) % 1 == 0
    slack = 0 if whole else 1  # positions between elements are rounded
    centres = link.start + np.arange(size) * link.step
    return np.abs(position - centres) <= link.reach / 2 + slack


@pytest.mark.parametrize(("node", "feeds"), [*GIVEN, *OWN])
def test_outputs_depend_on_what_the_links_say(node: Node, feeds: dict[str, Array]) -> None:
    arrays, mapping = prepared(node, feeds)
    before = computed(node, arrays)
    borders = node.op == "pad" and node["mode"] != "constant"
    for i, x in enumerate(arrays):
        if x is None or x.dtype.name not in CHANGED or i in OPS[node.op].settings:
            continue
        for axis in range(x.ndim):
            for p in sorted({0, x.shape[axis] // 2, x.shape[axis] - 1} & {*range(x.shape[axis])}):
                changed = x.copy()
                with np.errstate(over="ignore"):
                    np.moveaxis(changed, axis, 0)[p] += CHANGED[x.dtype.name]
                after = computed(node, [*arrays[:i], changed, *arrays[i + 1 :]])
                for index, (old, new) in enumerate(zip(before, after, strict=True)):
                    links = mapping.links(index)[i]
                    same = alike(old, new)
                    if links is None:
                        assert same.all()
                        continue
                    link = links[axis]
                    if len(link.outputs) != 1 or link.reach is None or link.step is None or borders:
                        continue
                    if x.shape[axis] == 1 and link.reach == 0:
                        continue  # it broadcasts
                    (output,) = link.outputs
                    may = reached(link, p, old.shape[output])
                    others = tuple(a for a in range(old.ndim) if a != output)
                    assert (same.all(axis=others) | may).all(), (i, axis, p, link)


@pytest.mark.parametrize(("node", "feeds"), [*GIVEN, *OWN])
def test_positions_that_follow_each_other_are_alike(node: Node, feeds: dict[str, Array]) -> None:
    """Batches and selections rely on this: only the order of the positions changes."""
    arrays, mapping = prepared(node, feeds)
    before = computed(node, arrays)
    for index, y in enumerate(before):
        for output in range(y.ndim):
            turned = []
            for x, links in zip(arrays, mapping.links(index), strict=True):
                touching = [(a, k) for a, k in enumerate(links or ()) if output in k.outputs]
                if any(k.follows is None for _, k in touching):
                    break
                moving = tuple(a for a, _ in touching if x.shape[a] > 1)
                turned.append(np.flip(x, moving).copy() if moving else x)
            else:
                if all(t is x for t, x in zip(turned, arrays, strict=True)):
                    continue
                after = computed(node, turned)[index]
                assert alike(np.flip(y, output), after).all(), (index, output)


@pytest.mark.parametrize("name", sorted(LOWERINGS))
def test_every_operator_with_a_kernel_states_its_axes(name: str) -> None:
    assert type(OPS[name]).axes is not Op.axes


def test_axes_of_equal_products() -> None:
    assert equal_products([2, 3, 4], [6, 4]) == [([0, 1], [0]), ([2], [1])]
    assert equal_products([1, 6, 5], [2, 3, 1, 5]) == [([0], []), ([1], [0, 1]), ([2], [3])]


def test_an_optional_input_left_out_at_the_end_has_no_links() -> None:
    """A file may name it, as the empty name; the mapping is that without it."""
    rotary = ["x", "cos", "sin"]
    x, table = TensorType((1, 2, 3, 4)), TensorType((1, 3, 2))
    kinds = [Operand(name, t) for name, t in zip(rotary, (x, table, table), strict=True)]
    attributes = {"interleaved": 0, "rotary_embedding_dim": 0, "num_heads": None}
    for inputs, types in ((rotary, kinds), ([*rotary, ""], [*kinds, None])):
        node = Node("rotary_embedding", "r", inputs, ["y"], dict(attributes))
        mapping = axes_mapping(node, NodeTypes(types, [x]))
        assert len(mapping.links()) == len(inputs)
        assert (mapping.links()[-1] is None) == (inputs[-1] == "")
