"""`python -m cnnrt run` with a video or a camera.

Decoding, the network, drawing and encoding overlap, each on its own thread.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from PIL import Image

from ..errors import FormatError, PreprocessingWarning
from ..graph import Array
from ..model import Model
from ..process.extras import require
from ..process.pipeline import ahead, mapped
from ..progress import ProgressBar, progress_bar
from ..storage.text import escaped
from ..tasks.results import Detections, Segmentation
from ..video import SUFFIXES, WRITTEN, Frame, VideoReader, VideoWriter
from .common import complain

Found = Detections | Segmentation
LINES = ".jsonl"


class _Result(NamedTuple):
    """The things found in one frame."""

    time: float
    milliseconds: float
    found: Found
    pixels: Array | None
    """uint8 (H, W, 3): the frame with what was found; None: it is not drawn."""

    def to_json(self, video: str, number: int) -> dict[str, Any]:
        return {
            "video": video,
            "frame": number,
            "time": round(self.time, 4),
            "milliseconds": round(self.milliseconds, 3),
            **self.found.to_json(),
        }


def is_requested(options: argparse.Namespace) -> bool:
    """True if a video or a camera is given; what does not go together ends the program."""
    videos = [name for name in options.images if Path(name).suffix.lower() in SUFFIXES]
    if options.camera is None and not videos:
        if not options.images:
            options.usage_error("give images, a video, or --camera NUMBER")
        return False
    if len(options.images) + (options.camera is not None) > 1:
        options.usage_error("one video or camera at a time, and no images beside it")
    if options.output and not options.output.endswith(LINES):
        options.usage_error(f"--output: a video's things go to a file that ends in {LINES}")
    return True


def execute(options: argparse.Namespace, model: Model, find: Callable[[Image.Image], Found]) -> int:
    """Finds things in each frame; 1 if the video is damaged, 130 after an interruption. What was
    written until then stays, and can be played.

    Raises:
        CnnrtError, OSError, ImportError: the video cannot be opened, the network cannot run, the
            results cannot be saved, or PyAV is missing.
    """
    require("a video", "av")
    warnings.simplefilter("once", PreprocessingWarning)  # not for each frame
    source = options.images[0] if options.camera is None else options.camera
    target = _target(options.draw, source) if options.draw else None
    summary = _Summary()
    status = 0
    with ExitStack() as opened:
        reader = opened.enter_context(VideoReader(source, threads=model.threads))
        if model.preprocessing is not None:  # the first frame takes no longer than the others
            find(Image.new("RGB", model.preprocessing.size[::-1]))
        sinks = _Sinks(options, reader.name, target, reader.rate, model.threads)
        opened.enter_context(closing(sinks))
        bar = opened.enter_context(progress_bar(reader.count or None, "frame"))
        sinks.bar = bar if options.camera is not None else None
        found = _found(find, ahead(reader), target is not None)
        results = opened.enter_context(closing(mapped(_drawn, ahead(found), _workers(model))))
        try:
            for result in results:
                sinks.write(result)
                summary.count(result)
                bar.update(1)
        except FormatError as error:
            complain(error)
            status = 1
        except KeyboardInterrupt:  # a camera ends in no other way
            status = 130
    if summary.frames and not options.json:
        print(summary.text(reader.name))
        if target:
            print(f"wrote {target}: {target.stat().st_size:,} bytes")
    return status


def _workers(model: Model) -> int:
    """Threads that draw: half of the model's."""
    return max(1, model.threads // 2)


def _target(draw: str, source: str | int) -> Path:
    """The file of the drawn video.

    Raises:
        FormatError: it is the video that is read.
    """
    path = Path(draw)
    if path.suffix.lower() not in WRITTEN:
        path.mkdir(parents=True, exist_ok=True)
        stem = f"camera-{source}" if isinstance(source, int) else Path(source).stem
        path /= f"{stem}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not isinstance(source, int) and path.samefile(source):
        raise FormatError(f"--draw {draw}: would write over the video that is read")
    return path


class _Undrawn(NamedTuple):
    result: _Result
    picture: Image.Image | None


def _found(
    find: Callable[[Image.Image], Found], frames: Iterable[Frame], draw: bool
) -> Generator[_Undrawn, None, None]:
    """The things found in each frame, and the frame if it is to be drawn."""
    for frame in frames:
        picture = Image.fromarray(frame.pixels)
        start = time.perf_counter()
        found = find(picture)
        milliseconds = 1e3 * (time.perf_counter() - start)
        yield _Undrawn(_Result(frame.time, milliseconds, found, None), picture if draw else None)


def _drawn(undrawn: _Undrawn) -> _Result:
    result, picture = undrawn
    if picture is None:
        return result
    return result._replace(pixels=np.asarray(result.found.draw(picture)))


class _Sinks:
    """Everything that a frame is written to: a video, a file of lines, the screen."""

    def __init__(
        self,
        options: argparse.Namespace,
        name: str,
        target: Path | None,
        rate: Fraction,
        threads: int,
    ) -> None:
        self.bar: ProgressBar | None = None
        """The bar above which a camera's things are told; None: only their sum is, at the end."""
        self._name, self._target, self._rate, self._threads = name, target, rate, threads
        self._writer: VideoWriter | None = None
        self._file: TextIO | None = None
        if options.output:
            self._file = Path(options.output).open(  # noqa: SIM115  (`close` does)
                "w", encoding="utf-8", errors="backslashreplace"
            )
        self._print = options.json
        self._number = 0
        self._last = ""

    def write(self, result: _Result) -> None:
        if self._file or self._print:
            line = json.dumps(result.to_json(self._name, self._number), ensure_ascii=False)
            if self._file:
                self._file.write(f"{line}\n")
            if self._print:
                print(line)
        if self._target and result.pixels is not None:
            self._draw(result.pixels, result.time)
        if self.bar and not self._print:
            text = ", ".join(f"{n} {label}" for label, n in _labels(result.found).items())
            if text != self._last:
                self.bar.write(f"{result.time:8.1f} s  {escaped(text) or 'nothing'}")
            self._last = text
        self._number += 1

    def _draw(self, pixels: Array, seconds: float) -> None:
        size = (pixels.shape[0], pixels.shape[1])
        if self._writer is None:
            assert self._target
            self._writer = VideoWriter(self._target, size, self._rate, threads=self._threads)
        if size != self._writer.size:  # a video may change its size on the way
            picture = Image.fromarray(pixels).resize(self._writer.size[::-1])
            pixels = np.asarray(picture)
        self._writer.write(pixels, seconds)

    def close(self) -> None:
        """Ends the files."""
        try:
            if self._writer:
                self._writer.close()
        finally:
            if self._file:
                self._file.close()


def _labels(found: Found) -> Counter[str]:
    """The classes of a frame, and the number of things of each."""
    return Counter(found.labels if isinstance(found, Detections) else list(found.areas()))


class _Summary:
    """Frames, their times, and what was in them."""

    def __init__(self) -> None:
        self.frames = 0
        self.size = (0, 0)
        self.things: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.milliseconds = 0.0
        self.begin = time.perf_counter()
        self.end = self.begin

    def count(self, result: _Result) -> None:
        self.frames += 1
        self.size = result.found.size
        self.milliseconds += result.milliseconds
        labels = _labels(result.found)
        self.things.update(labels)
        self.seen.update(labels.keys())
        self.end = time.perf_counter()

    def text(self, name: str) -> str:
        seconds = self.end - self.begin
        height, width = self.size
        lines = [
            f"{escaped(name)}: {self.frames} frames of {width} x {height} pixels in "
            f"{seconds:.1f} s, {self.frames / max(seconds, 1e-9):.1f} frames per second; network "
            f"{self.milliseconds / self.frames:.3g} ms a frame"
        ]
        wide = max(map(len, self.things), default=0)
        lines += [
            f"  {escaped(label):{wide}}  {count} in {self.seen[label]} frames"
            for label, count in self.things.most_common()
        ]
        return "\n".join(lines)
