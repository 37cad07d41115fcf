"""Pictures of the filters and the answers of a network, as PIL images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from ..analysis.classifier import input_shape
from ..errors import GraphError
from ..graph import Array
from ..images import open_image
from ..model import Model
from ..passes.infer import infer
from ..preprocessing import Preprocessing
from .activation_maps import ActivationMap

CELL = 112
"""Pixels of a side of one channel in a grid."""
GAP = 3
COLUMNS = 8
CHANNELS = 16
LONGEST = 640
"""Pixels of the longer side of a photograph."""
LAYERS = 6
MAX_FILTERS = 1024
"""Filters that are shown; networks for photographs have 16 to 96 first ones."""

HEAT = [(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)]
"""Colours from nothing to the maximum: five of matplotlib's map inferno (CC0), whose lightness
rises evenly."""


def first_filters(model: Model) -> Image.Image:
    """The first 1024 filters of the first convolution as small pictures, 48 pixels or more each.

    Grey is zero; each filter is scaled to its own largest weight. Channels are shown as red, green
    and blue, in that order whatever the order in the input is.

    Raises:
        GraphError: the network has no convolution of an image with one or three channels.
    """
    for node in model.graph.nodes:
        weight = model.graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if node.op == "conv" and weight is not None and weight.ndim == 4:
            break
    else:
        raise GraphError("the network has no two-dimensional convolution")
    if weight.shape[1] not in (1, 3):
        raise GraphError(
            f"the filters of {node.name!r} have {weight.shape[1]} channels; 1 or 3 can be shown"
        )
    pixels = np.moveaxis(weight[:MAX_FILTERS].astype(np.float64), 1, 3)
    if model.preprocessing and model.preprocessing.channels == "BGR":
        pixels = pixels[..., ::-1]
    if not pixels.size:
        raise GraphError(f"the filters of {node.name!r} have the shape {list(weight.shape)}")
    largest = np.abs(pixels).max(axis=(1, 2, 3), keepdims=True)
    shades = 0.5 + 0.5 * pixels / np.maximum(largest, 1e-12)
    cells = np.repeat(_bytes(shades), 3 // pixels.shape[3], axis=3)
    scale = max(1, math.ceil(48 / max(cells.shape[1:3])))
    return grid([cell.repeat(scale, 0).repeat(scale, 1) for cell in cells])


def default_layers(model: Model) -> list[str]:
    """A layer for each size that the image has on its way: the last one of that size.

    Raises:
        GraphError: no layer has height and width.
    """
    spec = model.inputs[0]
    typed = model.graph.copy()
    infer(typed, {spec.name: input_shape(spec, model.preprocessing)})
    last: dict[tuple[int, ...], str] = {}
    for node in typed.nodes:
        for name in filter(None, node.outputs):
            size = typed.types[name].shape[2:]
            if len(size) == 2 and min(size) > 1 and "pool" not in node.op:
                last.pop(size, None)  # so that the layers stay in order
                last[size] = name
    if not last:
        raise GraphError("no layer of this network has height and width; give --layers")
    names = list(last.values())
    chosen = np.linspace(0, len(names) - 1, min(LAYERS, len(names))).round().astype(int)
    return [names[i] for i in chosen]


def layer_maps(model: Model, x: Array, layer: str) -> Array:
    """The feature maps (C, h, w) of a layer for the network's input for one image.

    Raises:
        GraphError: there is no such layer, or it has no height and width.
    """
    maps: Array = model.run(x, outputs=[layer])
    if maps.ndim != 4 or not maps.size:
        raise GraphError(
            f"layer {layer!r} has shape {list(maps.shape)}, no height and width, or no elements"
        )
    first: Array = maps[0]
    return first


def strongest(maps: Array, count: int | None) -> list[int]:
    """The channels of maps (C, h, w) that vary most over the image, the most varied first."""
    spread = np.maximum(maps, 0).std(axis=(1, 2))
    return [int(i) for i in np.argsort(-spread, kind="stable")[:count]]


def channel_maps(maps: Array, channels: list[int]) -> Image.Image:
    """Channels of maps (C, h, w) side by side, each scaled to its own largest value."""
    size = _cell(maps)
    cells = []
    for channel in channels:
        picture = Image.fromarray(_coloured(_share(maps[channel])))
        cells.append(np.asarray(picture.resize(size, Image.Resampling.NEAREST)))
    return grid(cells)


def channel_lights(maps: Array, channels: list[int], view: Image.Image) -> Image.Image:
    """The network's view of the photograph for each channel, light where the channel answers."""
    size = _cell(maps)
    photo = np.asarray(view.resize(size, Image.Resampling.LANCZOS), np.float64) / 255
    cells = []
    for channel in channels:
        share = Image.fromarray(_share(maps[channel]).astype(np.float32))
        light = np.asarray(share.resize(size, Image.Resampling.BILINEAR), np.float64)[..., None]
        cells.append(_bytes(photo * (0.15 + 1.05 * light)))
    return grid(cells)


def network_view(photo: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The part of a photograph that a network sees, in its own pixels."""
    box = preprocessing.view(*photo.size)
    return photo.crop(tuple(round(edge) for edge in box))  # type: ignore[arg-type]


def heat_over(
    photo: Image.Image, found: ActivationMap, preprocessing: Preprocessing
) -> Image.Image:
    """An activation map laid over the photograph; parts that the network does not see are dark."""
    left, top, right, bottom = (round(edge) for edge in preprocessing.view(*photo.size))
    share = _share(found.resized(bottom - top, right - left))
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(right, photo.width), min(bottom, photo.height)
    share = share[y0 - top : y1 - top, x0 - left : x1 - left]
    pixels = np.asarray(photo.convert("RGB"), np.float64)
    result = 0.35 * pixels
    seen = pixels[y0:y1, x0:x1]
    opacity = 0.75 * share[..., None]
    result[y0:y1, x0:x1] = (1 - opacity) * seen + opacity * _coloured(share)
    return Image.fromarray(_bytes(result / 255))


def photograph(image: Any) -> Image.Image:
    """A photograph, upright, in RGB and not larger than a page needs.

    Raises:
        ImageError: it cannot be read.
    """
    photo = open_image(image, "RGB")
    photo.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return photo


def grid(cells: list[Array]) -> Image.Image:
    """Pictures of one size, (h, w, 3) of uint8, in rows of eight."""
    h, w = cells[0].shape[:2]
    columns = min(COLUMNS, len(cells))
    rows = math.ceil(len(cells) / columns)
    sheet = np.full((rows * (h + GAP) - GAP, columns * (w + GAP) - GAP, 3), 255, np.uint8)
    for i, cell in enumerate(cells):
        y, x = (i // columns) * (h + GAP), (i % columns) * (w + GAP)
        sheet[y : y + h, x : x + w] = cell
    return Image.fromarray(sheet)


def _cell(maps: Array) -> tuple[int, int]:
    """Width and height of a channel in a grid."""
    h, w = maps.shape[1:]
    return max(1, round(CELL * w / max(h, w))), max(1, round(CELL * h / max(h, w)))


def _share(values: Array) -> Array:
    """Values as shares of the largest; negative ones become zero."""
    positive = np.maximum(values.astype(np.float64), 0)
    return np.asarray(positive / max(float(positive.max()), 1e-12))


def _coloured(share: Array) -> Array:
    """Shares (h, w) as colours (h, w, 3), uint8."""
    places = np.linspace(0, 1, len(HEAT))
    table = np.array(HEAT, np.float64)
    return _bytes(np.stack([np.interp(share, places, table[:, c]) for c in range(3)], -1) / 255)


def _bytes(shares: Array) -> Array:
    return np.asarray((255 * shares.clip(0, 1)).round(), np.uint8)
