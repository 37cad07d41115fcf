"""Random small networks: after all passes, the kernels' results are those of the references.

Networks are chains with branches. An operator reads any tensor made so far, or two if their shapes
agree. Every tensor that nobody reads is an output.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cnnrt import Model, ops
from cnnrt.errors import CnnrtError
from cnnrt.graph import Graph, Node, TensorSpec, TensorType
from cnnrt.ops import Operand
from networks import by_reference

TOLERANCE = 2e-4
"""Tolerance relative to the largest output: some ten layers, Winograd's among them, each of 2e-5 or
less."""
MAX_ELEMENTS = 20_000
CHANNELS = (1, 2, 3, 5, 8, 15, 16, 17, 24, 32, 33)
UNARY = (
    *("relu", "sigmoid", "tanh", "silu", "hard_swish", "hard_sigmoid", "gelu", "softplus", "abs"),
    *("leaky_relu", "elu", "neg", "erf", "softsign", "mish", "identity"),
)


class Builder:
    """A network in the making; `choose` draws one of a few values."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(self.integer(0, 2**16))
        self.nodes: list[Node] = []
        self.constants: dict[str, Any] = {}
        self.types: dict[str, TensorType] = {}

    def integer(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def choose(self, values: Any) -> Any:
        return self.draw(st.sampled_from(list(values)))

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def weight(self, *shape: int) -> str:
        fan_in = max(1, math.prod(shape[1:]))
        values = self.rng.standard_normal(shape, dtype=np.float32)
        return self.constant(values / np.float32(math.sqrt(fan_in)))

    def positive(self, n: int) -> str:
        return self.constant(self.rng.uniform(0.5, 1.5, n).astype(np.float32))

    def add(self, op: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> None:
        """Appends a node unless its operator refuses it, or it makes too much."""
        names = [f"t{len(self.nodes)}" + (f".{i}" if i else "") for i in range(outputs)]
        node = Node(op, names[0], inputs, names, attributes)
        operands = []
        for name in inputs:
            value = self.constants.get(name)
            type_ = self.types[name] if value is None else TensorType(value.shape, value.dtype)
            operands.append(Operand(name, type_, value))
        try:
            ops.complete(node)
            types = ops.op(node).infer(node, operands)
        except CnnrtError:
            return
        if all(0 < t.size <= MAX_ELEMENTS for t in types):
            self.nodes.append(node)
            self.types.update(zip(names, types, strict=True))


def convolution(b: Builder, x: str, shape: tuple[int, ...]) -> None:
    rank, c = len(shape) - 2, shape[1]
    group = b.choose([g for g in (1, 1, 2, 4, 8, c) if c % g == 0])
    m = group * b.choose((1, 2)) if group > 1 else b.choose(CHANNELS)
    kernel = [b.choose((1, 1, 3, 3, 5, 2)) for _ in range(rank)]
    if b.choose((True, False)):
        kernel = [3] * rank
    weight = b.weight(m, c // group, *kernel)
    bias = [b.weight(m)] if b.choose((True, False)) else []
    same = b.choose((True, True, False))
    stride = [1] * rank if same else [b.choose((1, 2, 3)) for _ in range(rank)]
    dilation = [b.choose((1, 1, 2))] * rank
    pads = [b.choose((0, k // 2, 1)) for k in kernel] * 2
    attributes = {"strides": stride, "dilations": dilation, "pads": pads, "group": group}
    b.add("conv", [x, weight, *bias], **attributes)


def pool(b: Builder, x: str, shape: tuple[int, ...]) -> None:
    rank = len(shape) - 2
    kernel = [b.choose((1, 2, 3, 5)) for _ in range(rank)]
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": [b.choose((1, 2)) for _ in range(rank)],
        "pads": [b.choose((0, k // 2)) for k in kernel] * 2,
        "ceil_mode": b.choose((0, 1)),
    }
    op = b.choose(("max_pool", "average_pool"))
    if op == "average_pool":
        attributes["count_include_pad"] = b.choose((0, 1))
    b.add(op, [x], **attributes)


def normalisation(b: Builder, x: str, shape: tuple[int, ...]) -> None:
    c = shape[1]
    vectors = [b.positive(c), b.weight(c)]
    kind = b.choose(("batch", "layer", "group", "instance"))
    if kind == "batch":
        b.add("batch_normalization", [x, *vectors, b.weight(c), b.positive(c)])
    elif kind == "layer":
        n = shape[-1]
        b.add("layer_normalization", [x, b.positive(n), b.weight(n)], axis=-1)
    elif kind == "group":
        groups = b.choose([g for g in (1, 2, 4, c) if c % g == 0])
        b.add("group_normalization", [x, *vectors], num_groups=groups)
    else:
        b.add("instance_normalization", [x, *vectors])


def of_image(b: Builder, x: str, shape: tuple[int, ...]) -> None:
    """Any operator of tensors [N, C, spatial...]."""
    kind = b.integer(0, 11)
    spatial = shape[2:]
    if kind <= 3:
        convolution(b, x, shape)
    elif kind <= 5:
        pool(b, x, shape)
    elif kind <= 7:
        normalisation(b, x, shape)
    elif kind == 8:
        b.add(b.choose(("global_average_pool", "global_max_pool")), [x])
    elif kind == 9:
        sizes = np.array([*shape[:2], *(n * b.choose((1, 2)) for n in spatial)])
        none = b.constant(np.zeros(0, np.float32))
        mode = b.choose(("nearest", "linear"))
        b.add("resize", [x, none, none, b.constant(sizes)], mode=mode)
    elif kind == 10:
        pads = [0, 0, *(b.integer(0, 2) for _ in spatial)] * 2
        b.add("pad", [x, b.constant(np.array(pads))], mode=b.choose(("constant", "edge")))
    else:
        axes = [0, *range(2, len(shape)), 1]
        b.add("transpose", [x], perm=b.choose((axes, sorted(axes), [0, 1, *range(2, len(shape))])))


def of_any(b: Builder, x: str, shape: tuple[int, ...]) -> None:
    """Any operator of tensors of any shape."""
    kind = b.integer(0, 10)
    alike = [n for n, t in b.types.items() if t.shape == shape]
    axis = b.integer(0, len(shape) - 1)
    if kind <= 1:
        b.add(b.choose(UNARY), [x])
    elif kind <= 3:
        b.add(b.choose(("add", "sub", "mul", "max", "min")), [x, b.choose(alike)])
    elif kind == 4:
        ends = [n for n, t in b.types.items() if t.shape[:1] == shape[:1]]
        b.add("concat", [x, b.choose(ends)], axis=min(1, len(shape) - 1))
    elif kind == 5:
        scalar = b.constant(np.float32(b.choose((0.5, -1.0, 2.0))))
        channel = b.weight(*(n if i == 1 else 1 for i, n in enumerate(shape)))
        b.add(b.choose(("add", "mul", "sub")), [x, b.choose((scalar, channel))])
    elif kind == 6:
        b.add(b.choose(("softmax", "log_softmax")), [x], axis=axis)
    elif kind == 7:
        wanted = b.choose(([shape[0], -1], [0, -1, 1], [-1, shape[-1]], [1, *shape]))
        b.add("reshape", [x, b.constant(np.array(wanted))])
    elif kind == 8:
        n = shape[axis]
        start, stop = sorted((b.integer(0, n), b.integer(0, n)))
        limits = [b.constant(np.array([v])) for v in (start, stop, axis)]
        b.add("slice", [x, *limits])
    elif kind == 9:
        kind_of = b.choose(("mean", "sum", "max"))
        axes = b.constant(np.array([axis]))
        b.add(f"reduce_{kind_of}", [x, axes], keepdims=b.choose((0, 1)))
    else:
        matrix = b.rng.standard_normal((shape[-1], b.choose((4, 16, 17))), dtype=np.float32)
        b.add("matmul", [x, b.constant(matrix / np.float32(math.sqrt(shape[-1])))])


@st.composite
def graphs(draw: Any, most: int) -> tuple[Graph, dict[str, Any]]:
    """A network of at most `most` operators, and its input."""
    b = Builder(draw)
    rank = b.choose((4, 4, 4, 3, 5, 2))
    spatial = [b.integer(1, 4 if rank == 5 else 12) for _ in range(max(0, rank - 2))]
    shape = (b.choose((1, 1, 2, 3)), b.choose(CHANNELS), *spatial)
    b.types["x"] = TensorType(shape)
    for _ in range(b.integer(1, most)):
        x = b.choose([name for name, t in b.types.items() if t.shape][-3:])
        shape = b.types[x].shape
        image = len(shape) in (3, 4, 5)
        (of_image if image and b.integer(0, 9) < 6 else of_any)(b, x, shape)
    read = {name for node in b.nodes for name in node.inputs}
    ends = [name for name in b.types if name not in read] or ["x"]
    used = {name: value for name, value in b.constants.items() if name in read}
    x = b.rng.standard_normal(b.types["x"].shape, dtype=np.float32)
    outputs = [TensorSpec(name, ()) for name in ends]
    graph = Graph([TensorSpec("x", x.shape)], outputs, b.nodes, used)
    return graph, {"x": x}


def check(graph: Graph, inputs: dict[str, Any], isa: str) -> None:
    with np.errstate(all="ignore"):
        wanted = by_reference(graph, inputs)
    results = []
    for threads in (1, 2):
        model = Model(graph, isa=isa, threads=threads)
        for _ in range(2):  # the second run finds what the first has left
            result = model.run(inputs)
            results.append(result if isinstance(result, dict) else {graph.outputs[0].name: result})
    for spec, want in zip(graph.outputs, wanted, strict=True):
        got = results[0][spec.name]
        for other in results[1:]:
            np.testing.assert_array_equal(got, other[spec.name], str(graph), strict=True)
        assert got.shape == want.shape, (spec.name, str(graph))
        scale = max(1.0, np.abs(want).max(initial=0.0))
        error = np.abs(got - want).max(initial=0.0)
        assert error <= TOLERANCE * scale, (spec.name, error / scale, str(graph))


QUICK = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@QUICK
@given(graphs(8))
def test_random_graphs(isa: str, case: tuple[Graph, dict[str, Any]]) -> None:
    check(*case, isa)


@pytest.mark.soak
@settings(QUICK, max_examples=3000, derandomize=False)
@given(graphs(16))
def test_many_random_graphs(isa: str, case: tuple[Graph, dict[str, Any]]) -> None:
    check(*case, isa)
