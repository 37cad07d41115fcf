"""Graph -> ONNX, so that programs that read ONNX can use a model.bin. Needs the package `onnx`.

The operators are ONNX's already; cnnrt's few others are written as the operators that they stand
for. Labels and preprocessing go into the metadata of the model, where `formats.read` finds them
again: from model.bin to ONNX and back nothing is lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import ops
from ...errors import GraphError, ShapeError, UnsupportedOperator
from ...graph import ANY_SHAPE, Array, Graph, Node, TensorSpec
from ...ops.activation import Activation
from ...passes import infer
from ...preprocessing import Preprocessing
from ...process.extras import missing
from ...process.locks import importing
from ...storage.files import atomic_write
from ...tasks.task import Task
from ..metadata import metadata_of
from .opset_for import opset_for
from .tensors import DTYPES

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto
    from onnx.defs import OpSchema

MAX_BYTES = 2**31 - 1
"""Largest size of a protobuf message, in bytes."""

CODES = {name: code for code, name in DTYPES.items()}


def write_onnx(
    path: str | os.PathLike[str] | None,
    graph: Graph,
    *,
    preprocessing: Preprocessing | None = None,
    labels: Sequence[str] | None = None,
    notice: str | None = None,
    multi_label: bool = False,
    task: Task | None = None,
) -> bytes | None:
    """Writes a network as ONNX; with `path` None returns the bytes instead.

    Args:
        path: path of the file, or None. The file appears under its name only when it is complete.
        graph: the network, as it was read: not after passes.
        preprocessing, labels, notice, multi_label, task: as in `write_model`; they become metadata
            of the model.

    Raises:
        UnsupportedOperator: ONNX has no operator for one of the network's.
        GraphError: the network makes no valid ONNX model, or one of more than 2 GB.
        ImportError: the package `onnx` is missing.
        OSError: the file cannot be written.
    """
    size = sum(value.nbytes for value in graph.constants.values())
    if size > MAX_BYTES:
        raise GraphError(f"an ONNX file holds 2 GB; the weights of this model have {size:,} bytes")
    proto = _Writer(graph).model()
    documents = metadata_of(
        preprocessing=preprocessing,
        labels=labels,
        notice=notice,
        multi_label=multi_label,
        task=task,
    )
    for key, value in documents.items():
        proto.metadata_props.add(key=key, value=value)
    data: bytes = proto.SerializeToString()
    if path is None:
        return data
    atomic_write(path, [data])
    return None


class _Writer:
    def __init__(self, graph: Graph) -> None:
        try:
            import onnx  # noqa: F401, PLC0415  (an optional dependency)
        except ImportError as error:
            raise ImportError(missing("writing ONNX", "onnx", error)) from error
        self.source = graph
        self.graph = replace(graph, nodes=[], constants=dict(graph.constants))
        self.taken = {*graph.tensors(), *graph.constants}
        self.types = _types(graph)
        self.inner: list[Node] = []
        """The nodes of all subgraphs."""
        self.schemas: Mapping[str, OpSchema] = {}

    def model(self) -> ModelProto:
        with importing:
            from onnx import checker, helper, numpy_helper, shape_inference  # noqa: PLC0415

        for node in self.source.nodes:
            self.graph.nodes += self._plain_all(node)
        opset, self.schemas = opset_for([*self.graph.nodes, *self.inner])
        nodes = [*self.graph.nodes, *self.inner]
        read = {name for node in nodes for name in node.inputs}
        kept = read | {spec.name for spec in self.graph.outputs}
        constants = {k: v for k, v in self.graph.constants.items() if k in kept}
        proto = helper.make_model(
            helper.make_graph(
                [self._node(node) for node in self.graph.nodes],
                self.graph.name or "model",
                [self._value(s) for s in (*self.graph.inputs, *self.graph.optional_inputs)],
                [self._value(spec, output=True) for spec in self.graph.outputs],
                [numpy_helper.from_array(_written(v), name) for name, v in constants.items()],
            ),
            opset_imports=[helper.make_opsetid("", opset)],
            producer_name="cnnrt",
        )
        # The oldest that can hold the opset, or readers refuse what they could read.
        proto.ir_version = helper.find_min_ir_version_for(proto.opset_import)
        try:
            checker.check_model(_with_shapes(proto))
        except checker.ValidationError as error:
            raise GraphError(f"the network makes no valid ONNX model: {error}") from None
        return shape_inference.infer_shapes(proto)  # shapes on the edges, for those who look

    def _value(self, spec: TensorSpec, *, output: bool = False, inner: bool = False) -> Any:
        from onnx import helper  # noqa: PLC0415

        shape: Sequence[int | str] | None = spec.shape
        if spec.shape == ANY_SHAPE:
            raise GraphError(f"input {spec.name!r} takes any rank, which ONNX files must state")
        dtype = spec.dtype
        if output and self.types is not None:
            shape, dtype = self.types[spec.name].shape, self.types[spec.name].dtype
        elif (output or inner) and not spec.shape:
            shape = None  # not known
        if spec.kind != "tensor":
            tensor = helper.make_tensor_type_proto(CODES[dtype.name], None)
            make = {
                "sequence": helper.make_sequence_type_proto,
                "optional": helper.make_optional_type_proto,
            }
            return helper.make_value_info(spec.name, make[spec.kind](tensor))
        return helper.make_tensor_value_info(spec.name, CODES[dtype.name], shape)

    def _plain_all(self, node: Node) -> list[Node]:
        """ONNX's nodes for one of cnnrt's, and for the nodes of its subgraphs."""
        ops.complete(node)
        if not node.subgraphs():
            return self._plain(node)
        attributes = dict(node.attributes)
        own = len(node.inputs) - attributes.pop("captured")
        for key, subgraph in node.subgraphs().items():
            first = len(subgraph.inputs) - (len(node.inputs) - own)
            specs = subgraph.inputs[first:]
            outer = dict(zip((spec.name for spec in specs), node.inputs[own:], strict=True))
            nodes = []
            for one in subgraph.nodes:
                inputs = [outer.get(name, name) for name in one.inputs]
                copy = Node(one.op, one.name, inputs, list(one.outputs), dict(one.attributes))
                nodes += self._plain_all(copy)
            self.inner += nodes
            attributes[key] = Graph(
                subgraph.inputs[:first], subgraph.outputs, nodes, {}, subgraph.name
            )
        return [Node(node.op, node.name, node.inputs[:own], list(node.outputs), attributes)]

    def _subgraph(self, graph: Graph) -> Any:
        from onnx import helper  # noqa: PLC0415

        return helper.make_graph(
            [self._node(node) for node in graph.nodes],
            graph.name or "subgraph",
            [self._value(spec, inner=True) for spec in graph.inputs],
            [self._value(spec, inner=True) for spec in graph.outputs],
        )

    def _node(self, node: Node) -> NodeProto:
        from onnx import helper  # noqa: PLC0415

        schema = self.schemas[node.op]
        proto = helper.make_node(schema.name, node.inputs, node.outputs, node.name)
        attributes = dict(node.attributes)
        if node.op == "constant_of_shape":
            dtype = attributes.pop("dtype")
            attributes["value"] = helper.make_tensor(
                "value", CODES[dtype], [1], [attributes["value"]]
            )
        for name in sorted(attributes):
            value = attributes[name]
            if value is None or name not in schema.attributes:
                continue
            if isinstance(value, Graph):
                proto.attribute.append(helper.make_attribute(name, self._subgraph(value)))
                continue
            if value == () and not schema.attributes[name].required:
                continue
            if name == "to" or (name == "dtype" and isinstance(value, str)):
                value = CODES[value]
            stated = _attribute(name, value, schema.attributes[name].type)
            if stated != schema.attributes[name].default_value:
                proto.attribute.append(stated)
        return proto

    # Nodes that ONNX does not have.

    def _plain(self, node: Node) -> list[Node]:
        """ONNX's nodes with the meaning of one of cnnrt's."""
        node = Node(
            node.op, node.name, list(node.inputs), list(node.outputs), dict(node.attributes)
        )
        after: list[Node] = []
        activation = node.attributes.pop("activation", None)
        if activation is not None and node.op != "activate":
            inner = self._name(f"{node.name}.linear")
            after = self._activation(node, Activation(*activation), inner, node.outputs[0])
            node.outputs[0] = inner
        before: list[Node] = []
        if node.op == "conv" and len(node.inputs) > 4:
            scaled = self._name(f"{node.name}.scaled")
            before = [Node("mul", scaled, [node.inputs[0], node.inputs.pop()], [scaled])]
            node.inputs[0] = scaled
        residual = (
            node.inputs.pop() if node.op in ("conv", "linear") and len(node.inputs) > 3 else ""
        )
        if residual:
            inner = self._name(f"{node.name}.without_residual")
            after = [Node("add", inner, [inner, residual], [node.outputs[0]]), *after]
            node.outputs[0] = inner
        if node.op == "scan" and node.attributes.pop("batched"):
            raise self._unsupported(node, "it is of opset 8")
        if node.op in OWN:
            return [*OWN[node.op](self, node, activation), *after]
        axes = node.attributes.pop("axes", None) if node.op.startswith("reduce_") else None
        if axes is not None:
            node.inputs = [node.inputs[0], self._constant(f"{node.name}.axes", np.array(axes))]
        return [*before, node, *after]

    def _activation(self, node: Node, a: Activation, x: str, y: str) -> list[Node]:
        name = self._name(f"{node.name}.{a.name}")
        if a.name == "silu":
            return self._silu(name, x, y)
        if a.name == "clip":
            bounds = [np.float32(a.alpha), np.float32(a.beta)]
            inputs = [self._constant(f"{name}.bound", np.array(b)) for b in bounds]
            return [Node("clip", name, [x, *inputs], [y])]
        if a.name == "affine":
            scale, shift = (
                self._constant(f"{name}.{k}", np.array(v, np.float32))
                for k, v in (("scale", a.alpha), ("shift", a.beta))
            )
            inner = self._name(f"{name}.scaled")
            return [Node("mul", inner, [x, scale], [inner]), Node("add", name, [inner, shift], [y])]
        op, attributes = a.name, dict[str, Any]()
        if op == "gelu_tanh":
            op, attributes = "gelu", {"approximate": "tanh"}
        elif op == "none":
            op = "identity"
        else:
            attributes = dict(zip(ops.OPS[op].attributes, (a.alpha, a.beta), strict=False))
            attributes.pop("approximate", None)
        return [Node(op, name, [x], [y], attributes)]

    def _silu(self, name: str, x: str, y: str) -> list[Node]:
        gate = self._name(f"{name}.sigmoid")
        return [Node("sigmoid", gate, [x], [gate]), Node("mul", name, [x, gate], [y])]

    def _own_silu(self, node: Node, _: Any) -> list[Node]:
        return self._silu(node.name, node.inputs[0], node.outputs[0])

    def _activate(self, node: Node, activation: Any) -> list[Node]:
        return self._activation(node, Activation(*activation), node.inputs[0], node.outputs[0])

    def _linear(self, node: Node, _: Any) -> list[Node]:
        """x weight^T + bias."""
        x, weight, *bias = node.inputs
        value = self.source.constants.get(weight)
        before: list[Node] = []
        if value is None:
            matrix = self._name(f"{node.name}.weight")
            before = [Node("transpose", matrix, [weight], [matrix], {"perm": [1, 0]})]
        else:
            matrix = self._constant(f"{weight}.T", np.ascontiguousarray(value.T))
        if not bias or not bias[0]:
            return [*before, Node("matmul", node.name, [x, matrix], node.outputs)]
        inner = self._name(f"{node.name}.product")
        return [
            *before,
            Node("matmul", inner, [x, matrix], [inner]),
            Node("add", node.name, [inner, bias[0]], node.outputs),
        ]

    def _adaptive(self, node: Node, _: Any) -> list[Node]:
        """Writes windows of one size as an ordinary pool."""
        size = node["output_size"]
        known = self.types[node.inputs[0]].shape[2:] if self.types else ()
        if len(known) != len(size) or any(n % m for n, m in zip(known, size, strict=True)):
            raise self._unsupported(node, "its windows are not all of one size")
        kernel = [n // m for n, m in zip(known, size, strict=True)]
        op = node.op.removeprefix("adaptive_")
        shape = {"kernel_shape": kernel, "strides": kernel}
        return [Node(op, node.name, node.inputs, node.outputs, shape)]

    def _made_by_passes(self, node: Node, _: Any) -> list[Node]:
        raise self._unsupported(node, "it is made by cnnrt's passes")

    def _unsupported(self, node: Node, reason: str) -> UnsupportedOperator:
        return UnsupportedOperator(
            f"node {node.name!r} ({node.op}): ONNX has no such operator: {reason}"
        )

    def _name(self, wanted: str) -> str:
        name, i = wanted, 1
        while name in self.taken:
            name, i = f"{wanted}_{i}", i + 1
        self.taken.add(name)
        return name

    def _constant(self, wanted: str, value: Array) -> str:
        name = self._name(wanted)
        self.graph.constants[name] = value
        return name


OWN: dict[str, Callable[[_Writer, Node, Any], list[Node]]] = {
    "activate": _Writer._activate,
    "adaptive_average_pool": _Writer._adaptive,
    "adaptive_max_pool": _Writer._adaptive,
    "channel_normalization": _Writer._made_by_passes,
    "linear": _Writer._linear,
    "silu": _Writer._own_silu,
}


def _with_shapes(proto: ModelProto) -> ModelProto:
    """A copy in which inputs and outputs of unknown rank have a shape, as onnx.checker demands."""
    copy = type(proto)()
    copy.CopyFrom(proto)
    graphs = [copy.graph]
    while graphs:
        graph = graphs.pop()
        for value in (*graph.input, *graph.output):
            type_ = value.type
            if type_.HasField("optional_type"):
                type_ = type_.optional_type.elem_type
            if type_.HasField("sequence_type"):
                type_ = type_.sequence_type.elem_type
            type_.tensor_type.shape.SetInParent()
        graphs += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return copy


def _types(graph: Graph) -> Mapping[str, Any] | None:
    """The types of all tensors, if the sizes of the inputs are known."""
    if any(isinstance(size, str) for spec in graph.inputs for size in spec.shape):
        return None
    copy = graph.copy()
    try:
        infer(copy, {spec.name: spec.shape for spec in graph.inputs})  # type: ignore[misc]
    except ShapeError:
        return None
    return copy.types


def _attribute(name: str, value: Any, kind: Any) -> Any:
    """An attribute of the type that ONNX requires: an int may stand for a float."""
    from onnx import AttributeProto, helper  # noqa: PLC0415

    types = AttributeProto.AttributeType
    if kind.value == types.FLOAT:
        value = float(value)
    elif kind.value == types.FLOATS:
        value = [float(v) for v in value]
    elif kind.value == types.INT:
        value = int(value)
    return helper.make_attribute(name, value, attr_type=kind.value)


def _written(value: Array) -> Array:
    """A constant as ONNX holds it: contiguous and in this machine's byte order."""
    return np.asarray(value, dtype=value.dtype.newbyteorder("="), order="C")
