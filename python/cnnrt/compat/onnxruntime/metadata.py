"""A model's inputs, outputs and metadata as its file states them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import FormatError
from ...formats.sources import is_message
from ...model import Model
from ...storage.files import open_model
from .types import NodeArg, of_spec, of_value

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass
class ModelMetadata:
    """The maker of a model, and texts that were stored with it."""

    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    graph_description: str = ""
    version: int = 9223372036854775807
    """ONNX Runtime gives the greatest integer for a file without a version."""
    custom_metadata_map: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AssignedNode:
    """A node by its domain (empty for ONNX's own operators), operator and name."""

    domain: str
    op_type: str
    name: str


@dataclass(frozen=True)
class AssignedSubgraph:
    """Nodes that a provider runs."""

    ep_name: str
    node: AssignedNode

    def get_nodes(self) -> list[AssignedNode]:
        return [self.node]


@dataclass
class Facts:
    """Everything that a session says of its model."""

    inputs: list[NodeArg]
    outputs: list[NodeArg]
    overridable: list[NodeArg]
    """Inputs that need not be given."""
    metadata: ModelMetadata
    denotations: dict[str, list[str]]
    """Denotations of the sizes of the inputs, by input."""
    nodes: list[AssignedNode]


def config_of(source: Any) -> str | None:
    """Options for sessions that an ONNX file states in its metadata, as JSON."""
    proto = _proto(source)
    entries = proto.metadata_props if proto else ()
    return next((entry.value for entry in entries if entry.key == "ort_config"), None)


def facts_of(source: Any, model: Model) -> Facts:
    """The facts that the file of a loaded model states; those that cnnrt knows, for a model.bin."""
    try:
        proto = _proto(source)
    except (FormatError, ImportError):
        proto = None
    if proto is None or not proto.graph.output:
        return Facts(
            [of_spec(s) for s in model.inputs],
            [of_spec(s) for s in model.outputs],
            [of_spec(s) for s in model.optional_inputs],
            ModelMetadata(producer_name="cnnrt", graph_name=model.graph.name),
            {},
            [AssignedNode("", node.op, node.name) for node in model.graph.nodes],
        )
    stated = {v.name: of_value(v) for v in (*proto.graph.input, *proto.graph.output)}
    shaped = {v.name for v in proto.graph.output if v.type.tensor_type.HasField("shape")}
    graph = proto.graph
    return Facts(
        [stated.get(s.name, of_spec(s)) for s in model.inputs],
        [stated[s.name] if s.name in shaped else _typed(s, stated) for s in model.outputs],
        [stated.get(s.name, of_spec(s)) for s in model.optional_inputs],
        ModelMetadata(
            proto.producer_name,
            graph.name,
            proto.domain,
            proto.doc_string,
            graph.doc_string,
            proto.model_version if proto.HasField("model_version") else ModelMetadata.version,
            {entry.key: entry.value for entry in proto.metadata_props},
        ),
        {v.name: [d.denotation for d in v.type.tensor_type.shape.dim] for v in graph.input},
        [AssignedNode(node.domain, node.op_type, node.name) for node in graph.node],
    )


def _typed(spec: Any, stated: dict[str, NodeArg]) -> NodeArg:
    """An output whose shape the file leaves out: of the shape that cnnrt infers."""
    own = of_spec(spec)
    type_ = stated[spec.name].type if spec.name in stated else own.type
    return NodeArg(spec.name, own.shape, own.type if "undefined" in type_ else type_)


def is_model_bin(source: Any) -> bool:
    """True for the path or the bytes of a model.bin, which has its JSON after eight bytes.

    Raises:
        FormatError: there is no such file, or it cannot be read.
    """
    if is_message(source):
        return False
    if isinstance(source, bytes):
        return source[8:9] == b"{"
    with open_model(source) as file:
        try:
            return file.read(9)[8:] == b"{"
        except OSError as error:
            raise FormatError(f"{source}: cannot be read: {error.strerror}") from None


def _proto(source: Any) -> ModelProto | None:
    """The message of an ONNX file without its weights; None for a model.bin."""
    from ...formats.onnx.document import parse  # noqa: PLC0415  (an optional dependency)

    return None if is_model_bin(source) else parse(source)[0]
