"""Networks whose outputs are given arrays, so that a test knows what there is to be found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import cnnrt
from cnnrt import ops
from cnnrt.graph import Array, Graph, Node, TensorSpec
from cnnrt.preprocessing import Preprocessing


def letterbox(size: tuple[int, int]) -> Preprocessing:
    """The preprocessing of ultralytics' networks."""
    return Preprocessing(size=size, pad=114, scale=1 / 255)


def given(
    outputs: Mapping[str, Array], size: tuple[int, int] = (64, 64), **more: Any
) -> cnnrt.Model:
    """A model that takes pictures of a size and always gives these outputs.

    The first pixel is added to each, times 0.
    """
    nodes = [
        Node("slice", "corner", ["x", "begin", "end"], ["corner"], {}),
        Node("squeeze", "pixel", ["corner"], ["pixel"], {}),
        Node("mul", "nothing", ["pixel", "zero"], ["nothing"], {}),
        *(Node("add", name, [f"{name}.constant", "nothing"], [name], {}) for name in outputs),
    ]
    for node in nodes:
        ops.complete(node)
    graph = Graph(
        inputs=[TensorSpec("x", (1, 3, *size))],
        outputs=[TensorSpec(name, y.shape) for name, y in outputs.items()],
        nodes=nodes,
        constants={
            "begin": np.array([0, 0, 0, 0]),
            "end": np.array([1, 1, 1, 1]),
            "zero": np.zeros((), np.float32),
            **{f"{name}.constant": y.astype(np.float32) for name, y in outputs.items()},
        },
    )
    return cnnrt.Model(graph, **{"preprocessing": letterbox(size), "threads": 1, **more})
