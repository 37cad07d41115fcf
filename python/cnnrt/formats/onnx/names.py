"""Names in a network that is read: they are checked, and PyTorch's exports get those of the
modules.

The exporter notes for each node the modules around it and the call it comes from, such as
`["", "layer3", "layer3.1", "layer3.1.relu", "relu_31"]`. The node becomes "layer3.1.relu".
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from ...errors import FormatError
from ...graph import Node, TensorSpec

if TYPE_CHECKING:
    from onnx import NodeProto

SCOPES_KEY = "pkg.torch.onnx.name_scopes"
MAX_SCOPES = 4000
"""Maximum length of an exporter's note; longer ones are ignored."""

PLAIN = re.compile(r"\['[^'\\\0\r\n]*'(?:, '[^'\\\0\r\n]*')*\]")
"""A list of strings without quotes, as the exporter writes it. A match is read here: Python's
parser takes four times as long."""

CALLS = {"native_batch_norm_legit_no_training": "batch_norm", "unsafe_view": "view"}
"""PyTorch's internal names of calls, and the names that its users know."""


@dataclass(frozen=True)
class Scopes:
    """The modules around a node, outermost first, and the call that made it."""

    modules: tuple[str, ...]
    call: str

    @property
    def module(self) -> str:
        """The innermost module; "" is the whole network."""
        return self.modules[-1]

    @property
    def function(self) -> str:
        """The function that was called: "add" for the call "add_3"."""
        function = re.sub(r"_\d+$", "", self.call).lstrip("_") or self.call
        return CALLS.get(function, function)


def read_scopes(node: NodeProto) -> Scopes | None:
    """The note of PyTorch's exporter on a node; None if another program wrote the file."""
    for entry in node.metadata_props:
        if entry.key != SCOPES_KEY or len(entry.value) > MAX_SCOPES:
            continue
        try:
            text = entry.value
            plain = isinstance(text, str) and PLAIN.fullmatch(text)  # bytes where it is not UTF-8
            scopes = text[2:-2].split("', '") if plain else ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
        if (
            isinstance(scopes, list)
            and len(scopes) >= 2
            and all(isinstance(s, str) for s in scopes)
            and scopes[-1]
        ):
            return Scopes(tuple(scopes[:-1]), scopes[-1])
    return None


class Names:
    """Hands out names, each once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {"", *taken}
        self._next: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """Returns `name`, or if that is taken `name_1`, `name_2` and so on."""
        free, i = name, self._next.get(name, 1)
        while free in self._taken:
            free, i = f"{name}_{i}", i + 1
        self._next[name] = i
        self._taken.add(free)
        return free


def name_by_modules(
    nodes: Sequence[Node],
    scopes: Sequence[Scopes | None],
    taken: Iterable[str],
    outputs: Iterable[str],
) -> dict[str, str]:
    """Names nodes after the modules that they come from.

    A module's last node carries the module's name. The nodes before it carry that name and their
    operator: "layer1.act.sigmoid", "layer1.act". Calls in a module itself, beside its submodules,
    are named by the call: "layer3.1.add". A repetition gets a number: "layer3.1.relu_1".

    Args:
        nodes: the nodes to rename. They go on reading and making the same tensors. Those without
            scopes are left alone.
        scopes: scopes of each node.
        taken: names of inputs and constants, which nodes cannot have.
        outputs: names of the graph's outputs; only the nodes that make them can have them.

    Returns:
        New names of the tensors that the nodes make. A first output has its node's name, the others
        that name and their number.
    """
    outputs = set(outputs)
    kept = [name for n, s in zip(nodes, scopes, strict=True) if s is None for name in n.outputs]
    names = Names([*taken, *outputs, *kept])
    renamed: dict[str, str] = {}
    for name, call in _calls(nodes, scopes):
        is_output = name in outputs and name == call[-1].outputs[0]
        whole = name if is_output else names.unique(name)
        for node in call:
            node.name = whole if node is call[-1] else names.unique(f"{whole}.{node.op}")
            for i, output in enumerate(node.outputs):
                if output:
                    renamed[output] = names.unique(f"{node.name}.{i}") if i else node.name
    return renamed


def _calls(
    nodes: Sequence[Node], scopes: Sequence[Scopes | None]
) -> Iterator[tuple[str, list[Node]]]:
    """The nodes of each call of a module or a function, with the name of that module or
    function."""
    leaves = _leaves(scopes)
    found = [(node, scope) for node, scope in zip(nodes, scopes, strict=True) if scope]

    def called(pair: tuple[Node, Scopes]) -> tuple[str, str]:
        scope = pair[1]
        return (scope.module, "" if scope.module in leaves else scope.call)

    for (module, call), group in groupby(found, called):
        pairs = list(group)
        if call:
            yield ".".join(filter(None, [module, pairs[0][1].function])), [n for n, _ in pairs]
        else:
            yield from ((module, part) for part in _repetitions(pairs))


def _leaves(scopes: Sequence[Scopes | None]) -> set[str]:
    """The modules that made nodes themselves while none of their submodules did."""
    found = [scope for scope in scopes if scope]
    inner = {scope.module for scope in found}
    outer = {module for scope in found for module in scope.modules[:-1]}
    return inner - outer - {""}


def _repetitions(pairs: list[tuple[Node, Scopes]]) -> Iterator[list[Node]]:
    """Splits nodes of one module into its calls: each begins as the sequence of functions
    repeats."""
    calls = [list(group) for _, group in groupby(pairs, lambda pair: pair[1].call)]
    functions = [call[0][1].function for call in calls]
    length = next(
        n
        for n in range(1, len(calls) + 1)
        if len(calls) % n == 0 and functions == functions[:n] * (len(calls) // n)
    )
    for i in range(0, len(calls), length):
        yield [node for call in calls[i : i + length] for node, _ in call]


def check_unique(at: str, what: str, specs: list[TensorSpec]) -> None:
    """Compares the names of all inputs, or of all outputs, with each other.

    Raises:
        FormatError: two inputs or outputs have one name.
    """
    names = Counter(spec.name for spec in specs)
    for name, count in names.items():
        if count > 1:
            raise FormatError(f"{at}: {count} {what}s are named {name!r}")


def rename(nodes: list[Node], renamed: dict[str, str], outputs: list[TensorSpec]) -> None:
    """Gives tensors their new names, and the graph's outputs their own."""
    for node in nodes:
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        node.outputs = [renamed.get(name, name) for name in node.outputs]
    for spec in outputs:
        if renamed.get(spec.name, spec.name) != spec.name:
            nodes.append(Node("identity", spec.name, [renamed[spec.name]], [spec.name]))


def trimmed(names: Iterable[str]) -> list[str]:
    """The names without empty ones at the end."""
    found = list(names)
    while found and not found[-1]:
        found.pop()
    return found
