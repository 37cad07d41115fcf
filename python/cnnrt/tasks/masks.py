"""Masks of a network's own small size become masks of the picture."""

from __future__ import annotations

import numpy as np

from ..errors import MemoryLimitError
from ..graph import Array
from ..process.limits import most_memory
from .boxes import Placement


class Axis:
    """Linear interpolation along one axis: for each pixel two sources and the second's weight.

    The sources are those of `align_corners=False`; beyond the ends the last value goes on.
    """

    def __init__(self, places: Array, size: int) -> None:
        """Takes the places of pixels' centres, in pixels of a source of this size."""
        at = np.clip(places - 0.5, 0, max(size - 1, 0))
        self.low = np.floor(at).astype(np.int64)
        self.high = np.minimum(self.low + 1, size - 1)
        self.weight = (at - self.low).astype(np.float32)


def sample(values: Array, rows: Axis, columns: Axis) -> Array:
    """float32 (len(rows), len(columns)): values (h, w) between their pixels."""
    low, high = values[rows.low], values[rows.high]
    mixed = low + (high - low) * rows.weight[:, None]
    left, right = mixed[:, columns.low], mixed[:, columns.high]
    return np.asarray(left + (right - left) * columns.weight)


def room_for(count: int, size: tuple[int, int]) -> Array:
    """Masks bool (count, H, W), all empty.

    Raises:
        MemoryLimitError: they take more memory than there is.
    """
    nbytes = count * size[0] * size[1]
    if nbytes > most_memory():
        raise MemoryLimitError(
            f"{count} masks of {size[0]} x {size[1]} pixels take {nbytes:,} bytes, more than there "
            "are: ask for fewer (max_detections, min_score), or give a smaller picture"
        )
    return np.zeros((count, *size), bool)


def pixels_of(box: Array, size: tuple[int, int]) -> tuple[slice, slice]:
    """The rows and columns of a picture whose upper left corners lie inside a box, as ultralytics
    cuts a mask."""
    left, top, right, bottom = (int(v) for v in np.ceil(box))
    return (
        slice(max(top, 0), min(max(bottom, top, 0), size[0])),
        slice(max(left, 0), min(max(right, left, 0), size[1])),
    )


def from_prototypes(
    coefficients: Array, prototypes: Array, boxes: Array, placement: Placement
) -> Array:
    """bool (n, H, W): masks of YOLO, cut by their boxes.

    D. Bolya et al., "YOLACT" (2019): a mask is a sum of prototypes weighted by coefficients.

    Args:
        coefficients: (n, M).
        prototypes: (M, h, w), over the whole input.
        boxes: (n, 4), in pixels of the picture.
        placement: the place of the picture.
    """
    masks = room_for(len(coefficients), placement.size)
    count, h, w = prototypes.shape
    sums = coefficients @ prototypes.reshape(count, -1)
    down, across = h / placement.input_size[0], w / placement.input_size[1]
    for mask, small, box in zip(masks, sums.reshape(-1, h, w), boxes, strict=True):
        rows, columns = pixels_of(box, placement.size)
        y = (np.arange(rows.start, rows.stop) + 0.5 - placement.top) / placement.down
        x = (np.arange(columns.start, columns.stop) + 0.5 - placement.left) / placement.across
        mask[rows, columns] = sample(small, Axis(y * down, h), Axis(x * across, w)) > 0
    return masks
