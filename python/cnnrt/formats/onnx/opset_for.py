"""The opset that a graph is written in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ... import ops
from ...errors import UnsupportedOperator
from ...graph import Node
from .operator_names import snake_case

if TYPE_CHECKING:
    from onnx.defs import OpSchema

FIRST_OPSET = 21
"""The opset that is written unless the network needs a later one: widely read, and the first whose
operators all mean what cnnrt's do."""


def opset_for(nodes: Sequence[Node]) -> tuple[int, dict[str, OpSchema]]:
    """The lowest opset from `FIRST_OPSET` that has all of the nodes, and its operators.

    Raises:
        UnsupportedOperator: ONNX has no operator for one of them.
    """
    from onnx import defs  # noqa: PLC0415

    names = {snake_case(s.name): s.name for s in defs.get_all_schemas() if s.domain == ""}
    problem = ""
    for opset in range(FIRST_OPSET, defs.onnx_opset_version() + 1):
        schemas: dict[str, OpSchema] = {}
        problem = ""
        for node in nodes:
            if node.op not in schemas:
                try:
                    schemas[node.op] = defs.get_schema(names.get(node.op, node.op), opset, "")
                except defs.SchemaError:
                    problem = f"node {node.name!r} ({node.op}): ONNX has no such operator"
                    break
            schema = schemas[node.op]
            defaults = ops.OPS[node.op].attributes
            odd = [
                name
                for name, value in node.attributes.items()
                if name not in schema.attributes
                and value != defaults.get(name)
                and name != "captured"
                and not (node.op == "constant_of_shape" and name == "dtype")
            ]
            if odd or len(node.inputs) > schema.max_input:
                problem = (
                    f"node {node.name!r} ({node.op}): ONNX does not have {odd or 'its inputs'}"
                )
                break
        if not problem:
            return opset, schemas
    raise UnsupportedOperator(f"{problem}, up to opset {defs.onnx_opset_version()}")
