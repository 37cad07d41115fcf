"""ONNX -> Graph.

Operators keep their meaning and get names in snake_case; older opsets are brought up to date
(`opsets`). Nodes of PyTorch's exporter are named after its modules (`names`). This needs the
package `onnx`, which is imported only when a file is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import ops
from ...errors import FormatError, GraphError, UnsupportedOperator
from ...graph import ANY_SHAPE, Array, Graph, Node, TensorSpec
from ...process.locks import cached_property
from ...storage import validate
from . import opsets
from .attributes import attribute_value, attributes_of, schema_of
from .document import checked, opset_of, parse
from .functions import key_of, split_domain
from .names import Names, Scopes, check_unique, name_by_modules, read_scopes, rename, trimmed
from .operator_names import snake_case
from .ranks import Ranks
from .subgraphs import NO_SUBGRAPHS, Subgraphs, bind_captures, choose_branch, with_unique_names
from .tensors import NARROW_NAMES, Storage, dtype_name, to_array
from .types import Shape, kind_of, shape_of, shape_text, shapes_noted

if TYPE_CHECKING:
    from onnx import (
        GraphProto,
        ModelProto,
        NodeProto,
        TensorProto,
        ValueInfoProto,
    )

CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
"""Operators whose attributes are graphs."""

MAX_DEPTH = 50
"""Maximum depth of subgraphs inside each other."""


def read_onnx(
    source: str | os.PathLike[str] | bytes | ModelProto,
    *,
    name: str | None = None,
    module_names: bool = True,
) -> Graph:
    """Reads a network from an ONNX file, its bytes, or a ModelProto.

    Inputs and outputs keep their names. So do initialisers, and nodes and the tensors that they
    make, unless PyTorch's exporter noted their modules. If a node that is named after a module
    makes an output of another name, an `identity` makes that output.

    Args:
        source: the model. Data outside of the file must lie in its folder.
        name: name of the graph; None: that of the file, or that in the model.
        module_names: names nodes after the modules that PyTorch's exporter noted.

    Raises:
        FormatError: there is no such file, it is not an ONNX model, or is damaged.
        UnsupportedOperator: the model needs operators or attributes that cnnrt does not have; all
            of them are listed.
        ImportError: the package `onnx` is missing.
    """
    return read_onnx_model(source, name=name, module_names=module_names)[0]


def read_onnx_model(
    source: str | os.PathLike[str] | bytes | ModelProto,
    *,
    name: str | None = None,
    module_names: bool = True,
) -> tuple[Graph, dict[str, str]]:
    """Like `read_onnx`; returns also the texts of the model's metadata."""
    proto, at, storage = parse(source)
    try:
        return _read(proto, at, storage, name, module_names)
    except UnicodeDecodeError as error:  # of protobuf, where bytes are copied into a string
        raise FormatError(f"{at}: holds text that is not UTF-8: {error}") from None


def _read(
    proto: ModelProto, at: str, storage: Storage, name: str | None, module_names: bool
) -> tuple[Graph, dict[str, str]]:
    if not name:  # what cnnrt itself has written has its own
        own = storage.folder is None or proto.producer_name == "cnnrt"
        name = proto.graph.name if own else Path(at).stem
    importer = _Importer(checked(proto, at), at, storage, name or "model")
    graph = importer.graph(module_names=module_names)
    texts = {entry.key: entry.value for entry in proto.metadata_props}
    for key, value in texts.items():  # protobuf gives bytes where a string is not UTF-8
        validate.string(key, f"{at}: metadata")
        validate.string(value, f"{at}: metadata {key!r}")
    return graph, texts


class _Importer:
    """Reads one model; what adaptations of older opsets may ask (`onnx_opsets.Surroundings`)."""

    def __init__(self, proto: ModelProto, at: str, storage: Storage, name: str) -> None:
        self.proto, self.at, self.storage, self.name = proto, at, storage, name
        self.opset = opset_of(proto)
        self.problems: list[str] = []
        self.constants: dict[str, Array] = {}
        self._read_constants(proto.graph)
        self._asked: set[str] = set()
        # Data types of constants and inputs by ONNX's numbers.
        self._codes = {v.name: v.type.tensor_type.elem_type for v in proto.graph.input}
        self._codes |= {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
        given = {tensor.name for tensor in proto.graph.initializer}
        self.inputs = self._specs(v for v in proto.graph.input if v.name not in given)
        # Of IR 3 and older files all initialisers are inputs too, and constants all the same.
        defaults = given if proto.ir_version > 3 else set()
        self.optional_inputs = self._specs(v for v in proto.graph.input if v.name in defaults)
        check_unique(self.at, "input", self.inputs + self.optional_inputs)
        self.names = Names([*self.constants, *(spec.name for spec in self.inputs)])
        for made in proto.graph.node:
            for output in made.output:
                self.names.unique(output)
        self.nodes: list[Node] = []
        self._ranks = Ranks(self.constants, self.inputs)
        self.scopes: list[Scopes | None] = []

    def graph(self, *, module_names: bool) -> Graph:
        """The model as a graph.

        Raises:
            FormatError, UnsupportedOperator: see `read_onnx`.
        """
        tensors = len(self.problems)  # so far: of inputs and constants
        self._read_nodes(self.proto.graph.node)
        refused = len(self.problems) - tensors
        outputs = self._specs(self.proto.graph.output, output=True)
        tensors = len(self.problems) - refused
        if self.problems:
            counts = [f"run {refused} of its {len(self.proto.graph.node)} nodes"] if refused else []
            counts += [f"read {tensors} of its tensors"] if tensors else []
            lines = [f"{self.at}: cnnrt does not {' and does not '.join(counts)}:", *self.problems]
            raise UnsupportedOperator("\n  ".join(lines))
        nodes, scopes = self.nodes, self.scopes
        check_unique(self.at, "output", outputs)
        taken = [*self.constants, *(spec.name for spec in self.inputs)]
        names = [spec.name for spec in outputs]
        renamed = name_by_modules(nodes, scopes, taken, names) if module_names else {}
        rename(nodes, renamed, outputs)
        optional = [s for s in self.optional_inputs if s.name not in self._asked]
        graph = Graph(
            self.inputs, outputs, nodes, self.constants, self.name, optional_inputs=optional
        )
        for spec in graph.inputs + graph.outputs:
            validate.check_spec(spec, f"{self.at}: {spec.name!r}")
        try:
            graph.sort()
        except GraphError as error:
            raise FormatError(f"{self.at}: {error}") from None
        return graph

    # What adaptations ask for and add.

    def value(self, name: str) -> Array | None:
        self._asked.add(name)  # its value is part of the nodes now
        return self.constants.get(name)

    def shape(self, name: str) -> Shape | None:
        if name in self.constants:
            return tuple(self.constants[name].shape)
        noted = self._shapes.get(name)
        return self._ranks.shape(name) if noted is None else noted

    def rank(self, name: str) -> int | None:
        shape = self.shape(name)
        if shape is not None:
            return len(shape)
        known = self._ranks.type(name)
        return known.rank if known else None

    def dtype(self, name: str) -> np.dtype[Any] | None:
        known = self._ranks.type(name)
        return known.dtype.numpy if known else None

    def narrow(self, name: str) -> str | None:
        return NARROW_NAMES.get(self._codes.get(name, 0))

    def add_constant(self, name: str, value: Array) -> str:
        name = self.names.unique(name)
        self.constants[name] = value
        return name

    def add_tensor(self, name: str) -> str:
        return self.names.unique(name)

    # Nodes and their attributes.

    def _read_constants(self, graph: GraphProto) -> None:
        """Reads the initialisers; those that cnnrt cannot read are problems."""
        for tensor in graph.initializer:
            try:
                at = f"initialiser {tensor.name!r}"
                self._put_constant(tensor.name, self._array(tensor, at))
            except UnsupportedOperator as error:
                self.problems.append(str(error).removeprefix(f"{self.at}: "))

    def _read_nodes(self, protos: Iterable[NodeProto], depth: int = 0) -> None:
        """Appends the nodes, as the latest opset has them."""
        for i, proto in enumerate(protos):
            at = f"{self.at}: node {i} ({proto.op_type} {proto.name!r})"
            scope = read_scopes(proto)
            domain, op_type = key_of(proto)
            if not domain and op_type in CONTROL_FLOW:
                self._read_control_flow(proto, scope, at, depth)
                continue
            made = self._nodes(proto, scope, at)
            self.nodes += made
            self._ranks.pending += made
            self.scopes += [scope] * len(made)

    def _read_control_flow(
        self, proto: NodeProto, scope: Scopes | None, at: str, depth: int
    ) -> None:
        """Appends a node with subgraphs, or the nodes of the branch that an If always takes."""
        if depth > MAX_DEPTH:
            raise FormatError(f"{at}: more than {MAX_DEPTH} subgraphs inside each other")
        branch = choose_branch(proto, self, at) if proto.op_type == "If" else None
        if branch is not None:
            self._read_constants(branch.graph)
            self._read_nodes(branch.graph.node, depth + 1)
            for inner, outer in branch.outputs:
                self.nodes.append(Node("identity", outer, [inner], [outer]))
                self.scopes.append(None)
            return
        graphs = {
            a.name: self._subgraph(a.g, at, depth) for a in proto.attribute if a.HasField("g")
        }
        made = self._nodes(proto, scope, at, bind_captures(graphs))
        self.nodes += made
        self.scopes += [scope] * len(made)

    def _subgraph(self, proto: GraphProto, at: str, depth: int) -> Graph:
        """A branch or body, which captures its constants from the model.

        Its tensors have names that no other tensor of the model has.
        """
        proto = with_unique_names(proto, self, at)
        enclosing = self.nodes, self.scopes
        self.nodes, self.scopes = [], []
        try:
            given = {tensor.name for tensor in proto.initializer}
            inputs = [self._spec(v, output=True) for v in proto.input if v.name not in given]
            self._read_constants(proto)
            self._read_nodes(proto.node, depth + 1)
            outputs = [self._spec(value, output=True) for value in proto.output]
            return Graph(inputs, outputs, self.nodes, {}, proto.name or "subgraph")
        finally:
            self.nodes, self.scopes = enclosing

    def _nodes(
        self,
        proto: NodeProto,
        scope: Scopes | None,
        at: str,
        subgraphs: Subgraphs = NO_SUBGRAPHS,
    ) -> list[Node]:
        """A node as the latest opset has it; no node for a constant or after a problem."""
        for name in (*proto.input, *proto.output):
            validate.name_or_absent(name, at)
        if not any(proto.output):
            raise FormatError(f"{at}: has no outputs")
        # protobuf gives bytes where a string is not UTF-8.
        for text in (proto.op_type, proto.domain, proto.name):
            validate.string(text, at)
        domain, opset = split_domain(proto.domain)
        opset = opset or self.opset
        if not domain and proto.op_type == "Constant":
            try:
                self._put_constant(proto.output[0], self._constant(proto, at))
            except UnsupportedOperator as error:
                reason = str(error).removeprefix(f"{self.at}: ")
                self.problems.append(self._problem(proto, scope, reason))
            return []
        name = proto.name if validate.is_text(proto.name) else ""
        node = Node(
            f"{domain}.{proto.op_type}" if domain else snake_case(proto.op_type),
            (name or next(filter(None, proto.output)))[: validate.MAX_NAME],
            trimmed(proto.input),
            trimmed(proto.output),
        )
        try:
            if node.op not in opsets.ADAPTERS and (domain or node.op not in ops.OPS):
                raise UnsupportedOperator("")
            schema = None if domain else schema_of(proto, opset, at)
            node.attributes = attributes_of(proto, schema, at, self._array)
            subgraphs.attach(node)
            made = opsets.adapt(node, opset, self)
            for one in made:
                ops.complete(one)
            return made
        except UnsupportedOperator as error:
            self.problems.append(self._problem(proto, scope, str(error)))
            return []
        except GraphError as error:
            raise FormatError(f"{at}: {error}") from None
        except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise FormatError(f"{at}: is malformed: {error}") from None

    def _constant(self, proto: NodeProto, at: str) -> Array:
        """The value of a Constant node, given in any of ONNX's forms."""
        if len(proto.attribute) != 1:
            raise FormatError(f"{at}: has {len(proto.attribute)} values; expected one")
        attribute = proto.attribute[0]
        kinds: dict[str, Any] = {
            "value_float": np.float32,
            "value_floats": np.float32,
            "value_int": np.int64,
            "value_ints": np.int64,
        }
        if attribute.name == "value":
            self._codes[proto.output[0]] = attribute.t.data_type
            return self._array(attribute.t, f"constant {proto.output[0]!r}")
        if attribute.name in kinds:
            try:
                return np.array(attribute_value(attribute), kinds[attribute.name])
            except (TypeError, ValueError) as error:
                raise FormatError(f"{at}: {attribute.name!r}: {error}") from None
        raise UnsupportedOperator(f"constants of the kind {attribute.name!r} are not supported")

    def _array(self, tensor: TensorProto, at: str) -> Array:
        return to_array(tensor, f"{self.at}: {at}", self.storage)

    def _put_constant(self, name: str, value: Array) -> None:
        validate.name(name, f"{self.at}: constant")
        if name in self.constants:
            raise FormatError(f"{self.at}: the constant {name!r} occurs twice")
        self.constants[name] = value

    # Names.

    def _problem(self, proto: NodeProto, scope: Scopes | None, reason: str) -> str:
        """One line about a node that cnnrt does not run."""
        operator = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
        layer = f" of layer {scope.module!r}" if scope and scope.module else ""
        inputs = [f"{name}: {shape_text(self.shape(name))}" for name in proto.input if name]
        return (
            f"{operator} (node {proto.name or proto.output[0]!r}{layer}; "
            f"inputs {', '.join(inputs) or 'none'}){': ' if reason else ''}{reason}"
        )

    # Shapes and types.

    def _specs(self, values: Iterable[ValueInfoProto], *, output: bool = False) -> list[TensorSpec]:
        """The inputs or outputs that cnnrt reads; the others are problems."""
        specs = []
        for value in values:
            try:
                specs.append(self._spec(value, output=output))
            except UnsupportedOperator as error:
                self.problems.append(str(error).removeprefix(f"{self.at}: "))
        return specs

    def _spec(self, value: ValueInfoProto, *, output: bool = False) -> TensorSpec:
        """Name, shape and dtype of an input or output of the graph.

        An output whose shape cannot be inferred either has shape ().
        """
        at = f"{self.at}: {'output' if output else 'input'} {value.name!r}"
        validate.name(value.name, at)
        kind, type_ = kind_of(value, at)
        if kind != "tensor":
            code = type_.tensor_type.elem_type
            return TensorSpec(value.name, (), dtype_name(code or 1, at), kind)
        code = type_.tensor_type.elem_type or (1 if output else 0)
        shape = shape_of(value)
        if shape is None and not output:
            shape = ANY_SHAPE
        if shape is None:
            shape = self.shape(value.name) or ()
        return TensorSpec(value.name, shape, dtype_name(code, at))

    @cached_property
    def _shapes(self) -> dict[str, Shape | None]:
        """The shapes that the file notes."""
        return shapes_noted(self.proto)
