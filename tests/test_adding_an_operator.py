"""docs/adding-an-operator.md does what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cnnrt import Model, lowering, ops
from cnnrt.graph import Graph, Node, TensorSpec

PAGE = Path(__file__).parent.parent / "docs" / "adding-an-operator.md"
IMPORTS = """
from typing import Any
import numpy as np
from cnnrt.graph import Array, Node
from cnnrt.lowering import PlanBuilder, lowers
from cnnrt.lowering.elementwise import lower_activation
from cnnrt.ops import register
from cnnrt.ops.activation import Activation
from cnnrt.ops.common import Elementwise, SameType
"""


@pytest.fixture
def steps() -> Iterator[list[str]]:
    """The code of the page, step by step; what it registers is taken away afterwards."""
    text = PAGE.read_text()
    blocks = re.findall(r"^   ```python\n(.*?)^   ```", text, re.MULTILINE | re.DOTALL)
    yield [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in blocks]
    ops.OPS.pop("hard_tanh", None)
    lowering.LOWERINGS.pop("hard_tanh", None)


def test_the_page(steps: list[str]) -> None:
    definition, lowered = steps
    names: dict[str, object] = {}
    exec(IMPORTS + definition, names)
    node = Node("hard_tanh", "h", ["x"], ["y"], {"high": 0.5})
    ops.complete(node)
    graph = Graph([TensorSpec("x", (2, 5))], [TensorSpec("y", ())], [node], {})
    x = np.linspace(-2, 2, 10, dtype=np.float32).reshape(2, 5)
    by_reference = Model(graph)
    assert "no kernel" in by_reference.describe()
    assert np.array_equal(by_reference(x), np.clip(x, -1, 0.5))
    exec(lowered, names)
    by_kernel = Model(graph)
    assert "no kernel" not in by_kernel.describe()
    assert np.array_equal(by_kernel(x), by_reference(x))
