"""Runs every operator on the test cases of the ONNX standard: one node each.

Then the cases are damaged at random. Shape inference may raise nothing but errors of cnnrt. The
reference must compute all that it lets pass, in the types inferred.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from cnnrt.errors import CnnrtError, UnsupportedOperator
from cnnrt.graph import Array, Node, TensorType
from cnnrt.ops import OPS, Operand, complete
from standard_cases import CASES, REFUSED


@pytest.mark.parametrize(("node", "feeds", "results", "rtol", "atol"), CASES)
def test_onnx_case(
    node: Node,
    feeds: dict[str, Array],
    results: dict[str, Array],
    rtol: float,
    atol: float,
    request: pytest.FixtureRequest,
) -> None:
    arrays = [feeds[i] if i else None for i in node.inputs]
    operands = [
        None if a is None else Operand(i, TensorType(a.shape, a.dtype), a)
        for i, a in zip(node.inputs, arrays, strict=True)
    ]
    op = OPS[node.op]
    if any(part in request.node.callspec.id for part in REFUSED):
        with pytest.raises(UnsupportedOperator):
            complete(node)
            op.infer(node, operands)
        return
    complete(node)
    types = op.infer(node, operands)
    outputs = op.reference(node, *arrays)
    assert len(types) == len(outputs) == len(node.outputs)
    for output, kind, y in zip(node.outputs, types, outputs, strict=True):
        if output:
            want = results[output]
            assert isinstance(y, np.ndarray)
            assert (kind.shape, kind.dtype) == (y.shape, y.dtype) == (want.shape, want.dtype)
            np.testing.assert_allclose(y, want, rtol=rtol, atol=atol)


INTEGERS = (-(2**40), -7, -3, -2, -1, 0, 1, 2, 3, 4, 5, 9)
SEEDS: dict[str, list[tuple[Node, dict[str, Any]]]] = {}
for _case in CASES:
    SEEDS.setdefault(_case.values[0].op, []).append(_case.values[:2])


def damaged_attribute(value: Any, rng: random.Random) -> Any:
    if value is None:
        return rng.choice([0, -1, 1.5, "junk", [1], [2, 2], [0, 0], [-1, 1], [9] * 4])
    if isinstance(value, int):
        return rng.choice(INTEGERS)
    if isinstance(value, float):
        return rng.choice([0.0, -1.0, 1e30, float("nan")])
    if isinstance(value, str):
        return "junk"
    damaged = [*value, *value[:1]] if rng.random() < 0.5 else list(value[1:])
    if damaged and isinstance(damaged[0], int):
        damaged[rng.randrange(len(damaged))] = rng.choice(INTEGERS)
    return damaged


def damaged_operand(x: Operand | None, rng: random.Random) -> Operand | None:
    if x is None or x.value is None:
        return x
    kind, shape, value = rng.randrange(6), list(x.shape), x.value
    if kind == 0:
        return None
    if kind == 1:
        return Operand(
            x.name, TensorType(x.shape, np.dtype(rng.choice(("float32", "int64", "bool", "uint8"))))
        )
    if kind == 2 and value.size:
        value = value.copy()
        value.reshape(-1)[rng.randrange(value.size)] = rng.choice([0, 1, 2, 3, 5, 100])
    elif kind == 3 and shape:
        shape[rng.randrange(len(shape))] = rng.choice([0, 1, 2, 3, 5])
    elif kind == 4 and shape:
        shape.pop(rng.randrange(len(shape)))
    else:
        shape.insert(rng.randint(0, len(shape)), rng.choice([0, 1, 2]))
    value = np.resize(value, shape) if value.size else np.zeros(shape, value.dtype)
    return Operand(x.name, TensorType(value.shape, value.dtype), value)


@pytest.mark.parametrize("op", SEEDS)
def test_damaged_cases(op: str) -> None:
    rng = random.Random(op)
    for _ in range(40):
        seed, feeds = rng.choice(SEEDS[op])
        node = Node(op, "damaged", list(seed.inputs), list(seed.outputs), dict(seed.attributes))
        operands: list[Operand | None] = [
            Operand(i, TensorType(feeds[i].shape, feeds[i].dtype), feeds[i]) if i else None
            for i in node.inputs
        ]
        for _ in range(rng.choice([1, 1, 2])):
            if node.attributes and rng.random() < 0.4:
                name = rng.choice(list(node.attributes))
                node.attributes[name] = damaged_attribute(node.attributes[name], rng)
            elif operands:
                place = rng.randrange(len(operands))
                operands[place] = damaged_operand(operands[place], rng)
        try:
            complete(node)
            types = OPS[op].infer(node, operands)
        except CnnrtError as error:
            assert "damaged" in str(error)  # which node it is
            continue
        if sum(t.size for t in types) > 1 << 20:
            continue
        arrays = [
            None
            if x is None
            else x.value
            if x.value is not None
            else np.zeros(x.shape, x.type.dtype)
            for x in operands
        ]
        with np.errstate(all="ignore"):
            results = OPS[op].reference(node, *arrays)
        assert [(t.shape, t.dtype) for t in types] == [(y.shape, y.dtype) for y in results]
