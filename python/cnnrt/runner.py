"""What `python -m cnnrt run` and `demo` do: load a model, run it on images, print what it says."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .errors import GraphError, ImageError
from .files import atomic_write
from .graph import Array
from .images import SUFFIXES
from .model import Classification, Model, load

SHOW_PROGRESS = 5
"""Images from which on a progress bar is worth its line."""

SHADES = " .:-=+*#%@"
"""From black to white, on a dark terminal."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a network says of one image."""

    image: str
    milliseconds: float
    outputs: dict[str, Array]
    classes: list[Classification] | None

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "image": self.image,
            "milliseconds": round(self.milliseconds, 3),
        }
        if self.classes is not None:
            return {**document, "classes": [dataclasses.asdict(c) for c in self.classes]}
        return {**document, "outputs": {n: _summary(y) for n, y in self.outputs.items()}}

    def __str__(self) -> str:
        lines = [f"{self.image} ({self.milliseconds:.3g} ms)"]
        if self.classes is not None:
            lines += [f"  {c.probability:7.2%}  {c.label}" for c in self.classes]
        else:
            for name, y in self.outputs.items():
                s = _summary(y)
                extent = (
                    f"{s['min']:.6g} to {s['max']:.6g}, mean {s['mean']:.6g}" if y.size else "empty"
                )
                lines.append(f"  {name}: {y.dtype}{list(y.shape)}, {extent}")
        return "\n".join(lines)


def run_images(
    model_path: str,
    images: Sequence[str],
    *,
    top: int,
    threads: int | None,
    as_json: bool,
    output: str | None,
    complain: Callable[[Exception], None],
) -> int:
    """Runs a model on images and prints the results; returns the exit status.

    An image that cannot be read is passed to `complain`, the others go on.

    Raises:
        CnnrtError, OSError: the model cannot be loaded, or the results cannot be saved.
    """
    # Here what Pillow only warns of, a picture of 90 million pixels and more, is an error.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    model = load(model_path, threads=threads)
    files = _image_files(images)
    _warm_up(model)
    documents: list[dict[str, Any]] = []
    results: list[Result] = []
    failed = False
    iterator, write = _progress(files)
    for file in iterator:
        try:
            result = _result(model, file, top)
        except ImageError as error:
            complain(error)
            failed = True
            continue
        if as_json:
            documents.append(result.to_json())
        else:
            write(str(result))
        if output:
            results.append(result)
    if as_json:
        print(json.dumps(documents, indent=2, ensure_ascii=False))
    if output:
        _save(results, output)
    return int(failed)


def demonstrate() -> None:
    """Prints the handwritten digits in the package and what LeNet-5 reads in them.

    Raises:
        CnnrtError, OSError: the package's data are missing.
    """
    with resources.as_file(resources.files("cnnrt") / "data") as folder:
        model = load(folder / "lenet5.bin")
        blocks = []
        for file in sorted((folder / "digits").glob("*.png")):
            best = model.classify(file, top=1)[0]
            art = _ascii_art(file)
            blocks.append([*art, f"{best.label} ({best.probability:.1%})".center(len(art[0])), ""])
    for i in range(0, len(blocks), 3):
        for row in zip(*blocks[i : i + 3], strict=True):
            print("  ".join(row).rstrip())
    print(f"{len(blocks)} digits of the MNIST test set, read by LeNet-5.")


def _image_files(names: Iterable[str]) -> list[Path]:
    """The images named, and those in the folders named.

    Raises:
        ImageError: a folder holds none.
    """
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise ImageError(f"{name}: no images in this folder")
        files += found
    return files


def _progress(files: list[Path]) -> tuple[Iterable[Path], Callable[[str], None]]:
    """The files, with a progress bar on a terminal if tqdm is installed; and how to print then."""
    if len(files) < SHOW_PROGRESS or not sys.stderr.isatty():
        return files, print
    try:
        from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415
    except ImportError:
        return files, print
    return tqdm(files, unit="image"), tqdm.write


def _warm_up(model: Model) -> None:
    """Runs the model once, so that the time of the first image is like that of the others.

    Raises:
        GraphError: the model does not take images.
    """
    if model.preprocessing is None:
        raise GraphError(
            "this model does not say how an image becomes its input; "
            "`python -m cnnrt convert --help` tells how to add that"
        )
    h, w = model.preprocessing.size
    model(model.preprocessing(np.zeros((h, w), np.uint8)))


def _result(model: Model, file: Path, top: int) -> Result:
    """What the model says of one image.

    Raises:
        ImageError: it cannot be read.
    """
    assert model.preprocessing is not None
    x = model.preprocessing(file)
    start = time.perf_counter()
    y = model(x)
    milliseconds = 1e3 * (time.perf_counter() - start)
    outputs = y if isinstance(y, dict) else {model.outputs[0].name: y}
    classes = None
    if model.labels:
        classes = model.classes(next(iter(outputs.values())), top)
    return Result(os.fspath(file), milliseconds, outputs, classes)


def _summary(y: Array) -> dict[str, Any]:
    """Shape, dtype and range of an array."""
    summary: dict[str, Any] = {"shape": list(y.shape), "dtype": y.dtype.name}
    if y.size:
        summary |= {"min": float(y.min()), "max": float(y.max()), "mean": float(y.mean())}
    return summary


def _save(results: Sequence[Result], path: str) -> None:
    """Writes `images`, their names, and each output of all images, joined along the first axis."""
    arrays: dict[str, Any] = {"images": np.array([r.image for r in results])}
    for name in results[0].outputs if results else ():
        arrays[name] = np.concatenate([np.atleast_1d(r.outputs[name]) for r in results])
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    atomic_write(path, [buffer.getbuffer()])


def _ascii_art(file: Path) -> list[str]:
    """A picture of 28 x 28 pixels, without its border, as 12 lines of 24 characters."""
    with Image.open(file) as image:
        pixels = np.asarray(image.convert("L"))[2:26, 2:26]
    rows = pixels.reshape(12, 2, 24).mean(axis=1)  # a character is twice as high as wide
    return ["".join(SHADES[int(v) * len(SHADES) // 256] for v in row) for row in rows]
