"""Rows of operators.py: operators on every element type, and chains of elementwise operators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from engines import Array
from operator_case import Case, f, i

SIZE = (64, 56, 56)
"""Elements of the rows, those of a feature map."""

COMPARED = ("float32", "float64", "int64", "int32", "uint8", "int8", "bool")
ADDED = ("float64", "int64", "int32")
"""Types besides float32 of which onnxruntime has arithmetic."""


def of_type(dtype: str, seed: int) -> Array:
    """Numbers of a type, small enough that nothing overflows."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return rng.standard_normal(SIZE).astype(dtype)
    return rng.integers(0, 2 if dtype == "bool" else 100, SIZE).astype(dtype)


def element_types() -> Iterator[Case]:
    """Comparison, arithmetic, logic, selection and casts, and products of float64."""
    condition = of_type("bool", 2)
    for dtype in COMPARED:
        x, other = of_type(dtype, 0), of_type(dtype, 1)
        yield Case("Equal", x, (other,), note=dtype)
        if dtype == "bool":
            yield Case("And", x, (other,), note=dtype)
            yield Case("Not", x, note=dtype)
            continue
        yield Case("Where", condition, (x, other), note=dtype)
        yield Case("Less", x, (other,), note=dtype)
    for dtype in ADDED:
        x, other = of_type(dtype, 0), of_type(dtype, 1)
        for op in ("Add", "Sub", "Mul", "Div"):
            yield Case(op, x, (np.maximum(other, 1),), note=dtype)
        yield Case("Max", x, (other,), note=dtype)
    for before, after in (
        ("float32", "float16"),
        ("float16", "float32"),
        ("float32", "int64"),
        ("int64", "float32"),
        ("int64", "int32"),
        ("int32", "int64"),
        ("uint8", "int64"),
        ("int64", "bool"),
        ("bool", "float32"),
        ("float64", "float32"),
        ("uint8", "float32"),
        ("int8", "int32"),
    ):
        to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(after))
        yield Case("Cast", of_type(before, 0), attributes={"to": to}, note=f"{before} to {after}")
    image, weight = (f(1, 32, 56, 56).astype("d"), f(32, 32, 3, 3).astype("d"))
    yield Case("Conv", image, (weight,), {"pads": [1] * 4}, "float64 3x3")
    yield Case("MatMul", f(256, 256).astype("d"), (f(256, 256).astype("d"),), note="float64")
    for op in ("Exp", "Sigmoid", "Tanh", "Relu"):
        yield Case(op, of_type("float64", 0), note="float64")
    scales, nothing = np.array([1, 1, 2, 2], np.float32), np.empty(0, np.float32)
    floor = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    for dtype in ("uint8", "int8"):
        pixels = (100 * f(1, 64, 56, 56)).astype(dtype)
        for note, how in ((dtype, {}), (f"{dtype} floor", floor)):
            yield Case("Resize", pixels, (nothing, scales), {"mode": "nearest", **how}, note)
    half = [f(*shape).astype(np.float16) for shape in ((1, 32, 56, 56), (32, 32, 3, 3))]
    yield Case("Conv", half[0], (half[1],), {"pads": [1] * 4}, "float16 3x3")
    yield Case("Add", of_type("float16", 0), (of_type("float16", 1),), note="float16")


def selections() -> Iterator[Case]:
    """Sorting, searching, running totals, gathers and scatters of every element type."""
    rng = np.random.default_rng(3)
    rows, each = rng.integers(0, 1000, (128, 1)), rng.integers(0, 1000, (128, 64))
    pairs = np.stack([rng.permutation(1000)[:500], rng.integers(0, 64, 500)], axis=-1)
    for dtype in ("float32", "float64", "int64", "int32", "uint8", "int8"):
        x = (rng.standard_normal((1000, 64)) * 50).astype(dtype)
        flat = x.reshape(64, 1000)
        if not dtype.endswith("8"):
            for axis in (0, 1):
                yield Case("CumSum", x, (np.array(axis),), note=f"{dtype} axis {axis}")
            yield Case("TopK", flat, (i(5),), note=dtype, outputs=2)
        for axis in (0, 1):
            yield Case("ArgMax", flat, (), {"axis": axis}, f"{dtype} axis {axis}")
        for reduction in ("none", "add", "max"):
            note, more = f"{dtype} {reduction}", {"reduction": reduction}
            yield Case("ScatterND", x, (rows, x[:128]), more, note)
            yield Case("ScatterND", x, (pairs, x[:500, 0]), more, f"{note}, pairs")
            yield Case("ScatterElements", x, (each, x[:128]), more, note)
        yield Case("Gather", x, (rows[:, 0],), note=dtype)
        yield Case("GatherND", x, (pairs,), note=dtype)
        ends = np.array([0, 1], dtype)
        yield Case("OneHot", rng.integers(0, 100, 1000), (i(100), ends), note=dtype)
        yield Case("Compress", x, (rng.random(1000) > 0.5,), {"axis": 0}, dtype)
        yield Case("Unique", (x // 4).reshape(-1), note=dtype)
        yield Case("NonZero", x // 40, note=dtype)
    half = f(1000, 64).astype(np.float16)
    yield Case("Gather", half, (rows[:, 0],), note="float16")
    yield Case("TopK", half.reshape(64, 1000), (i(5),), note="float16", outputs=2)


def reductions_and_moves() -> Iterator[Case]:
    """Reductions, and copies in another order, of every element type."""
    for dtype in ("float64", "int64", "int32", "int8", "uint8"):
        x = of_type(dtype, 0)
        small = dtype.endswith("8")  # of which onnxruntime has extrema alone
        for op in ("Max", "Min") if small else ("Sum", "Mean", "Max", "Min", "Prod"):
            if op == "Mean" and dtype == "int64":
                continue
            given = np.minimum(x, 1) if op == "Prod" and dtype != "float64" else x
            for axis in (0, 2):
                yield Case(f"Reduce{op}", given, (i(axis),), note=f"{dtype} axis {axis}")
    for dtype in ("float32", "float16", "float64", "int64", "int8", "uint8", "bool"):
        x = of_type(dtype, 0)
        for perm in ((1, 2, 0), (2, 1, 0), (1, 0, 2)):
            text = ",".join(map(str, perm))
            yield Case("Transpose", x, (), {"perm": perm}, f"{dtype} {text}")
        picture = x.reshape(-1)[: 224 * 224 * 3]
        yield Case("Transpose", picture.reshape(224, 224, 3), (), {"perm": (2, 0, 1)},
                   f"{dtype} picture to channels")  # fmt: skip
        yield Case("Transpose", picture.reshape(3, 224, 224), (), {"perm": (1, 2, 0)},
                   f"{dtype} channels to picture")  # fmt: skip
        yield Case("Expand", x[:, :1, :1].copy(), (i(*SIZE),), note=dtype)
        yield Case("Expand", x[:, :1].copy(), (i(*SIZE),), note=f"{dtype} rows")
        for axis in (0, 2):
            yield Case("Concat", x, (x,), {"axis": axis}, f"{dtype} axis {axis}")
        yield Case("Slice", x, (i(1, 1), i(55, 55), i(1, 2)), note=dtype)
    for dtype in ("float32", "float64", "int64", "int8"):
        x = of_type(dtype, 0).reshape(64, 14, 224)
        for axes in ((0, 1), (1, 0)):
            lengths = np.arange(x.shape[axes[1]]) % (x.shape[axes[0]] + 1)
            attributes = {"time_axis": axes[0], "batch_axis": axes[1]}
            note = f"{dtype} time axis {axes[0]}"
            yield Case("ReverseSequence", x, (lengths,), attributes, note)


LINKS = ("Add", "Mul", "Sub", "Max", "Sigmoid", "Mul", "Add", "Tanh", "Mul", "Min", "Abs", "Add")
ALONE = frozenset(("Sigmoid", "Tanh", "Abs"))


@dataclass(frozen=True)
class Chain(Case):
    """Several of `LINKS`, each on the result of the one before."""

    length: int = 2

    def model(self) -> onnx.ModelProto:
        from onnx import helper, numpy_helper  # noqa: PLC0415

        last, nodes = "x", []
        for k, op in enumerate(LINKS[: self.length]):
            other = ["x" if k % 2 else "channel"]
            y = "y" if k == self.length - 1 else f"t{k}"
            nodes.append(helper.make_node(op, [last, *(other if op not in ALONE else [])], [y]))
            last = y
        value = helper.make_tensor_value_info
        channel = np.linspace(0.5, 1.5, self.x.shape[0], dtype=np.float32).reshape(-1, 1, 1)
        graph = helper.make_graph(
            nodes,
            "chain",
            [value("x", onnx.TensorProto.FLOAT, self.x.shape)],
            [value("y", onnx.TensorProto.FLOAT, self.x.shape)],
            [numpy_helper.from_array(channel, "channel")],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def chains() -> Iterator[Case]:
    """Chains of 2 to 12 operators."""
    for length in range(2, len(LINKS) + 1):
        yield Chain("Chain", f(*SIZE), note=f"of {length}", length=length)
