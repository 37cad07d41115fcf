"""Replaces nodes that are defined by other nodes.

These are the functions that a model brings with it, and operators that ONNX itself defines by
others. SoftmaxCrossEntropyLoss, for one, becomes LogSoftmax and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ...errors import FormatError, UnsupportedOperator

if TYPE_CHECKING:
    from onnx import FunctionProto, ModelProto, NodeProto

MIN_NODES, BYTES_PER_NODE = 1000, 4
"""Nodes that the functions of any model may make, and bytes of the file for each further one.
(Large tensors do not count.) A node takes 0.2 ms to load, so a file of 10 kB is read within a
second. Without a limit, n functions that each call the next twice make 2^n nodes."""
MIN_BYTES, BYTES_PER_BYTE = 16 << 20, 16
"""Bytes that functions may make in any case, and for each byte of the file."""
MIN_DEFINED, BYTES_PER_DEFINED = 128, 2000
"""Nodes that ONNX's definitions may replace in any case, and bytes of the file for each further
one. The package onnx takes 12 s for 300 losses, and four times as long for twice as many."""
MAX_CALLS = 100
"""Maximum depth of functions that call each other."""

Identity = tuple[str, str, str]
"""Domain, name and overload of a function."""
Key = tuple[str, str]
"""Domain and name of an operator."""

OF_OPSET = "@opset "
"""Marks a node's domain: the number behind it is the node's opset, which differs from the
model's."""


def key_of(node: NodeProto) -> Key:
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type)


def split_domain(domain: str) -> tuple[str, int | None]:
    """The domain of a node, and its opset if that is not the model's."""
    name, mark, opset = domain.partition(OF_OPSET)
    if mark and opset.isdecimal() and len(opset) < 4:
        return name, int(opset)
    return "" if domain == "ai.onnx" else domain, None


def expand(proto: ModelProto, at: str, supported: Callable[[Key], bool]) -> ModelProto:
    """The model without its functions, and with definitions in place of the operators that cnnrt
    lacks.

    Raises:
        FormatError: a function calls itself, or the functions make too many nodes.
        UnsupportedOperator: onnx cannot replace the functions.
    """
    import onnx.inliner  # noqa: PLC0415  (an optional dependency)

    if proto.functions:
        _check_size(proto, at)
        proto = _of_one_opset(proto)
        try:
            proto = onnx.inliner.inline_local_functions(proto)
        except Exception as error:  # of onnx, on a model that may be anything
            raise UnsupportedOperator(
                f"{at}: has functions that onnx cannot replace by their nodes: {error}"
            ) from None
    while found := _definable({key_of(n) for n in _nodes(proto.graph.node)}, supported):
        _check_count(proto, found, at)
        before = proto = _with_defaults(proto, found)
        for key in sorted(found):
            expanded = _expanded(proto, key, supported)
            proto = proto if expanded is None else expanded
        if proto is before:
            break
    return proto


def _of_one_opset(proto: ModelProto) -> ModelProto:
    """A copy in which functions of another opset than the model's note that at each node that means
    something else there. (onnx.inliner's own conversion needs types that are not known.)"""
    result = type(proto)()
    result.CopyFrom(proto)
    own = [entry for entry in result.opset_import if entry.domain in ("", "ai.onnx")]
    imports = [e for f in result.functions for e in f.opset_import if e.domain in ("", "ai.onnx")]
    if not own and imports:
        own = [result.opset_import.add(version=max(entry.version for entry in imports))]
    for function in result.functions:
        for entry in list(function.opset_import):
            if entry.domain not in ("", "ai.onnx") or entry.version == own[0].version:
                continue
            domain = OF_OPSET + str(entry.version)
            for node in _nodes(function.node):
                name, versions = node.op_type, (entry.version, own[0].version)
                if key_of(node)[0] == "" and len({_since(name, v) for v in versions}) > 1:
                    node.domain = domain
            entry.version = own[0].version
            for imported in (function.opset_import, result.opset_import):
                imported.add(domain=domain, version=1)
    return result


def _since(op_type: str, opset: int) -> int:
    """The version of an operator in an opset; 0 if the opset does not have it."""
    from onnx import defs  # noqa: PLC0415

    if not isinstance(op_type, str):  # protobuf gives bytes where it is not UTF-8
        return 0
    try:
        known = max(0, min(opset, 2**31 - 1))  # the file's number is of 64 bits, onnx's of 32
        return int(defs.get_schema(op_type, known, "").since_version)
    except defs.SchemaError:
        return 0


def _definable(keys: set[Key], supported: Callable[[Key], bool]) -> set[Key]:
    """The operators among `keys` that cnnrt lacks and onnx can define."""
    from onnx import defs  # noqa: PLC0415

    found = set()
    for domain, name in keys:
        if not isinstance(domain, str) or not isinstance(name, str):
            continue  # protobuf gives bytes where they are not UTF-8; the importer says so
        if not supported((domain, name)) and defs.has(name, domain=domain):
            schema: Any = defs.get_schema(name, domain=domain)  # onnx's types lack these
            if schema.has_function or schema.has_context_dependent_function:
                found.add((domain, name))
    return found


def _with_defaults(proto: ModelProto, keys: set[Key]) -> ModelProto:
    """A copy whose nodes of these operators have all their attributes.

    onnx.inliner replaces references to attributes that a node does not have by nothing.
    """
    from onnx import defs  # noqa: PLC0415

    result = type(proto)()
    result.CopyFrom(proto)
    for node in _nodes(result.graph.node):
        if key_of(node) in keys:
            given = {attribute.name for attribute in node.attribute}
            schema = defs.get_schema(node.op_type, domain=key_of(node)[0])
            for name, attribute in schema.attributes.items():
                if name not in given and attribute.default_value.name:
                    node.attribute.append(attribute.default_value)
    return result


def _expanded(proto: ModelProto, key: Key, supported: Callable[[Key], bool]) -> ModelProto | None:
    """The model with ONNX's definition of an operator in place of its nodes. None if the definition
    needs an operator that cnnrt neither has nor can replace in turn."""
    import onnx.inliner  # noqa: PLC0415  (an optional dependency)

    try:
        expanded = onnx.inliner.inline_selected_functions(
            proto, [key], inline_schema_functions=True
        )
    except Exception:  # of onnx, where it does not know the types of a node's inputs
        return None
    old = {key_of(n) for n in _nodes(proto.graph.node)}
    new = {key_of(n) for n in _nodes(expanded.graph.node)}
    lacking = {key for key in new - old if not supported(key)}
    return expanded if new != old and lacking == _definable(lacking, supported) else None


def _check_count(proto: ModelProto, keys: set[Key], at: str) -> None:
    """Checks the number of nodes that ONNX's definitions will replace.

    Raises:
        UnsupportedOperator: more than a file of this size may have.
    """
    count = sum(key_of(node) in keys for node in _nodes(proto.graph.node))
    limit = MIN_DEFINED + proto.ByteSize() // BYTES_PER_DEFINED
    if count > limit:
        raise UnsupportedOperator(
            f"{at}: has {count} nodes that cnnrt runs by ONNX's definitions of them "
            f"({', '.join(sorted(name for _, name in keys))}); expected at most {limit}"
        )


def _nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def _check_size(proto: ModelProto, at: str) -> None:
    """Checks that the functions of a model end, and that they make a limited number of nodes and
    bytes.

    Raises:
        FormatError: they do not, or make more nodes or bytes than a file of this size may.
    """
    given = proto.ByteSize()
    limits = {
        "nodes": MIN_NODES + given // BYTES_PER_NODE,
        "bytes": MIN_BYTES + given * BYTES_PER_BYTE,
    }
    functions = {_identity(f.domain, f.name, f.overload): f for f in proto.functions}
    sizes: dict[Identity, dict[str, int]] = {}
    open_: list[Identity] = []

    def size(function: FunctionProto, key: Identity) -> dict[str, int]:
        if key in open_ or len(open_) > MAX_CALLS:
            raise FormatError(f"{at}: the function {function.name!r} calls itself")
        if key not in sizes:
            open_.append(key)
            sizes[key] = total(function.node, f"the function {function.name!r} makes")
            open_.pop()
        return sizes[key]

    def total(nodes: Iterable[NodeProto], what: str) -> dict[str, int]:
        counts = dict.fromkeys(limits, 0)
        for node in _nodes(nodes):
            key = _identity(node.domain, node.op_type, node.overload)
            called = size(functions[key], key) if key in functions else {"nodes": 1, "bytes": 0}
            counts["nodes"] += called["nodes"]
            counts["bytes"] += called["bytes"] + node.ByteSize()
        for unit, count in counts.items():
            if count > limits[unit]:
                raise FormatError(
                    f"{at}: {what} {count} {unit}; expected at most {limits[unit]} of a file of "
                    f"{given} bytes"
                )
        return counts

    for key, function in functions.items():
        size(function, key)  # also of those that no node calls: onnx looks at them too
    total(proto.graph.node, "its functions make")


def _identity(domain: str, name: str, overload: str) -> Identity:
    """The names by which onnx tells functions apart."""
    return ("" if domain == "ai.onnx" else domain, name, overload)
