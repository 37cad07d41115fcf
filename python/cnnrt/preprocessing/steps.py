"""From a picture to the array that a network takes: resize, crop, order of channels, normalise.

The arithmetic is that of torchvision's transforms on PIL images, pixel for pixel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import FormatError, ImageError
from ..feeds import as_batch
from ..graph import Array
from ..process.limits import MAX_PIXELS
from ..process.locks import importing
from ..storage import validate

if TYPE_CHECKING:
    from PIL.Image import Image

Channels = Literal["RGB", "BGR", "L"]
Layout = Literal["NCHW", "NHWC"]
Align = Literal["center", "start"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
CHANNELS = ("RGB", "BGR", "L")
LAYOUTS = ("NCHW", "NHWC")
ALIGNS = ("center", "start")
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")

ImageChannels = Literal["RGB", "BGR"]
IMAGE_CHANNELS = ("RGB", "BGR")

MAX_SIDE = 2**15
"""Pixels of a side of the network's input."""
BAND_PIXELS = 2**20
"""Pixels that are normalised at a time."""
MAX_VIEW = 16
"""Maximum area of the surroundings that a network sees, over that of the picture."""


@dataclass(frozen=True)
class Preprocessing:
    """Steps that turn a picture into the input of a network.

    First the picture is resized as `resize` says, then its centre is cut out as `crop` says. A
    picture that is not of `size` by then is resized to it. Finally each value (0 to 255) of each
    channel becomes `(value * scale - mean) / std`. `Preprocessing.preset("imagenet")` and other
    presets have the usual numbers.

    Attributes:
        size: height and width of the network's input.
        resize: the length that the shorter side gets, the other keeping the aspect ratio; or height
            and width; None: the picture stays as it is.
        interpolation: how pixels are resampled, as Pillow names it; smoothed when shrinking.
        crop: "center" cuts out `size`, with black around a smaller picture; None: no crop.
        channels: their order in the network's input; "L" is grey.
        scale: factor of the values; 1 / 255 if mean and std are fractions of 1.
        mean: per channel, in the order of `channels`; nothing: zeros.
        std: likewise; nothing: ones.
        pad: a grey value from 0 to 255. The whole picture is then fitted into `size`, and bars of
            this grey fill the rest (letterbox). It stands in place of `resize` and `crop`.
        align: "center" puts the whole picture into the middle, between two bars; "start" into the
            upper left corner.
        layout: axes of the network's input, "NCHW" or "NHWC".

    Raises:
        ValueError: a field is out of range.
    """

    size: tuple[int, int]
    resize: int | tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    crop: Literal["center"] | None = "center"
    channels: Channels = "RGB"
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pad: int | None = None
    layout: Layout = "NCHW"
    align: Align = "center"

    def __post_init__(self) -> None:
        try:
            _normalise(self)
        except FormatError as error:
            raise ValueError(str(error)) from None

    def __call__(self, image: Any, channels: ImageChannels = "RGB") -> Array:
        """The network's input for one picture or several.

        Args:
            image: a file, a PIL image, or an array of uint8. Its shape is (H, W), (H, W, 1), (H, W,
                3) or (H, W, 4), for grey, RGB or RGBA. Transparent parts count as white, and a
                camera's note that the picture is turned (EXIF) is followed. Several: a list of
                these.
            channels: the order of colours in arrays, "RGB" or "BGR", as OpenCV's frames have it.
                Files and PIL images know their own.

        Returns:
            float32 (N, C, h, w), or (N, h, w, C) if `layout` is "NHWC"; N is 1 for one picture.

        Raises:
            ImageError: it is no picture, is damaged, or is too large.
            ValueError: `channels` is neither "RGB" nor "BGR".
        """
        with importing:
            from ..images import open_image  # noqa: PLC0415  (Pillow, only once a picture comes)

        if channels not in IMAGE_CHANNELS:
            raise ValueError(f"channels {channels!r}; expected one of {', '.join(IMAGE_CHANNELS)}")
        several = as_batch(image)
        if several is not None:
            parts = [self(one, channels) for one in several]
            return np.concatenate(parts) if parts else self._empty()
        mode: Literal["L", "RGB"] = "L" if self.channels == "L" else "RGB"
        picture = open_image(image, mode, bgr=channels == "BGR")
        x = self._normalised(np.asarray(self._fitted(picture)))
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if self.layout == "NHWC" else x

    def _empty(self) -> Array:
        """The input for no picture at all."""
        size = (
            (len(self.mean), *self.size) if self.layout == "NCHW" else (*self.size, len(self.mean))
        )
        return np.empty((0, *size), np.float32)

    def view(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a picture that the network sees, if it is small enough to be shown.

        Returns:
            As `seen`.

        Raises:
            ImageError: the picture is so long and thin that it would become too large.
        """
        left, top, right, bottom = self.seen(width, height)
        seen = (width + right - left) * (height + bottom - top)
        if seen > max(MAX_PIXELS, MAX_VIEW * width * height):
            raise ImageError(
                f"the network sees {bottom - top:.0f} x {right - left:.0f} pixels around a picture "
                f"of {height} x {width}; that is too much to be shown"
            )
        return left, top, right, bottom

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a picture that the network sees: left, top, right and bottom, in pixels of
        the picture.

        It goes beyond the picture's borders if the picture is smaller than the crop.

        Raises:
            ImageError: the picture is so long and thin that it would become too large.
        """
        if self.pad is not None:
            h, w = self._inside(height, width)
        elif self.resize is None:
            h, w = height, width
        else:
            h, w = resized_size(height, width, self.resize)
        if not self.crop and self.pad is None:
            return 0.0, 0.0, float(width), float(height)
        left, top = self._begin(w, self.size[1]), self._begin(h, self.size[0])
        across, down = width / w, height / h
        return (
            left * across,
            top * down,
            (left + self.size[1]) * across,
            (top + self.size[0]) * down,
        )

    def _fitted(self, picture: Image) -> Image:
        """The picture resized and cropped to `size`."""
        with importing:
            from PIL import Image  # noqa: PLC0415

            from ..images import resized  # noqa: PLC0415

        method = Image.Resampling[self.interpolation.upper()]
        width, height = picture.size
        if self.pad is not None:
            height, width = self._inside(height, width)
            framed = Image.new(picture.mode, self.size[::-1], (self.pad,) * len(picture.getbands()))
            place = (-self._begin(width, self.size[1]), -self._begin(height, self.size[0]))
            framed.paste(resized(picture, width, height, method), place)
            return framed
        if self.resize is not None:
            height, width = resized_size(height, width, self.resize)
            picture = resized(picture, width, height, method)
        h, w = self.size
        if self.crop:  # Pillow fills what lies outside of the picture with black
            left, top = _begin(width, w), _begin(height, h)
            picture = picture.crop((left, top, left + w, top + h))
        return resized(picture, w, h, method)

    def _inside(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the largest picture of these proportions inside of `size`."""
        ratio = min(self.size[0] / height, self.size[1] / width)
        return max(1, round(height * ratio)), max(1, round(width * ratio))

    def _begin(self, size: int, crop: int) -> int:
        """The beginning of what the network sees along an axis; negative if that is before the
        picture."""
        return 0 if self.align == "start" else _begin(size, crop)

    def _normalised(self, pixels: Array) -> Array:
        """uint8 (h, w) or (h, w, 3), RGB -> float32 (1, C, h, w)."""
        planes = np.atleast_3d(pixels)
        if self.channels == "BGR":
            planes = planes[:, :, ::-1]
        # There are only 256 values: they are normalised in float64, and the pixels look them up.
        values = np.arange(256.0)[:, None] * self.scale
        with np.errstate(all="ignore"):  # numbers of a file may lead beyond float32
            table = ((values - np.array(self.mean)) / np.array(self.std)).astype(np.float32)
        height, width, count = planes.shape
        result = np.empty((1, count, height, width), np.float32)
        rows = max(1, BAND_PIXELS // width)  # an index takes eight bytes
        for top in range(0, height, rows):
            for c in range(count):
                result[0, c, top : top + rows] = table[planes[top : top + rows, :, c], c]
        return result

    def to_json(self) -> dict[str, Any]:
        """The fields, as JSON has them; `from_json` reads them."""
        resize = list(self.resize) if isinstance(self.resize, tuple) else self.resize
        lists = {"size": list(self.size), "mean": list(self.mean), "std": list(self.std)}
        document = {**vars(self), **lists, "resize": resize}
        # Left out as a rule: files are as they always were.
        rare = {"pad": None, "layout": "NCHW", "align": "center"}
        return {k: v for k, v in document.items() if k not in rare or v != rare[k]}

    @classmethod
    def from_json(cls, document: Any, at: str = "preprocessing") -> Preprocessing:
        """The reverse of `to_json`; `at` is for the errors.

        Raises:
            FormatError: a field is missing, unknown, of the wrong type or out of range.
        """
        optional = "resize interpolation crop channels scale mean std pad layout align"
        table = validate.record(document, at, "size", optional)
        try:
            return cls(**table)
        except ValueError as error:
            raise FormatError(f"{at}: {error}") from None

    @classmethod
    def preset(cls, name: str, size: tuple[int, int] | None = None) -> Preprocessing:
        """The preprocessing that goes by a name.

        Args:
            name: one of `cnnrt.preprocessing.PRESETS`, such as "imagenet"; the name of a
                torchvision weight, such as "ResNet18_Weights.IMAGENET1K_V1"; or that of a timm
                model, such as "timm/resnet18.a1_in1k".
            size: height and width of the network's input; None: the preset's own.

        Raises:
            ValueError: nothing goes by this name.
            ImportError: torchvision or timm, which would know it, is missing.
        """
        from .presets import named  # noqa: PLC0415  (that module imports this one)

        found = named(name, size).preprocessing
        assert found is not None
        return found

    @classmethod
    def from_torchvision(cls, preset: Any) -> Preprocessing:
        """The preprocessing of torchvision's `weights.transforms()`, an `ImageClassification`.

        Raises:
            ValueError: the preset is of another kind.
        """
        try:
            crop, resize = list(preset.crop_size), list(preset.resize_size)
            mean, std = preset.mean, preset.std
            method: Any = str(getattr(preset.interpolation, "value", preset.interpolation))
        except (AttributeError, TypeError):
            raise ValueError(f"expected an ImageClassification preset, got {preset!r}") from None
        return cls(
            size=(crop[0], crop[-1]),
            resize=resize[0] if len(resize) == 1 else (resize[0], resize[1]),
            interpolation=method.replace("nearest-exact", "nearest"),
            scale=1 / 255,
            mean=tuple(mean),
            std=tuple(std),
        )

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> Preprocessing:
        """The preprocessing with which timm evaluates a model of this `pretrained_cfg`.

        Raises:
            ValueError: the config asks for what a Preprocessing cannot say.
        """
        channels, h, w = config["input_size"]
        mode = config.get("crop_mode") or "center"
        if channels not in (1, 3) or mode not in ("center", "squash"):
            raise ValueError(f"timm's crop mode {mode!r} with {channels} channels is not supported")
        if mode == "center" and h != w:
            raise ValueError(f"timm's crop of {h} x {w}, not a square, is not supported")
        share = config.get("crop_pct") or 0.875
        resize = math.floor(h / share), math.floor(w / share)
        method: Any = config.get("interpolation") or "bilinear"
        return cls(
            size=(h, w),
            resize=resize[0] if mode == "center" else resize,
            interpolation="bilinear" if method == "random" else method,
            channels="RGB" if channels == 3 else "L",
            scale=1 / 255,
            mean=tuple(config["mean"])[:channels],
            std=tuple(config["std"])[:channels],
        )


def resized_size(height: int, width: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width after `resize`; for an int as torchvision computes them.

    Raises:
        ImageError: the picture is so long and thin that it would become too large.
    """
    if not isinstance(resize, int):
        return resize
    short, long = sorted((height, width))
    length = int(resize * long / short)
    if resize * length > MAX_PIXELS:
        raise ImageError(
            f"a picture of {width} x {height} pixels is too long and thin: its shorter side "
            f"resized to {resize}, it would have {resize} x {length}"
        )
    return (resize, length) if height <= width else (length, resize)


def _begin(size: int, crop: int) -> int:
    """The beginning of a centred crop along an axis; before the picture if that is shorter. It is
    rounded as torchvision does."""
    return -((crop - size) // 2) if size < crop else round((size - crop) / 2)


def _normalise(self: Preprocessing) -> None:
    """Brings the fields to their types, however they were given, and checks them."""

    def put(field: str, value: Any) -> None:
        object.__setattr__(self, field, value)  # the way around `frozen`

    validate.choice(self.interpolation, "interpolation", INTERPOLATIONS)
    validate.choice(self.channels, "channels", CHANNELS)
    if self.crop is not None:
        validate.choice(self.crop, "crop", ("center",))
    put("size", _size(self.size, "size"))
    if self.resize is not None:
        resize: Any = self.resize
        single = isinstance(resize, int)
        put("resize", _side(resize, "resize") if single else _size(resize, "resize"))
    validate.choice(self.layout, "layout", LAYOUTS)
    if self.pad is not None:
        put("pad", validate.integer(self.pad, "pad", 0, 255))
        if self.resize is not None:
            validate.fail("pad", "no resize beside it", self.resize)
    if validate.choice(self.align, "align", ALIGNS) == "start" and self.pad is None:
        validate.fail("align", "a pad beside it", self.align)
    put("scale", validate.number(self.scale, "scale"))
    count = 1 if self.channels == "L" else 3
    put("mean", _numbers(self.mean, "mean", count, 0.0))
    put("std", _numbers(self.std, "std", count, 1.0))
    if 0 in self.std:
        validate.fail("std", "numbers other than 0", list(self.std))


def _side(value: Any, at: str) -> int:
    return validate.integer(value, at, 1, MAX_SIDE)


def _size(value: Any, at: str) -> tuple[int, int]:
    sides = _items(value, at)
    if len(sides) != 2:
        validate.fail(at, "[height, width]", value)
    h, w = (_side(side, at) for side in sides)
    if h * w > MAX_PIXELS:
        validate.fail(at, f"at most {MAX_PIXELS} pixels", value)
    return h, w


def _numbers(value: Any, at: str, count: int, default: float) -> tuple[float, ...]:
    numbers = tuple(validate.number(item, at) for item in _items(value, at)) or (default,) * count
    if len(numbers) != count:
        validate.fail(at, f"{count} numbers, one per channel", value)
    return numbers


def _items(value: Any, at: str) -> list[Any]:
    """The items of a list, a tuple or an array, as Python's own numbers."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str) or not isinstance(value, Sequence):
        validate.fail(at, "a list of numbers", value)
    return [item.item() if isinstance(item, np.generic) else item for item in value]
