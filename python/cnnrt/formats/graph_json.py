"""A graph without the values of its constants as a JSON document, and back, completely checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import ops
from ..dtypes import DType
from ..errors import CnnrtError, FormatError, GraphError
from ..graph import Graph, Node, TensorSpec
from ..storage import validate

MAX_DEPTH = 50
"""Maximum depth of subgraphs inside each other."""

NON_FINITE = ("inf", "-inf", "nan")


def graph_to_json(graph: Graph) -> dict[str, Any]:
    """The JSON document of a graph; attributes that have their operator's default are left out.

    Raises:
        GraphError: an attribute is not made of numbers, strings and lists of them.
    """
    document = _parts_to_json(graph)
    constants = {name: array.dtype.name for name, array in graph.constants.items()}
    return {**document, "constants": constants, "nodes": document.pop("nodes")}


def _parts_to_json(graph: Graph) -> dict[str, Any]:
    """The document of a graph without its constants; a subgraph has none."""
    optional = [_spec_to_json(spec) for spec in graph.optional_inputs]
    return {
        "name": graph.name,
        "inputs": [_spec_to_json(spec) for spec in graph.inputs],
        **({"optional_inputs": optional} if optional else {}),
        "outputs": [_spec_to_json(spec) for spec in graph.outputs],
        "nodes": [_node_to_json(node) for node in graph.nodes],
    }


def graph_from_json(document: Any, at: str) -> tuple[Graph, dict[str, DType]]:
    """The graph of a document, its constants still missing, and the dtype of each constant.

    Raises:
        FormatError: the document is not one that `graph_to_json` writes.
        UnsupportedOperator: a node needs what cnnrt does not have.
    """
    table = validate.record(document, at, "name inputs outputs constants nodes", "optional_inputs")
    constants = validate.mapping(table["constants"], f"{at}: constants", validate.dtype)
    for name in constants:
        validate.name(name, f"{at}: constants")
    graph = _parts_from_json(table, at, 0)
    optional = f"{at}: optional_inputs"
    graph.optional_inputs = validate.listing(
        table.get("optional_inputs", []), optional, validate.tensor_spec
    )
    names = [spec.name for spec in graph.optional_inputs]
    if len(set(names)) != len(names) or not set(names) <= set(constants):
        raise FormatError(f"{optional} are no constants, each once: {names[:9]}")
    if not graph.outputs:
        raise FormatError(f"{at}: the model has no outputs")
    _check_order(graph, set(constants), at, set())
    return graph, constants


def _parts_from_json(table: Mapping[str, Any], at: str, depth: int) -> Graph:
    """The graph of a document without constants."""
    if depth > MAX_DEPTH:
        raise FormatError(f"{at}: more than {MAX_DEPTH} subgraphs inside each other")

    def node(value: Any, at: str) -> Node:
        return _node_from_json(value, at, depth)

    return Graph(
        inputs=validate.listing(table["inputs"], f"{at}: inputs", validate.tensor_spec),
        outputs=validate.listing(table["outputs"], f"{at}: outputs", validate.tensor_spec),
        nodes=validate.listing(table["nodes"], f"{at}: nodes", node),
        constants={},
        name=validate.string(table["name"], f"{at}: name"),
    )


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    document = {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype.name}
    return document if spec.kind == "tensor" else {**document, "kind": spec.kind}


def _node_to_json(node: Node) -> dict[str, Any]:
    defaults = ops.OPS[node.op].attributes if node.op in ops.OPS else {}
    document: dict[str, Any] = {
        "op": node.op,
        "name": node.name,
        "inputs": node.inputs,
        "outputs": node.outputs,
    }
    given = node.attributes
    attributes = {
        key: _attribute_to_json(given[key], node, key)
        for key in sorted(given)  # an order of its own, so that the same graph gives the same bytes
        if not _is_default(given[key], defaults.get(key, ops.REQUIRED))
    }
    if attributes:
        document["attributes"] = attributes
    return document


def _is_default(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(value == default)


def _attribute_to_json(value: Any, node: Node, key: str) -> Any:
    if isinstance(value, (list, tuple)):
        return [_attribute_to_json(item, node, key) for item in value]
    if isinstance(value, Graph):
        return {"graph": _parts_to_json(value)}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise GraphError(
        f"node {node.name!r} ({node.op}): attribute {key!r} is a {type(value).__name__}; a file "
        "can hold numbers, strings and lists of them"
    )


def _node_from_json(value: Any, at: str, graph_depth: int) -> Node:
    def attribute(value: Any, at: str) -> Any:
        if isinstance(value, dict) and "graph" in value:
            document = validate.record(value, at, "graph")["graph"]
            table = validate.record(document, at, "name inputs outputs nodes")
            return _parts_from_json(table, at, graph_depth + 1)
        return _attribute_from_json(value, at)

    table = validate.record(value, at, "op name inputs outputs", "attributes")
    node = Node(
        op=validate.name(table["op"], f"{at}.op"),
        name=validate.name(table["name"], f"{at}.name"),
        inputs=validate.listing(table["inputs"], f"{at}.inputs", validate.name_or_absent),
        outputs=validate.listing(table["outputs"], f"{at}.outputs", validate.name_or_absent),
        attributes=validate.mapping(table.get("attributes", {}), f"{at}.attributes", attribute),
    )
    if not any(node.outputs):
        validate.fail(f"{at} ({node.name!r}).outputs", "at least one name", node.outputs)
    try:
        ops.complete(node)
    except GraphError as error:
        raise FormatError(f"{at}: {error}") from None
    except CnnrtError as error:
        raise type(error)(f"{at}: {error}") from None
    return node


def _attribute_from_json(value: Any, at: str, depth: int = 0) -> Any:
    if isinstance(value, list) and depth < 2:
        return [_attribute_from_json(item, f"{at}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, dict):
        text = validate.record(value, at, "float")["float"]
        return float(validate.choice(text, at, NON_FINITE))
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return validate.integer(value, at, -(2**63), 2**63 - 1)
    if isinstance(value, float):
        return validate.number(value, at)
    return validate.fail(at, "a number, a string or a list of them", value)


def _check_order(graph: Graph, constants: set[str], at: str, others: set[str]) -> None:
    """Checks that names are made once, and before they are read.

    Files hold nodes in topological order: one pass checks it, however large they are.

    Args:
        graph: what to check, with its subgraphs.
        constants: the names of its constants.
        at: its place, for errors.
        others: names that subgraphs have made; those of this graph's subgraphs are added.
    """
    made = set(constants)
    for spec in graph.inputs:
        if spec.name in made or spec.name in others:
            raise FormatError(f"{at}: two inputs or constants are named {spec.name!r}")
        made.add(spec.name)
    for i, node in enumerate(graph.nodes):
        for name in filter(None, node.inputs):
            if name not in made:
                raise FormatError(
                    f"{at}: nodes[{i}] ({node.name!r}) reads {name!r}, which no earlier node makes"
                )
        for name in filter(None, node.outputs):
            if name in made or name in others:
                raise FormatError(f"{at}: nodes[{i}] ({node.name!r}) makes {name!r} again")
            made.add(name)
        _check_subgraphs(node, f"{at}: nodes[{i}] ({node.name!r})", made | others)
        for subgraph in node.subgraphs().values():
            others |= {name for inner in subgraph.nodes for name in inner.outputs if name}
    names = [spec.name for spec in graph.outputs]
    for name in names:
        if name not in made:
            raise FormatError(f"{at}: nothing makes the output {name!r}")
    if len(set(names)) != len(names):
        raise FormatError(f"{at}: two outputs have the same name")


def _check_subgraphs(node: Node, at: str, others: set[str]) -> None:
    """Checks the inputs and outputs of a node's subgraphs.

    Inputs that a subgraph captures may have the names of outer tensors, and mostly do.
    """
    subgraphs = node.subgraphs()
    if not subgraphs:
        return
    count = node["captured"]
    if not 0 <= count <= len(node.inputs) or "" in node.inputs[len(node.inputs) - count :]:
        raise FormatError(f"{at}: captured is {count}, of {len(node.inputs)} inputs")
    for name, subgraph in subgraphs.items():
        if len(subgraph.inputs) < count or not subgraph.outputs:
            raise FormatError(f"{at}: {name} lacks outputs, or takes less than {count} inputs")
        own = subgraph.inputs[: len(subgraph.inputs) - count]
        captured = {spec.name for spec in subgraph.inputs[len(own) :]}
        _check_order(subgraph, set(), f"{at}: {name}", others - captured)
