"""Connected elementwise operators as one, made by `passes.fuse_pointwise`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..dtypes import BOOL, DTYPES, FLOAT32, FLOAT64, DType
from ..errors import GraphError
from ..graph import Array, Node, TensorType
from . import OPS, REQUIRED, Operand, register
from .activation import Activation
from .common import Elementwise, Inputs
from .elementwise import Unary
from .narrow import NARROW

MAX_INPUTS, MAX_OUTPUTS, MAX_AXES = 8, 4, 8
"""Operands of a program, and their axes (kMaxInputs, kMaxOutputs, kMaxDims of args.h)."""
MAX_NODES = 24
"""Operators of a program, of a few instructions each (kMaxInstructions in pointwise.h)."""

FLOATS = frozenset((FLOAT32, FLOAT64))
INTEGERS = frozenset(dtype for dtype in DTYPES.values() if dtype.kind in "iu")
NUMBERS = FLOATS | INTEGERS
LOGIC = frozenset((BOOL,))

SEVERAL: Mapping[str, frozenset[DType]] = {
    **dict.fromkeys(("add", "sub", "mul", "div", "min", "max", "sum", "mod"), NUMBERS),
    **dict.fromkeys(("less", "less_or_equal", "greater", "greater_or_equal"), NUMBERS),
    **dict.fromkeys(("prelu", "mean", "swiglu"), FLOATS),
    "pow": NUMBERS,
    **dict.fromkeys(("bitwise_and", "bitwise_or", "bitwise_xor", "bit_shift"), INTEGERS),
    **dict.fromkeys(("and", "or", "xor"), LOGIC),
    "equal": NUMBERS | LOGIC,
}
"""Types of the first input of operators with several inputs."""
ONE: Mapping[str, frozenset[DType]] = {
    **dict.fromkeys(("ceil", "sin", "cos", "tan", "sinh", "cosh", "swish"), FLOATS),
    **dict.fromkeys(("asinh", "acosh", "atanh", "is_nan", "is_inf"), FLOATS),
    "sign": NUMBERS,
    "not": LOGIC,
    "bitwise_not": INTEGERS,
}
"""Types of the input of operators with one input that are no activations."""
OF_INTEGERS = frozenset(("neg", "abs", "relu"))
"""Activations that integers have too."""
POINTWISE = frozenset(
    (
        *SEVERAL,
        *ONE,
        *(name for name, op in OPS.items() if isinstance(op, Unary)),
        *("activate", "clip", "cast", "where"),
    )
) - {"identity", "shrink"}
"""The operators that programs are made of."""


def takes(node: Node, types: Mapping[str, TensorType]) -> bool:
    """True if an operator can be part of a program.

    Args:
        node: a node of any operator.
        types: types of its inputs and outputs.
    """
    op = node.op
    if op not in POINTWISE or len(node.outputs) != 1:
        return False
    dtype = types[node.inputs[0]].dtype
    if op == "pow" and dtype in INTEGERS and types[node.inputs[1]].dtype not in INTEGERS:
        return False
    allowed = SEVERAL.get(op) or ONE.get(op)
    if allowed is not None:
        return dtype in allowed and (dtype == FLOAT32 or not node.attributes.get("activation"))
    if op == "cast":
        return node.attributes.get("to") not in NARROW
    if op == "where":
        return True
    if op == "clip":
        return dtype in NUMBERS
    return dtype in FLOATS or (dtype in INTEGERS and op in OF_INTEGERS)


def activation_of(node: Node) -> Activation:
    """The function that a unary operator or `activate` applies to every element."""
    if node.op == "activate":
        return Activation(*node["activation"])
    op = OPS[node.op]
    assert isinstance(op, Unary)
    return op.function(node)


INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "pow": "**",
    "equal": "==",
    "less": "<",
    "less_or_equal": "<=",
    "greater": ">",
    "greater_or_equal": ">=",
    "and": "and",
    "or": "or",
    "xor": "xor",
}
"""The operators that `Program.text` writes between their inputs."""


@dataclass(frozen=True)
class Program:
    """Elementwise operators in the order in which they run, all with results of one shape."""

    inputs: tuple[str, ...]
    """The tensors that come from outside, one for each input of the node that holds the program."""
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    """The results that others read, one for each output of the node."""

    def text(self, values: Mapping[str, float]) -> str:
        """The program as formulas, such as "y = a * sigmoid(a)".

        Args:
            values: numbers that inputs of one element have.
        """
        letters = iter("abcdefghijklmnopqrstuvw")
        names = {
            name: f"{values[name]:.6g}" if name in values else next(letters, name)
            for name in self.inputs
        }
        reads: dict[str, int] = {}
        for node in self.nodes:
            for name in node.inputs:
                reads[name] = reads.get(name, 0) + 1
        formulas, results = [], iter(["y"] if len(self.outputs) == 1 else ["y", "z", "u", "v"])
        middles = iter(f"t{i}" for i in range(1, len(self.nodes) + 1))
        for node in self.nodes:
            formula, name = _formula(node, names), node.outputs[0]
            if name in self.outputs or reads.get(name, 0) > 1:
                names[name] = next(results) if name in self.outputs else next(middles)
                formulas.append(f"{names[name]} = {formula}")
            else:
                names[name] = f"({formula})" if " " in formula and formula[-1] != ")" else formula
                if node.op in INFIX:
                    names[name] = f"({formula})"
        return "; ".join(formulas)


def _formula(node: Node, names: dict[str, str]) -> str:
    """The operator of a node applied to its inputs."""
    given = [names[name] for name in node.inputs if name]
    if node.op in INFIX and len(given) == 2:
        formula = f"{given[0]} {INFIX[node.op]} {given[1]}"
    elif node.op == "cast":
        formula = f"{node['to']}({given[0]})"
    elif node.op == "activate":
        formula = f"{node['activation'][0]}({given[0]})"
    else:
        formula = f"{node.op}({', '.join(given)})"
    activation = node.attributes.get("activation")
    return f"{activation[0]}({formula})" if activation and node.op != "activate" else formula


@register
class Pointwise(Elementwise):
    """The operators of a `Program`, one after the other."""

    name = "pointwise"
    attributes = {"program": REQUIRED}

    def infer(self, node: Node, inputs: Inputs) -> list[TensorType]:
        program = program_of(node)
        known: dict[str, Operand | None] = dict(zip(program.inputs, inputs, strict=True))
        known[""] = None
        for part in program.nodes:
            types = OPS[part.op].infer(part, [known[name] for name in part.inputs])
            for name, type_ in zip(part.outputs, types, strict=True):
                known[name] = Operand(name, type_)
        made = [known[name] for name in program.outputs]
        return [x.type for x in made if x is not None]

    def reference(self, node: Node, *inputs: Any) -> tuple[Array, ...]:
        program = program_of(node)
        known: dict[str, Any] = {"": None, **dict(zip(program.inputs, inputs, strict=True))}
        for part in program.nodes:
            results = OPS[part.op].reference(part, *(known[name] for name in part.inputs))
            known |= zip(part.outputs, results, strict=True)
        return tuple(known[name] for name in program.outputs)


def program_of(node: Node) -> Program:
    """The program of a pointwise node.

    Raises:
        GraphError: the node has no program; files cannot hold such nodes.
    """
    program = node["program"]
    if not isinstance(program, Program):
        raise GraphError(f"node {node.name!r} (pointwise): 'program' is {program!r}")
    return program


def pointwise_node(inputs: Sequence[str], nodes: Sequence[Node], outputs: Sequence[str]) -> Node:
    """A node that does the work of these nodes, named after the last of them."""
    program = Program(tuple(inputs), tuple(nodes), tuple(outputs))
    return Node("pointwise", nodes[-1].name, list(inputs), list(outputs), {"program": program})
