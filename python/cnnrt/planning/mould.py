"""Moulds: what a traced lowering made, with registers in the place of numbers.

A mould and the values of the registers give a step, or a type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..dtypes import DType
from ..graph import TensorType
from ..layout.tensors import At, Buffer, Step, ViewAt
from ..symbolic import Symbolic, Trace, tokens_of

Values = Sequence[Any]
"""The contents of the registers of a program."""


class StepMould(NamedTuple):
    """A step whose numbers are in registers."""

    step: Step
    """The step as it was traced, for what is fixed of it."""
    numbers: list[tuple[str, int]]
    """Fields that are a number, with its register."""
    lists: list[tuple[str, Any]]
    """Fields that are lists of numbers or of such lists."""
    places: list[tuple[str, int, int]]
    """Fields with the number of a buffer, and the register of the offset."""
    views: list[tuple[str, int, tuple[int, ...], Any]]
    """The same with the registers of offset and strides, and the element type."""
    note: list[str | tuple[int, str]]
    """The parts of the note: texts, and registers with the format of their numbers."""
    cost: int
    """The register of the estimated time."""

    def step_of(self, values: Values, buffers: Sequence[Buffer]) -> Step:
        """The step for these values of the registers."""
        fixed = self.step
        fields = fixed.fields.copy()
        for name, register in self.numbers:
            fields[name] = values[register]
        for name, registers in self.lists:
            fields[name] = _nested(values, registers)
        for name, buffer, offset in self.places:
            fields[name] = At(buffers[buffer], values[offset])
        for name, buffer, (offset, image, block, plane, row), dtype in self.views:
            at = At(buffers[buffer], values[offset])
            fields[name] = ViewAt(
                at, values[image], values[block], values[plane], values[row], dtype
            )
        note = fixed.note
        if len(self.note) > 1:
            note = "".join(
                [p if isinstance(p, str) else format(values[p[0]], p[1]) for p in self.note]
            )
        return Step(fixed.kernel, fields, fixed.node, note, values[self.cost], fixed.independent)


def _nested(values: Values, registers: Any) -> Any:
    if isinstance(registers, int):
        return values[registers]
    return type(registers)([_nested(values, r) for r in registers])


class Recorder:
    """Turns what a traced lowering made into moulds, and gathers the registers that they use."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.used: set[int] = set()
        """The registers that moulds refer to."""
        self.buffers: list[Buffer] = []
        """The buffers that steps refer to, by their numbers in moulds."""
        self._numbers: dict[int, int] = {}

    def register(self, x: Any) -> int:
        """The register of a number, or of an object that is the same for all sizes."""
        found = self.trace.register(x)
        self.used.add(found)
        return found

    def registers(self, x: Any) -> Any:
        """The registers of numbers in lists and tuples of any depth."""
        if isinstance(x, list):
            return [self.registers(v) for v in x]
        return tuple(map(self.registers, x)) if isinstance(x, tuple) else self.register(x)

    def number_of(self, buffer: Buffer) -> int:
        """The number of a buffer, a new one for a new buffer."""
        found = self._numbers.get(id(buffer))
        if found is None:
            found = self._numbers[id(buffer)] = len(self.buffers)
            self.buffers.append(buffer)
        return found

    def step(self, step: Step) -> StepMould:
        """The mould of a step."""
        mould = StepMould(step, [], [], [], [], tokens_of(step.note), self.register(step.cost_ns))
        for name, value in step.fields.items():
            if isinstance(value, ViewAt):
                (buffer, offset), *strides, dtype = value
                registers = tuple([self.register(x) for x in (offset, *strides)])
                mould.views.append((name, self.number_of(buffer), registers, dtype))
            elif isinstance(value, At):
                place = (name, self.number_of(value.buffer), self.register(value.offset))
                mould.places.append(place)
            elif type(value) is Symbolic:
                mould.numbers.append((name, self.register(value)))
            elif holds_symbolic(value):
                mould.lists.append((name, self.registers(value)))
        self.used.update(part[0] for part in mould.note if not isinstance(part, str))
        return mould

    def type(self, type_: TensorType) -> tuple[tuple[int, ...], DType]:
        """The mould of a type: the registers of its sizes, and the element type."""
        return tuple(map(self.register, type_.shape)), type_.dtype


def holds_symbolic(value: Any) -> bool:
    """True for a symbolic number, and for a list or dict in which there is one."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return any(map(holds_symbolic, value))
    return type(value) is Symbolic


def type_of(values: Values, mould: tuple[tuple[int, ...], DType]) -> TensorType:
    """The type for these values of the registers."""
    registers, dtype = mould
    return TensorType(tuple([values[i] for i in registers]), dtype)
