"""Checked reading of JSON from files that nobody vouches for: every type, every range.

`at` says where a value stands, from the file inwards: "lenet5.bin: cnnrt.graph: nodes[3].inputs".
"""

from __future__ import annotations

import json
import re
import reprlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from ..dtypes import DType, as_dtype
from ..errors import FormatError
from ..graph import DTYPES, TensorSpec
from ..process.limits import MAX_RANK, MAX_SIZE

MAX_ELEMENTS = MAX_SIZE
"""Largest number of elements of an input or output whose axes are all fixed."""
KINDS = ("tensor", "sequence", "optional")
MAX_NAME = 1000
"""Characters of the name of a node or a tensor."""

T = TypeVar("T")


_short = reprlib.Repr()  # three levels deep; repr() goes as deep as a file nests
_short.maxlevel = 3
_short.maxstring = _short.maxother = _short.maxlong = 80

_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""A surrogate, half of a character as JSON spells it, alone or beside the other half."""


def fail(at: str, expected: str, got: Any) -> NoReturn:
    """Raises a FormatError: at the place `at`, `expected` was expected, but `got` came."""
    text = _short.repr(got)
    raise FormatError(
        f"{at}: expected {expected}, got {text if len(text) <= 60 else text[:57] + '...'}"
    )


def parse_json(text: str | bytes, at: str) -> Any:
    """Parses a JSON document. NaN, repeated keys and lone surrogates are errors, though Python lets
    them pass.

    Raises:
        FormatError: it is none.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            twice = next(k for k, n in Counter(key for key, _ in pairs).items() if n > 1)
            raise FormatError(f"{at}: the key {twice!r} occurs twice in one object")
        return table

    def no_constant(name: str) -> NoReturn:
        raise FormatError(f"{at}: {name} is not JSON")

    try:
        document = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
        plain = text if isinstance(text, str) else text.decode()
        if _HALF.search(plain):
            json.dumps(document, ensure_ascii=False).encode()
        return document
    except (ValueError, RecursionError) as error:  # ValueError: also of UTF-8 and of huge integers
        raise FormatError(f"{at}: is not valid JSON: {error}") from None


def record(value: Any, at: str, required: str, optional: str = "") -> dict[str, Any]:
    """An object with all the keys `required`, and no others except the keys `optional`."""
    if not isinstance(value, dict):
        fail(at, "an object", value)
    for key in required.split():
        if key not in value:
            raise FormatError(f"{at}: lacks the key {key!r}")
    known = {*required.split(), *optional.split()}
    for key in value:
        if key not in known:
            raise FormatError(
                f"{at}: has the unknown key {key!r}; known: {', '.join(sorted(known))}"
            )
    return value


def mapping(value: Any, at: str, item: Callable[[Any, str], T]) -> dict[str, T]:
    """An object of any keys, its values read by `item`."""
    if not isinstance(value, dict):
        fail(at, "an object", value)
    return {key: item(entry, f"{at}[{key!r}]") for key, entry in value.items()}


def listing(value: Any, at: str, item: Callable[[Any, str], T]) -> list[T]:
    """A list, its items read by `item`."""
    if not isinstance(value, list):
        fail(at, "a list", value)
    return [item(entry, f"{at}[{i}]") for i, entry in enumerate(value)]


def string(value: Any, at: str) -> str:
    if not isinstance(value, str):
        fail(at, "a string", value)
    return value


def name(value: Any, at: str) -> str:
    """A string that can name something and be shown: not empty, not endless, no control codes."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not is_text(value):
        fail(at, f"a name of 1 to {MAX_NAME} characters, none of them a control code", value)
    return value


def label(value: Any, at: str) -> str:
    """A string that can be shown, of any length."""
    if not isinstance(value, str) or not is_text(value):
        fail(at, "a string without control codes", value)
    return value


def is_text(value: str) -> bool:
    """True if a terminal shows a string as it is: no control codes, no halves of characters."""
    return value.isprintable() or not any(unicodedata.category(c) in ("Cc", "Cs") for c in value)


def name_or_absent(value: Any, at: str) -> str:
    """A name, or the empty string that stands for an input or output left out."""
    return "" if value == "" else name(value, at)


def integer(value: Any, at: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        fail(at, f"an integer from {low} to {high}", value)
    return value


def number(value: Any, at: str) -> float:
    """A finite number, as a float."""
    if not isinstance(value, bool) and isinstance(value, (int, float)) and abs(value) <= 1e300:
        return float(value)
    fail(at, "a finite number", value)


def choice(value: Any, at: str, options: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in options:
        fail(at, "one of " + ", ".join(options), value)
    return value


def dtype(value: Any, at: str) -> DType:
    return as_dtype(choice(value, at, DTYPES))


def dim(value: Any, at: str) -> int | str:
    """A size, or the name of a free one."""
    return name(value, at) if isinstance(value, str) else integer(value, at, 0, MAX_SIZE)


def check_spec(spec: TensorSpec, at: str) -> None:
    """Checks rank and size of an input or output."""
    elements = 1
    for size in spec.shape:
        elements *= size if isinstance(size, int) else 1
    if len(spec.shape) > MAX_RANK or elements > MAX_ELEMENTS:
        fail(at, f"at most {MAX_RANK} axes and {MAX_ELEMENTS} elements", list(spec.shape))


def tensor_spec(value: Any, at: str) -> TensorSpec:
    """{"name", "shape", "dtype"} of an input or output, and "kind" if it is no tensor."""
    table: Mapping[str, Any] = record(value, at, "name shape dtype", "kind")
    spec = TensorSpec(
        name(table["name"], f"{at}.name"),
        tuple(listing(table["shape"], f"{at}.shape", dim)),
        dtype(table["dtype"], f"{at}.dtype"),
        choice(table.get("kind", "tensor"), f"{at}.kind", KINDS),  # type: ignore[arg-type]
    )
    check_spec(spec, at)
    return spec
