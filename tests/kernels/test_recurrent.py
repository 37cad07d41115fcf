"""Recurrent layers: every cell, direction, option and activation that the kernel takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from checks import Random, assert_close
from cnnrt import Model
from cnnrt.dtypes import as_dtype
from cnnrt.graph import Array, Graph
from cnnrt.lowering.recurrent import NARROW_BATCH, NARROW_STATES
from cnnrt.weights.lazy import lazy
from cnnrt.weights.widen import WIDENED, from_int8
from networks import by_kernels, by_reference, operator

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
TOLERANCE = 2e-6
"""Tolerance for states within -1 and 1: float32 through some tens of steps."""


def layer(
    random: Random,
    op: str,
    hidden: int,
    batch: int,
    *,
    length: int = 7,
    direction: str = "forward",
    bias: bool = True,
    lengths: Array | None = None,
    initial: bool = False,
    peephole: bool = False,
    constant_lengths: bool = False,
    **attributes: Any,
) -> tuple[Graph, dict[str, Array]]:
    """A layer of 9 inputs with all its outputs."""
    directions, states = 1 + (direction == "bidirectional"), 1 + (op == "lstm")
    rows = GATES[op] * hidden
    x = random(length, batch, 9)
    start = [random(directions, batch, hidden) for _ in range(states)] if initial else []
    if attributes.get("layout"):
        x, start = x.swapaxes(0, 1).copy(), [s.swapaxes(0, 1).copy() for s in start]
    others: list[Any] = [
        random(directions, rows, 9) * 0.3,
        random(directions, rows, hidden) / hidden**0.5,
        random(directions, 2 * rows) if bias else None,
        lengths,
        *(start or [None] * states),
        *([random(directions, 3 * hidden)] if peephole else []),
    ]
    computed = [] if constant_lengths or lengths is None else [4]
    computed += [5, 6][:states] if initial else []
    return operator(
        op, x, *others, outputs=1 + states, computed=computed, direction=direction, **attributes
    )


def check(graph: Graph, inputs: dict[str, Array], isa: str, threads: int = 1) -> None:
    got = by_kernels(graph, inputs, isa=isa, threads=threads)
    for y, want in zip(got, by_reference(graph, inputs), strict=True):
        assert_close(y, want, TOLERANCE, scale=max(1.0, float(np.abs(want).max(initial=0))))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_sizes(op: str, direction: str, isa: str, threads: int, random: Random) -> None:
    for hidden, batch in ((1, 1), (15, 2), (16, 3), (17, 6), (64, 7), (80, 13)):
        check(*layer(random, op, hidden, batch, direction=direction), isa, threads)


@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_states_and_lengths(
    op: str, direction: str, layout: int, isa: str, threads: int, random: Random
) -> None:
    lengths = np.array([7, 0, 3, 1, 6, 5, 2, 100], np.int32)
    for constant in (False, True):
        graph, inputs = layer(
            random,
            op,
            19,
            8,
            direction=direction,
            lengths=lengths,
            initial=True,
            layout=layout,
            constant_lengths=constant,
        )
        check(graph, inputs, isa, threads)


@pytest.mark.parametrize(
    ("op", "options"),
    [
        ("gru", {"linear_before_reset": 1}),
        ("gru", {"linear_before_reset": 1, "bias": False}),
        ("gru", {"bias": False, "clip": 0.3}),
        ("lstm", {"bias": False}),
        ("lstm", {"peephole": True}),
        ("lstm", {"peephole": True, "clip": 0.5}),
        ("lstm", {"input_forget": 1, "peephole": True}),
        ("lstm", {"input_forget": 1, "clip": 0.4}),
        ("rnn", {"activations": ["Relu"], "clip": 1.0}),
        ("rnn", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.1]}),
        ("rnn", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.2]}),
        ("gru", {"activations": ["HardSigmoid", "Softsign"], "activation_alpha": [0.25]}),
        ("lstm", {"activations": ["Sigmoid", "LeakyRelu", "Elu"]}),
    ],
)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_options(
    op: str, options: dict[str, Any], direction: str, isa: str, random: Random
) -> None:
    options = dict(options)
    if direction == "bidirectional":
        for name in ("activations", "activation_alpha", "activation_beta"):
            if name in options:
                options[name] = options[name] * 2
    check(*layer(random, op, 21, 5, direction=direction, **options), isa)


def test_the_batch_and_threads_do_not_matter(isa: str, random: Random) -> None:
    graph, inputs = layer(random, "lstm", 33, 9, direction="bidirectional")
    whole = by_kernels(graph, inputs, isa=isa)
    for one, two in zip(whole, by_kernels(graph, inputs, isa=isa, threads=2), strict=True):
        assert np.array_equal(one, two)
    model = Model(graph.copy(), isa=isa, threads=1)
    model.graph.inputs[0] = type(graph.inputs[0])("x0", (7, "n", 9))
    alone = model.run({"x0": inputs["x0"][:, 4:5].copy()})
    assert np.array_equal(whole[0][:, :, 4:5], alone["y0"])


def test_only_the_last_state(isa: str, random: Random) -> None:
    graph, inputs = layer(random, "gru", 20, 2)
    want = by_reference(graph, inputs)[1]
    graph.nodes[0].outputs[0] = ""
    graph.outputs = graph.outputs[1:]
    (got,) = by_kernels(graph, inputs, isa=isa)
    assert_close(got, want, TOLERANCE)


def narrowed(weight: Array, kind: str) -> Array:
    """A weight (directions, rows, depth) rounded to a narrow type, as a lazy array."""
    if kind == "int8":
        factors = np.abs(weight).max(-1, keepdims=True) / np.float32(127)
        values = np.rint(weight / factors).astype(np.int8)
        return lazy(weight.shape, np.float32, from_int8, values, factors, weight.shape[-1])
    bits = (weight.view(np.uint32) >> 16).astype(np.uint16)
    values = weight.astype(np.float16) if kind == "float16" else bits
    return lazy(weight.shape, np.float32, WIDENED[as_dtype(kind)], values)


def models(graph: Graph, kind: str, **options: Any) -> tuple[Model, Model]:
    """The layer with narrow weights, and with the floats that they stand for."""
    narrow, wide = graph.copy(), graph.copy()
    for name in ("x1", "x2"):
        narrow.constants[name] = narrowed(graph.constants[name], kind)
        wide.constants[name] = np.asarray(narrow.constants[name])
    return Model(narrow, **options), Model(wide, **options)


@pytest.mark.parametrize("kind", ["int8", "float16", "bfloat16"])
@pytest.mark.parametrize("op", GATES)
def test_the_bits_are_those_of_the_widened_weights(
    op: str, kind: str, isa: str, threads: int, random: Random
) -> None:
    for hidden, batch in ((1, 1), (16, 2), (17, 3), (31, 1), (33, 4), (100, 2), (64, 5)):
        for options in ({}, {"direction": "bidirectional", "peephole": op == "lstm"}):
            graph, inputs = layer(random, op, hidden, batch, **options)
            narrow, wide = models(graph, kind, isa=isa, threads=threads)
            got, want = narrow.run(inputs), wide.run(inputs)
            for name, y in want.items():
                np.testing.assert_array_equal(got[name], y, f"{hidden} {batch} {options}")
            few = narrow.memory().packed < wide.memory().packed
            assert few or hidden == 1
            assert "linear_narrow" in narrow.describe(inputs)
            assert "linear_narrow" not in wide.describe(inputs)


def test_weights_of_int8_take_a_quarter_of_the_memory(random: Random) -> None:
    graph, inputs = layer(random, "lstm", 256, 1, bias=False)
    narrow, wide = models(graph, "int8")
    narrow.run(inputs)
    wide.run(inputs)
    rows = 4 * 256
    assert wide.memory().packed == rows * (9 + 256) * 4
    assert narrow.memory().packed == rows * (9 + 256) + rows * (1 + 8) * 4  # and factors


def test_more_rows_or_states_than_are_worth_narrow_weights(random: Random) -> None:
    for hidden, batch in ((NARROW_STATES + 1, 1), (64, NARROW_BATCH + 1)):
        graph, inputs = layer(random, "rnn", hidden, batch, length=2)
        narrow, wide = models(graph, "int8")
        got, want = narrow.run(inputs), wide.run(inputs)
        np.testing.assert_array_equal(got["y0"], want["y0"])
        recurrence = graph.constants["x2"].nbytes
        assert narrow.memory().packed > recurrence  # in floats
