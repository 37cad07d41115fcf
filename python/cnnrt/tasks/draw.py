"""Draws what was found over its picture, with Pillow.

The colours are those of M. Okabe and K. Ito ("Color Universal Design", 2008), which readers with
any colour vision can tell apart. A line has a dark edge, so that it shows on any ground.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import ShapeError
from ..graph import Array
from ..images import open_image

if TYPE_CHECKING:
    from .results import Detections, Segmentation

Colour = tuple[int, int, int]

OKABE_ITO: tuple[Colour, ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
    (213, 94, 0),  # vermilion
    (204, 121, 167),  # reddish purple
)
"""The colours of classes by number, over and over again. Black, the eighth, is for edges."""
INK, PAPER = (0, 0, 0), (255, 255, 255)
COVER = 0.45
"""Share of the colour in the pixels of a mask."""
BAND = 64
"""Rows that are coloured at a time: their numbers in floating point stay small."""
MIN_LETTER, MAX_LETTER = 10, 96
"""Pixels of a letter's height: what can be read, and what would hide the picture."""
LETTERS = 36
"""Letters of that height that fit into the shorter side of a picture."""
MIN_KEYPOINT = 0.5
"""Score from which a keypoint is drawn."""
SKELETON = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7)),
    *((6, 8), (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)
"""The keypoints of COCO's persons that a line joins; a person has 17 of them."""


def colour_of(index: int) -> Colour:
    """The colour of a class."""
    return OKABE_ITO[index % len(OKABE_ITO)]


def draw_detections(found: Detections, image: Any, *, labels: bool) -> Image.Image:
    """The picture with what was found; see `Detections.draw`."""
    picture = _opened(image, found.size)
    pen = _Pen(picture)
    if found.masks is not None:
        picture = _covered(
            picture,
            [(m, colour_of(int(c))) for m, c in zip(found.masks, found.classes, strict=True)],
        )
        pen = _Pen(picture)
    # From the least sure to the surest, which lies on top.
    order = range(len(found) - 1, -1, -1)
    for i in order:
        pen.box(found.boxes[i], colour_of(int(found.classes[i])))
    if found.keypoints is not None:
        for i in order:
            pen.keypoints(found.keypoints[i], found.boxes[i], colour_of(int(found.classes[i])))
    for i in order if labels else ():
        text = f"{found.labels[i]} {found.scores[i]:.0%}"
        pen.label(found.boxes[i], text, colour_of(int(found.classes[i])))
    return picture


def draw_segmentation(found: Segmentation, image: Any, background: int | None) -> Image.Image:
    """The picture under the colours of its classes; see `Segmentation.draw`."""
    picture = _opened(image, found.size)
    present, counts = np.unique(found.classes, return_counts=True)
    shown = [int(present[i]) for i in np.argsort(-counts, kind="stable")]
    shown = [index for index in shown if index != background]
    picture = _coloured(picture, found.classes, background)
    pen = _Pen(picture)
    top = 0.0
    for index in shown:
        top = pen.legend(top, found.label(index), colour_of(index))
        if top >= picture.height:
            break
    return picture


def class_picture(classes: Array) -> Image.Image:
    """A picture of the palette's colours whose pixels are the numbers of classes, up to 255."""
    picture = Image.fromarray(np.minimum(classes, 255).astype(np.uint8))
    palette = [INK, *(colour_of(i) for i in range(1, 256))]
    picture.putpalette([value for colour in palette for value in colour])
    return picture


def _opened(image: Any, size: tuple[int, int]) -> Image.Image:
    """A copy of the picture in RGB.

    Raises:
        ShapeError: it has another size.
    """
    picture = open_image(image, "RGB")
    if picture.size != size[::-1]:
        raise ShapeError(
            f"the picture has {picture.height} x {picture.width} pixels, and this was found in one "
            f"of {size[0]} x {size[1]}"
        )
    return picture.copy()


def _covered(picture: Image.Image, masks: list[tuple[Array, Colour]]) -> Image.Image:
    """The picture with masks bool (H, W) in their colours, each with an edge of full colour."""
    pixels = np.array(picture)
    for mask, colour in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not rows.size:
            continue
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        inside, ground = mask[part], pixels[part]
        mixed = ground[inside] * (1 - COVER) + np.array(colour) * COVER
        ground[inside] = np.rint(mixed).astype(np.uint8)
        ground[_edge(inside)] = colour
    return Image.fromarray(pixels)


def _coloured(picture: Image.Image, classes: Array, background: int | None) -> Image.Image:
    """The picture under the colours of its pixels' classes, with edges between two of them."""
    pixels = np.array(picture)
    colours = np.array(OKABE_ITO)
    for top in range(0, len(classes), BAND):
        rows = slice(top, top + BAND)
        here = classes[rows]
        below, beside = classes[top + 1 : top + BAND + 1], here[:, 1:]
        colour = colours[here % len(colours)]
        mixed = np.rint(pixels[rows] * (1 - COVER) + colour * COVER)
        edge = np.zeros(here.shape, bool)
        edge[: len(below)] |= here[: len(below)] != below
        edge[:, :-1] |= here[:, :-1] != beside
        mixed[edge] = colour[edge]
        shown = True if background is None else (here != background)[..., None]
        pixels[rows] = np.where(shown, mixed, pixels[rows])
    return Image.fromarray(pixels)


def _edge(mask: Array) -> Array:
    """The pixels of a mask that have a neighbour outside of it."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~inner)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own letters.

    Raises:
        ImportError: Pillow was built without FreeType.
    """
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ImportError("drawing labels needs a Pillow with FreeType, as its wheels have it")
    return font


class _Pen:
    """Draws on a picture in lines and letters that fit its size."""

    def __init__(self, picture: Image.Image) -> None:
        self.width, self.height = picture.size
        self.draw = ImageDraw.Draw(picture)
        side = min(picture.size)
        letter = min(max(MIN_LETTER, side // LETTERS), MAX_LETTER)
        self.font = _font(letter)
        self.line = max(1, round(letter / 6))
        self.margin = max(1, letter // 5)

    def box(self, box: Array, colour: Colour) -> None:
        left, top, right, bottom = (float(v) for v in box)
        edge = 1 if self.line > 1 else 0
        for grow, ink, width in ((edge, INK, self.line + 2 * edge), (0, colour, self.line)):
            corners = (left - grow, top - grow, right + grow, bottom + grow)
            self.draw.rectangle(_ordered(corners), outline=ink, width=width)

    def label(self, box: Array, text: str, colour: Colour) -> None:
        """Writes above the box, or inside of it at the picture's upper border."""
        width, height = self._extent(text)
        left = min(max(0.0, float(box[0])), max(0.0, self.width - width))
        top = float(box[1]) - height
        if top < 0:
            top = min(max(0.0, float(box[1])), max(0.0, self.height - height))
        self._tag(left, top, text, colour)

    def legend(self, top: float, text: str, colour: Colour) -> float:
        """Writes a line of the legend; returns where the next one begins."""
        self._tag(0.0, top, text, colour)
        return top + self._extent(text)[1] + 1

    def keypoints(self, points: Array, box: Array, colour: Colour) -> None:
        """Draws the points that were seen, small in a small box."""
        side = float(min(box[2] - box[0], box[3] - box[1]))
        radius = max(1.0, min(self.line + 1, side / 16))
        seen = (points[:, 2] >= MIN_KEYPOINT) & np.isfinite(points).all(1)
        if len(points) == 17:
            for a, b in SKELETON:
                if seen[a] and seen[b]:
                    ends = [tuple(map(float, points[k, :2])) for k in (a, b)]
                    self.draw.line(ends, fill=INK, width=self.line + 2)
                    self.draw.line(ends, fill=colour, width=self.line)
        for x, y, _ in points[seen].tolist():
            corners = (x - radius, y - radius, x + radius, y + radius)
            self.draw.ellipse(corners, fill=PAPER, outline=INK)

    def _extent(self, text: str) -> tuple[float, float]:
        """Width and height of a text with its margins; the height is that of any letters."""
        ascent, descent = self.font.getmetrics()
        return self.draw.textlength(text, self.font) + 2 * self.margin, ascent + descent

    def _tag(self, left: float, top: float, text: str, colour: Colour) -> None:
        width, height = self._extent(text)
        self.draw.rectangle((left, top, left + width, top + height), fill=colour)
        self.draw.text((left + self.margin, top), text, fill=_ink_on(colour), font=self.font)


def _ordered(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return left, top, max(left, right), max(top, bottom)


def _ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is the easier to read on a colour (ITU-R BT.601's luma)."""
    red, green, blue = colour
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else PAPER
