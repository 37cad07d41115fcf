"""The proof that each image of a batch gives the same result as it would alone.

It compares the graph for a batch with the graph for one image, both after all passes. They must
have the same nodes. Each tensor that depends on the batch then has an axis of images, found by the
axes mapping of the node that makes it. The position of an image along that axis must depend on the
same image alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..graph import Graph, Node
from ..ops import NodeTypes, axes_mapping
from ..ops.axes import Links


def dependence(batch: Graph, one: Graph) -> str | None:
    """A reason why an image may get another result in `batch` than alone in `one`; None if it
    cannot.

    Args:
        batch: a network specialised for inputs of several images.
        one: the same network, specialised for one image.
    """
    if len(batch.nodes) != len(one.nodes):
        return "the network for one image has other nodes"
    images = {batch.types[spec.name].shape[0] for spec in batch.inputs}.pop()
    axes = {spec.name: 0 for spec in batch.inputs}
    for node, twin in zip(batch.nodes, one.nodes, strict=True):
        alike = (node.op, node.inputs, node.outputs) == (twin.op, twin.inputs, twin.outputs)
        if not alike or not _same_attributes(node, twin):
            return f"node {node.name!r} ({node.op}) is another one for one image"
        types = NodeTypes.of(node, batch)
        mapping = axes_mapping(node, types)
        read = [
            (name, links)
            for name, links in zip(node.inputs, mapping.links(), strict=True)
            if name and links is not None
        ]
        for name, _ in read:
            if name in batch.constants and not _compare(name, batch, one, images, axes):
                return f"node {node.name!r} ({node.op}) reads another {name!r} for one image"
        batched = any(name in axes for name, _ in read)
        for index, output in enumerate(node.outputs):
            if not output:
                continue
            expected = list(one.types[output].shape)
            if batched:
                links = list(zip(node.inputs, mapping.links(index), strict=True))
                axis = _images_axis(links, batch, axes)
                if axis is None or axis >= len(expected) or expected[axis] != 1:
                    return f"node {node.name!r} ({node.op}) mixes the images of a batch"
                expected[axis] = images
                axes[output] = axis
            if batch.types[output].shape != tuple(expected):
                return f"node {node.name!r} ({node.op}) makes another shape for one image"
    last = next((spec.name for spec in batch.outputs if axes.get(spec.name) != 0), None)
    return None if last is None else f"output {last!r} does not have the images on its first axis"


def _images_axis(
    inputs: Sequence[tuple[str, Links]], batch: Graph, axes: Mapping[str, int]
) -> int | None:
    """The axis of an output whose position i depends on image i alone; None if there is none."""
    found = {links[axes[name]].follows for name, links in inputs if name in axes and links}
    if len(found) != 1 or None in found:
        return None
    (output,) = found
    for name, links in inputs:
        shape = batch.types[name].shape if links else ()
        for axis, (link, size) in enumerate(zip(links or (), shape, strict=True)):
            broadcasts = size == 1 and link.follows is not None
            if output in link.outputs and axes.get(name) != axis and not broadcasts:
                return None
    return output


def _same_attributes(node: Node, twin: Node) -> bool:
    return node.attributes.keys() == twin.attributes.keys() and all(
        value is twin[name] or np.array_equal(value, twin[name])
        for name, value in node.attributes.items()
    )


def _compare(name: str, batch: Graph, one: Graph, images: int, axes: dict[str, int]) -> bool:
    """True if a constant is the same in both graphs, or repeats for each image that of one.

    In the second case its axis of images is entered into `axes`.
    """
    ours, theirs = batch.constants[name], one.constants.get(name)
    if ours is theirs:
        return True
    if theirs is None or ours.dtype != theirs.dtype:
        return False
    if ours.shape == theirs.shape:
        return bool(np.array_equal(ours, theirs))
    for axis, size in enumerate(theirs.shape):
        of_images = (*theirs.shape[:axis], images, *theirs.shape[axis + 1 :])
        if size == 1 and ours.shape == of_images and bool(np.equal(ours, theirs).all()):
            axes[name] = axis
            return True
    return False
