"""Results of tasks: things found in a picture, and the class of each of its pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ShapeError
from ..graph import Array
from ..process.extras import missing
from ..process.locks import importing
from . import rle

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Detection:
    """One thing found in a picture."""

    label: str
    index: int
    """The number of its class."""
    score: float
    box: tuple[float, float, float, float]
    """Left, top, right and bottom, in pixels of the picture."""
    mask: Array | None = None
    """bool (H, W): the pixels of the thing."""
    keypoints: Array | None = None
    """float32 (K, 3): x, y and score of each keypoint."""


@dataclass(frozen=True, eq=False)
class Detections:
    """Things found in one picture, best first. Places are in pixels of that picture.

    `len(found)` counts them. `found[i]` and iteration give each as a `Detection`. An index that is
    a slice, a mask or a list gives `Detections` again.

    Raises:
        ShapeError: the arrays do not fit each other.
    """

    boxes: Array
    """float32 (N, 4): left, top, right and bottom of each."""
    scores: Array
    """float32 (N,): from 0 to 1 as a rule."""
    classes: Array
    """int64 (N,): the number of each one's class."""
    labels: tuple[str, ...]
    """The name of each one's class, N of them; its number if no name is known."""
    size: tuple[int, int]
    """Height and width of the picture."""
    masks: Array | None = None
    """bool (N, H, W): the pixels of each; None: the network has no masks."""
    keypoints: Array | None = None
    """float32 (N, K, 3): x, y and score of each one's keypoints; None: it has none."""

    def __post_init__(self) -> None:
        count = len(self.boxes)
        wrong = [
            f"{name} {shape}, not {expected}"
            for name, shape, expected in (
                ("boxes", self.boxes.shape, (count, 4)),
                ("scores", self.scores.shape, (count,)),
                ("classes", self.classes.shape, (count,)),
                ("labels", (len(self.labels),), (count,)),
                ("masks", _shape(self.masks), (count, *self.size)),
                ("keypoints", _shape(self.keypoints)[::2], (count, 3)),
            )
            if shape not in ((), expected)
        ]
        if wrong:
            raise ShapeError(f"detections of {count} boxes have {'; '.join(wrong)}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            left, top, right, bottom = map(float, self.boxes[index])
            return Detection(
                self.labels[index],
                int(self.classes[index]),
                float(self.scores[index]),
                (left, top, right, bottom),
                None if self.masks is None else self.masks[index],
                None if self.keypoints is None else self.keypoints[index],
            )
        places = np.arange(len(self))[index]
        return Detections(
            self.boxes[places],
            self.scores[places],
            self.classes[places],
            tuple(self.labels[i] for i in places),
            self.size,
            None if self.masks is None else self.masks[places],
            None if self.keypoints is None else self.keypoints[places],
        )

    def __iter__(self) -> Iterator[Detection]:
        return (self[i] for i in range(len(self)))

    def draw(self, image: Any, *, labels: bool = True) -> Image:
        """The picture with boxes, masks and keypoints drawn over it.

        Colours are Okabe and Ito's, which colour-blind readers can tell apart; one is that of a
        class. Lines and letters grow with the picture.

        Args:
            image: the picture, as `Model.detect` takes it, of the size `size`.
            labels: writes the class and the score above each box.

        Raises:
            ImageError: it cannot be read as an image.
            ShapeError: the picture has another size.
        """
        with importing:
            from .draw import draw_detections  # noqa: PLC0415  (Pillow, only once it is needed)

        return draw_detections(self, image, labels=labels)

    def to_json(self) -> dict[str, Any]:
        """The things found, as JSON has them.

        Returns:
            A dict of `size` (height and width) and `detections`. Each of them has `label`, `class`,
            `score`, `box` (left, top, right, bottom), and perhaps `mask` and `keypoints`. A mask is
            a run-length code as COCO's.
        """
        return {
            "size": list(self.size),
            "detections": [
                {
                    "label": one.label,
                    "class": one.index,
                    "score": one.score,
                    "box": list(one.box),
                    **({} if one.mask is None else {"mask": rle.encode(one.mask)}),
                    **({} if one.keypoints is None else {"keypoints": one.keypoints.tolist()}),
                }
                for one in self
            ],
        }

    def to_coco(self, image_id: int, categories: Sequence[int] | None = None) -> list[Any]:
        """The results of one picture in the format of COCO's evaluation.

        Args:
            image_id: the picture's number in the annotations.
            categories: COCO's number of each class; None: the class's own number.

        Returns:
            A list of dicts with `image_id`, `category_id`, `bbox` (left, top, width, height),
            `score`, and perhaps `segmentation` (a run-length code) and `keypoints`.
        """
        results = []
        for one in self:
            left, top, right, bottom = one.box
            result: dict[str, Any] = {
                "image_id": image_id,
                "category_id": one.index if categories is None else int(categories[one.index]),
                "bbox": [left, top, right - left, bottom - top],
                "score": one.score,
            }
            if one.mask is not None:
                result["segmentation"] = rle.encode(one.mask)
            if one.keypoints is not None:
                result["keypoints"] = one.keypoints.reshape(-1).tolist()
            results.append(result)
        return results

    def to_supervision(self) -> Any:
        """The same as `supervision.Detections`, for trackers, zones and annotators.

        Raises:
            ImportError: the package `supervision` is missing.
        """
        try:
            with importing:
                import supervision  # noqa: PLC0415  (an optional dependency)
        except ImportError as error:
            raise ImportError(missing("to_supervision()", "supervision", error)) from error
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.classes,
            data={"class_name": np.array(self.labels, dtype=str)},
        )


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of each pixel of a picture.

    Raises:
        ShapeError: the classes are no array of rows and columns.
    """

    classes: Array
    """int64 (H, W): the number of each pixel's class."""
    labels: tuple[str, ...]
    """The names of all classes by number; a class beyond them goes by its number."""

    def __post_init__(self) -> None:
        if self.classes.ndim != 2:
            raise ShapeError(f"classes of pixels are (H, W), not {self.classes.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        height, width = self.classes.shape
        return height, width

    def label(self, index: int) -> str:
        """The name of a class; its number if it has none."""
        return self.labels[index] if 0 <= index < len(self.labels) else str(index)

    def areas(self) -> dict[str, float]:
        """The share of the picture, from 0 to 1, that each class takes; the largest first."""
        found, counts = np.unique(self.classes, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        total = max(1, self.classes.size)
        return {self.label(int(found[i])): float(counts[i]) / total for i in order}

    def draw(self, image: Any, *, background: int | None = 0) -> Image:
        """The picture under the colours of its classes, with a legend.

        Args:
            image: the picture, of the size `size`.
            background: a class that is left clear; None: none is.

        Raises:
            ImageError: it cannot be read as an image.
            ShapeError: the picture has another size.
        """
        with importing:
            from .draw import draw_segmentation  # noqa: PLC0415  (Pillow, as above)

        return draw_segmentation(self, image, background)

    def to_json(self) -> dict[str, Any]:
        """The classes that there are, as JSON has them.

        Returns:
            A dict of `size` (height and width) and `classes`. Each of them has `label`, `class`,
            `area` (its share of the picture) and `mask`, a run-length code as COCO's.
        """
        found, counts = np.unique(self.classes, return_counts=True)
        return {
            "size": list(self.size),
            "classes": [
                {
                    "label": self.label(int(index)),
                    "class": int(index),
                    "area": float(count) / max(1, self.classes.size),
                    "mask": rle.encode(self.classes == index),
                }
                for index, count in zip(found, counts, strict=True)
            ],
        }


def _shape(array: Array | None) -> tuple[int, ...]:
    return () if array is None else array.shape
