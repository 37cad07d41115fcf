"""Recurrent layers: rnn, gru and lstm, in one direction or two.

Shapes (`layout` 0): x (L, N, K), weight (directions, gates * H, K). Then recurrence (directions,
gates * H, H), bias (directions, 2 * gates * H), lengths (N), initial states (directions, N, H).
Results are y (L, directions, N, H) and the last states. With `layout` 1 the N of x, y and the
states comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..errors import UnsupportedOperator
from ..graph import Array, Node, TensorType
from . import NodeTypes, Op, register, shape_error
from .axes import ALL, AxesMapping, Link, Links, every, follow, mixed
from .common import Inputs, choice, operands
from .elementwise import ACTIVATIONS

Function = Callable[[Array], Array]

FUNCTIONS: dict[str, tuple[Callable[[Any, float, float], Any], float, float]] = {
    "relu": (ACTIVATIONS["relu"], 0.0, 0.0),
    "tanh": (ACTIVATIONS["tanh"], 0.0, 0.0),
    "sigmoid": (ACTIVATIONS["sigmoid"], 0.0, 0.0),
    "affine": (ACTIVATIONS["affine"], 1.0, 0.0),
    "leakyrelu": (ACTIVATIONS["leaky_relu"], 0.01, 0.0),
    "thresholdedrelu": (ACTIVATIONS["thresholded_relu"], 1.0, 0.0),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (ACTIVATIONS["hard_sigmoid"], 0.2, 0.5),
    "elu": (ACTIVATIONS["elu"], 1.0, 0.0),
    "softsign": (ACTIVATIONS["softsign"], 0.0, 0.0),
    "softplus": (ACTIVATIONS["softplus"], 0.0, 0.0),
}
"""Names that `activations` may have, in small letters, with the defaults of alpha and beta."""
WITH_ALPHA = {"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"}
WITH_BETA = {"affine", "scaledtanh", "hardsigmoid"}


class Direction(NamedTuple):
    """Values that the steps in one direction share."""

    functions: list[Function]
    recurrence: Array
    """Shape (gates * H, H)."""
    bias: Array
    """Shape (2 * gates * H): the biases of the input, then those of the states."""
    peephole: Array | None
    """Shape (3 * H); only an lstm has them."""


class Recurrent(Op):
    """A layer whose states at a step depend on those at the step before."""

    attributes: ClassVar[dict[str, Any]] = {
        "activation_alpha": None,
        "activation_beta": None,
        "activations": None,
        "clip": None,
        "direction": "forward",
        "hidden_size": None,
        "layout": 0,
    }
    all_pairs = python_loop = True
    gates: ClassVar[int]
    states: ClassVar[int] = 1
    defaults: ClassVar[tuple[str, ...]]

    def axes(self, node: Node, types: NodeTypes) -> AxesMapping:
        # Numbers of the output axes: y has the steps, which the last states lack.
        rows = (0, 1, 2, 3) if node["layout"] == 0 else (1, 2, 0, 3)
        last = (None, 0, 1, 2) if node["layout"] == 0 else (None, 1, 0, 2)
        made = [self.links(node, types, axes) for axes in (rows, last)]
        return AxesMapping(made[0], [made[1]] * self.states)

    def links(
        self, node: Node, types: NodeTypes, axes: tuple[int | None, int, int, int]
    ) -> list[Links]:
        """The links of all inputs to an output whose steps, directions, batch and states lie on
        these axes; None: it has no steps."""
        steps, directions, batch, hidden = axes
        along = ALL if steps is None else mixed(steps)
        parts = (Link((directions,), uniform=False), mixed(hidden))  # they go opposite ways
        state = [parts[0], follow(batch), mixed(hidden)]
        x = [along, follow(batch), ALL]
        if node["layout"]:
            x[:2], state[:2] = x[1::-1], state[1::-1]
        made: list[Links] = [x, (*parts, ALL), (*parts, ALL), parts, every(types, 4, follow(batch))]
        made += [state] * self.states + [parts]
        return [
            links if types.has(i) else None for i, links in enumerate(made[: len(types.inputs)])
        ]

    def macs(self, node: Node, types: NodeTypes) -> int:
        """Both matrices of every direction, for each step of each sequence."""
        x, weight, recurrence = (types.operand(i) for i in range(3))
        return x.shape[0] * x.shape[1] * (weight.type.size + recurrence.type.size)

    def step(self, node: Node, direction: Direction, x: Array, states: list[Array]) -> list[Array]:
        """The states after a step; x (N, gates * H) is the input times its weight."""
        raise NotImplementedError

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        x, weight, recurrence, bias, lengths, *more = operands(
            node, inputs, 3, 5 + self.states + (self.states == 2)
        )
        directions = 2 if self.direction(node) == "bidirectional" else 1
        self.activations(node)
        if x.rank != 3 or recurrence.rank != 3:
            raise shape_error(node, inputs, "x and the weights need three axes")
        length, batch = x.shape[:2] if node["layout"] == 0 else x.shape[1::-1]
        hidden = recurrence.shape[2]
        wanted = [
            (weight, (directions, self.gates * hidden, x.shape[2])),
            (recurrence, (directions, self.gates * hidden, hidden)),
            (bias, (directions, 2 * self.gates * hidden)),
            (lengths, (batch,)),
        ]
        state = (directions, batch, hidden) if node["layout"] == 0 else (batch, directions, hidden)
        wanted += [(initial, state) for initial in more[: self.states]]
        wanted += [(peephole, (directions, 3 * hidden)) for peephole in more[self.states :]]
        for operand, shape in wanted:
            if operand and operand.shape != shape:
                raise shape_error(node, inputs, f"{operand.name!r} must have shape {shape}")
        full = (length, directions, batch, hidden)
        if node["layout"]:
            full = (batch, length, directions, hidden)
        shapes = [full, *[state] * self.states]
        return [TensorType(shape, x.type.dtype) for shape in shapes][: len(node.outputs)]

    def direction(self, node: Node) -> str:
        return choice(node, "direction", ("forward", "reverse", "bidirectional"))

    def activations(self, node: Node) -> list[list[tuple[str, float, float]]]:
        """The activations of each direction: key of `FUNCTIONS`, alpha, beta.

        Raises:
            UnsupportedOperator: one is not known, or there are too few.
        """
        directions = 2 if self.direction(node) == "bidirectional" else 1
        names = [n.lower() for n in node["activations"] or self.defaults * directions]
        names = names[: directions * len(self.defaults)]  # ONNX's rnn has two by default
        if len(names) != directions * len(self.defaults) or not set(names) <= FUNCTIONS.keys():
            raise UnsupportedOperator(f"node {node.name!r} ({node.op}): activations {names}")
        alphas, betas = (iter(node[f"activation_{p}"] or ()) for p in ("alpha", "beta"))
        found: list[tuple[str, float, float]] = []
        for name in names:
            _, alpha, beta = FUNCTIONS[name]
            a = float(next(alphas, alpha)) if name in WITH_ALPHA else alpha
            b = float(next(betas, beta)) if name in WITH_BETA else beta
            found.append((name, a, b))
        count = len(self.defaults)
        return [found[i : i + count] for i in range(0, len(found), count)]

    def functions(self, node: Node) -> list[list[Function]]:
        """The activations of each direction as functions."""
        return [
            [self.bounded(node, FUNCTIONS[name][0], a, b) for name, a, b in direction]
            for direction in self.activations(node)
        ]

    def bounded(
        self, node: Node, function: Callable[[Any, float, float], Any], a: float, b: float
    ) -> Function:
        """x -> function(x, a, b), with x within the attribute `clip`."""
        clip = node["clip"]
        if not clip:
            return lambda x: function(x, a, b)
        return lambda x: function(np.clip(x, -clip, clip), a, b)

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        x, weight, recurrence, bias, lengths, *more = (*inputs, *[None] * 8)[:8]
        if node["layout"]:
            x = x.swapaxes(0, 1)
        length, batch = x.shape[:2]
        directions, _, hidden = recurrence.shape
        if bias is None:
            bias = np.zeros((directions, 2 * self.gates * hidden), x.dtype)
        lengths = np.full(batch, length) if lengths is None else lengths
        initial = []
        for state in more[: self.states]:
            if state is None:
                initial.append(np.zeros((directions, batch, hidden), x.dtype))
            else:
                initial.append(state.swapaxes(0, 1) if node["layout"] else state)
        peephole = more[self.states] if self.states == 2 else None
        y = np.zeros((length, directions, batch, hidden), x.dtype)
        last = [np.zeros((directions, batch, hidden), x.dtype) for _ in initial]
        for d, functions in enumerate(self.functions(node)):
            backward = d == 1 or self.direction(node) == "reverse"
            states = [s[d] for s in initial]
            weighted = x @ weight[d].T
            pole = None if peephole is None else peephole[d]
            shared = Direction(functions, recurrence[d], bias[d], pole)
            for t in reversed(range(length)) if backward else range(length):
                new = self.step(node, shared, weighted[t], states)
                live = (t < lengths)[:, None]
                states = [np.where(live, n, s) for n, s in zip(new, states, strict=True)]
                y[t, d] = np.where(live, new[0], 0)
            for target, state in zip(last, states, strict=True):
                target[d] = state
        if node["layout"]:
            y, last = y.transpose(2, 0, 1, 3), [s.swapaxes(0, 1) for s in last]
        return (y, *last)[: len(node.outputs)]


@register
class RNN(Recurrent):
    """h' = f(x W + h R + biases)."""

    name = "rnn"
    gates = 1
    defaults = ("tanh",)

    def step(self, node: Node, direction: Direction, x: Array, states: list[Array]) -> list[Array]:
        both = sum(np.split(direction.bias, 2))
        return [direction.functions[0](x + states[0] @ direction.recurrence.T + both)]


@register
class GRU(Recurrent):
    """h' = (1 - z) g(x Wh + r h Rh + biases) + z h; gates z, r, h.

    With `linear_before_reset` the reset r applies to h Rh with its bias instead of to h.
    """

    name = "gru"
    attributes = {**Recurrent.attributes, "linear_before_reset": 0}
    gates = 3
    defaults = ("sigmoid", "tanh")

    def step(self, node: Node, direction: Direction, x: Array, states: list[Array]) -> list[Array]:
        (h,) = states
        functions, recurrence, bias, _ = direction
        hidden = h.shape[-1]
        x_bias, h_bias = np.split(bias, 2)
        x = x + x_bias
        gates = x[:, : 2 * hidden] + h @ recurrence[: 2 * hidden].T + h_bias[: 2 * hidden]
        z, r = np.split(functions[0](gates), 2, axis=-1)
        kernel, extra = recurrence[2 * hidden :].T, h_bias[2 * hidden :]
        reset = (
            r * (h @ kernel + extra) if node["linear_before_reset"] else (r * h) @ kernel + extra
        )
        candidate = functions[1](x[:, 2 * hidden :] + reset)
        return [(1 - z) * candidate + z * h]


@register
class LSTM(Recurrent):
    """c' = f c + i g(...), h' = o h(c'); gates i, o, f, c, the first three with peepholes to c."""

    name = "lstm"
    attributes = {**Recurrent.attributes, "input_forget": 0}
    gates = 4
    states = 2
    defaults = ("sigmoid", "tanh", "tanh")

    def step(self, node: Node, direction: Direction, x: Array, states: list[Array]) -> list[Array]:
        h, c = states
        (squash, inner, outer), recurrence, bias, peephole = direction
        gates = x + h @ recurrence.T + sum(np.split(bias, 2))
        i, o, f, g = np.split(gates, 4, axis=-1)
        p_i, p_o, p_f = (0, 0, 0) if peephole is None else np.split(peephole, 3)
        i = squash(i + p_i * c)
        f = 1 - i if node["input_forget"] else squash(f + p_f * c)
        new = f * c + i * inner(g)
        return [squash(o + p_o * new) * outer(new), new]
