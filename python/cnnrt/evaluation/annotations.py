"""Annotations in COCO's format: which things are on which pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FormatError
from ..storage.validate import fail, integer, listing, number, parse_json, string

Json = dict[str, Any]
WHOLE = (0, 1 << 53)
"""Numbers of images and categories."""


@dataclass(frozen=True)
class Annotations:
    """A checked file of annotations, with what may be left out filled in."""

    files: dict[int, Path]
    """The picture of each number of an image."""
    categories: dict[int, str]
    """The name of each number of a category."""
    document: Json
    """`images`, `categories` and `annotations`, as pycocotools reads them."""

    def all_have(self, key: str) -> bool:
        """True if every annotation has such a value, as `segmentation` or `keypoints`."""
        return all(one.get(key) for one in self.document["annotations"])


def read_annotations(
    path: str | os.PathLike[str], images: str | os.PathLike[str] | None
) -> Annotations:
    """Reads annotations.

    Args:
        path: the .json file.
        images: the folder that `file_name` is relative to; None: that of the annotations.

    Raises:
        FormatError: the file cannot be read, or is not in COCO's format.
    """
    file = Path(path)
    at = str(path)
    try:
        document = parse_json(file.read_bytes(), at)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(document, dict):
        fail(at, "an object with images, categories and annotations", document)
    for key in ("images", "categories", "annotations"):
        if key not in document:
            raise FormatError(f"{at}: lacks the key {key!r} of COCO's format")
    folder = file.parent if images is None else Path(images)
    listed = listing(document["images"], f"{at}: images", _image)
    files = {key: folder / name for key, name in listed}
    categories = dict(listing(document["categories"], f"{at}: categories", _category))
    if not files or not categories:
        raise FormatError(f"{at}: has {len(files)} images and {len(categories)} categories")
    things = listing(document["annotations"], f"{at}: annotations", _annotation)
    for i, one in enumerate(things):
        one["id"] = i + 1  # pycocotools takes 0 for "no match"
        for key, known in (("image_id", files), ("category_id", categories)):
            if one[key] not in known:
                raise FormatError(f"{at}: annotations[{i}]: no {key[:-3]} has the id {one[key]}")
    pictures = [{**one} for one in document["images"]]
    names = [{"id": key, "name": name} for key, name in categories.items()]
    return Annotations(
        files, categories, {"images": pictures, "categories": names, "annotations": things}
    )


def _object(value: Any, at: str, keys: str) -> Json:
    if not isinstance(value, dict):
        fail(at, "an object", value)
    for key in keys.split():
        if key not in value:
            raise FormatError(f"{at}: lacks the key {key!r}")
    return value


def _image(value: Any, at: str) -> tuple[int, str]:
    entry = _object(value, at, "id file_name")
    return integer(entry["id"], f"{at}.id", *WHOLE), string(entry["file_name"], f"{at}.file_name")


def _category(value: Any, at: str) -> tuple[int, str]:
    entry = _object(value, at, "id name")
    return integer(entry["id"], f"{at}.id", *WHOLE), string(entry["name"], f"{at}.name")


def _annotation(value: Any, at: str) -> Json:
    entry = _object(value, at, "image_id category_id bbox")
    for key in ("image_id", "category_id"):
        integer(entry[key], f"{at}.{key}", *WHOLE)
    box = listing(entry["bbox"], f"{at}.bbox", number)
    if len(box) != 4:
        fail(f"{at}.bbox", "left, top, width and height", box)
    area = number(entry.get("area", box[2] * box[3]), f"{at}.area")
    crowd = integer(entry.get("iscrowd", 0), f"{at}.iscrowd", *WHOLE)
    return {**entry, "bbox": box, "area": area, "iscrowd": crowd}
