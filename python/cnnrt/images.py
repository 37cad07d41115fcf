"""Pictures: files and arrays of many kinds become PIL images of 8-bit grey or RGB."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .errors import ImageError
from .graph import Array
from .process.limits import MAX_PIXELS, most_memory

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".tga", ".avif"),
)
"""File name endings of pictures, for the search of a folder."""

MAX_SIDE = 1 << 20
"""Pixels of a side. Pillow's weights of a resampled axis take up to 48 bytes for each of its
pixels. A file of 11 kB can hold a single row of 89 million pixels, and that would be 4 GB."""
PIXEL_BYTES = 8
"""Bytes of a pixel as it was read and, at the same time, as RGB: four each in Pillow."""
TURNED = range(2, 9)
"""Orientations of Exif that are not upright."""
BAND_PIXELS = 1 << 20
"""Pixels that are converted at a time, if that takes more memory than the picture."""


def image_files(names: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The files named, and the pictures in the folders named and below, sorted by path.

    Raises:
        ImageError: a folder holds none.
    """
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if not path.is_dir():
            files.append(path)
            continue
        found = [Path(file) for file in walk(path)]
        if not found:
            raise ImageError(f"{name}: no images in this folder")
        files += found
    return files


def walk(folder: str | os.PathLike[str]) -> Iterator[str]:
    """The paths of the pictures in a folder and below, in the order of their paths. It holds the
    names of one folder at a time, and does not go through links to folders.

    Raises:
        OSError: a folder cannot be read.
    """
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():  # noqa: PTH122
            yield entry.path


def decoded(data: bytes) -> Image.Image:
    """The picture in the bytes of an image file.

    Raises:
        ImageError: it is no picture, or one that is too large.
    """
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ImageError("is not an image in a format that Pillow reads") from None
    except Exception as error:  # Pillow's readers raise whatever the damage leads to
        raise ImageError(f"cannot be read as an image: {error}") from None
    if image.format == "EPS":  # Pillow would run Ghostscript on it
        raise ImageError("is an EPS file; expected a picture of pixels")
    return image


def as_list(images: Any) -> list[Any]:
    """One or many images, in files, folders or memory, as a list of them."""
    if isinstance(images, (str, os.PathLike)):
        return list(image_files([images]))
    if isinstance(images, np.ndarray):
        return list(images) if images.ndim == 4 else [images]
    if not isinstance(images, Iterable):
        return [images]
    listed: list[Any] = []
    for image in images:
        listed += image_files([image]) if isinstance(image, (str, os.PathLike)) else [image]
    return listed


def open_image(
    source: str | os.PathLike[str] | Image.Image | Array,
    mode: Literal["RGB", "L"],
    *,
    bgr: bool = False,
) -> Image.Image:
    """A picture, upright and in `mode`, from a file, a PIL image or an array of uint8.

    Nothing larger than the picture is made on the way. `bgr` says that the colours of an array
    come as blue, green, red.

    Raises:
        ImageError: there is no such file, it is no picture, is damaged or too large; the array has
            another dtype or shape than a picture.
    """
    if isinstance(source, str) and _ADDRESS.match(source):
        raise ImageError(
            f"{source[:200]}: is an address, and cnnrt fetches none: download the picture and give "
            "its path, or open the bytes with PIL.Image.open(io.BytesIO(data))"
        )
    if isinstance(source, (str, os.PathLike)):
        return _read(source, mode)
    if isinstance(source, Image.Image):
        return _converted(source, "image", mode)
    if isinstance(source, np.ndarray):
        return _converted(_from_array(source, bgr), "image", mode)
    kind = type(source).__name__
    raise ImageError(
        f"expected a path, a PIL image or an array of uint8, got {kind}{_hint(source)}"
    )


_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+://|data:image/)", re.IGNORECASE)


def _hint(source: object) -> str:
    """Advice for something else that holds a picture."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return ": open encoded bytes with PIL.Image.open(io.BytesIO(data))"
    if hasattr(source, "read"):
        return ": open it with PIL.Image.open(file)"
    if hasattr(source, "detach") or hasattr(source, "__array__"):
        return ": give numpy.asarray(x) of uint8; a normalised tensor goes to model(x.numpy())"
    return ""


def resized(picture: Image.Image, width: int, height: int, method: Image.Resampling) -> Image.Image:
    """The picture at another size.

    Raises:
        ImageError: it is too long and thin. Pillow makes a picture of the new width and the old
            height, which would be larger than the picture and than `MAX_PIXELS`.
    """
    if (width, height) == picture.size:
        return picture
    between = width * picture.height
    if between > max(MAX_PIXELS, picture.width * picture.height):
        raise ImageError(
            f"a picture of {picture.width} x {picture.height} pixels is too long and thin to be "
            f"resized to {width} x {height}"
        )
    return picture.resize((width, height), method)


def _read(path: str | os.PathLike[str], mode: Literal["RGB", "L"]) -> Image.Image:
    try:
        with Image.open(path) as image:
            if image.format == "EPS":  # Pillow would run Ghostscript on it
                raise ImageError(f"{path}: is an EPS file; expected a picture of pixels")
            return _converted(image, str(path), mode)
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a directory; expected an image") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: is not an image in a format that Pillow reads") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path}: is too large: {error}") from None
    except Exception as error:  # Pillow's readers raise whatever the damage leads to
        raise ImageError(f"{path}: cannot be read as an image: {error}") from None


def _from_array(pixels: Array, bgr: bool) -> Image.Image:
    """A PIL image of an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8."""
    shape = pixels.shape
    if pixels.dtype != np.uint8 or not (
        len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
    ):
        raise ImageError(
            "expected an array of uint8 and of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            f"got {pixels.dtype} {shape}; an array that is already normalised goes to model(x), "
            "and several pictures come as a list"
        )
    if not pixels.size:
        raise ImageError(f"an array of shape {shape} holds no pixels")
    pixels = pixels[:, :, 0] if shape[2:] == (1,) else pixels
    if bgr and pixels.ndim == 3:
        pixels = pixels[:, :, [2, 1, 0, 3][: shape[2]]]
    return Image.fromarray(np.ascontiguousarray(pixels))


def _converted(image: Image.Image, name: str, mode: Literal["RGB", "L"]) -> Image.Image:
    """The picture upright, in `mode`, transparent parts white."""
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ImageError(
            f"{name}: {width} x {height} pixels are more than PIL.Image.MAX_IMAGE_PIXELS = {limit}"
        )
    if not width or not height:
        raise ImageError(f"{name}: holds no pixels")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{name}: {width} x {height} pixels; expected at most {MAX_SIDE} a side")
    if width * height * PIXEL_BYTES > most_memory():
        raise ImageError(f"{name}: {width} x {height} pixels take more memory than there is")
    if image.mode == "F":
        raise ImageError(f"{name}: has pixels of floating point; expected 8 or 16 bits")
    try:
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation) in TURNED:
            image = ImageOps.exif_transpose(image)  # which would copy any other picture
        if image.mode.startswith("I"):
            image = _in_bands(image, "L", _from_16_bits)
        elif image.has_transparency_data:
            image = _in_bands(image, "RGB", _opaque)
        return image if image.mode == mode else image.convert(mode)
    except ImageError:
        raise
    except Exception as error:  # Pillow's readers raise whatever the damage leads to
        raise ImageError(f"{name}: cannot be read as an image: {error}") from None


def _in_bands(
    image: Image.Image, mode: Literal["RGB", "L"], convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """The picture converted, some rows at a time."""
    result = Image.new(mode, image.size)
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        result.paste(convert(band), (0, top))
    return result


def _opaque(image: Image.Image) -> Image.Image:
    """RGB, transparent parts white."""
    opaque = Image.new("RGBA", image.size, "white")
    opaque.alpha_composite(image.convert("RGBA"))
    return opaque.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey of 8 bits from grey of 16, which Pillow's own conversion would cut off at 255."""
    values: Any = np.asarray(image).astype(np.int64)
    return Image.fromarray(((values.clip(0, 65535) + 128) // 257).astype(np.uint8))
