"""Fixtures of the tests of the operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cnnrt.graph import Array, Node, TensorType
from cnnrt.ops import OPS, Operand, complete


def run(
    op: str, *inputs: Any, outputs: int = 1, constant_x: bool = False, **attributes: Any
) -> tuple[Array, ...]:
    """The outputs of an operator's reference, which must have the types that it infers.

    Shape inference sees the values of all inputs but the first, unless `constant_x`.
    """
    arrays = [None if a is None else np.asarray(a) for a in inputs]
    names = ["" if a is None else f"input{i}" for i, a in enumerate(arrays)]
    node = Node(op, f"the_{op}", names, [f"output{i}" for i in range(outputs)], attributes)
    complete(node)
    operands = [
        None if a is None else Operand(name, TensorType(a.shape, a.dtype), value)
        for name, a, value in zip(
            names, arrays, [arrays[0] if constant_x else None, *arrays[1:]], strict=False
        )
    ]
    types = OPS[op].infer(node, operands)
    results = OPS[op].reference(node, *arrays)
    assert [(t.shape, t.dtype) for t in types] == [(y.shape, y.dtype) for y in results]
    assert all(isinstance(y, np.ndarray) for y in results)
    return results


@pytest.fixture(name="run")
def run_fixture() -> Callable[..., tuple[Array, ...]]:
    return run


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
