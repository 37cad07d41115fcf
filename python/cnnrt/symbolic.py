"""Numbers that stand for others: what is computed from them is recorded, to be computed again.

A `Trace` makes `Symbolic` numbers, which have a value. Arithmetic on them is recorded. A branch
that such a number decides, or a use of it as a plain `int`, leaves a guard in the trace. The record
holds for all values that pass the guards. PyTorch's SymInt works in the same way.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache, wraps
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

import numpy as np

from . import _core

P = ParamSpec("P")
T = TypeVar("T")

NUMBERS = (int, float, np.number)
"""The types that arithmetic with symbolic numbers takes."""

_TOKEN = re.compile("\x02([0-9]+):([^\x03]*)\x03")
"""A number inside a text: its register and its format."""

Operation = tuple[Callable[..., Any], tuple[int, ...]]
"""A function and the registers of its operands."""


class Trace:
    """The record of a computation on symbolic numbers.

    Each number has a register. The first hold inputs and plain numbers, the others what an
    operation made.
    """

    open: ClassVar[set[int]] = set()
    """The traces that are being recorded now, in any thread."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        """By register, as they are in the traced run."""
        self.operations: dict[int, Operation] = {}
        """By the register of the result."""
        self.inputs: list[int] = []
        self.guards: dict[int, None] = {}
        """Registers that must hold the same value in every run."""
        self._made: dict[Operation, Symbolic] = {}
        """The results of operations."""
        self._integers: dict[int, int] = {}
        """The registers of plain integers."""
        self._objects: dict[Hashable, int] = {}
        """The registers of other plain objects, by type and value, or by identity."""
        self._same: dict[int, int] = {}
        """Registers that a guard says hold what an earlier one holds."""
        self._sums: dict[int, tuple[Symbolic, int]] = {}
        """Registers that hold the sum of another number and a plain one."""

    def __enter__(self) -> Trace:
        Trace.open.add(id(self))
        return self

    def __exit__(self, *_: object) -> None:
        Trace.open.discard(id(self))

    def input(self, value: T) -> T:
        """A symbolic number, or another object, that is given anew for each run."""
        self.inputs.append(self._new(value))
        return cast(T, Symbolic(self, self.inputs[-1]))

    def apply(self, function: Callable[..., Any], *operands: Any) -> Any:
        """The result of a function of symbolic and other operands, itself symbolic."""
        return self.result(function, tuple([self.register(x) for x in operands]))

    def result(self, function: Callable[..., Any], registers: tuple[int, ...]) -> Any:
        """The symbolic result of a function of the contents of registers."""
        same = self._same
        if same and not same.keys().isdisjoint(registers):
            registers = tuple([same.get(i, i) for i in registers])
        key = (function, registers)
        made = self._made.get(key)
        if made is None:
            values = self.values
            made = Symbolic(self, self._new(function(*[values[i] for i in registers])))
            self._made[key] = made
            self.operations[made.register] = key
        return made

    def plus(self, x: Symbolic, number: int) -> Symbolic:
        """The sum of integers, the same number however it is reached: (x + 2) - 2 is x."""
        base, before = self._sums.get(x.register) or (x, 0)
        number += before
        if number == 0:
            return base
        made = cast(Symbolic, self.result(operator.add, (base.register, self.register(number))))
        self._sums[made.register] = base, number
        return made

    def register(self, x: Any) -> int:
        """The register of a symbolic number, or of a plain object."""
        kind = type(x)
        if kind is Symbolic:
            return cast(Symbolic, x).register
        if kind is int:
            known = self._integers.get(x)
            if known is None:
                known = self._integers[x] = self._new(x)
            return known
        if isinstance(x, (list, tuple)) and any(type(v) is Symbolic for v in x):
            raise TypeError("an operand holds a symbolic number")
        exact = isinstance(x, (int, str))
        key = (kind, x if exact else repr(x) if isinstance(x, float) else id(x))
        known = self._objects.get(key)
        if known is None:
            known = self._objects[key] = self._new(x)
        return known

    def clear(self) -> None:
        """Frees the record. Symbolic numbers that something still refers to are of no use."""
        self.values.clear()
        self._made.clear()
        self._integers.clear()
        self._objects.clear()
        for table in (self.operations, self.guards, self._same, self._sums):
            table.clear()

    def guarded(self, x: Symbolic) -> Any:
        """The value of a number on which the record depends from now on."""
        self.guards[x.register] = None
        return self.values[x.register]

    def join(self, a: int, b: int) -> None:
        """Notes that two integers are equal in every run."""
        a, b = (self._same.get(i, i) for i in (a, b))
        if a != b and type(self.values[a]) is type(self.values[b]) is int:
            first, later = min(a, b), max(a, b)
            self._same |= {i: first for i, j in self._same.items() if j == later} | {later: first}

    def _new(self, value: Any) -> int:
        self.values.append(value)
        return len(self.values) - 1


class Symbolic:
    """A number of a trace; whatever Python does with it goes into the record."""

    __slots__ = ("register", "trace")
    __array_ufunc__ = None  # NumPy's scalars leave arithmetic to it

    def __init__(self, trace: Trace, register: int) -> None:
        self.trace = trace
        self.register = register

    def __index__(self) -> int:
        return operator.index(self.trace.guarded(self))

    def __int__(self) -> int:
        return int(self.trace.guarded(self))

    def __float__(self) -> float:
        return float(self.trace.guarded(self))

    def __bool__(self) -> bool:
        return bool(self.trace.guarded(self.trace.apply(bool, self)))

    def __hash__(self) -> int:
        return hash(self.trace.guarded(self))

    def __eq__(self, other: object) -> bool:
        trace = self.trace
        if other is self and type(trace.values[self.register]) is int:
            return True
        equal: bool = self._compared(operator.eq, other)
        if equal is True and type(other) is Symbolic:
            trace.join(self.register, other.register)
        return equal

    def __ne__(self, other: object) -> bool:
        differ: bool = self._compared(operator.ne, other)
        return differ

    def _compared(self, relation: Callable[..., Any], other: object) -> Any:
        if type(other) is not Symbolic and not isinstance(other, NUMBERS):
            return NotImplemented
        trace = self.trace
        made = trace.result(relation, (self.register, trace.register(other)))
        return bool(trace.guarded(made))

    def __format__(self, spec: str) -> str:
        return f"\x02{self.register}:{spec}\x03"

    def __repr__(self) -> str:
        return self.__format__("")


def _order(relation: Callable[..., Any]) -> Any:
    return lambda self, other: self._compared(relation, other)


def _unary(function: Callable[..., Any]) -> Any:
    return lambda self: self.trace.apply(function, self)


def _binary(function: Callable[..., Any]) -> Any:
    def method(self: Symbolic, other: Any) -> Any:
        trace = self.trace
        if type(other) is int and type(trace.values[self.register]) is int:
            if function is operator.add:
                return trace.plus(self, other)
            if function is operator.sub:
                return trace.plus(self, -other)
            if other == 1 and function in (operator.mul, operator.floordiv):
                return self
        elif type(other) is not Symbolic and not isinstance(other, NUMBERS):
            return NotImplemented
        return trace.result(function, (self.register, trace.register(other)))

    return method


def _reflected(function: Callable[..., Any]) -> Any:
    def method(self: Symbolic, other: Any) -> Any:
        trace = self.trace
        if type(other) is int and type(trace.values[self.register]) is int:
            if function is operator.add:
                return trace.plus(self, other)
            if other == 1 and function is operator.mul:
                return self
        elif not isinstance(other, NUMBERS):
            return NotImplemented
        return trace.result(function, (trace.register(other), self.register))

    return method


for _name in ("lt", "le", "gt", "ge"):
    setattr(Symbolic, f"__{_name}__", _order(getattr(operator, _name)))
for _name in ("neg", "pos", "abs"):
    setattr(Symbolic, f"__{_name}__", _unary(getattr(operator, _name)))
for _name in ("ceil", "floor", "trunc"):
    setattr(Symbolic, f"__{_name}__", _unary(getattr(math, _name)))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift"):
    setattr(Symbolic, f"__{_name}__", _binary(getattr(operator, _name)))
    setattr(Symbolic, f"__r{_name}__", _reflected(getattr(operator, _name)))


class Watched(dict[str, T]):
    """A table of which some entries depend on symbolic numbers; it notes which are looked at."""

    def __init__(self, table: Mapping[str, T], varying: Iterable[str], trace: Trace) -> None:
        super().__init__(table)
        self.given = {name: trace.input(table[name]) for name in sorted(varying)}
        """The varying entries as symbolic objects, which are handed on without a look at them."""
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> T:
        if name in self.given:
            self.seen.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        if name in self.given:
            self.seen.add(name)
        return super().get(name, default)

    def values(self) -> Any:
        self.seen.update(self.given)
        return super().values()

    def items(self) -> Any:
        self.seen.update(self.given)
        return super().items()


def whole(table: Mapping[str, T], name: str) -> T:
    """An entry of a table that is used as it is, whatever its value."""
    given = table.given.get(name) if isinstance(table, Watched) else None
    return table[name] if given is None else cast(T, given)


class Program:
    """A record, reduced to what its results and its guards need, to be run on other inputs."""

    def __init__(self, trace: Trace, results: Iterable[int]) -> None:
        """
        Args:
            trace: the record, complete.
            results: registers whose values are asked for.
        """
        results = list(results)
        guards = list(trace.guards)
        needed = _closure(trace, guards)
        rest = _closure(trace, results) - needed
        first, last = (
            [(r, *trace.operations[r]) for r in sorted(part & trace.operations.keys())]
            for part in (needed, rest)
        )
        made = trace.operations.keys() | set(trace.inputs)
        blank = [None if i in made else value for i, value in enumerate(trace.values)]
        expected = [trace.values[i] for i in guards]
        self._core = _core.Program(blank, first, last, trace.inputs, guards, expected, results)

    def run(self, inputs: Sequence[Any]) -> list[Any] | None:
        """The values of the results by register, those of others are None; None alone if the
        record does not hold for these inputs."""
        return self._core.run(inputs)


def _closure(trace: Trace, registers: Iterable[int]) -> set[int]:
    """Registers, and all that they are computed from."""
    found: set[int] = set()
    pending = list(registers)
    while pending:
        i = pending.pop()
        if i not in found:
            found.add(i)
            if i in trace.operations:
                pending += trace.operations[i][1]
    return found


def is_symbolic(x: object) -> bool:
    return type(x) is Symbolic


def call(function: Callable[..., T], *operands: Any) -> T:
    """The result of a function; recorded as one operation if an operand is symbolic.

    The function sees plain values, so that it may use NumPy, say. It is called again for other
    values.
    """
    for x in operands:
        if type(x) is Symbolic:
            return cast(T, x.trace.apply(function, *operands))
    return function(*operands)


def known(x: T) -> T:
    """The value of what may be symbolic; the record then holds for this value alone."""
    number: Any = x
    return cast(T, number.trace.guarded(number)) if type(number) is Symbolic else x


def spread(array: Any) -> Any:
    """An array as it is; one that is symbolic as an array of symbolic numbers."""
    if type(array) is not Symbolic:
        return array
    shape = known(call(np.shape, array))
    numbers = np.empty(shape, object)
    for place in np.ndindex(shape):
        numbers[place] = call(_item, array, *place)
    return numbers


def _item(array: Any, *place: int) -> Any:
    return array[place].item()


def integer(x: int) -> int:
    """`int(x)`, for a number that may be symbolic."""
    return x if is_symbolic(x) else int(x)


def any_symbolic(values: Iterable[object]) -> bool:
    """True if one of the values is symbolic."""
    return bool(Trace.open) and any(type(x) is Symbolic for x in values)


def tokens_of(text: str) -> list[str | tuple[int, str]]:
    """A text into which symbolic numbers were formatted, in parts: texts, and numbers as the
    register and the format."""
    parts: list[str | tuple[int, str]] = []
    end = 0
    for found in _TOKEN.finditer(text):
        parts += [text[end : found.start()], (int(found[1]), found[2])]
        end = found.end()
    return [*parts, text[end:]]


def memo(size: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Like `functools.lru_cache`, but symbolic numbers, which have no hash of their own, are
    computed anew."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        kept = cast(Callable[P, T], lru_cache(size)(function))

        @wraps(function)
        def remembered(*args: P.args, **kwargs: P.kwargs) -> T:
            return function(*args, **kwargs) if Trace.open else kept(*args, **kwargs)

        return remembered

    return decorate
