"""Rows of operators.py: functions as one operator, and as the operators that exporters write.

`python bench/operators.py --operators form` prints the spellings alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from operator_case import Case, Formula, Value, Writer, f, i

IMAGE = (1, 64, 56, 56)
ROWS = (1, 197, 768)
Spelling = Callable[[Writer], str]


def spellings() -> Iterator[Case]:
    """Each function recognised, and in five spellings that take as long as that."""
    x = f(*IMAGE)
    yield Case("Gelu", x, note="one operator", opset=22)
    yield from _rows("Gelu", x, GELU)
    yield Case("HardSwish", x, note="one operator", opset=22)
    yield from _rows("HardSwish", x, HARD_SWISH)
    yield Formula(
        "SiLU", x, note="x * sigmoid(x)", write=lambda w: w("Mul", "x", w("Sigmoid", "x"))
    )
    yield from _rows("SiLU", x, SILU)
    rows = f(*ROWS)
    yield Case("LayerNormalization", rows, (SCALE, BIAS), note="one operator")
    yield from _rows("LayerNormalization", rows, LAYER_NORM)


def computed() -> Iterator[Case]:
    """Powers whose exponent is computed: one for all elements, and one for each."""
    x = abs(f(*IMAGE)) + 0.1
    for number in (2.0, 3.0, 2.5):

        def power(w: Writer, number: float = number) -> str:
            least = w("ReduceMin", "x", keepdims=0)
            return w("Pow", "x", w("Clip", least, number, number))

        yield Formula("Pow", x, note=f"computed {number:g}", write=power)
    yield Formula("Pow", x, note="computed each", write=lambda w: w("Pow", "x", w("Neg", "x")))


def _rows(op: str, x: np.ndarray, forms: list[Spelling]) -> Iterator[Case]:
    for number, write in enumerate(forms, 1):
        yield Formula(op, x, note=f"form {number} of {len(forms)}", write=write)


def _erf(w: Writer) -> str:
    return w("Erf", w("Div", "x", 2**0.5))


def _relu6(w: Writer) -> str:
    return w("Clip", w("Add", "x", 3), 0, 6)


def _inner(w: Writer, cube: str) -> str:
    """The tangent of the approximation of GELU."""
    return w("Tanh", w("Mul", w("Add", "x", w("Mul", cube, 0.044715)), 0.7978845608))


def _cube(w: Writer) -> str:
    return w("Mul", "x", w("Mul", "x", "x"))


GELU: list[Spelling] = [
    lambda w: w("Mul", w("Mul", "x", w("Add", _erf(w), 1)), 0.5),
    lambda w: w("Mul", "x", w("Mul", 0.5, w("Add", 1, _erf(w)))),
    lambda w: w("Add", w("Mul", "x", 0.5), w("Mul", w("Mul", "x", 0.5), _erf(w))),
    lambda w: w("Mul", w("Mul", 0.5, "x"), w("Add", 1, _inner(w, w("Pow", "x", 3)))),
    lambda w: w("Mul", "x", w("Mul", 0.5, w("Add", 1, _inner(w, _cube(w))))),
]
HARD_SWISH: list[Spelling] = [
    lambda w: w("Mul", "x", w("Div", _relu6(w), 6)),
    lambda w: w("Div", w("Mul", "x", _relu6(w)), 6),
    lambda w: w("Mul", w("Mul", "x", 1 / 6), _relu6(w)),
    lambda w: w("Mul", "x", w("HardSigmoid", "x", alpha=1 / 6, beta=0.5)),
    lambda w: w("Mul", "x", w("Min", w("Relu", w("Add", w("Mul", "x", 1 / 6), 0.5)), 1)),
]
SILU: list[Spelling] = [
    lambda w: w("Mul", w("Sigmoid", "x"), "x"),
    lambda w: w("Div", "x", w("Add", 1, w("Exp", w("Neg", "x")))),
    lambda w: w("Mul", "x", w("Reciprocal", w("Add", w("Exp", w("Neg", "x")), 1))),
    lambda w: w("Mul", w("Mul", "x", 0.5), w("Add", 1, w("Tanh", w("Mul", "x", 0.5)))),
    lambda w: w("Mul", "x", w("Div", 1, w("Add", 1, w("Exp", w("Neg", "x"))))),
]

SCALE, BIAS = f(ROWS[-1]), f(ROWS[-1])
EPSILON = 1e-5


def _mean(w: Writer, x: Value) -> str:
    return w("ReduceMean", x, i(-1))


def _deviation(w: Writer, variance: str) -> str:
    return w("Sqrt", w("Add", variance, EPSILON))


def _scaled(w: Writer, unit: str) -> str:
    return w("Add", w("Mul", unit, SCALE), BIAS)


def _pytorch(w: Writer) -> str:
    d = w("Sub", "x", _mean(w, "x"))
    return _scaled(w, w("Div", d, _deviation(w, _mean(w, w("Pow", d, 2)))))


def _keras(w: Writer) -> str:
    mean = _mean(w, "x")
    d = w("Sub", "x", mean)
    factor = w("Mul", w("Reciprocal", _deviation(w, _mean(w, w("Mul", d, d)))), SCALE)
    return w("Add", w("Mul", "x", factor), w("Sub", BIAS, w("Mul", mean, factor)))


def _flax(w: Writer) -> str:
    mean = _mean(w, "x")
    spread = w("Max", 0, w("Sub", _mean(w, w("Mul", "x", "x")), w("Mul", mean, mean)))
    factor = w("Mul", w("Reciprocal", _deviation(w, spread)), SCALE)
    return w("Add", w("Mul", w("Sub", "x", mean), factor), BIAS)


def _paddle(w: Writer) -> str:
    d = w("Sub", "x", _mean(w, "x"))
    variance = w("Add", _mean(w, w("Mul", d, d)), EPSILON)
    return w("Add", BIAS, w("Mul", SCALE, w("Mul", d, w("Pow", variance, -0.5))))


def _tensorflow(w: Writer) -> str:
    d = w("Sub", "x", _mean(w, "x"))
    unit = w("Mul", d, w("Reciprocal", _deviation(w, _mean(w, w("Mul", d, d)))))
    return _scaled(w, unit)


LAYER_NORM: list[Spelling] = [_pytorch, _keras, _flax, _paddle, _tensorflow]
