"""Tasks beyond classes: what a file says of them, results, places in the picture, suppression."""

from __future__ import annotations

import json
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnrt
from cnnrt import Detections, FormatError, Segmentation, ShapeError, Task
from cnnrt.graph import Array
from cnnrt.preprocessing import Preprocessing
from cnnrt.tasks import rle
from cnnrt.tasks.boxes import Candidates, Placement, choose, from_centres
from cnnrt.tasks.draw import OKABE_ITO
from task_networks import given, letterbox

YOLO = np.zeros((1, 6, 84), np.float32)
"""Rows of a network with two classes and an input of 64 x 64: 8 x 8, 4 x 4 and 2 x 2 places."""


def found(count: int = 3, size: tuple[int, int] = (40, 60), **more: Any) -> Detections:
    """Detections of as many classes."""
    rng = np.random.default_rng(count)
    low = rng.uniform(0, 20, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 20, (count, 2))], 1).astype(np.float32)
    scores = np.linspace(0.9, 0.3, count, dtype=np.float32)
    labels = tuple(f"class {i}" for i in range(count))
    return Detections(boxes, scores, np.arange(count), labels, size, **more)


# The task. ----------------------------------------------------------------------------------------


def test_a_task_is_kept_in_every_file(tmp_path: Path) -> None:
    task = Task("pose", "yolo", {"keypoints": 17, "dimensions": 3, "outputs": {"boxes": "y"}})
    model = given({"y": YOLO}, task=task)
    model.save_compiled(tmp_path / "compiled.bin")
    assert cnnrt.load(tmp_path / "compiled.bin").task == task
    assert pickle.loads(pickle.dumps(model)).task == task
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_a_task_by_its_name() -> None:
    assert Task.of("detect/scrfd") == Task("detect", "scrfd")
    assert Task.of({"kind": "embed"}) == Task("embed")
    assert str(Task("detect", "yolo")) == "detect/yolo"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"kind": "count"}, "kind: expected one of classify"),
        ({"kind": "detect", "family": "yolo9000"}, "family of the task 'detect'"),
        ({"kind": "embed", "family": "yolo"}, "no family"),
        ({"kind": "detect", "code": "x"}, "unknown key 'code'"),
        ({"kind": "detect", "parameters": {"keypoint": 1}}, "'keypoint'"),
        ({"kind": "pose", "parameters": {"keypoints": 0}}, "an integer from 1"),
        ({"kind": "detect", "parameters": {"max_overlap": 1.5}}, "from 0 to 1"),
        ({"kind": "detect", "parameters": [1]}, "an object"),
        ([], "an object"),
    ],
)
def test_a_task_that_is_none_is_refused(document: Any, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        Task.from_json(document, "file")


# Results. -----------------------------------------------------------------------------------------


def test_detections_are_a_sequence() -> None:
    three = found(masks=np.zeros((3, 40, 60), bool), keypoints=np.zeros((3, 2, 3), np.float32))
    assert len(three) == 3
    assert [one.label for one in three] == ["class 0", "class 1", "class 2"]
    assert three[1].box == pytest.approx(tuple(three.boxes[1]))
    part = three[three.classes != 1]
    assert part.labels == ("class 0", "class 2")
    assert part.masks.shape == (2, 40, 60)
    assert len(three[:0]) == 0
    with pytest.raises(IndexError):
        three[3]


@pytest.mark.parametrize(
    "more", [{"masks": np.zeros((3, 60, 40), bool)}, {"keypoints": np.zeros((2, 17, 3))}]
)
def test_detections_fit_each_other(more: dict[str, Array]) -> None:
    with pytest.raises(ShapeError, match=f"3 boxes have {next(iter(more))}"):
        found(**more)


def test_detections_as_documents() -> None:
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 3:10, 5:20] = True
    one = found(1, masks=mask, keypoints=np.arange(6, dtype=np.float32).reshape(1, 2, 3))
    document = json.loads(json.dumps(one.to_json()))
    assert document["size"] == [40, 60]
    (entry,) = document["detections"]
    assert entry["label"] == "class 0"
    assert entry["box"] == pytest.approx(one.boxes[0].tolist())
    assert entry["keypoints"] == [[0, 1, 2], [3, 4, 5]]
    (coco,) = json.loads(json.dumps(one.to_coco(7, categories=[18])))
    left, top, right, bottom = one.boxes[0].tolist()
    assert coco["bbox"] == pytest.approx([left, top, right - left, bottom - top])
    assert (coco["image_id"], coco["category_id"]) == (7, 18)
    assert coco["keypoints"] == [0, 1, 2, 3, 4, 5]
    assert np.array_equal(_decoded(coco["segmentation"]), mask[0])


def _decoded(code: dict[str, Any]) -> Array:
    """A mask from COCO's text, written after the description in its C sources."""
    lengths: list[int] = []
    value = shift = 0
    for character in code["counts"]:
        digit = ord(character) - 48
        value |= (digit & 0x1F) << shift
        shift += 5
        if not digit & 0x20:
            if digit & 0x10:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    height, width = code["size"]
    return flat.reshape(width, height).T


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_run_length_codes(share: float) -> None:
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (7, 5), (300, 211)):
        mask = rng.random((height, width)) < share
        assert np.array_equal(_decoded(rle.encode(mask)), mask)
    # The text of pycocotools 2.0 for this mask.
    mask = np.zeros((9, 9), bool)
    mask[2:7, 3:8] = True
    assert rle.encode(mask)["counts"] == "m05400000007"


def test_detections_for_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("supervision")
    module.Detections = lambda **fields: fields
    monkeypatch.setitem(sys.modules, "supervision", module)
    three = found()
    fields = three.to_supervision()
    assert np.array_equal(fields["xyxy"], three.boxes)
    assert fields["mask"] is None
    assert fields["data"]["class_name"].tolist() == list(three.labels)
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install"):
        three.to_supervision()


def test_a_segmentation() -> None:
    classes = np.zeros((4, 5), np.int64)
    classes[:2] = 3
    result = Segmentation(classes, ("sky", "road"))
    assert result.size == (4, 5)
    assert result.areas() == {"sky": 0.5, "3": 0.5}
    document = json.loads(json.dumps(result.to_json()))
    assert [entry["label"] for entry in document["classes"]] == ["sky", "3"]
    assert np.array_equal(_decoded(document["classes"][1]["mask"]), classes == 3)
    with pytest.raises(ShapeError):
        Segmentation(classes[0], ())


# Drawing. -----------------------------------------------------------------------------------------


def test_what_is_drawn_is_where_it_was_found() -> None:
    ground = Image.new("RGB", (600, 400), (128, 128, 128))
    mask = np.zeros((1, 400, 600), bool)
    mask[0, 200:300, 100:300] = True
    points = np.array([[[200, 250, 0.9], [150, 210, 0.1]]], np.float32)
    one = Detections(
        np.array([[100, 200, 300, 300]], np.float32),
        np.array([0.5], np.float32),
        np.array([1]),
        ("dog",),
        (400, 600),
        mask,
        points,
    )
    drawn = np.asarray(one.draw(ground)).astype(int)
    colour = np.array(OKABE_ITO[1])
    assert (drawn[205, 102] == colour).all() or (drawn[250, 100] == colour).all()
    assert np.abs(drawn[250, 280] - (0.55 * 128 + 0.45 * colour)).max() <= 1
    assert (drawn[250, 200] == 255).all()  # a keypoint
    assert (drawn[350, 500] == 128).all()
    assert (np.asarray(ground) == 128).all()  # the picture given is as it was
    above = drawn[185:197, 102:120].reshape(-1, 3)
    assert (above == colour).all(1).mean() > 0.3  # the label


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (2000, 3000)])
def test_pictures_of_any_size_are_drawn_on(size: tuple[int, int]) -> None:
    height, width = size
    boxes = np.array([[0, 0, width, height], [0, 0, 0, 0]], np.float32)
    scores, classes = np.array([0.9, 0.5], np.float32), np.array([0, 100])
    masks = np.ones((2, *size), bool)
    two = Detections(boxes, scores, classes, ("a" * 50, "\u732b\x1b[31m"), size, masks)
    ground = Image.new("RGB", (width, height))
    assert two.draw(ground).size == (width, height)
    assert two[:0].draw(ground).tobytes() == ground.tobytes()
    segmented = Segmentation(np.arange(height * width).reshape(size) % 300, ("x",))
    assert segmented.draw(ground).size == (width, height)


def test_the_picture_drawn_on_has_the_size() -> None:
    with pytest.raises(ShapeError, match="40 x 60"):
        found().draw(Image.new("RGB", (40, 60)))


# Places and suppression. --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [
        letterbox((64, 96)),
        Preprocessing(size=(64, 96), pad=0, align="start"),
        Preprocessing(size=(64, 96), resize=(64, 96)),
        Preprocessing(size=(48, 48), resize=64),
        Preprocessing(size=(300, 300)),
    ],
)
@pytest.mark.parametrize("size", [(120, 211), (33, 20), (64, 96)])
def test_boxes_come_back_to_where_the_picture_shows_them(
    way: Preprocessing, size: tuple[int, int]
) -> None:
    """A white block in a picture, found in the network's input, is where it was."""
    height, width = size
    pixels = np.zeros((*size, 3), np.uint8)
    top, bottom, left, right = height * 2 // 5, height * 7 // 10, width * 2 // 5, width * 3 // 5
    pixels[top:bottom, left:right] = 255
    values = way(pixels)[0, 0]
    bright = values > values.max() * 0.7
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    box = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
    placement = Placement.of(way, size)
    back = placement.boxes(box)[0]
    assert np.abs(back - [left, top, right, bottom]).max() <= max(placement.across, placement.down)
    points = placement.keypoints(np.array([[[*box[0, :2], 0.5]]], np.float32))
    assert points[0, 0] == pytest.approx([back[0], back[1], 0.5])


def test_places_stay_inside_the_picture() -> None:
    placement = Placement.of(letterbox((64, 64)), (30, 60))
    wild = np.array([[-1e9, -5, 1e9, 1e30], [70, 70, 80, 80]], np.float32)
    assert placement.boxes(wild).tolist() == [[0, 0, 60, 30], [60, 30, 60, 30]]


def overlap(a: Array, b: Array) -> float:
    """Intersection over union of two boxes."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod((high - low).clip(0)))
    areas = [float(np.prod(box[2:] - box[:2])) for box in (a, b)]
    union = sum(areas) - shared
    return shared / union if union else 0.0


def suppressed(candidates: Candidates, least: float, most: float, agnostic: bool) -> list[int]:
    """The numbers of candidates that remain, by the definition."""
    kept: list[int] = []
    for i in np.argsort(-candidates.scores, kind="stable").tolist():
        if not candidates.scores[i] > least:
            continue
        rivals = [k for k in kept if agnostic or candidates.classes[k] == candidates.classes[i]]
        boxes = candidates.boxes
        if all(overlap(boxes[k], boxes[i]) <= most for k in rivals):
            kept.append(i)
    return kept


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("count", [0, 1, 17, 300])
def test_suppression_is_by_class(count: int, agnostic: bool) -> None:
    rng = np.random.default_rng(count)
    centres = np.concatenate([rng.uniform(20, 60, (count, 2)), rng.uniform(10, 30, (count, 2))], 1)
    scores = rng.random(count).astype(np.float32).round(2)  # some are equal
    candidates = Candidates(
        from_centres(centres).astype(np.float32), scores, rng.integers(0, 4, count)
    )
    expected = suppressed(candidates, 0.2, 0.45, agnostic)
    options: dict[str, Any] = dict(min_score=0.2, max_overlap=0.45, class_agnostic=agnostic)
    assert choose(candidates, max_detections=1000, **options).tolist() == expected
    assert choose(candidates, max_detections=5, **options).tolist() == expected[:5]


def test_what_is_no_number_is_no_detection() -> None:
    nan, inf = float("nan"), float("inf")
    boxes = np.array([[0, 0, 9, 9], [0, 0, nan, 9], [0, 0, 9, inf], [20, 20, 29, 29]], np.float32)
    scores = np.array([nan, 0.9, 0.8, 0.7], np.float32)
    candidates = Candidates(boxes, scores, np.zeros(4, np.int64))
    for most in (0.5, None):
        chosen = choose(
            candidates, min_score=0, max_overlap=most, max_detections=9, class_agnostic=False
        )
        assert chosen.tolist() == [3]
