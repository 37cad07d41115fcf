"""Recorded arithmetic gives what Python gives, for the numbers of the record and for others."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnrt.symbolic import Program, Trace, call

BINARY = (
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod),
    *(operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne),
)
EDGES = [0, 1, -1, 2**31, 2**53, 2**53 + 1, -(2**53) - 1, 2**62, 2**63 - 1, -(2**63), 2**63, 2**70]
NUMBERS = st.one_of(
    st.integers(-100, 100),
    st.sampled_from(EDGES),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, width=64),
    st.booleans(),
)


def recorded(function: Callable[..., Any], traced: list[Any], given_: list[Any]) -> Any:
    """The result of a program that was recorded with some operands and is run on others."""
    with Trace() as trace:
        result = trace.apply(function, *map(trace.input, traced))
    values = Program(trace, [result.register]).run(given_)
    assert values is not None
    return values[result.register]


@given(NUMBERS, NUMBERS)
def test_operators_are_those_of_python(a: Any, b: Any) -> None:
    for function in BINARY:
        try:
            wanted = function(a, b)
        except ArithmeticError:
            with Trace() as trace:
                x, y = trace.input(6), trace.input(3)
                result = trace.apply(function, x, y)
            assert Program(trace, [result.register]).run([a, b]) is None
            continue
        got = recorded(function, [6, 3], [a, b])
        # As text, as 0 times infinity is NaN.
        assert (type(got), repr(got)) == (type(wanted), repr(wanted)), function
    got, wanted = recorded(operator.neg, [5], [a]), -a
    assert (type(got), repr(got)) == (type(wanted), repr(wanted))


def test_guards_refuse_other_branches() -> None:
    with Trace() as trace:
        x = trace.input(10)
        y = x * 2 if x > 5 else x
    program = Program(trace, [y.register])
    assert program.run([7])[y.register] == 14  # type: ignore[index]
    assert program.run([5]) is None


def test_functions_of_python_are_called_again() -> None:
    with Trace() as trace:
        x = trace.input(4)
        pair = call(divmod, x, 3)
    program = Program(trace, [pair.register])  # type: ignore[attr-defined]
    values = program.run([11])
    assert values is not None and values[pair.register] == (3, 2)  # type: ignore[attr-defined]
    assert program.run(["no number"]) is None


def test_an_error_that_no_size_explains_is_raised() -> None:
    def fails(number: int) -> int:
        if number == 2:
            raise MemoryError
        return number

    with Trace() as trace:
        x = call(fails, trace.input(1))
    program = Program(trace, [x.register])  # type: ignore[attr-defined]
    with pytest.raises(MemoryError):
        program.run([2])


def test_results_alone_are_kept() -> None:
    with Trace() as trace:
        x = trace.input(4)
        y = (x + 1) * 3
    values = Program(trace, [y.register]).run([5])
    assert values is not None and [v for v in values if v is not None] == [18]
    with pytest.raises(ValueError, match="inputs"):
        Program(trace, [y.register]).run([])
