"""Super-resolution of pictures of any size, in tiles that overlap.

A pixel of the result depends on the pixels of the picture within the network's receptive field.
Each tile therefore reaches that far beyond the part of it that is kept, and no seam is left. The
tiles are all of one size, so one plan runs them.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from ..errors import GraphError, ShapeError
from ..graph import Array
from ..images import open_image
from ..preprocessing import Preprocessing
from ..preprocessing.steps import IMAGE_CHANNELS, ImageChannels
from ..process.limits import most_memory
from .network import Network

PixelType = Literal["uint8", "float32"]
Box = tuple[int, int, int, int]

TILE_BYTES = 256 << 20
"""Bytes that the run of a tile takes. A network of 18 convolutions of 3x3 with 64 channels, such as
the example, computes 15 % of the pixels twice with it."""
UNKNOWN_MARGIN = 32
"""Pixels around the kept part of a tile if a pixel of the result depends on all of the picture."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Shares of red, green and blue in the luma (ITU-R BT.601)."""


@dataclass(frozen=True)
class Reach:
    """The geometry of a network that makes pictures of pictures."""

    scale: int
    """Pixels of the result for one of the picture, along an axis."""
    radius: int | None
    """Pixels to each side that a pixel of the result depends on; None: all of the picture."""
    stride: int
    """Sides of the input are multiples of this, and so are the places of tiles."""
    pixel_bytes: float
    """Bytes that a run takes for each pixel of the input, approximately."""
    size: tuple[int | None, int | None] = (None, None)
    """Height and width of the input; None: free."""


@dataclass(frozen=True, eq=False)
class Upscaled:
    """A larger picture."""

    pixels: Array
    """(H, W, 3), red, green and blue: uint8, or float32 from 0 to 1."""
    scale: int
    """Pixels along an axis for one of the picture."""
    tiles: int
    """Number of runs that made it."""
    exact: bool
    """True if one run of the whole picture gives the same, up to rounding. False: a pixel depends
    on more of the picture than a tile holds."""

    @property
    def image(self) -> Image.Image:
        """The picture in 8 bits, as Pillow has it."""
        if self.pixels.dtype == np.uint8:
            return Image.fromarray(self.pixels)
        return Image.fromarray(np.rint(self.pixels * 255).astype(np.uint8))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the picture in the format that the name's ending says.

        Raises:
            ValueError: Pillow writes no such format.
            OSError: the file cannot be written.
        """
        self.image.save(path)


class Span(NamedTuple):
    """A tile along one axis, in pixels of the picture."""

    begin: int
    end: int
    first: int
    """The first pixel that is kept."""
    last: int
    """One past the last that is kept."""


def spans(length: int, tile: int, margin: int, stride: int) -> list[Span]:
    """The tiles of a side: all of one size, each kept up to `margin` of where it is cut off.

    Args:
        length: pixels of the side, a multiple of `stride`.
        tile: pixels of a tile, a multiple of `stride`.
        margin: pixels that are not kept, beside a neighbour.
        stride: what the tiles' places are multiples of.
    """
    if length <= tile:
        return [Span(0, length, 0, length)]
    step = (tile - 2 * margin) // stride * stride
    found: list[Span] = []
    begin, first = 0, 0
    while True:
        begin = min(begin, length - tile)
        end = begin + tile
        last = length if end == length else end - margin
        found.append(Span(begin, end, first, last))
        if end == length:
            return found
        first, begin = last, begin + step


def upscale(
    network: Network,
    reach: Reach,
    image: Any,
    *,
    tile: int | None = None,
    dtype: PixelType = "uint8",
    channels: ImageChannels = "RGB",
) -> Upscaled:
    """A larger picture; see `Model.upscale`."""
    if channels not in IMAGE_CHANNELS:
        raise ValueError(f"channels {channels!r}; expected one of {', '.join(IMAGE_CHANNELS)}")
    if dtype not in ("uint8", "float32"):
        raise ValueError(f"dtype {dtype!r}; expected 'uint8' or 'float32'")
    if tile is not None and tile < 1:
        raise ValueError(f"tile must be at least 1, not {tile}")
    if network.preprocessing is None:
        raise GraphError(
            "this model does not say how pixels become its input. Say it when the file is made "
            "(cnnrt convert --preset raw01; export(preprocessing=...)) or now: "
            "model.preprocessing = cnnrt.Preprocessing.preset('raw01')"
        )
    picture = open_image(image, "RGB", bgr=channels == "BGR")
    width, height = picture.size
    scale = reach.scale
    needed = height * width * scale**2 * 3 * np.dtype(dtype).itemsize
    if needed > most_memory():
        raise ShapeError(
            f"a picture of {height} x {width} pixels becomes one of {height * scale} x "
            f"{width * scale}: that takes {needed / 1e9:.1f} GB, more memory than there is"
        )
    luma = network.preprocessing.channels == "L"
    pixels = np.asarray(picture.convert("L") if luma else picture)
    result = np.empty((height * scale, width * scale, 3), dtype)
    plan = _Plan.of(reach, height, width, tile)
    for rows, columns in plan.tiles():
        made = _run(network, pixels, rows, columns)
        inside = made[
            (rows.first - rows.begin) * scale : (rows.last - rows.begin) * scale,
            (columns.first - columns.begin) * scale : (columns.last - columns.begin) * scale,
        ]
        place = np.s_[
            rows.first * scale : rows.last * scale, columns.first * scale : columns.last * scale
        ]
        target = result[place]
        inside = inside[: target.shape[0], : target.shape[1]]
        if luma:
            inside = _coloured(inside, picture, plan.box(rows, columns, height, width), scale)
        _store(inside, target)
    return Upscaled(result, scale, plan.count, plan.exact)


@dataclass(frozen=True)
class _Plan:
    """How a picture is cut into tiles."""

    rows: list[Span]
    columns: list[Span]
    exact: bool

    @classmethod
    def of(cls, reach: Reach, height: int, width: int, tile: int | None) -> _Plan:
        padded = tuple(-(-n // reach.stride) * reach.stride for n in (height, width))
        sides = _tile_sides(reach, padded, tile)
        margin = UNKNOWN_MARGIN if reach.radius is None else reach.radius
        margin = -(-margin // reach.stride) * reach.stride
        exact = True
        axes = []
        for length, side, fixed in zip(padded, sides, reach.size, strict=True):
            least = max(reach.stride, side // 4 // reach.stride * reach.stride)
            own = margin if side > 2 * margin else min(least, (side - reach.stride) // 2)
            if length > side and (reach.radius is None or own < reach.radius):
                exact = False
            if fixed and length < fixed:  # filled up, so that there is one whole tile
                axes.append([Span(0, fixed, 0, length)])
                exact = exact and reach.radius == 0
            else:
                axes.append(spans(length, side, max(0, own), reach.stride))
        return cls(axes[0], axes[1], exact)

    @property
    def count(self) -> int:
        return len(self.rows) * len(self.columns)

    def tiles(self) -> Iterator[tuple[Span, Span]]:
        return ((rows, columns) for rows in self.rows for columns in self.columns)

    @staticmethod
    def box(rows: Span, columns: Span, height: int, width: int) -> Box:
        """The kept part of a tile inside of the picture: left, top, right and bottom."""
        return columns.first, rows.first, min(columns.last, width), min(rows.last, height)


def _tile_sides(reach: Reach, padded: tuple[int, ...], tile: int | None) -> tuple[int, int]:
    """Height and width of a tile, multiples of the stride."""
    stride = reach.stride
    area = TILE_BYTES / max(1.0, reach.pixel_bytes)
    side = tile or math.isqrt(max(1, int(area)))
    margin = UNKNOWN_MARGIN if reach.radius is None else reach.radius
    least = (3 * -(-margin // stride) + 1) * stride  # at least a third of a tile is kept
    side = max(least, stride, side // stride * stride)
    height = reach.size[0] or min(padded[0], side)
    wide = side if tile else max(side, int(area / height) // stride * stride)
    return height, reach.size[1] or min(padded[1], wide)


def _run(network: Network, pixels: Array, rows: Span, columns: Span) -> Array:
    """float32 (h, w, C), 0 to 255: the network's result for one tile, red first."""
    part = pixels[rows.begin : rows.end, columns.begin : columns.end]
    size = (rows.end - rows.begin, columns.end - columns.begin)
    if part.shape[:2] != size:  # beyond the picture its last row and column go on
        beyond = [(0, size[0] - part.shape[0]), (0, size[1] - part.shape[1])]
        part = np.pad(part, [*beyond, (0, 0)][: part.ndim], "edge")
    own = network.preprocessing
    assert own is not None
    numbers = dataclasses.replace(own, size=size, resize=None, crop=None, pad=None)
    y = network.run(numbers(np.ascontiguousarray(part)))
    y = np.asarray(next(iter(y.values())) if isinstance(y, dict) else y, np.float32)[0]
    return _pixels(y if own.layout == "NHWC" else y.transpose(1, 2, 0), own)


def _pixels(y: Array, own: Preprocessing) -> Array:
    """Values of the network as pixels, 0 to 255: its own normalisation undone."""
    if y.shape[2] != (1 if own.channels == "L" else 3):
        raise ShapeError(
            f"the network makes {y.shape[2]} channels of a picture; expected those of its input"
        )
    y = y * (np.array(own.std) / own.scale).astype(np.float32)
    if any(own.mean):
        y += (np.array(own.mean) / own.scale).astype(np.float32)
    return y[:, :, ::-1] if own.channels == "BGR" else y


def _coloured(luma: Array, picture: Image.Image, box: Box, scale: int) -> Array:
    """Luma (h, w, 1), 0 to 255, with the colours of a part of the picture, resized (bicubic)."""
    left, top, right, bottom = box
    size = ((right - left) * scale, (bottom - top) * scale)
    smooth = np.asarray(picture.resize(size, Image.Resampling.BICUBIC, box), np.float32)
    return np.asarray(smooth + (luma - (smooth @ LUMA)[:, :, None]))


def _store(values: Array, target: Array) -> None:
    """Writes values of 0 to 255 as pixels of the target's dtype."""
    values = np.clip(np.nan_to_num(values, posinf=255), 0, 255)
    if target.dtype == np.uint8:
        target[...] = np.rint(values, out=values)
    else:
        np.multiply(values, np.float32(1 / 255), out=target)
