"""Decoders of each family against plain definitions, written out box by box."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import cnnrt
from cnnrt import GraphError, ShapeError, Task
from cnnrt.graph import Array
from cnnrt.preprocessing import Preprocessing
from task_networks import given
from test_tasks import overlap

SIZE = (64, 96)
"""Height and width of the input, and of the picture: places need no scaling."""
PICTURE = np.full((*SIZE, 3), 100, np.uint8)
WHOLE = Preprocessing(size=SIZE, resize=SIZE, scale=1 / 255)
PLACES = 8 * 12 + 4 * 6 + 2 * 3
"""Places of strides 8, 16 and 32."""

Row = tuple[float, int, tuple[float, ...]]
"""Score, class and box."""


def best(rows: list[Row], least: float, most: float | None = None) -> list[Row]:
    """What remains of boxes by the definition of suppression, inside of the picture."""
    kept: list[Row] = []
    for row in sorted(rows, key=lambda r: -r[0]):
        boxes = [np.array(k[2]) for k in kept if k[1] == row[1]]
        if row[0] > least and (
            most is None or all(overlap(b, np.array(row[2])) <= most for b in boxes)
        ):
            kept.append(row)
    return kept


def check(found: cnnrt.Detections, expected: list[Row]) -> None:
    assert len(expected) > 3
    assert len(found) == len(expected)
    limits = [SIZE[1], SIZE[0], SIZE[1], SIZE[0]]
    for one, (score, index, box) in zip(found, expected, strict=True):
        assert one.score == pytest.approx(score, rel=1e-5)
        assert one.index == index
        assert one.box == pytest.approx(np.clip(box, 0, limits), abs=1e-3)


def centred(x: float, y: float, w: float, h: float) -> tuple[float, ...]:
    return (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


def rows_of_yolo(seed: int, count: int, classes: int) -> tuple[Array, Array]:
    """Boxes as centres and sizes (N, 4), and scores (N, classes), of which few are high."""
    rng = np.random.default_rng(seed)
    boxes = np.concatenate(
        [rng.uniform(0, 1, (count, 2)) * SIZE[::-1], rng.uniform(5, 40, (count, 2))], 1
    )
    return boxes.astype(np.float32), (rng.random((count, classes)) ** 6).astype(np.float32)


def model_of(outputs: dict[str, Array], **more: Any) -> cnnrt.Model:
    return given(outputs, SIZE, **{"preprocessing": WHOLE, **more})


# YOLO. --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [None, ["a", "b", "c"]])
@pytest.mark.parametrize("transposed", [False, True])
def test_yolo_with_a_score_for_each_class(labels: list[str] | None, transposed: bool) -> None:
    boxes, scores = rows_of_yolo(0, PLACES, 3)
    y = np.concatenate([boxes, scores], 1)[None]
    task = None if labels or not transposed else Task("detect", "yolo")
    model = model_of({"y": y if transposed else y.transpose(0, 2, 1)}, labels=labels, task=task)
    rows = [
        (float(s.max()), int(s.argmax()), centred(*b)) for b, s in zip(boxes, scores, strict=True)
    ]
    check(model.detect(PICTURE), best(rows, 0.25, 0.7))
    check(model.detect(PICTURE, 0.1, max_overlap=0.3), best(rows, 0.1, 0.3))
    everything = model.detect(PICTURE, 0, max_overlap=1, max_detections=9999)
    assert len(everything) == PLACES


def test_yolo_with_objectness() -> None:
    boxes, scores = rows_of_yolo(1, 3 * PLACES, 2)
    there = np.random.default_rng(2).random((len(boxes), 1)).astype(np.float32)
    model = model_of({"y": np.concatenate([boxes, there, scores], 1)[None]})
    assert model.detect(PICTURE).labels[0] in ("0", "1")
    rows = [
        (float(t[0] * s.max()), int(s.argmax()), centred(*b))
        for b, t, s in zip(boxes, there, scores, strict=True)
    ]
    check(model.detect(PICTURE, 0.2), best(rows, 0.2, 0.45))


@pytest.mark.parametrize("indexed", [False, True])
def test_yolo_that_has_suppressed_by_itself(indexed: bool) -> None:
    boxes, scores = rows_of_yolo(3, 40, 1)
    corners = np.array([centred(*b) for b in boxes])
    order = np.argsort(-scores[:, 0])
    corners, scores = corners[order], scores[order]
    classes = np.arange(40)[:, None] % 3
    rows = [
        (float(s), int(c), tuple(b))
        for s, c, b in zip(scores[:, 0], classes[:, 0], corners, strict=True)
    ]
    if indexed:
        y = np.concatenate([np.zeros((40, 1)), corners, classes, scores], 1)
        model = model_of({"y": y}, task=Task("detect", "yolo", {"layout": "indexed"}))
    else:
        model = model_of({"y": np.concatenate([corners, scores, classes], 1)[None]})
    check(model.detect(PICTURE, 0.1), best(rows, 0.1))


def test_yolo_with_prototypes_of_masks() -> None:
    """Masks are sums of prototypes, interpolated, cut by their boxes."""
    rng = np.random.default_rng(4)
    boxes, scores = rows_of_yolo(4, PLACES, 2)
    coefficients = rng.normal(size=(PLACES, 5)).astype(np.float32)
    prototypes = rng.normal(size=(1, 5, SIZE[0] // 4, SIZE[1] // 4)).astype(np.float32)
    rows = np.concatenate([boxes, scores, coefficients], 1)[None].transpose(0, 2, 1)
    model = model_of({"y": rows, "p": prototypes}, labels=["a", "b"])
    found = model.segment(PICTURE, 0.3)
    assert found.masks.shape == (len(found), *SIZE)
    assert found.masks.any()
    y, x = (np.arange(n) for n in SIZE)
    for one in found:
        i = int(np.argmin(np.abs(scores.max(1) - one.score)))
        small = np.tensordot(coefficients[i], prototypes[0], 1)
        at_y = np.clip((y + 0.5) / 4 - 0.5, 0, small.shape[0] - 1)
        at_x = np.clip((x + 0.5) / 4 - 0.5, 0, small.shape[1] - 1)
        down = np.array([np.interp(at_y, np.arange(small.shape[0]), c) for c in small.T]).T
        large = np.array([np.interp(at_x, np.arange(small.shape[1]), r) for r in down])
        left, top, right, bottom = one.box
        inside = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))
        differs = one.mask != ((large > 0) & inside)
        assert np.abs(large[differs]).max(initial=0) < 1e-4


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("size", [SIZE, (128, 96), (30, 50)])
def test_yolo_with_keypoints(dimensions: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    boxes, scores = rows_of_yolo(5, PLACES, 1)
    points = rng.uniform(0, 64, (PLACES, 4, dimensions)).astype(np.float32)
    rows = np.concatenate([boxes, scores, points.reshape(PLACES, -1)], 1)[None].transpose(0, 2, 1)
    task = Task("pose", "yolo", {"keypoints": 4, "dimensions": dimensions})
    fitted = Preprocessing(size=SIZE, pad=114, scale=1 / 255)
    model = model_of({"y": rows}, task=task, preprocessing=fitted, labels=["person"])
    found = model.pose(np.zeros((*size, 3), np.uint8), 0.4)
    assert len(found) > 3
    scale = min(SIZE[0] / size[0], SIZE[1] / size[1])
    bars = (SIZE[1] - size[1] * scale) / 2, (SIZE[0] - size[0] * scale) / 2
    for one in found:
        i = int(np.argmin(np.abs(scores[:, 0] - one.score)))
        expected = ((points[i, :, :2] - bars) / scale).clip(0, size[::-1])
        assert np.abs(one.keypoints[:, :2] - expected).max() < 0.5 / scale
        assert one.keypoints[:, 2] == pytest.approx(points[i, :, 2] if dimensions == 3 else 1)
    assert model.pose(PICTURE, 1.0).keypoints.shape == (0, 4, 3)


def test_yolox_in_units_of_its_levels() -> None:
    rng = np.random.default_rng(6)
    y = np.concatenate([rng.normal(0, 0.5, (PLACES, 4)), rng.random((PLACES, 4)) ** 2], 1)
    rows: list[Row] = []
    place = 0
    for stride in (8, 16, 32):
        for row in range(SIZE[0] // stride):
            for column in range(SIZE[1] // stride):
                dx, dy, w, h, there, *scores = y[place].tolist()
                box = centred(
                    (column + dx) * stride,
                    (row + dy) * stride,
                    math.exp(w) * stride,
                    math.exp(h) * stride,
                )
                rows.append((there * max(scores), int(np.argmax(scores)), box))
                place += 1
    model = model_of({"y": y[None].astype(np.float32)}, labels=["a", "b", "c"])
    check(model.detect(PICTURE, 0.3), best(rows, 0.3, 0.45))  # by the number of places
    model.task = Task("detect", "yolox")
    check(model.detect(PICTURE, 0.3), best(rows, 0.3, 0.45))


# Others. ------------------------------------------------------------------------------------------


def test_scrfd() -> None:
    rng = np.random.default_rng(7)
    outputs: dict[str, Array] = {}
    rows: list[Row] = []
    marks: dict[float, Array] = {}
    for stride in (8, 16, 32):
        h, w = SIZE[0] // stride, SIZE[1] // stride
        score = rng.random((h * w * 2, 1)).astype(np.float32) ** 3
        distance = rng.uniform(0.2, 2, (h * w * 2, 4)).astype(np.float32)
        points = rng.uniform(-1, 1, (h * w * 2, 10)).astype(np.float32)
        outputs |= {f"score_{stride}": score, f"bbox_{stride}": distance, f"kps_{stride}": points}
        for i in range(h * w * 2):
            x, y = i // 2 % w * stride, i // 2 // w * stride
            left, up, right, down = (distance[i] * stride).tolist()
            rows.append((float(score[i, 0]), 0, (x - left, y - up, x + right, y + down)))
            marks[round(float(score[i, 0]), 6)] = points[i].reshape(5, 2) * stride + [x, y]
    order = sorted(outputs, key=lambda name: name.split("_")[0])
    model = model_of({name: outputs[name] for name in order})
    found = model.detect(PICTURE, 0.3)
    check(found, best(rows, 0.3, 0.4))
    assert set(found.labels) == {"face"}
    for one in found:
        expected = marks[round(one.score, 6)].clip(0, SIZE[::-1])
        assert one.keypoints[:, :2] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("softmax", [False, True])
def test_detr(softmax: bool) -> None:
    rng = np.random.default_rng(8)
    logits = rng.normal(0, 2, (1, 30, 4 if softmax else 3)).astype(np.float32)
    boxes = rng.uniform(0.1, 0.6, (1, 30, 4)).astype(np.float32)
    model = model_of({"logits": logits, "pred_boxes": boxes}, labels=["a", "b", "c"])
    scaled = boxes[0] * [SIZE[1], SIZE[0], SIZE[1], SIZE[0]]
    rows: list[Row] = []
    for values, box in zip(logits[0].astype(float), scaled, strict=True):
        if softmax:
            p = np.exp(values) / np.exp(values).sum()
            rows.append((p[:3].max(), int(p[:3].argmax()), centred(*box)))
        else:
            rows += [(1 / (1 + math.exp(-v)), k, centred(*box)) for k, v in enumerate(values)]
    check(model.detect(PICTURE, 0.4), best(rows, 0.4))


def test_detr_in_one_output() -> None:
    """As ultralytics exports RT-DETR: boxes and probabilities side by side."""
    boxes, scores = np.split(np.random.default_rng(9).random((1, 30, 7), np.float32), [4], axis=2)
    model = model_of(
        {"y": np.concatenate([boxes, scores], 2)},
        task=Task("detect", "detr"),
        labels=["a", "b", "c"],
    )
    scaled = boxes[0] * [SIZE[1], SIZE[0], SIZE[1], SIZE[0]]
    rows = [
        (float(s), k, centred(*b))
        for b, row in zip(scaled, scores[0], strict=True)
        for k, s in enumerate(row)
    ]
    check(model.detect(PICTURE, 0.8), best(rows, 0.8))


def test_detr_with_the_classes_chosen() -> None:
    """As later versions of ultralytics export RT-DETR: box, score, class."""
    rng = np.random.default_rng(16)
    boxes, scores, classes = rng.random((30, 4)), rng.random((30, 1)), rng.integers(0, 5, (30, 1))
    y = np.concatenate([boxes, scores, classes], 1)[None]
    model = model_of({"y": y}, task=Task("detect", "detr"), labels=list("abcde"))
    scaled = boxes * [SIZE[1], SIZE[0], SIZE[1], SIZE[0]]
    rows = [
        (float(s), int(c), centred(*b))
        for s, c, b in zip(scores[:, 0], classes[:, 0], scaled, strict=True)
    ]
    check(model.detect(PICTURE, 0.5), best(rows, 0.5))


@pytest.mark.parametrize("labels", [["a", "b"], ["none", "a", "b"], None])
@pytest.mark.parametrize("form", ["scores", "logits", "turned"])
def test_ssd_before_suppression(labels: list[str] | None, form: str) -> None:
    rng = np.random.default_rng(10)
    low = rng.random((1, 50, 2)) * 0.7
    boxes = np.concatenate([low, low + rng.uniform(0.05, 0.5, (1, 50, 2))], 2)
    logits = rng.normal(0, 2, (1, 50, 3))
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    given_scores = {"scores": p, "logits": logits, "turned": p.transpose(0, 2, 1)}[form]
    named = labels is not None and len(labels) == 3
    task = Task("detect", "ssd", {"background": 0})
    model = model_of({"scores": given_scores, "boxes": boxes}, labels=labels, task=task)
    scaled = boxes[0] * [SIZE[1], SIZE[0], SIZE[1], SIZE[0]]
    rows = [
        (float(s), k if named else k - 1, tuple(b))
        for b, row in zip(scaled, p[0], strict=True)
        for k, s in enumerate(row)
        if k
    ]
    found = model.detect(PICTURE, 0.3)
    check(found, best(rows, 0.3, 0.45))
    if labels:
        assert set(found.labels) == {"a", "b"}


@pytest.mark.parametrize("tensorflow", [False, True])
def test_ssd_after_suppression(tensorflow: bool) -> None:
    rng = np.random.default_rng(11)
    low = rng.random((20, 2)) * 0.7
    boxes = np.concatenate([low, low + 0.2], 1)
    scores = np.sort(rng.random(20))[::-1]
    classes = rng.integers(1, 4, 20)
    scaled = boxes * [SIZE[1], SIZE[0], SIZE[1], SIZE[0]]
    count = 15 if tensorflow else 20
    rows = [
        (float(s), int(c) - tensorflow, tuple(b))
        for s, c, b in zip(scores[:count], classes[:count], scaled[:count], strict=True)
    ]
    if tensorflow:
        outputs = {
            "detection_boxes": boxes[None][..., [1, 0, 3, 2]],
            "detection_classes": classes[None],
            "detection_scores": scores[None],
            "num_detections": np.array([15.0]),
        }
        task = Task("detect", "ssd", {"background": 0})
    else:
        outputs = {"bboxes": boxes[None], "labels": classes[None], "scores": scores[None]}
        task = None
    check(model_of(outputs, task=task).detect(PICTURE, 0.2), best(rows, 0.2))


def test_retinanet_of_maps() -> None:
    """NVIDIA's form: nine anchors at each place, by scale and then by proportions."""
    rng = np.random.default_rng(12)
    outputs: dict[str, Array] = {}
    rows: list[Row] = []
    for stride in (8, 16, 32):
        h, w = SIZE[0] // stride, SIZE[1] // stride
        score = rng.random((1, 18, h, w)) ** 12
        delta = rng.normal(0, 0.3, (1, 36, h, w))
        outputs |= {f"score{stride}": score, f"delta{stride}": delta}
        for anchor in range(9):
            scale, tall = 4 * 2 ** (anchor // 3 / 3), (1.0, 2.0, 0.5)[anchor % 3]
            aw, ah = stride * scale / math.sqrt(tall) + 1, stride * scale * math.sqrt(tall) + 1
            for y in range(h):
                for x in range(w):
                    dx, dy, dw, dh = delta[0, 4 * anchor : 4 * anchor + 4, y, x]
                    cx, cy = (x + 0.5) * stride + 0.5 + dx * aw, (y + 0.5) * stride + 0.5 + dy * ah
                    box = centred(cx, cy, math.exp(dw) * aw, math.exp(dh) * ah)
                    rows += [(float(score[0, 2 * anchor + k, y, x]), k, box) for k in range(2)]
    ordered = {name: outputs[name] for name in sorted(outputs, reverse=True)}
    model = model_of(ordered, task=Task("detect", "retinanet"), labels=["a", "b"])
    check(model.detect(PICTURE, 0.5, max_detections=999), best(rows, 0.5, 0.5))


def test_semantic_segmentation() -> None:
    """Each pixel has the class whose interpolated score is the highest."""
    scores = np.random.default_rng(13).normal(size=(1, 4, 16, 24)).astype(np.float32)
    model = model_of({"out": scores}, task=Task("segment", "semantic"), labels=list("abcd"))
    found = model.segment(PICTURE)
    assert found.size == SIZE
    y, x = (np.clip((np.arange(n) + 0.5) / 4 - 0.5, 0, n // 4 - 1) for n in SIZE)
    large = []
    for small in scores[0]:
        down = np.array([np.interp(y, np.arange(16), c) for c in small.T]).T
        large.append([np.interp(x, np.arange(24), r) for r in down])
    expected = np.argmax(large, 0)
    first, second = np.sort(large, 0)[[-1, -2]]
    assert (found.classes == expected)[first - second > 1e-5].all()
    assert found.label(2) == "c"


@pytest.mark.parametrize("logits", [False, True])
def test_segmentation_of_one_score(logits: bool) -> None:
    scores = np.zeros((1, 1, *SIZE), np.float32)
    scores[..., :30] = 0.8
    x = np.log(scores + 1e-3) - np.log(1 - scores + 1e-3) if logits else scores
    model = model_of({"out": x}, task=Task("segment", "semantic"))
    found = model.segment(PICTURE)
    assert (found.classes == (np.arange(SIZE[1]) < 30)).all()


def test_text_by_its_probabilities() -> None:
    """A straight word and a turned one: their rectangles, grown as the paper says."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    straight = (x >= 10) & (x <= 39) & (y >= 8) & (y <= 15)
    u, v = (x - 60) * 0.8 + (y - 40) * 0.6, (y - 40) * 0.8 - (x - 60) * 0.6
    turned = (np.abs(u) <= 20) & (np.abs(v) <= 4)
    noise = (x == 90) & (y == 3)
    map_ = np.where(straight, 0.9, np.where(turned, 0.7, 0.05)) + 0.5 * noise
    model = model_of({"map": map_[None, None]}, task=Task("detect", "db"))
    found = model.detect(PICTURE, 0.3)
    assert found.labels == ("text", "text")
    assert found.scores[0] == pytest.approx(0.9, abs=1e-5)
    # The border of the turned one has pixels beside the word: a row of 0.05 around 41 x 9 at most.
    assert (41 * 9 * 0.7 + (43 * 11 - 41 * 9) * 0.05) / (43 * 11) < found.scores[1] < 0.7
    w, h = 29, 7  # from the first pixel's centre to the last one's
    distance = w * h * 1.6 / (2 * (w + h))
    expected = [10 - distance, 8 - distance, 39 + distance, 15 + distance]
    assert found.boxes[0] == pytest.approx(np.clip(expected, 0, None), abs=1e-3)
    distance = 40 * 8 * 1.6 / (2 * 48)
    corners = found.keypoints[1, :, :2]
    for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        p, q = a * (20 + distance), b * (4 + distance)
        corner = np.array([60 + p * 0.8 - q * 0.6, 40 + p * 0.6 + q * 0.8]).clip(0, [96, 64])
        assert np.abs(corners - corner).max(1).min() < 1.5


# Hostile outputs. ---------------------------------------------------------------------------------


def test_nothing_is_found() -> None:
    for y in (np.zeros((1, 7, PLACES)), np.full((1, 7, PLACES), np.nan), np.zeros((1, 300, 6))):
        found = model_of({"y": y}).detect(PICTURE)
        assert len(found) == 0
        assert found.draw(PICTURE).size == (96, 64)
        assert found.to_json()["detections"] == []


def test_everything_is_found_at_the_same_place() -> None:
    boxes, scores = np.full((PLACES, 4), 20.0), np.full((PLACES, 2), 0.9)
    model = model_of({"y": np.concatenate([boxes, scores], 1)[None].transpose(0, 2, 1)})
    assert len(model.detect(PICTURE)) == 1
    assert len(model.detect(PICTURE, max_overlap=1.0)) == PLACES


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_wild_numbers_in_outputs(value: float) -> None:
    boxes, scores = rows_of_yolo(14, PLACES, 2)
    y = np.concatenate([boxes, scores], 1)[None].transpose(0, 2, 1)
    plain = len(model_of({"y": y}).detect(PICTURE))
    for place in range(6):
        wild = y.copy()
        wild[0, place, ::7] = value
        found = model_of({"y": wild}).detect(PICTURE)
        assert np.isfinite(found.boxes).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= [96, 64, 96, 64]).all()
        assert len(found) > plain // 4
        found.draw(PICTURE)


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("yolo", (1, 3, 9)),
        ("yolox", (1, 5, 9)),
        ("ssd", (1, 5, 9)),
        ("detr", (2, 3)),
        ("retinanet", (1, 9, 9)),
        ("torchvision", (1, 4)),
        ("scrfd", (7, 1)),
        ("db", (1, 2, 4, 4)),
    ],
)
def test_outputs_of_another_family_are_refused(family: str, shape: tuple[int, ...]) -> None:
    model = model_of({"y": np.zeros(shape)}, task=Task("detect", family))
    with pytest.raises(ShapeError, match=f"task 'detect/{family}'"):
        model.detect(PICTURE)


def test_a_network_with_another_task_says_so() -> None:
    model = model_of({"y": np.zeros((1, 10))}, labels=[*"abcdefghij"])
    with pytest.raises(GraphError, match="cannot detect: nothing in it tells its task"):
        model.detect(PICTURE)
    model.task = Task("segment", "semantic")
    with pytest.raises(GraphError, match="its task is 'segment/semantic'"):
        model.pose(PICTURE)
    with pytest.raises(GraphError, match="does not say how an image"):
        model_of({"y": np.zeros((1, 10))}, preprocessing=None).detect(PICTURE)


@pytest.mark.parametrize(
    "arguments", [(-1,), (2.0,), (0.5, {"max_overlap": 7}), (0.5, {"max_detections": 0})]
)
def test_thresholds_are_checked(arguments: tuple[Any, ...]) -> None:
    score, *more = arguments
    with pytest.raises(ValueError, match="not"):
        model_of({"y": np.zeros((1, 7, PLACES))}).detect(PICTURE, score, **dict(*more))


def test_lists_of_images_of_several_sizes() -> None:
    boxes, scores = rows_of_yolo(15, PLACES, 2)
    y = np.concatenate([boxes, scores], 1)[None].transpose(0, 2, 1)
    model = model_of({"y": y})
    sizes = [(64, 96), (10, 10), (300, 7)]
    found = model.detect([np.zeros((*size, 3), np.uint8) for size in sizes])
    assert [one.size for one in found] == sizes
    assert model.detect([]) == []
