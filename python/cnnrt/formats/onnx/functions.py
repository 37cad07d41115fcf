"""Nodes that are defined by other nodes, replaced by them.

These are the functions that a model brings with it, and operators of ONNX that cnnrt does not have
but that ONNX itself defines by others: SoftmaxCrossEntropyLoss by LogSoftmax and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ...errors import FormatError, UnsupportedOperator

if TYPE_CHECKING:
    from onnx import FunctionProto, ModelProto, NodeProto

MAX_NODES = 1_000_000
"""Nodes that the functions of a model may make. Functions that call functions twice each would make
2^n of n of them."""

Key = tuple[str, str]
"""Domain and name of an operator."""

OF_OPSET = "@opset "
"""In the domain of a node: what follows is its opset, and the model's is another one."""


def key_of(node: NodeProto) -> Key:
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type)


def split_domain(domain: str) -> tuple[str, int | None]:
    """The domain of a node, and the opset that it is of if that is not its model's."""
    name, mark, opset = domain.partition(OF_OPSET)
    if mark and opset.isdecimal() and len(opset) < 4:
        return name, int(opset)
    return "" if domain == "ai.onnx" else domain, None


def expand(proto: ModelProto, at: str, supported: Callable[[Key], bool]) -> ModelProto:
    """The model without its functions, and without operators whose definition cnnrt runs instead.

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
        proto = _with_defaults(proto, found)
        runs = [key for key in sorted(found) if _runs_expanded(proto, key, supported)]
        if not runs:
            break
        proto = onnx.inliner.inline_selected_functions(proto, runs, inline_schema_functions=True)
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
    """The version of an operator in an opset; 0 if it has none."""
    from onnx import defs  # noqa: PLC0415

    try:
        return int(defs.get_schema(op_type, opset, "").since_version)
    except defs.SchemaError:
        return 0


def _definable(keys: set[Key], supported: Callable[[Key], bool]) -> set[Key]:
    """Those of the operators that cnnrt lacks and that onnx has a definition of."""
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


def _runs_expanded(proto: ModelProto, key: Key, supported: Callable[[Key], bool]) -> bool:
    """Whether cnnrt has, or can replace in turn, every operator by which ONNX defines this one."""
    import onnx.inliner  # noqa: PLC0415  (an optional dependency)

    try:
        expanded = onnx.inliner.inline_selected_functions(
            proto, [key], inline_schema_functions=True
        )
    except Exception:  # of onnx, where it does not know the types of a node's inputs
        return False
    old = {key_of(n) for n in _nodes(proto.graph.node)}
    new = {key_of(n) for n in _nodes(expanded.graph.node)}
    lacking = {key for key in new - old if not supported(key)}
    return new != old and lacking == _definable(lacking, supported)


def _nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def _check_size(proto: ModelProto, at: str) -> None:
    """Checks that the functions of a model end, and how many nodes they make.

    Raises:
        FormatError: they do not, or make more than `MAX_NODES`.
    """
    functions = {(f.domain, f.name): f for f in proto.functions}
    sizes: dict[Key, int] = {}
    open_: list[Key] = []

    def size(function: FunctionProto, key: Key) -> int:
        if key in open_ or len(open_) > 100:
            raise FormatError(f"{at}: the function {function.name!r} calls itself")
        if key not in sizes:
            open_.append(key)
            sizes[key] = total(function.node)
            open_.pop()
        return sizes[key]

    def total(nodes: Iterable[NodeProto]) -> int:
        count = 0
        for node in _nodes(nodes):
            key = (node.domain, node.op_type)
            count += size(functions[key], key) if key in functions else 1
        return count

    for key, function in functions.items():
        size(function, key)  # also of those that no node calls: onnx looks at them too
    count = total(proto.graph.node)
    if count > MAX_NODES:
        raise FormatError(f"{at}: its functions make {count} nodes; at most {MAX_NODES}")
