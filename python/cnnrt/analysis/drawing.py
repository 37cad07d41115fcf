"""A network as a page: its nodes and tensors as a drawing, its weights in numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import pages
from ..graph import Array, Graph, Node
from ..ops import OPS
from .layers import layers
from .layout import NODE_WIDTH, place
from .summary import node_settings, shape_text

ROW, NODE_HEIGHT, MARGIN = 92, 40, 24
"""Pixels: from one rank to the next, the height of a node, and around the drawing."""
MAX_TEXT = 28
"""Characters that fit into a node."""
BINS = 32
"""Bars of a histogram."""
MAX_ELEMENTS = 1 << 22
"""Maximum number of a constant's elements that go into its histogram."""


def write_page(
    path: str | os.PathLike[str],
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    title: str,
    fused: bool = False,
) -> None:
    """Writes the graph for inputs of these shapes as one HTML file that needs no other.

    Args:
        title: title of the page.
        fused: draw what runs, after fusion, instead of what was read.

    Raises:
        ShapeError: the network does not take such inputs.
        ImportError: Jinja is not installed.
        OSError: the file cannot be written.
    """
    found = layers(graph, shapes)
    drawn = found.fused if fused else found.original
    pages.write(path, "view.html", title=title, **drawing(drawn))


def drawing(graph: Graph) -> dict[str, Any]:
    """Data of the template: boxes, lines and labels, and the details of each box."""
    names = [spec.name for spec in graph.inputs]
    outputs = [spec.name for spec in graph.outputs]
    maker = {name: i for i, name in enumerate(names)}
    for i, node in enumerate(graph.nodes, len(names)):
        maker |= {name: i for name in node.outputs if name}
    ends = len(names) + len(graph.nodes)
    edges = [
        (maker[name], i, name)
        for i, node in enumerate(graph.nodes, len(names))
        for name in dict.fromkeys(node.inputs)
        if name in maker
    ]
    edges += [(maker[name], ends + i, name) for i, name in enumerate(outputs) if name in maker]
    places = place(ends + len(outputs), [(a, b) for a, b, _ in edges])
    boxes = [
        *(_end_box("input", name) for name in names),
        *(_box(graph, node) for node in graph.nodes),
        *(_end_box("output", name) for name in outputs),
    ]
    for box, (x, rank) in zip(boxes, places.nodes, strict=True):
        box |= {"x": round(x - NODE_WIDTH / 2 + MARGIN, 1), "y": rank * ROW + MARGIN}
    lines, labels, labelled = [], [], set()
    for a, b, name in edges:
        points = [(x + MARGIN, rank * ROW + MARGIN) for x, rank in places.routes[a, b]]
        lines.append({"from": a, "to": b, "path": _path(points)})
        if name not in labelled:
            labelled.add(name)
            (x0, y0), (x1, _) = points[0], points[1]
            shape = shape_text(graph.types[name].shape)
            labels.append(
                {
                    "x": round(x0 + 0.12 * (x1 - x0) + 5, 1),
                    "y": y0 + NODE_HEIGHT + 16,
                    "text": shape,
                }
            )
    families = dict.fromkeys(box["family"] for box in boxes)
    return {
        "boxes": boxes,
        "lines": lines,
        "labels": labels,
        "families": [name for name in pages.FAMILIES if name in families],
        "details": [
            *(_end_details(graph, "input", name) for name in names),
            *(_details(graph, node) for node in graph.nodes),
            *(_end_details(graph, "output", name) for name in outputs),
        ],
        "size": (
            round(places.width + 2 * MARGIN),
            (places.ranks - 1) * ROW + NODE_HEIGHT + 2 * MARGIN,
        ),
        "node": (NODE_WIDTH, NODE_HEIGHT),
        "constants": sum(value.size for value in graph.constants.values()),
    }


def _box(graph: Graph, node: Node) -> dict[str, Any]:
    return {
        "op": node.op.replace("_", " "),
        "text": node_settings(graph, node) or _brief(graph, node),
        "name": node.name,
        "family": pages.family(node.op),
    }


def _end_box(kind: str, name: str) -> dict[str, Any]:
    return {"op": kind, "text": name[:MAX_TEXT], "name": name, "family": "end"}


def _brief(graph: Graph, node: Node) -> str:
    """Short label of an operator without windows: its bounds, an attribute, or its name."""
    if node.op == "clip":
        values = [graph.constants.get(name) for name in (*node.inputs[1:], "", "")[:2]]
        low, high = ("" if v is None else f"{v.item():g}" for v in values)
        return f"{low or 'no limit'} to {high or 'no limit'}"
    for key in ("axis", "axes", "perm", "to", "mode"):
        if node.attributes.get(key) is not None:
            return f"{key} {node.attributes[key]}"[:MAX_TEXT]
    return node.name if len(node.name) <= MAX_TEXT else f"…{node.name[1 - MAX_TEXT :]}"


def _path(points: list[tuple[float, int]]) -> str:
    """A smooth line from the bottom of the first box to the top of the last."""
    x, y = points[0]
    y += NODE_HEIGHT
    parts = [f"M{x:.0f} {y}"]
    for i, (x1, top) in enumerate(points[1:], 1):
        last = i == len(points) - 1
        middle = (y + top) / 2
        if abs(x1 - x) < 0.5:
            parts.append(f"V{top}")
        else:
            parts.append(f"C{x:.0f} {middle:.0f} {x1:.0f} {middle:.0f} {x1:.0f} {top}")
        x, y = x1, top
        if not last:  # straight through the lane
            y = top + NODE_HEIGHT
            parts.append(f"V{y}")
    return "".join(parts)


def _details(graph: Graph, node: Node) -> dict[str, Any]:
    """Content of the panel that describes a node."""
    defaults = OPS[node.op].attributes
    attributes = {
        name: str(list(value) if isinstance(value, tuple) else value)
        for name, value in sorted(node.attributes.items())
        if value is not None and (name not in defaults or value != defaults[name])
    }
    return {
        "name": node.name,
        "op": node.op,
        "attributes": attributes,
        "inputs": [_tensor(graph, n) for n in node.inputs if n and n not in graph.constants],
        "outputs": [_tensor(graph, n) for n in node.outputs if n],
        "weights": [
            {"name": n, **statistics(graph.constants[n])}
            for n in dict.fromkeys(node.inputs)
            if n in graph.constants
        ],
    }


def _end_details(graph: Graph, kind: str, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "op": kind,
        "attributes": {},
        "weights": [],
        "inputs": [],
        "outputs": [],
        f"{kind}s": [_tensor(graph, name)],
    }


def _tensor(graph: Graph, name: str) -> dict[str, str]:
    type_ = graph.types[name]
    return {"name": name, "type": f"{type_.dtype} {shape_text(type_.shape)}"}


def statistics(value: Array) -> dict[str, Any]:
    """Shape, dtype, range and histogram of a constant; the elements instead if it is small."""
    document: dict[str, Any] = {"type": f"{value.dtype} {shape_text(value.shape)}"}
    if value.size <= 8:
        return {**document, "values": np.array2string(value.reshape(-1), precision=6)}
    flat = value.reshape(-1)
    if flat.size > MAX_ELEMENTS:
        flat = flat[:: -(-flat.size // MAX_ELEMENTS)]
    flat = flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat
    if not flat.size or flat.dtype.kind not in "fiu":
        return document
    wide = flat.astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    counts, _ = np.histogram(wide, BINS, range=(low, high if high > low else low + 1))
    return {
        **document,
        "min": low,
        "max": high,
        "mean": float(wide.mean()),
        "std": float(wide.std()),
        "zeros": float((wide == 0).mean()),
        "histogram": [round(float(c), 4) for c in counts / counts.max()],
    }
