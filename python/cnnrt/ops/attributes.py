"""The kinds of the operators' attributes, which files may get wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..graph import Graph

KINDS: Mapping[str, str] = {
    name: kind
    for kind, names in {
        "integers": (
            *("axes", "dilations", "kernel_shape", "output_padding", "output_shape"),
            *("output_size", "pads", "perm", "strides"),
        ),
        "integer": (
            *("axis", "blocksize", "end", "hidden_size", "kv_num_heads", "num_groups", "num_heads"),
            *("num_outputs", "q_num_heads", "size"),
        ),
        "numbers": ("activation_alpha", "activation_beta"),
        "number": ("clip", "scale", "seed"),
        "strings": ("activations",),
        "string": ("direction", "dtype", "equation", "output_dtype", "softmax_precision", "to"),
        "activation": ("activation",),
        "graph": ("body", "else_branch", "then_branch"),
    }.items()
    for name in names
}
"""Kinds of the attributes whose default is absent and so does not show the kind."""


def kind_of(name: str, default: Any) -> str | None:
    """The kind of an attribute: by its default, or else by `KINDS`."""
    if isinstance(default, (list, tuple)) and default:
        return f"{kind_of(name, default[0])}s"
    for kind, types in (("integer", int), ("number", float), ("string", str)):
        if isinstance(default, types):
            return kind
    return KINDS.get(name)


def is_kind(value: Any, kind: str) -> bool:
    """True if a value is of a kind; an integer is a number too."""
    if kind == "activation":
        name, *numbers = value if isinstance(value, (list, tuple)) and value else (None,)
        return isinstance(name, str) and len(numbers) == 2 and is_kind(numbers, "numbers")
    if kind.endswith("s"):
        items: Iterable[Any] = value if isinstance(value, (list, tuple)) else (None,)
        return all(is_kind(item, kind[:-1]) for item in items)
    if kind == "string":
        return isinstance(value, str)
    if kind == "graph":
        return isinstance(value, Graph)
    number = isinstance(value, int) or (kind == "number" and isinstance(value, float))
    return number and not isinstance(value, bool)
