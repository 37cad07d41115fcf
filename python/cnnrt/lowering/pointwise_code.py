"""Pointwise programs as the kernel reads them: instructions on registers (pointwise.h).

Each operator becomes instructions on named values. Values then get registers, the fewest that hold
all values still to be read. Their number decides how long a tile may be.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from ..dtypes import BOOL, FLOAT32, FLOAT64, DType
from ..graph import Array, Node, TensorType
from ..ops.activation import Activation
from ..ops.elementwise import clip_bounds
from ..ops.pointwise import FLOATS, ONE, SEVERAL, Program, activation_of

CODES = {name: code for code, name in enumerate(_core.enums["operation"])}
ACTIVATION_CODES = {name: code for code, name in enumerate(_core.activations)}
INSTRUCTION = struct.Struct("<8B8s")
NO_OUTPUT = 255

OTHER_NAMES = {
    "sum": "add",
    "mean": "add",
    "greater": "less",
    "greater_or_equal": "less_or_equal",
    "and": "bit_and",
    "or": "bit_or",
    "xor": "bit_xor",
    "not": "logical_not",
    "bitwise_and": "bit_and",
    "bitwise_or": "bit_or",
    "bitwise_xor": "bit_xor",
    "bitwise_not": "bit_not",
}
"""Instructions whose names differ from their operators'."""
TWO_PARAMETERS = frozenset(("affine", "clip", "hard_sigmoid", "selu"))
"""Activations that are several instructions on float64, of which one has a single parameter."""
SWAPPED = frozenset(("greater", "greater_or_equal"))
TRUTHS = frozenset(("equal", "less", "less_or_equal", "is_nan", "is_inf", "logical_not"))
"""Instructions whose results are truth values."""


class Instruction(NamedTuple):
    """One line of a program, on named values."""

    operation: str
    type: DType
    """The type of the operands."""
    result: DType
    y: str
    inputs: tuple[str, ...]
    alpha: float = 0.0
    beta: float = 0.0
    number: int = 0
    """Number of the activation, or of the input that is loaded."""
    value: bytes = b""
    """The value of a constant."""


@dataclass
class _Translation:
    """The instructions that the operators of a program become."""

    types: Mapping[str, TensorType]
    constants: Mapping[str, Array]
    lines: list[Instruction] = field(default_factory=list)
    known: dict[tuple[DType, bytes], str] = field(default_factory=dict)

    def emit(
        self,
        operation: str,
        dtype: DType,
        inputs: Sequence[str],
        y: str = "",
        *,
        result: DType | None = None,
        activation: Activation | None = None,
        parameters: tuple[float, float] = (0.0, 0.0),
    ) -> str:
        """Appends an instruction; returns the name of its result."""
        y = y or f"#{len(self.lines)}"
        number = 0
        if activation is not None:
            number, parameters = ACTIVATION_CODES[activation.name], activation[1:]
        made = result or (BOOL if operation in TRUTHS else dtype)
        line = Instruction(operation, dtype, made, y, tuple(inputs), *parameters, number)
        self.lines.append(line)
        return y

    def constant(self, value: Any, dtype: DType, y: str = "") -> str:
        """The name of a register with one value in all lanes."""
        data = np.asarray(value).astype(dtype.numpy).tobytes()
        known = self.known.get((dtype, data))
        if known is None or y:
            y = y or f"#{len(self.lines)}"
            self.lines.append(Instruction("constant", dtype, dtype, y, (), value=data))
            known = self.known[dtype, data] = y
        return known

    def operator(self, node: Node) -> None:
        """Appends the instructions of one operator."""
        op, y = node.op, node.outputs[0]
        inputs = [name for name in node.inputs if name]
        dtype = self.types[inputs[0]].dtype
        activation = node.attributes.get("activation")
        if activation is not None and op != "activate":
            y = self._binary(node, inputs, dtype, "")
            self.emit("activation", dtype, [y], node.outputs[0], activation=Activation(*activation))
        elif op in SEVERAL:
            self._binary(node, inputs, dtype, y)
        elif op == "where":
            value = self.types[inputs[1]].dtype
            self.emit("where", value, inputs, y)
        elif op == "cast":
            self.emit("convert", dtype, inputs, y, result=self.types[y].dtype)
        elif op == "clip":
            self._clip(node, dtype, y)
        elif op in ONE:
            self._unary(node, inputs, dtype, y)
        else:
            self._activate(inputs[0], dtype, y, activation_of(node))

    def _binary(self, node: Node, inputs: list[str], dtype: DType, y: str) -> str:
        op, operation = node.op, OTHER_NAMES.get(node.op, node.op)
        if op in SWAPPED:
            inputs = inputs[::-1]
        elif op == "pow" and self.types[inputs[1]].dtype != dtype:
            other = self.types[inputs[1]].dtype
            inputs = [inputs[0], self.emit("convert", other, inputs[1:], result=dtype)]
        elif op == "mod" and node["fmod"]:
            operation = "fmod"
        elif op == "bit_shift":
            operation = "shift_left" if node["direction"] == "LEFT" else "shift_right"
        elif op == "swiglu":
            gate = self._swish(inputs[0], dtype, "", node["alpha"])
            return self.emit("mul", dtype, [gate, inputs[1]], y)
        total = inputs[0]
        for i, name in enumerate(inputs[1:], 2):
            last = i == len(inputs) and op != "mean"
            total = self.emit(operation, dtype, [total, name], y if last else "")
        if op == "mean":
            total = self.emit("div", dtype, [total, self.constant(len(inputs), dtype)], y)
        elif len(inputs) == 1:
            total = self.emit(operation if op in ("min", "max") else "max", dtype, [total] * 2, y)
        return total

    def _swish(self, x: str, dtype: DType, y: str, alpha: float) -> str:
        scaled = self.emit("mul", dtype, [self.constant(alpha, dtype), x]) if alpha != 1 else x
        gate = self.emit("activation", dtype, [scaled], activation=Activation("sigmoid"))
        return self.emit("mul", dtype, [x, gate], y)

    def _unary(self, node: Node, inputs: list[str], dtype: DType, y: str) -> None:
        if node.op == "swish":
            self._swish(inputs[0], dtype, y, node["alpha"])
            return
        parameters = (0.0, 0.0)
        if node.op == "is_inf":
            parameters = float(node["detect_negative"]), float(node["detect_positive"])
        self.emit(OTHER_NAMES.get(node.op, node.op), dtype, inputs, y, parameters=parameters)

    def _clip(self, node: Node, dtype: DType, y: str) -> None:
        bounds = clip_bounds(node, self.constants)
        if bounds is not None and dtype == FLOAT32:
            self._activate(node.inputs[0], dtype, y, bounds)
            return
        limits = [(o, n) for o, n in zip(("max", "min"), node.inputs[1:3], strict=False) if n]
        x = node.inputs[0]
        for i, (operation, name) in enumerate(limits, 1):
            x = self.emit(operation, dtype, [x, name], y if i == len(limits) else "")
        if not limits:
            self.emit("max", dtype, [x, x], y)

    def _activate(self, x: str, dtype: DType, y: str, activation: Activation) -> None:
        if dtype == FLOAT64 and activation.name in TWO_PARAMETERS:
            name, alpha, beta = activation
            if name == "selu":
                elu = Activation("elu", alpha)
                x = self.emit("activation", dtype, [x], activation=elu)
                self.emit("mul", dtype, [x, self.constant(beta, dtype)], y)
                return
            if name != "clip":
                x = self.emit("mul", dtype, [x, self.constant(alpha, dtype)])
                x = self.emit("add", dtype, [x, self.constant(beta, dtype)], y * (name == "affine"))
                alpha, beta = 0.0, 1.0
            if name != "affine":
                x = self.emit("max", dtype, [x, self.constant(alpha, dtype)])
                self.emit("min", dtype, [x, self.constant(beta, dtype)], y)
        elif dtype in FLOATS or activation.name == "neg":
            self.emit("activation", dtype, [x], y, activation=activation)
        elif activation.name == "relu":
            self.emit("max", dtype, [x, self.constant(0, dtype)], y)
        elif dtype.kind == "u":  # abs
            self.emit("max", dtype, [x, x], y)
        else:
            minus = self.emit("activation", dtype, [x], activation=Activation("neg"))
            self.emit("max", dtype, [x, minus], y)


@dataclass(frozen=True)
class Code:
    """A program as the kernel reads it."""

    data: bytes
    once: int
    """Instructions at the beginning whose results are the same everywhere."""
    instructions: int
    registers: int
    width: int
    """Bytes of the largest element."""


def encode(
    program: Program,
    loaded: Sequence[str],
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
) -> Code:
    """The instructions of a program.

    Args:
        program: a program whose operators pass `takes`.
        loaded: the inputs that lie in memory, in the order of the kernel's operands. All others
            are constants of one element.
        types: types of all its tensors.
        constants: constants by name.
    """
    translation = _Translation(types, constants)
    for name in program.inputs:
        if name not in loaded:
            translation.constant(constants[name].reshape(()), types[name].dtype, name)
    for node in program.nodes:
        translation.operator(node)
    lines = translation.lines
    used = {name for line in lines for name in line.inputs}
    fixed = [line for line in lines if line.operation == "constant" and line.y in used]
    rest = [line for line in lines if line.operation != "constant"]
    loads = {
        name: Instruction("load", types[name].dtype, types[name].dtype, name, (), number=i)
        for i, name in enumerate(loaded)
    }
    once = fixed + [loads.pop(name) for name in loaded if types[name].size == 1]
    tiles: list[Instruction] = []
    for line in rest:  # each input is loaded just before it is used first
        tiles += [loads.pop(name) for name in dict.fromkeys(line.inputs) if name in loads]
        tiles.append(line)
    return _assigned(once, tiles, program.outputs)


def _assigned(
    once: Sequence[Instruction], tiles: Sequence[Instruction], outputs: Sequence[str]
) -> Code:
    """The lines with their registers; a value that is read no more frees its register."""
    lines = [*once, *tiles]
    last = {name: i for i, line in enumerate(lines) for name in (*line.inputs, line.y)}
    last |= dict.fromkeys((line.y for line in once), len(lines))
    register: dict[str, int] = {}
    bytes_of: dict[str, int] = {}
    free: list[int] = []
    count, data = 0, []
    for i, line in enumerate(lines):
        y, size = line.y, line.result.itemsize
        operands = [register[name] for name in line.inputs]
        # Loops go over result and operands at the same place, if their elements are as large.
        dying = {name for name in line.inputs if last[name] == i}
        now = {n for n in dying if bytes_of[n] == size and line.operation != "convert"}
        free += [register[name] for name in now]
        if free and i >= len(once):
            register[y] = free.pop()
        else:
            register[y] = count
            count += 1
        free += [register[name] for name in (dying - now) | ({y} if last[y] == i else set())]
        bytes_of[y] = size
        a, b, c = (*operands, 0, 0, 0)[:3]
        if line.operation == "load":
            a = line.number
        elif line.operation == "activation":
            c = line.number
        wide = line.type == FLOAT64 and line.operation == "activation"
        parameters = struct.pack("<d", line.alpha) if wide else _singles(line.alpha, line.beta)
        data.append(
            INSTRUCTION.pack(
                CODES[line.operation],
                line.type.code,
                line.result.code,
                register[y],
                *(a, b, c),
                outputs.index(y) if y in outputs else NO_OUTPUT,
                line.value.ljust(8, b"\0") if line.value else parameters,
            )
        )
    return Code(b"".join(data), len(once), len(data), count, max(bytes_of.values()))


def _singles(*numbers: float) -> bytes:
    """Numbers as float32; those beyond its range are infinite, as for one operator alone."""
    with np.errstate(over="ignore"):
        return np.array(numbers, "<f8").astype("<f4").tobytes()
