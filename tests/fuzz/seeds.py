"""The valid files that fuzzing starts from: one operator each, and small networks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from cnnrt.errors import CnnrtError
from cnnrt.formats import write_model
from cnnrt.formats.onnx.importer import read_onnx
from cnnrt.graph import Graph
from networks import network

MAX_BYTES = 3000
"""Maximum bytes of a file: mutations of larger ones mostly hit numbers without meaning."""


def onnx_seeds() -> list[bytes]:
    """The ONNX standard's test cases of one operator as files, and the small networks in the same
    way. All inputs but the first are constants."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    seeds = []
    for case in cases:
        if case.model is None or not case.data_sets:
            continue
        proto = onnx.ModelProto()
        proto.CopyFrom(case.model)
        feeds = case.data_sets[0][0]
        for value, array in list(zip(proto.graph.input, feeds, strict=False))[1:]:
            if isinstance(array, np.ndarray) and array.dtype.kind in "biuf":
                proto.graph.initializer.append(numpy_helper.from_array(array, value.name))
        data = proto.SerializeToString()
        if len(data) <= MAX_BYTES and _is_read(data):
            seeds.append(data)
    return seeds


def model_seeds() -> list[bytes]:
    """The same as model.bin, and small networks."""
    return [file_of(read_onnx(data)) for data in onnx_seeds()] + [
        file_of(g) for g in small_networks()
    ]


def _is_read(data: bytes) -> bool:
    try:
        read_onnx(data)
    except CnnrtError:
        return False
    return True


def file_of(graph: Graph) -> bytes:
    data = write_model(None, graph, labels=["a", "b"])
    assert data is not None
    return data


def small_networks() -> Iterator[Graph]:
    """Several operators together, so that passes and layouts meet."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32)

    x = np.zeros((1, 3, 8, 8), np.float32)
    channels = {name: weights(5) for name in ("scale", "shift", "mean")} | {"var": np.ones(5, "f4")}
    yield network(
        {"x": x},
        {"w": weights(5, 3, 3, 3), "b": weights(5), "v": weights(5, 5, 1, 1), **channels},
        ("c", "conv", "x w b", {"pads": [1, 1, 1, 1]}),
        ("n", "batch_normalization", "c scale shift mean var"),
        ("r", "relu", "n"),
        ("d", "conv", "r v"),
        ("a", "add", "d c"),
        ("p", "max_pool", "a", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("g", "global_average_pool", "p"),
        ("y", "flatten", "g"),
    )
    yield network(
        {"x": np.zeros((1, 16, 6, 6), np.float32)},
        {"w": weights(16, 16, 3, 3), "dw": weights(16, 1, 3, 3), "s": np.array([0, -1])},
        ("c", "conv", "x w", {"pads": [1, 1, 1, 1]}),
        ("d", "conv", "c dw", {"group": 16, "dilations": [2, 2], "pads": [2, 2, 2, 2]}),
        ("k", "concat", "c d", {"axis": 1}),
        ("m", "average_pool", "k", {"kernel_shape": [3, 3]}),
        ("t", "transpose", "m", {"perm": [0, 2, 3, 1]}),
        ("y", "reshape", "t s"),
    )
    yield network(
        {"x": np.zeros((1, 4, 8), np.float32)},
        {
            **{name: weights(8, 8) for name in ("q", "k", "v")},
            "one": np.ones(8, np.float32),
            "zero": np.zeros(8, np.float32),
            "third": np.float32(0.3),
        },
        ("n", "layer_normalization", "x one zero"),
        ("a", "matmul", "n q"),
        ("b", "matmul", "n k"),
        ("c", "matmul", "n v"),
        ("t", "transpose", "b", {"perm": [0, 2, 1]}),
        ("u", "matmul", "a t"),
        ("e", "mul", "u third"),
        ("s", "softmax", "e"),
        ("o", "matmul", "s c"),
        ("y", "add", "o x"),
    )
    yield network(
        {"x": np.zeros((1, 2, 4, 4), np.float32)},
        {
            "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
            "w": weights(3, 2, 3, 3),
            "scales": np.array([1, 1, 2, 2], np.float32),
            "starts": np.array([0, 1]),
            "ends": np.array([3, 7]),
            "axes": np.array([2, 3]),
            "shape": np.array([2, 3, 3, 6]),
            "index": np.array([0, 2]),
        },
        ("p", "pad", "x pads"),
        ("c", "conv", "p w"),
        ("r", "resize", "c  scales", {"mode": "linear"}),
        ("s", "slice", "r starts ends axes"),
        ("e", "expand", "s shape"),
        ("g", "gather", "e index", {"axis": 1}),
        ("z", "shape", "g"),
        ("o", "constant_of_shape", "z"),
        ("y", "sub", "g o"),
    )
