"""A graph without the values of its constants as a JSON document, and back, completely checked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from ..errors import CnnrtError, FormatError, GraphError
from ..graph import Graph, Node, TensorSpec
from ..storage import validate

NON_FINITE = ("inf", "-inf", "nan")


def graph_to_json(graph: Graph) -> dict[str, Any]:
    """The document; attributes that have their operator's default are left out.

    Raises:
        GraphError: an attribute is not made of numbers, strings and lists of them.
    """
    return {
        "name": graph.name,
        "inputs": [_spec_to_json(spec) for spec in graph.inputs],
        "outputs": [_spec_to_json(spec) for spec in graph.outputs],
        "constants": {name: array.dtype.name for name, array in graph.constants.items()},
        "nodes": [_node_to_json(node) for node in graph.nodes],
    }


def graph_from_json(document: Any, at: str) -> tuple[Graph, dict[str, np.dtype[Any]]]:
    """The graph, its constants still missing, and the dtype that each constant is to have.

    Raises:
        FormatError: the document is not one that `graph_to_json` writes.
        UnsupportedOperator: a node needs what cnnrt does not have.
    """
    table = validate.record(document, at, "name inputs outputs constants nodes")
    constants = validate.mapping(table["constants"], f"{at}: constants", validate.dtype)
    for name in constants:
        validate.name(name, f"{at}: constants")
    graph = Graph(
        inputs=validate.listing(table["inputs"], f"{at}: inputs", validate.tensor_spec),
        outputs=validate.listing(table["outputs"], f"{at}: outputs", validate.tensor_spec),
        nodes=validate.listing(table["nodes"], f"{at}: nodes", _node_from_json),
        constants={},
        name=validate.string(table["name"], f"{at}: name"),
    )
    if not graph.outputs:
        raise FormatError(f"{at}: the model has no outputs")
    _check_order(graph, constants, at)
    return graph, constants


def _spec_to_json(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype.name}


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


def _node_from_json(value: Any, at: str) -> Node:
    table = validate.record(value, at, "op name inputs outputs", "attributes")
    node = Node(
        op=validate.name(table["op"], f"{at}.op"),
        name=validate.name(table["name"], f"{at}.name"),
        inputs=validate.listing(table["inputs"], f"{at}.inputs", validate.name_or_absent),
        outputs=validate.listing(table["outputs"], f"{at}.outputs", validate.name_or_absent),
        attributes=validate.mapping(
            table.get("attributes", {}), f"{at}.attributes", _attribute_from_json
        ),
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


def _check_order(graph: Graph, constants: dict[str, np.dtype[Any]], at: str) -> None:
    """Checks that names are made once, and before they are read.

    Files hold nodes in topological order, which takes one pass to check however large they are.
    """
    made = set(constants)
    for spec in graph.inputs:
        if spec.name in made:
            raise FormatError(f"{at}: two inputs or constants are named {spec.name!r}")
        made.add(spec.name)
    for i, node in enumerate(graph.nodes):
        for name in filter(None, node.inputs):
            if name not in made:
                raise FormatError(
                    f"{at}: nodes[{i}] ({node.name!r}) reads {name!r}, which no earlier node makes"
                )
        for name in filter(None, node.outputs):
            if name in made:
                raise FormatError(f"{at}: nodes[{i}] ({node.name!r}) makes {name!r} again")
            made.add(name)
    names = [spec.name for spec in graph.outputs]
    for name in names:
        if name not in made:
            raise FormatError(f"{at}: nothing makes the output {name!r}")
    if len(set(names)) != len(names):
        raise FormatError(f"{at}: two outputs have the same name")
