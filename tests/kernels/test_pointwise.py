"""Pointwise programs: each operation in each element type, layouts, tile edges, broadcasting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnrt
from checks import Random
from cnnrt.dtypes import DTYPES
from cnnrt.graph import Array, Graph, Node, TensorSpec, TensorType
from cnnrt.ops import complete, op
from cnnrt.ops.pointwise import ONE, POINTWISE, SEVERAL, takes

EDGES = (1, 15, 16, 17, 63, 64, 1023, 1024, 1025, 16384 + 3)
"""Elements around a vector, the shortest and the longest tile, and a task."""


def nodes_of(*calls: tuple[Any, ...]) -> list[Node]:
    """Nodes (op, inputs, output) or (op, inputs, output, attributes), completed."""
    nodes = []
    for i, (name, inputs, output, *attributes) in enumerate(calls):
        node = Node(name, f"n{i}", list(inputs), [output], dict(*attributes))
        complete(node)
        nodes.append(node)
    return nodes


def network(nodes: list[Node], outputs: dict[str, Any], **inputs: Array) -> Graph:
    """A graph of these nodes for inputs as these arrays."""
    specs = [TensorSpec(n, x.shape, x.dtype) for n, x in inputs.items()]
    return Graph(specs, [TensorSpec(n, (), d) for n, d in outputs.items()], nodes, {}, "net")


def separately(nodes: list[Node], **known: Array) -> dict[str, Array]:
    """Every tensor, by the references of the operators one after the other."""
    for node in nodes:
        (known[node.outputs[0]],) = op(node).reference(node, *(known[n] for n in node.inputs))
    return known


def run(graph: Graph, *inputs: Array, **options: Any) -> tuple[list[Array], cnnrt.Model]:
    model = cnnrt.Model(graph, **options)
    names = [spec.name for spec in graph.inputs]
    result = model(dict(zip(names, inputs, strict=True)))
    return ([*result.values()] if isinstance(result, dict) else [result]), model


def values(dtype: str, count: int) -> Array:
    """Numbers of a type, with its ends, zeros and ones among them."""
    rng = np.random.default_rng(count)
    kind = DTYPES[dtype].kind
    if kind == "b":
        return rng.random(count) < 0.5
    if kind == "f":
        x = (rng.standard_normal(count) * 3).astype(dtype)
        x[::7] = 0
        return x
    ends = np.iinfo(dtype)
    x = rng.integers(ends.min, ends.max, count, dtype, endpoint=True)
    x[::3] = rng.integers(max(-4, ends.min), 5, len(x[::3]), dtype)
    x[:2] = [ends.min, ends.max][: len(x[:2])]
    return x


SPECIAL: dict[str, dict[str, Any]] = {
    "bit_shift": {"direction": "LEFT"},
    "activate": {"activation": ("leaky_relu", 0.25, 0.0)},
    "swish": {"alpha": 1.5},
    "swiglu": {"alpha": 0.5},
}


def arguments(name: str, dtype: str, count: int) -> list[Array]:
    if name == "where":
        return [values("bool", count), values(dtype, count), values(dtype, count)[::-1].copy()]
    if name in SEVERAL:
        a, b = values(dtype, count), values(dtype, count)[::-1].copy()
        if name == "pow" and DTYPES[dtype].kind == "f":
            a = np.abs(a)
        elif name == "pow":  # negative powers have tests of their own
            b = (b % 7).astype(dtype)
        return [a, b]
    if name in ("log", "sqrt", "acosh"):
        return [np.abs(values(dtype, count)) + values(dtype, 1).dtype.type(1)]
    if name in ("asin", "acos", "atanh"):
        return [np.tanh(values(dtype, count)).astype(dtype)]
    return [values(dtype, count)]


PAIRS = [
    (name, dtype)
    for name in sorted(POINTWISE - {"cast", "clip"})
    for dtype in DTYPES
    if dtype != "bfloat16"
    and takes(
        Node(
            name,
            "",
            ["x"] * 3,
            ["y"],
            {
                "activation": None,
                "alpha": 0.25,
                "beta": 0.5,
                "gamma": 1.0,
                "approximate": "none",
                **SPECIAL.get(name, {}),
            },
        ),
        {"x": TensorType((1,), dtype)},
    )
]


def test_every_type_has_kernels() -> None:
    """Comparisons, selection and integer arithmetic are there for the types that files have."""
    have = set(PAIRS)
    for name in ("add", "sub", "mul", "div", "min", "max", "equal", "less", "where"):
        for dtype in ("float32", "float64", "int64", "int32", "int8", "uint8"):
            assert (name, dtype) in have
    assert {("and", "bool"), ("or", "bool"), ("xor", "bool"), ("not", "bool")} <= have


@pytest.mark.parametrize("name", sorted({name for name, _ in PAIRS}))
def test_operation(name: str, isa: str) -> None:
    """One operator as a kernel, to four units in the last place of the reference."""
    for dtype in [dtype for other, dtype in PAIRS if other == name]:
        check_operation(name, dtype, isa)


def check_operation(name: str, dtype: str, isa: str) -> None:
    attributes = SPECIAL.get(name, {})
    arrays = arguments(name, dtype, 1025)
    names = [f"x{i}" for i in range(len(arrays))]
    nodes = nodes_of((name, names, "y", attributes))
    inputs = dict(zip(names, arrays, strict=True))
    with np.errstate(all="ignore"):
        want = separately(nodes, **inputs)["y"]
        if dtype == "float32" and want.dtype == np.float32:
            wide = {
                n: x.astype(np.float64) if x.dtype == np.float32 else x for n, x in inputs.items()
            }
            want = separately(nodes, **wide)["y"].astype(np.float32)
    (got,), model = run(network(nodes, {"y": want.dtype}, **inputs), *arrays, isa=isa)
    assert "reference" not in str(model.describe()), model.describe()
    if want.dtype.kind != "f":
        assert np.array_equal(got, want)
        return
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True)
    arrays, got, want = [x[finite] for x in arrays], got[finite], want[finite]
    scale = np.spacing(np.maximum(np.abs(want), 1))
    error = np.abs(got - want)
    worst = (error / scale).argmax()
    assert error[worst] <= 4 * scale[worst], (dtype, arrays[0][worst], got[worst], want[worst])


CHAIN = (
    ("mul", ["a", "b"], "t"),
    ("sigmoid", ["t"], "s"),
    ("sub", ["s", "c"], "d"),
    ("less", ["d", "b"], "m"),
    ("where", ["m", "d", "a"], "y"),
)


@pytest.mark.parametrize("count", EDGES)
def test_tile_edges(count: int, isa: str, threads: int, random: Random) -> None:
    """Bit by bit as the operators one by one, whatever the length and the number of threads."""
    a, b, c = random(count), random(count), random(count)
    nodes = nodes_of(*CHAIN)
    graph = network(nodes, {"y": np.float32}, a=a, b=b, c=c)
    (got,), model = run(graph, a, b, c, isa=isa, threads=threads)
    assert [line for line in str(model.describe()).splitlines() if "pointwise" in line]
    apart = a
    known: dict[str, Array] = {"a": a, "b": b, "c": c}
    for node in nodes:
        part = network(
            [node],
            {node.outputs[0]: bool if node.op == "less" else np.float32},
            **{n: known[n] for n in node.inputs},
        )
        (apart,), _ = run(part, *(known[n] for n in dict.fromkeys(node.inputs)), isa=isa)
        known[node.outputs[0]] = apart
    assert np.array_equal(got, apart)


SHAPES = [
    ((2, 20, 9, 9), (2, 20, 9, 9), (1, 20, 1, 1)),
    ((2, 20, 9, 9), (9,), (20, 1, 1)),
    ((2, 20, 9, 9), (2, 1, 9, 9), ()),
    ((2, 20, 9, 9), (2, 20, 1, 1), (1,)),
    ((3, 1), (1, 5), (3, 5)),
    ((300, 7), (300, 1), (7,)),
    ((5, 3, 4, 2, 3, 2), (1, 3, 1, 2, 1, 2), (5, 1, 4, 1, 3, 1)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_broadcasting(
    shapes: tuple[tuple[int, ...], ...], isa: str, threads: int, random: Random
) -> None:
    a, b, c = (random(*shape) for shape in shapes)
    nodes = nodes_of(
        ("mul", ["a", "b"], "t"),
        ("add", ["t", "c"], "u"),
        ("max", ["u", "a"], "v"),
        ("div", ["v", "b"], "y"),
    )
    graph = network(nodes, {"y": np.float32}, a=a, b=b, c=c)
    (got,), _ = run(graph, a, b, c, isa=isa, threads=threads)
    assert np.array_equal(got, separately(nodes, a=a, b=b, c=c)["y"])


@pytest.mark.parametrize("channels", [1, 15, 16, 17, 40])
def test_blocked_tensors(channels: int, isa: str, threads: int, random: Random) -> None:
    """Between two convolutions a program reads and writes blocked tensors, with their borders."""
    x, other = random(2, channels, 9, 11), random(2, channels, 1, 1)
    weight = random(channels, channels, 3, 3) / 10
    shift = random(channels, 1, 1)
    nodes = nodes_of(
        ("conv", ["x", "w"], "p", {"pads": [1] * 4}),
        ("mul", ["p", "other"], "t"),
        ("add", ["t", "shift"], "u"),
        ("softsign", ["u"], "s"),
        ("sub", ["s", "p"], "r"),
        ("conv", ["r", "w"], "y", {"pads": [1] * 4}),
    )
    graph = network(nodes, {"y": np.float32}, x=x, other=other)
    graph.constants |= {"w": weight, "shift": shift}
    (got,), model = run(graph, x, other, isa=isa, threads=threads)
    steps = str(model.describe())
    assert "pointwise" in steps
    assert "blocked to plain" not in steps.split("pointwise", maxsplit=1)[0]
    want = separately(nodes, x=x, other=other, w=weight, shift=shift)["y"]
    assert np.abs(got - want).max() < 1e-4 * np.abs(want).max()


def test_several_results(isa: str, random: Random) -> None:
    """Results that others read between and after leave the program too."""
    a, b = random(100, 33), random(33)
    nodes = nodes_of(
        ("add", ["a", "b"], "s"),
        ("relu", ["s"], "r"),
        ("mul", ["r", "s"], "m"),
        ("softmax", ["s"], "p"),
        ("sub", ["m", "p"], "y"),
        ("neg", ["y"], "z"),
    )
    outputs = {"y": np.float32, "z": np.float32, "r": np.float32}
    got, _ = run(network(nodes, outputs, a=a, b=b), a, b, isa=isa)
    want = separately(nodes, a=a, b=b)
    for result, name in zip(got, outputs, strict=True):
        assert np.abs(result - want[name]).max() < 1e-5


def test_a_branch_around_does_not_close_a_circle(random: Random) -> None:
    """A sum of two operators, one of which the other needs by way of a product of matrices."""
    a, w = random(8, 8), random(8, 8)
    nodes = nodes_of(
        ("relu", ["a"], "r"),
        ("exp", ["r"], "e"),
        ("matmul", ["e", "w"], "q"),
        ("add", ["q", "r"], "s"),
        ("mul", ["s", "e"], "y"),
    )
    graph = network(nodes, {"y": np.float32}, a=a, w=w)
    (got,), _ = run(graph, a, w)
    want = separately(nodes, a=a, w=w)["y"]
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


CASTS = [n for n in DTYPES if n != "bfloat16"]


@pytest.mark.parametrize("before", CASTS)
def test_cast(before: str, isa: str) -> None:
    """Every pair of types, as NumPy converts what both can hold."""
    for after in CASTS:
        check_cast(before, after, isa)


def check_cast(before: str, after: str, isa: str) -> None:
    x = values(before, 1025)
    kinds = DTYPES[before].kind, DTYPES[after].kind
    if kinds[0] == "f" and kinds[1] in "iu":
        x = np.abs(x) if kinds[1] == "u" else x
    nodes = nodes_of(("cast", ["x"], "y", {"to": after}))
    with np.errstate(all="ignore"):
        want = x.astype(after)
    (got,), model = run(network(nodes, {"y": after}, x=x), x, isa=isa)
    assert "reference" not in str(model.describe())
    assert np.array_equal(got, want, equal_nan=kinds[1] == "f")


def test_float64_rounds_once_to_half(isa: str) -> None:
    """2049 + 2^-30 is nearest to 2050 in half precision; by way of float32 it would be 2048."""
    x = np.array([2049 + 2.0**-30, 2051 - 2.0**-30, -2049 - 2.0**-30, 65519.999, 1e300, 2.0**-25])
    nodes = nodes_of(("cast", ["x"], "y", {"to": "float16"}))
    (got,), _ = run(network(nodes, {"y": np.float16}, x=x), x, isa=isa)
    with np.errstate(over="ignore"):
        assert np.array_equal(got, x.astype(np.float16))


def test_the_program_reads_as_a_formula(random: Random) -> None:
    a = random(4, 5)
    nodes = nodes_of(("exp", ["a"], "e"), ("sin", ["e"], "s"), ("mul", ["e", "s"], "y"))
    _, model = run(network(nodes, {"y": np.float32}, a=a), a)
    assert "t1 = exp(a); y = t1 * sin(t1)" in str(model.describe())


def test_every_operator_is_listed() -> None:
    """An operator is in one table of programs, by which its types are known."""
    assert not SEVERAL.keys() & ONE.keys()
    assert {*SEVERAL, *ONE} <= POINTWISE
