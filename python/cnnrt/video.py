"""Videos as pictures, and pictures as a video, by PyAV (``pip install 'cnnrt[video]'``).

    for frame in cnnrt.video.frames("street.mp4"):
        print(len(model.detect(frame)))

A file is decoded on a thread of its own, a few frames ahead of the program.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .errors import FormatError
from .graph import Array
from .process.extras import missing
from .process.locks import importing
from .process.pipeline import ahead

__all__ = ["Frame", "VideoReader", "VideoWriter", "frames"]

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"),
    *(".3gp", ".ogv"),
)
"""File name endings of videos."""
CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none")}
"""FFmpeg's format for cameras, and the name of one with a number, by `sys.platform`."""
WRITTEN = {
    **dict.fromkeys((".mp4", ".m4v", ".mov"), ("libx264", {"movflags": "hybrid_fragmented"})),
    ".mkv": ("libx264", {}),
    ".webm": ("libvpx-vp9", {}),
}
"""The formats of written videos by ending: their codec, and options of the container. The one of
MP4 keeps a file playable while it grows."""
CLOCK = 90_000
"""Ticks of a second in a written video, as MPEG has them."""
USUAL_RATE = Fraction(25)
"""Frames per second of a video that does not tell."""
QUALITY = {"crf": "20", "preset": "veryfast"}
"""x264's: hardly a visible loss, at a small part of a network's time."""


class Frame(NamedTuple):
    """One picture of a video."""

    pixels: Array
    """uint8 (H, W, 3), RGB."""
    time: float
    """Seconds since the first frame."""


def frames(source: str | os.PathLike[str]) -> Iterator[Array]:
    """The pictures of a video, uint8 (H, W, 3) in RGB, in order and upright.

    They are decoded on a thread of their own. At most four are held at a time, so that memory stays
    the same for a video of any length. Leaving the loop closes the file.

    Raises:
        FormatError: it cannot be read as a video, or is damaged. All frames that can be read have
            been given by then.
        ImportError: PyAV is not installed (``pip install 'cnnrt[video]'``).
    """
    with VideoReader(source) as reader, closing(ahead(reader)) as decoded:
        for frame in decoded:
            yield frame.pixels


class VideoReader:
    """A video that is open for reading; iterating gives its frames, once.

    Attributes:
        size: height and width of a frame.
        rate: frames per second, an average.
        count: the number of frames that the file claims; 0: it does not, as a camera.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | int,
        *,
        threads: int = 0,
    ) -> None:
        """Opens a video.

        Args:
            source: a file, or the number of a camera.
            threads: of the decoder; 0: as many as it likes.

        Raises:
            FormatError: it cannot be read, or has no pictures.
            ImportError: PyAV is not installed.
        """
        self._av = _pyav()
        self.name = f"camera {source}" if isinstance(source, int) else os.fspath(source)
        self._is_camera = isinstance(source, int)
        form: str | None = None
        place = self.name
        if isinstance(source, int):
            if sys.platform not in CAMERAS:
                raise FormatError(f"{self.name}: cnnrt knows no cameras of {sys.platform}")
            form, pattern = CAMERAS[sys.platform]
            place = pattern.format(source)
        elif not Path(source).is_file():  # FFmpeg would also open addresses and playlists
            raise FormatError(f"{source}: no such file")
        try:
            self._container = self._av.open(place, format=form)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise FormatError(f"{self.name}: cannot be read as a video: {_reason(error)}") from None
        if not self._container.streams.video:
            self._container.close()
            raise FormatError(f"{self.name}: holds no video")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = threads
        self.size = (self._stream.height, self._stream.width)
        self.rate = Fraction(self._stream.average_rate or USUAL_RATE)
        self.count = int(self._stream.frames or 0)

    def __iter__(self) -> Generator[Frame, None, None]:
        number, packets, first, last = 0, 0, 0.0, 0.0
        damage: tuple[float, str] | None = None
        errors = (self._av.FFmpegError, OSError, ValueError)
        try:
            for packet in self._container.demux(self._stream):
                packets += packet.size > 0
                try:
                    decoded = packet.decode()
                except errors as error:  # what follows may be whole again
                    damage = damage or (last, _reason(error))
                    continue
                for frame in decoded:
                    time = number / float(self.rate) if frame.time is None else frame.time
                    first = first if number else time
                    last = max(last, time - first)
                    number += 1
                    if frame.is_corrupt:
                        damage = damage or (last, "parts of a frame are missing")
                    yield Frame(_upright(frame), last)
        except errors as error:
            damage = damage or (last, _reason(error))
        if damage and self._is_camera:
            raise FormatError(
                f"{self.name}: gave no more pictures after {damage[0]:.1f} s and {number} frames; "
                f"see if it is still connected: {damage[1]}"
            )
        if damage:
            raise FormatError(
                f"{self.name}: is damaged, {damage[0]:.1f} s from its beginning; {number} frames "
                f"could be read: {damage[1]}"
            )
        if not number:
            raise FormatError(f"{self.name}: holds no frame that can be read")
        if packets < self.count and "mp4" in self._container.format.name:  # others guess it
            raise FormatError(
                f"{self.name}: is cut off: it ends after {packets} frames of {self.count}"
            )

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class VideoWriter:
    """A video that is being written, without sound. It can be played up to the last frame written,
    even if the program ends in its midst.

    MP4, QuickTime and Matroska hold H.264, or MPEG-4 if FFmpeg has no x264; WebM holds VP9.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: tuple[int, int],
        rate: Fraction | float = USUAL_RATE,
        *,
        threads: int = 0,
    ) -> None:
        """Opens the file for writing.

        Args:
            path: its ending says the format: .mp4, .m4v, .mov, .mkv or .webm.
            size: height and width of each frame. An odd one gets another row or column.
            rate: frames per second, for players; each frame has a time of its own.
            threads: of the encoder; 0: as many as it likes.

        Raises:
            FormatError: the ending is none of these.
            OSError: the file cannot be written.
            ImportError: PyAV is not installed.
        """
        self._av = _pyav()
        suffix = Path(path).suffix.lower()
        if suffix not in WRITTEN:
            raise FormatError(f"{path}: expected a file that ends in {', '.join(WRITTEN)}")
        codec, options = WRITTEN[suffix]
        if codec == "libx264" and codec not in self._av.codecs_available:
            codec = "mpeg4"
        self.size = size
        self._last = -1
        self._closed = False
        self._container = self._av.open(os.fspath(path), "w", options=options)
        whole = Fraction(rate).limit_denominator(1001)
        self._stream = self._container.add_stream(codec, rate=whole)
        self._stream.width, self._stream.height = size[1] + size[1] % 2, size[0] + size[0] % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = QUALITY if codec == "libx264" else {}
        self._stream.codec_context.time_base = Fraction(1, CLOCK)
        self._stream.codec_context.thread_count = threads

    def write(self, pixels: Array, time: float) -> None:
        """Adds a frame.

        Args:
            pixels: uint8 (H, W, 3), RGB, of the size `size`.
            time: seconds since the first frame, more than that of the frame before.

        Raises:
            OSError: the disk is full.
            FormatError: FFmpeg cannot encode it.
        """
        odd = [(0, n % 2) for n in pixels.shape[:2]]
        if any(right for _, right in odd):
            pixels = np.pad(pixels, [*odd, (0, 0)], "edge")
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self._last = max(round(time * CLOCK), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, CLOCK)
        self._put(frame)

    def close(self) -> None:
        """Writes the frames that the encoder holds back, and ends the file."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._last >= 0:
                self._put(None)
        finally:
            self._container.close()

    def _put(self, frame: Any) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except ValueError as error:
            raise FormatError(f"{self._container.name}: {_reason(error)}") from None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _upright(frame: Any) -> Array:
    """uint8 (H, W, 3): the pixels, turned as the file says."""
    pixels: Array = frame.to_ndarray(format="rgb24")
    turns = 0
    with suppress(AttributeError):  # PyAV tells it from version 14 on
        turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _reason(error: Exception) -> str:
    """The message of FFmpeg's error, without its number and its file."""
    return str(getattr(error, "strerror", None) or error)


def _pyav() -> Any:
    """The module `av`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        with importing:
            import av  # noqa: PLC0415  (an optional dependency)
    except ImportError as error:
        raise ImportError(missing("a video", "av", error)) from error
    return av
