"""A network as a table: what each layer is, what it costs and how much of the input it sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..graph import Graph, Node
from ..ops.windows import resolve_windows
from .counting import multiply_accumulates, parameters
from .layers import Layer, Layers, layers
from .receptive_field import Field, receptive_fields, text


@dataclasses.dataclass(frozen=True)
class LayerSummary:
    """One layer, with what was fused into it."""

    name: str
    operator: str
    settings: str
    """Kernel, stride, padding, dilation and groups, as far as they are not the usual ones."""
    fused: tuple[str, ...]
    """The operators fused into the layer."""
    output: tuple[int, ...]
    """The shape of its output."""
    parameters: int
    """Weights, biases, factors and shifts; those that layers share count where they come first."""
    macs: int
    """Multiply-accumulates by the direct method."""
    share: float
    """The layer's share of all multiply-accumulates of the network."""
    receptive_field: tuple[Field | None, ...] | None
    """The field along each spatial axis of the input, None for all of it. None if no image is
    seen."""
    activation_bytes: int
    """Bytes of its outputs."""

    def field_text(self) -> str:
        """The receptive field in a few characters."""
        return text(self.receptive_field)


@dataclasses.dataclass(frozen=True)
class Summary:
    """All layers, and the totals. `str` makes the table."""

    name: str
    inputs: dict[str, tuple[int, ...]]
    layers: list[LayerSummary]
    parameters: int
    macs: int
    weight_bytes: int
    """Bytes of the parameters as they were read."""
    activation_bytes: int
    """Bytes of the outputs of all layers together, as a framework that keeps them all needs."""
    packed_bytes: int | None = None
    """Bytes of the weights in the layouts that the kernels read."""
    arena_bytes: int | None = None
    """Bytes that one run needs besides weights, inputs and outputs: tensors share memory."""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists; an axis that is seen whole is null."""
        document = dataclasses.asdict(self)
        for row, layer in zip(document["layers"], self.layers, strict=True):
            row["weight_share"] = layer.parameters / max(1, self.parameters)
        return document

    def totals(self) -> list[tuple[str, str]]:
        """Name and value of each total."""
        rows = [
            ("parameters", f"{self.parameters:,}"),
            ("multiply-accumulates", f"{self.macs:,}"),
            ("weights", size_text(self.weight_bytes)),
            ("all activations", size_text(self.activation_bytes)),
        ]
        if self.packed_bytes is not None and self.arena_bytes is not None:
            rows += [
                ("packed weights", size_text(self.packed_bytes)),
                ("working memory", size_text(self.arena_bytes)),
            ]
        return rows

    def __str__(self) -> str:
        head = ("layer", "operator", "output", "parameters", "MACs", "share", "receptive field")
        rows = [
            (
                row.name,
                " ".join(filter(None, (row.operator, row.settings, *(f"+{f}" for f in row.fused)))),
                shape_text(row.output),
                f"{row.parameters:,}",
                f"{row.macs:,}",
                f"{row.share:.1%}" if row.macs else "",
                row.field_text(),
            )
            for row in self.layers
        ]
        lines = table([head, *rows], right={3, 4, 5})
        shapes = ", ".join(f"{name} {shape_text(shape)}" for name, shape in self.inputs.items())
        width = max(len(name) for name, _ in self.totals())
        totals = [f"{name:<{width}}  {value}" for name, value in self.totals()]
        return "\n".join([f"{self.name}: {shapes}", "", *lines, "", *totals])


def summarise(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Summary:
    """The summary of a network for inputs of these shapes; its memory as a plan is not known.

    Raises:
        ShapeError: an operator does not take what these shapes lead to.
    """
    found = layers(graph, shapes)
    fields = receptive_fields(found.original)
    counts = [
        sum(multiply_accumulates(found.original, node) for node in layer.sources)
        for layer in found.rows
    ]
    total = sum(counts)
    seen: set[str] = set()
    rows = []
    weight_bytes = 0
    for layer, macs in zip(found.rows, counts, strict=True):
        own = parameters(found.original, layer.sources)
        new = {name: size for name, size in own.items() if name not in seen}
        seen |= own.keys()
        weight_bytes += sum(found.original.constants[name].nbytes for name in new)
        types = [found.fused.types[name] for name in layer.node.outputs if name]
        rows.append(
            LayerSummary(
                name=layer.node.name,
                operator=operator(layer),
                settings=settings(found, layer),
                fused=tuple(node.op for node in layer.fused),
                output=types[0].shape,
                parameters=sum(new.values()),
                macs=macs,
                share=macs / total if total else 0.0,
                receptive_field=_field(layer, fields),
                activation_bytes=sum(t.size * t.dtype.itemsize for t in types),
            )
        )
    return Summary(
        name=graph.name,
        inputs={
            spec.name: found.original.types[spec.name].shape
            for spec in graph.inputs
            if spec.name in found.original.types  # not if it is a sequence
        },
        layers=rows,
        parameters=sum(row.parameters for row in rows),
        macs=total,
        weight_bytes=weight_bytes,
        activation_bytes=sum(row.activation_bytes for row in rows),
    )


def operator(layer: Layer) -> str:
    """The operator of a layer, as a reader of the original network knows it."""
    first = layer.sources[0] if layer.sources else layer.node
    # A normalisation by itself runs as a depthwise convolution.
    return first.op if first.op == "batch_normalization" else layer.node.op


def settings(found: Layers, layer: Layer) -> str:
    """Kernel, stride, padding, dilation and groups of a layer that has windows."""
    for graph, node in ((found.original, layer.sources[:1]), (found.fused, (layer.node,))):
        for one in node:
            if one.op == operator(layer):
                return node_settings(graph, one)
    return ""


def node_settings(graph: Graph, node: Node) -> str:
    """Like `settings`, for a node of a graph whose types are known."""
    kernel: Sequence[int]
    if node.op in ("conv", "conv_transpose"):
        kernel = graph.types[node.inputs[1]].shape[2:]
    elif node.attributes.get("kernel_shape"):
        kernel = node["kernel_shape"]
    else:
        return ""
    words = [_sizes(kernel)]
    rank = len(kernel)
    if node.op == "conv_transpose":
        stride = tuple(node["strides"] or [1] * rank)
        dilation = tuple(node["dilations"] or [1] * rank)
        pads = tuple(node["pads"] or [0] * 2 * rank)
    else:
        ceil_mode = bool(node.attributes.get("ceil_mode"))
        x = graph.types[node.inputs[0]].shape[2:]
        w = resolve_windows(node, x, kernel=kernel, ceil_mode=ceil_mode)
        stride, dilation, pads = w.stride, w.dilation, (*w.begin, *w.end)
    if set(stride) != {1}:
        words.append("stride " + _sizes(stride, short=True))
    if any(pads):
        symmetric = pads[:rank] == pads[rank:]
        own = _sizes(pads[:rank], short=True) if symmetric else ",".join(map(str, pads))
        words.append("pad " + own)
    if set(dilation) != {1}:
        words.append("dilation " + _sizes(dilation, short=True))
    group = node.attributes.get("group", 1)
    if group > 1:
        depthwise = node.op == "conv" and group == graph.types[node.inputs[0]].shape[1]
        words.append("depthwise" if depthwise else f"groups {group}")
    return " ".join(words)


def _sizes(values: Sequence[int], *, short: bool = False) -> str:
    return str(values[0]) if short and len(set(values)) == 1 else "x".join(map(str, values))


def _field(
    layer: Layer, fields: Mapping[str, tuple[Field | None, ...]]
) -> tuple[Field | None, ...] | None:
    """The field of the layer's output, or of the output of the original node that it replaces."""
    names = [*layer.node.outputs, *(name for node in layer.sources[:1] for name in node.outputs)]
    return next((fields[name] for name in names if name in fields), None)


def shape_text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def size_text(count: float) -> str:
    """Bytes in the unit that suits them, powers of 1000: "4.5 MB"."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def table(rows: Sequence[Sequence[str]], *, right: set[int]) -> list[str]:
    """Lines of aligned columns; those numbered in `right` are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:>{width}}" if i in right else f"{cell:<{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
