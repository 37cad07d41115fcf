"""Digits of all sizes and colours on a canvas: pictures for a detector, and what is on them.

    python examples/digit_canvas.py examples/digits canvases --count 50

writes 50 pictures, and canvases/instances.json with their boxes in the format of COCO. With a name
that ends in .mp4 it writes a video of drifting digits (pip install av). The digits may also be a
folder with MNIST's files, which gives those of the test set.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mnist import mnist

SMALLEST, LARGEST = 20, 88
"""Pixels of the longer side of a digit."""


def pasted(
    canvas: Image.Image, digit: np.ndarray, side: int, left: int, top: int, ink: Sequence[int]
) -> list[int]:
    """Draws a digit on a canvas; returns its box: left, top, right and bottom in pixels.

    Args:
        canvas: is changed.
        digit: uint8 [h, w], white on black.
        side: pixels of the longer side of the digit itself, without its black frame.
        left: left edge of the digit.
        top: top edge of the digit.
        ink: red, green and blue of the digit.
    """
    rows, columns = np.flatnonzero(digit.max(1) > 60), np.flatnonzero(digit.max(0) > 60)
    own = Image.fromarray(digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = side / max(own.size)
    size = (max(4, round(own.width * scale)), max(4, round(own.height * scale)))
    mask = own.resize(size, Image.Resampling.BICUBIC)
    canvas.paste(Image.new("RGB", size, tuple(ink)), (left, top), mask)
    return [left, top, left + size[0], top + size[1]]


def background(rng: np.random.Generator, width: int, height: int) -> tuple[Image.Image, np.ndarray]:
    """A canvas of soft colours and some noise, and its mean colour."""
    colour = rng.integers(0, 256, 3)
    coarse = colour + rng.normal(0, rng.uniform(0, 25), (rng.integers(2, 6), rng.integers(2, 6), 3))
    soft = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize((width, height), 2)
    noise = rng.standard_normal((height, width, 1), np.float32) * rng.uniform(0, 12)
    noisy = (np.asarray(soft) + noise.astype(np.int16)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(noisy), colour


def contrasting(rng: np.random.Generator, colour: np.ndarray) -> list[int]:
    """A colour that differs clearly from this one in brightness."""
    while True:
        ink = rng.integers(0, 256, 3)
        if abs(float(ink.mean() - colour.mean())) > 70:
            return [int(v) for v in ink]


def canvas(
    rng: np.random.Generator, digits: Sequence[np.ndarray], labels: Sequence[int], size: int = 256
) -> tuple[Image.Image, np.ndarray, np.ndarray]:
    """A picture with up to eight digits that do not touch.

    Args:
        rng: source of chance.
        digits: uint8 [h, w] each, white on black.
        labels: the class of each.
        size: pixels of a side of the picture.

    Returns:
        The picture, the boxes (float32 [n, 4], left, top, right, bottom) and classes (int64 [n]).
    """
    picture, colour = background(rng, size, size)
    boxes: list[list[int]] = []
    classes: list[int] = []
    for _ in range(rng.integers(0, 9)):
        which = int(rng.integers(len(digits)))
        side = int(np.exp(rng.uniform(np.log(SMALLEST), np.log(min(LARGEST, size - 2)))))
        left, top = (int(v) for v in rng.integers(0, size - side, 2))
        if any(
            left < b[2] + 3 and b[0] < left + side + 3 and top < b[3] + 3 and b[1] < top + side + 3
            for b in boxes
        ):
            continue
        ink = contrasting(rng, colour)
        boxes.append(pasted(picture, digits[which], side, left, top, ink))
        classes.append(labels[which])
    return picture, np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64)


def frames(
    digits: Sequence[np.ndarray], width: int, height: int, count: int, seed: int = 0
) -> Iterator[np.ndarray]:
    """Frames (uint8 [height, width, 3]) of a video: digits drift over a canvas and turn back at its
    edges."""
    rng = np.random.default_rng(seed)
    still, colour = background(rng, width, height)
    largest = height // 3
    sides = rng.integers(largest // 3, largest, len(digits))
    places = rng.uniform(0, 1, (len(digits), 2)) * (width - largest, height - largest)
    steps = rng.uniform(-0.01, 0.01, (len(digits), 2)) * height
    inks = [contrasting(rng, colour) for _ in digits]
    for _ in range(count):
        frame = still.copy()
        for digit, side, (x, y), ink in zip(digits, sides, places, inks, strict=True):
            pasted(frame, digit, int(side), int(x), int(y), ink)
        places += steps
        beyond = (places < 0) | (places > (width - largest, height - largest))
        steps = np.where(beyond, -steps, steps)
        yield np.asarray(frame)


def digits_of(folder: Path) -> tuple[list[np.ndarray], list[int]]:
    """Digits and classes of a folder of pictures named by their class, as examples/digits is, or of
    MNIST's test set."""
    if (folder / "t10k-images-idx3-ubyte").exists():
        images, labels = mnist(folder, "t10k")
        return list(images), [int(label) for label in labels]
    files = sorted(folder.glob("*.png"))
    return [np.asarray(Image.open(f).convert("L")) for f in files], [int(f.stem) for f in files]


def write_coco(folder: Path, digits: list[np.ndarray], labels: list[int], count: int) -> None:
    """Writes `count` pictures and instances.json into a folder."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        picture, boxes, classes = canvas(rng, digits, labels)
        name = f"{number:04}.png"
        picture.save(folder / name)
        images.append(
            {"id": number, "file_name": name, "width": picture.width, "height": picture.height}
        )
        for (left, top, right, bottom), label in zip(boxes.tolist(), classes, strict=True):
            w, h = right - left, bottom - top
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(label),
                    "bbox": [left, top, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": d, "name": str(d)} for d in range(10)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document))


def write_video(path: Path, digits: list[np.ndarray], size: tuple[int, int], count: int) -> None:
    """Writes a video of `count` frames of `size`, width and height, 25 of them a second."""
    from cnnrt.video import VideoWriter

    with VideoWriter(path, size[::-1], rate=25) as writer:
        for i, frame in enumerate(frames(digits, *size, count)):
            writer.write(frame, i / 25)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw digits on canvases, or a video of them.")
    parser.add_argument("digits", type=Path, help="folder of digits, such as examples/digits")
    parser.add_argument("output", type=Path, help="folder for pictures, or a file.mp4")
    parser.add_argument("--count", type=int, default=50, help="pictures or frames")
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720), help="of a video")
    args = parser.parse_args()
    digits, labels = digits_of(args.digits)
    if args.output.suffix == ".mp4":
        write_video(args.output, digits[:10], tuple(args.size), args.count)
    else:
        write_coco(args.output, digits, labels, args.count)
    print(f"wrote {args.count} {'frames' if args.output.suffix == '.mp4' else 'pictures'}")


if __name__ == "__main__":
    main()
