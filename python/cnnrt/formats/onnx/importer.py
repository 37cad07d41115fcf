"""ONNX -> Graph.

Operators keep their meaning and get names in snake_case; older opsets are brought up to date
(`onnx_opsets`), nodes of PyTorch's exporter are named after its modules (`onnx_names`). Needs the
package `onnx`, which is imported only when a file is read.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import ops
from ...errors import FormatError, GraphError, UnsupportedOperator
from ...graph import ANY_SHAPE, Array, Dim, Graph, Kind, Node, TensorSpec
from ...process.locks import cached_property, importing
from ...storage import validate
from ...storage.files import file_of, map_file
from . import opsets
from .functions import Key, expand, key_of, split_domain
from .legacy import UNLISTED
from .names import Names, Scopes, name_by_modules, read_scopes
from .ranks import Ranks
from .subgraphs import NO_SUBGRAPHS, Subgraphs, bind_captures, choose_branch, with_unique_names
from .tensors import NARROW_NAMES, Storage, dtype_name, to_array
from .wire import without_tensors

if TYPE_CHECKING:
    from onnx import (
        AttributeProto,
        GraphProto,
        ModelProto,
        NodeProto,
        TensorProto,
        TypeProto,
        ValueInfoProto,
    )
    from onnx.defs import OpSchema

WHOLE_WORDS = (
    *("MatMul", "TopK", "PRelu", "SwiGLU", "NaN", "CumSum", "CumProd", "ArgMax", "ArgMin"),
    *("QLinear", "Col2Im"),
)
"""Parts of ONNX's names that are one word in cnnrt's."""

WITHOUT_NODE = ("Constant",)
"""Operators that the importer takes and that leave no node of theirs in the graph."""

CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
"""Operators whose attributes are graphs."""

DTYPE_ATTRIBUTES = ("to", "dtype", "output_datatype", "output_dtype", "softmax_precision")
"""Attributes that are a dtype by its number; 0 stands for none."""

MAX_DEPTH = 50
"""Subgraphs inside each other."""

Shape = tuple[Dim, ...]


@cache
def snake_case(op_type: str) -> str:
    """cnnrt's name of an ONNX operator: "BatchNormalization" is "batch_normalization"."""
    for word in WHOLE_WORDS:
        op_type = op_type.replace(word, word.capitalize())
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", op_type).lower()


def read_onnx(
    source: str | os.PathLike[str] | bytes | ModelProto,
    *,
    name: str | None = None,
    module_names: bool = True,
) -> Graph:
    """Reads a network from an ONNX file, its bytes, or a ModelProto.

    Inputs and outputs keep their names. So do initialisers and, unless PyTorch's exporter noted
    the modules they come from, nodes and what they make. Where a node that is named after a module
    makes an output of another name, an `identity` makes that output.

    Args:
        source: the model. Data outside of the file must lie in its folder.
        name: of the graph; None: that of the file, or that in the model.
        module_names: whether nodes are named after the modules that PyTorch's exporter noted.

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
    """As `read_onnx`; also the texts of the model's metadata."""
    proto, at, storage = _parse(source)
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
    importer = _Importer(_checked(proto, at), at, storage, name or "model")
    graph = importer.graph(module_names=module_names)
    texts = {entry.key: entry.value for entry in proto.metadata_props}
    for key, value in texts.items():  # protobuf gives bytes where a string is not UTF-8
        validate.string(key, f"{at}: metadata")
        validate.string(value, f"{at}: metadata {key!r}")
    return graph, texts


def _parse(
    source: str | os.PathLike[str] | bytes | ModelProto,
) -> tuple[ModelProto, str, Storage]:
    """The model, what errors call it, and where its large tensors lie."""
    try:
        with importing:  # all that this package uses of onnx
            import onnx.inliner  # noqa: PLC0415  (an optional dependency)
            import onnx.numpy_helper  # noqa: PLC0415
            import onnx.shape_inference  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            "reading ONNX needs the package onnx: pip install 'cnnrt[onnx]'"
        ) from error

    if isinstance(source, onnx.ModelProto):
        return source, "ONNX model", Storage()
    if isinstance(source, bytes):
        data, at, path = memoryview(source), "ONNX model", None
    else:
        data, at, path = map_file(source), str(source), Path(source)
    storage = Storage(data, path)
    message = without_tensors(data, storage.location)
    if (file := file_of(data)) is not None:
        file.release()  # its pages come in groups of 16: looking at frames brings in a third of all
    try:
        return onnx.ModelProto.FromString(message or bytes(data)), at, storage
    except Exception as error:  # protobuf's DecodeError, a class of a package of its own
        raise FormatError(f"{at}: is not an ONNX model, or is cut off: {error}") from None


def _checked(proto: ModelProto, at: str) -> ModelProto:
    """The model, if it is one at all and has nothing that cnnrt reads of no model.

    Raises:
        FormatError, UnsupportedOperator: see `read_onnx`.
    """
    if not proto.graph.output:
        raise FormatError(f"{at}: is not an ONNX model: it has no outputs")
    opset = _opset(proto, at)
    if opset > opsets.LATEST:
        raise FormatError(
            f"{at}: is of opset {opset}, cnnrt knows them up to {opsets.LATEST}; export it with a "
            "lower opset_version"
        )
    if proto.graph.sparse_initializer:
        raise UnsupportedOperator(f"{at}: has sparse initialisers, which cnnrt does not read")
    return expand(proto, at, _is_supported)


def _is_supported(key: Key) -> bool:
    """Whether the importer takes nodes of this operator, if their attributes allow it."""
    domain, op_type = key
    domain, _ = split_domain(domain)
    op = f"{domain}.{op_type}" if domain else snake_case(op_type)
    known = op in opsets.ADAPTERS or (not domain and op in ops.OPS)
    return known or (not domain and op_type in WITHOUT_NODE)


def _opset(proto: ModelProto, at: str = "ONNX model") -> int:
    """The version of ONNX's own operators that the model uses.

    Raises:
        FormatError: it uses such operators but does not state it, as it must since IR version 3.
    """
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions and proto.ir_version >= 3:
        for node in proto.graph.node:
            if key_of(node)[0] == "":
                raise FormatError(
                    f"{at}: has no opset_import for the operators of ONNX, such as "
                    f"{node.op_type!r}, which mean different things in different opsets; export "
                    "it again, or set its opset_import"
                )
    return max(versions, default=1 if proto.ir_version < 3 else opsets.LATEST)


class _Importer:
    """Reads one model; what adaptations of older opsets may ask (`onnx_opsets.Surroundings`)."""

    def __init__(self, proto: ModelProto, at: str, storage: Storage, name: str) -> None:
        self.proto, self.at, self.storage, self.name = proto, at, storage, name
        self.opset = _opset(proto)
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
        self._check_unique("input", self.inputs + self.optional_inputs)
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
        self._check_unique("output", outputs)
        taken = [*self.constants, *(spec.name for spec in self.inputs)]
        names = [spec.name for spec in outputs]
        renamed = name_by_modules(nodes, scopes, taken, names) if module_names else {}
        self._rename(nodes, renamed, outputs)
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
        return self._inferred_shapes.get(name) if noted is None else noted

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
        """Takes over the initialisers; those that cnnrt does not read are problems."""
        for tensor in graph.initializer:
            try:
                at = f"initialiser {tensor.name!r}"
                self._put_constant(tensor.name, self._array(tensor, at))
            except UnsupportedOperator as error:
                self.problems.append(str(error).removeprefix(f"{self.at}: "))

    def _read_nodes(self, protos: Iterable[NodeProto], depth: int = 0) -> None:
        """Appends what the nodes become in the latest opset."""
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
        """A node as the latest opset has it; none for a constant or if there is a problem."""
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
            _trimmed(proto.input),
            _trimmed(proto.output),
        )
        try:
            if node.op not in opsets.ADAPTERS and (domain or node.op not in ops.OPS):
                raise UnsupportedOperator("")
            schema = None if domain else self._schema(proto, opset, at)
            node.attributes = self._attributes(proto, schema, at)
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

    def _schema(self, proto: NodeProto, opset: int, at: str) -> OpSchema | None:
        """What ONNX says of an operator, after checking the numbers of inputs and outputs by it."""
        from onnx import defs  # noqa: PLC0415  (an optional dependency)

        try:
            schema = defs.get_schema(proto.op_type, opset, "")
        except defs.SchemaError:
            if proto.op_type in UNLISTED:
                return None
            raise UnsupportedOperator(f"opset {opset} of ONNX has no such operator") from None
        inputs, outputs = len(proto.input), len(proto.output)
        if not schema.min_input <= inputs <= schema.max_input or outputs > schema.max_output:
            raise FormatError(
                f"{at}: has {inputs} inputs and {outputs} outputs; expected {schema.min_input} to "
                f"{schema.max_input} and up to {schema.max_output}"
            )
        return schema

    def _attributes(self, proto: NodeProto, schema: OpSchema | None, at: str) -> dict[str, Any]:
        """Attributes as Python values: tensors as numbers, numbers of dtypes as names.

        Without a schema they are checked where the node is adapted.
        """
        attributes: dict[str, Any] = {}
        for attribute in proto.attribute:
            name = attribute.name
            if name in attributes:
                raise FormatError(f"{at}: has the attribute {name!r} twice")
            if schema is not None and name not in schema.attributes:
                raise UnsupportedOperator(f"ONNX does not have the attribute {name!r}")
            if attribute.type in (attribute.GRAPH, attribute.TYPE_PROTO):
                continue  # subgraphs are read apart; types of optionals show in their values
            kind: Any = schema.attributes[name].type if schema is not None else None
            if schema is not None and attribute.type != kind.value:
                raise FormatError(f"{at}: the attribute {name!r} is of another type than in ONNX")
            if proto.op_type == "ConstantOfShape" and name == "value":
                array = self._array(attribute.t, f"node {proto.name!r}: value")
                if array.size != 1:
                    raise FormatError(f"{at}: its value has {array.size} elements; expected 1")
                attributes |= {"value": array.item(), "dtype": array.dtype.name}
            elif name in DTYPE_ATTRIBUTES and attribute.type == attribute.INT:
                if name in ("to", "output_dtype") and attribute.i in NARROW_NAMES:
                    attributes[name] = NARROW_NAMES[attribute.i]
                elif attribute.i or name == "to":
                    attributes[name] = dtype_name(attribute.i, f"attribute {name!r}")
            else:
                attributes[name] = _attribute_value(attribute)
        return attributes

    def _constant(self, proto: NodeProto, at: str) -> Array:
        """The value of a Constant node, in any of the forms that it can have."""
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
                return np.array(_attribute_value(attribute), kinds[attribute.name])
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

    def _check_unique(self, what: str, specs: list[TensorSpec]) -> None:
        names = Counter(spec.name for spec in specs)
        for name, count in names.items():
            if count > 1:
                raise FormatError(f"{self.at}: {count} {what}s are named {name!r}")

    def _rename(
        self, nodes: list[Node], renamed: dict[str, str], outputs: list[TensorSpec]
    ) -> None:
        """Gives tensors their new names, and the graph's outputs their own."""
        for node in nodes:
            node.inputs = [renamed.get(name, name) for name in node.inputs]
            node.outputs = [renamed.get(name, name) for name in node.outputs]
        for spec in outputs:
            if renamed.get(spec.name, spec.name) != spec.name:
                nodes.append(Node("identity", spec.name, [renamed[spec.name]], [spec.name]))

    def _problem(self, proto: NodeProto, scope: Scopes | None, reason: str) -> str:
        """One line about a node that cnnrt does not run."""
        operator = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
        layer = f" of layer {scope.module!r}" if scope and scope.module else ""
        inputs = [f"{name}: {_shape_text(self.shape(name))}" for name in proto.input if name]
        return (
            f"{operator} (node {proto.name or proto.output[0]!r}{layer}; "
            f"inputs {', '.join(inputs) or 'none'}){': ' if reason else ''}{reason}"
        )

    # Shapes and types.

    def _specs(self, values: Iterable[ValueInfoProto], *, output: bool = False) -> list[TensorSpec]:
        """Those of the inputs or outputs that cnnrt reads; the others are problems."""
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
        kind, type_ = _kind(value, at)
        if kind != "tensor":
            code = type_.tensor_type.elem_type
            return TensorSpec(value.name, (), dtype_name(code or 1, at), kind)
        code = type_.tensor_type.elem_type or (1 if output else 0)
        shape = _shape(value)
        if shape is None and not output:
            shape = ANY_SHAPE
        if shape is None:
            shape = self.shape(value.name) or ()
        return TensorSpec(value.name, shape, dtype_name(code, at))

    @cached_property
    def _shapes(self) -> dict[str, Shape | None]:
        """Shapes that the file notes."""
        return _shapes(self.proto)

    @cached_property
    def _inferred_shapes(self) -> dict[str, Shape | None]:
        """Shapes that onnx can infer; none if it fails."""
        import onnx.shape_inference  # noqa: PLC0415

        try:
            return _shapes(onnx.shape_inference.infer_shapes(self.proto))
        except Exception:  # of a model that may be anything; the shapes only help
            return {}


def _trimmed(names: Iterable[str]) -> list[str]:
    """The names without empty ones at the end."""
    found = list(names)
    while found and not found[-1]:
        found.pop()
    return found


def _attribute_value(attribute: AttributeProto) -> Any:
    """The value of an attribute that is no tensor and no graph.

    Raises:
        UnsupportedOperator: it is.
    """
    kinds = attribute.AttributeType
    if attribute.type == kinds.FLOAT:
        return _decimal(attribute.f)
    if attribute.type == kinds.INT:
        return attribute.i
    if attribute.type == kinds.STRING:
        return attribute.s.decode("utf-8", "replace")
    if attribute.type == kinds.FLOATS:
        return [_decimal(value) for value in attribute.floats]
    if attribute.type == kinds.INTS:
        return list(attribute.ints)
    if attribute.type == kinds.STRINGS:
        return [value.decode("utf-8", "replace") for value in attribute.strings]
    raise UnsupportedOperator(f"attribute {attribute.name!r} is no number and no text")


def _decimal(value: float) -> float:
    """The shortest decimal number that is this float32: 0.1 rather than 0.10000000149."""
    return float(str(np.float32(value)))


def _kind(value: ValueInfoProto, at: str) -> tuple[Kind, TypeProto]:
    """The kind of a value, and the type of the tensors in it.

    Raises:
        UnsupportedOperator: it is a map, a sparse tensor, or another kind that cnnrt does not have.
    """
    kind: Kind = "tensor"
    type_ = value.type
    if type_.HasField("optional_type"):
        kind, type_ = "optional", type_.optional_type.elem_type
    if type_.HasField("sequence_type"):
        kind = "sequence" if kind == "tensor" else kind
        type_ = type_.sequence_type.elem_type
    if type_.WhichOneof("value") not in (None, "tensor_type"):
        raise UnsupportedOperator(f"{at}: is no tensor, sequence or optional of tensors")
    return kind, type_


def _shapes(proto: ModelProto) -> dict[str, Shape | None]:
    graph = proto.graph
    return {value.name: _shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}


def _shape(value: ValueInfoProto) -> Shape | None:
    """The shape of a tensor; sizes that are not known get a name from the tensor's."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims: list[Dim] = []
    for i, dim in enumerate(value.type.tensor_type.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value > 0:
            dims.append(dim.dim_value)
        else:  # 0 and -1 are how some exporters say that a size is free
            free = dim.dim_param
            known = isinstance(free, str) and 0 < len(free) <= validate.MAX_NAME
            dims.append(free if known and validate.is_text(free) else f"{value.name}_{i}")
    return tuple(dims)


def _shape_text(shape: Shape | None) -> str:
    return "of unknown shape" if shape is None else f"[{', '.join(map(str, shape))}]"
