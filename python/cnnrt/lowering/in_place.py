"""Results that take the memory of an input which no later node reads."""

from __future__ import annotations

from ..layout.tensors import Blocked, Plain
from .builder import PlanBuilder


def plain_over(builder: PlanBuilder, name: str, x: str) -> Plain:
    """Room for the output `name`, row-major. The input x gives its memory if it has the same type
    and no later reader. If x is empty there is none."""
    if x and builder.type(x) == builder.type(name) and builder.may_overwrite(x, name):
        builder.alias(name, builder.plain(x))
        return builder.plain(name)
    return builder.new_plain(name)


def blocked_over(builder: PlanBuilder, name: str, x: str) -> Blocked:
    """The same for a blocked output; x lies blocked."""
    if x and builder.type(x) == builder.type(name):
        tensor = builder.tensors.blocked[x]
        if builder.may_overwrite(x, name, tensor):
            builder.alias_blocked(name, tensor)
            return tensor
    return builder.new_blocked(name)
