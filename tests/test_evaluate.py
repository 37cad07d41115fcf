"""`cnnrt.evaluate_classes`, `cnnrt.evaluate_coco` and `python -m cnnrt evaluate`."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnrt
from browser import Browser
from cnnrt import FormatError, GraphError, ImageError, Task
from cnnrt.cli import main
from cnnrt.evaluation.answers import Measured
from cnnrt.formats import write_model
from task_networks import given

ROOT = Path(__file__).parent.parent
LENET5 = str(ROOT / "examples" / "lenet5.bin")
LABELS = ["cat", "dog", "owl"]


def saved(path: Path, model: cnnrt.Model) -> str:
    parts = {"preprocessing": model.preprocessing, "labels": model.labels, "task": model.task}
    write_model(path, model.graph, **parts)
    return str(path)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A folder for each of the example's digits."""
    for file in (ROOT / "examples" / "digits").glob("*.png"):
        folder = tmp_path / "digits" / file.stem
        folder.mkdir(parents=True)
        shutil.copy(file, folder)
    return tmp_path / "digits"


def things(rng: np.random.Generator, count: int) -> np.ndarray:
    """float32 (1, 300, 6) with some boxes in 64 x 64 pixels: YOLO's rows, the best first."""
    rows = np.zeros((1, 300, 6), np.float32)
    near = rng.uniform(0, 40, (count, 2))
    rows[0, :count, :2] = near
    rows[0, :count, 2:4] = near + rng.uniform(8, 24, (count, 2))
    rows[0, :count, 4] = np.sort(rng.uniform(0.01, 1, count))[::-1]
    rows[0, :count, 5] = rng.integers(0, 3, count)
    return rows


def annotated(
    folder: Path, rows: np.ndarray, rng: np.random.Generator, *, polygons: bool = False
) -> tuple[Path, dict[str, Any]]:
    """Four pictures, and a file of annotations: boxes near most of those in `rows`."""
    folder.mkdir(exist_ok=True)
    images, annotations = [], []
    for number in (3, 5, 7, 11):
        Image.new("RGB", (64, 64), "navy").save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        for row in rows[0, :20]:
            if rng.random() < 0.6:
                left, top, right, bottom = (float(v) for v in row[:4] + rng.normal(0, 1.5, 4))
                width, height = right - left, bottom - top
                corners = [left, top, right, top, right, bottom, left, bottom]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": 10 * int(row[5]) + 1,
                        "bbox": [left, top, width, height],
                        "area": width * height,
                        "iscrowd": int(rng.random() < 0.1),
                        **({"segmentation": [corners]} if polygons else {}),
                    }
                )
    categories = [{"id": 10 * i + 1, "name": name} for i, name in enumerate(LABELS)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document))
    return folder / "instances.json", document


def by_pycocotools(annotations: Path, results: Path, kind: str) -> list[float]:
    """The figures of pycocotools' own program on two files."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(v) for v in evaluation.stats]


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_pycocotools(seed: int, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(seed)
    rows = things(rng, 20)
    annotations, document = annotated(tmp_path / "data", rows, rng)
    found = cnnrt.evaluate_coco(given({"y": rows}, labels=LABELS), annotations)
    results = tmp_path / "results.json"
    results.write_text(json.dumps(found.results))
    (boxes,) = found.precisions
    ours = [-1 if v is None else v for v in boxes.figures.values()]
    assert ours == by_pycocotools(annotations, results, "bbox")
    assert 0.2 < ours[0] < 0.95  # neither nothing nor everything
    count = sum(not one["iscrowd"] for one in document["annotations"])
    assert sum(things for *_, things in boxes.classes.values()) == count
    whole = [value for value, *_ in boxes.classes.values() if value is not None]
    assert np.mean(whole) == pytest.approx(ours[0], abs=1e-12)
    assert found.mistakes and not found.notes


def test_masks_are_compared_by_their_pixels(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(0)
    rows = things(rng, 20)
    annotations, _ = annotated(tmp_path / "data", rows, rng, polygons=True)
    wide = np.concatenate([rows, np.ones((1, 300, 1), np.float32)], 2)
    prototypes = np.ones((1, 1, 16, 16), np.float32)
    model = given({"y": wide, "p": prototypes}, labels=LABELS, task=Task("segment", "yolo"))
    found = cnnrt.evaluate_coco(model, annotations)
    results = tmp_path / "results.json"
    results.write_text(
        json.dumps([{k: v for k, v in one.items() if k != "bbox"} for one in found.results])
    )
    assert [one.overlap for one in found.precisions] == ["bbox", "segm"]
    ours = [-1 if v is None else v for v in found.precisions[1].figures.values()]
    assert ours == by_pycocotools(annotations, results, "segm")
    assert ours[0] > 0


def test_keypoints_are_compared_by_their_similarity(tmp_path: Path) -> None:
    """A person's 17 points, some of them not annotated, found with errors of some pixels."""
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(2)
    rows = things(rng, 20)
    rows[..., 5] = 0
    corners, sizes = rows[..., None, :2], rows[..., None, 2:4] - rows[..., None, :2]
    points = (corners + rng.random((1, 300, 17, 2)) * sizes).astype(np.float32)
    annotations, document = annotated(tmp_path / "data", rows, rng)
    document["categories"] = [{"id": 1, "name": "person"}]
    boxes = rows[0, :20, :4]
    for one in document["annotations"]:
        left, top, width, height = one["bbox"]
        nearest = np.abs(boxes - (left, top, left + width, top + height)).sum(1).argmin()
        seen = rng.integers(0, 3, 17)
        there = points[0, nearest] + rng.normal(0, 0.5, (17, 2))
        triples = np.concatenate([there * (seen > 0)[:, None], seen[:, None]], 1)
        one |= {"keypoints": triples.ravel().tolist(), "num_keypoints": int((seen > 0).sum())}
    annotations.write_text(json.dumps(document))
    wide = np.concatenate([points, np.ones((1, 300, 17, 1), np.float32)], 3).reshape(1, 300, 51)
    outputs = {"y": np.concatenate([rows, wide], 2)}
    found = cnnrt.evaluate_coco(
        given(outputs, labels=["person"], task=Task("pose", "yolo")), annotations
    )
    results = tmp_path / "results.json"
    results.write_text(json.dumps(found.results))
    assert [one.overlap for one in found.precisions] == ["bbox", "keypoints"]
    ours = [-1 if v is None else v for v in found.precisions[1].figures.values()]
    assert ours == by_pycocotools(annotations, results, "keypoints")
    assert 0.05 < ours[0] < 0.99


def test_the_pages_in_a_browser(browser: Browser, digits: Path, tmp_path: Path) -> None:
    """At the width of a desk and of a phone, light and dark."""
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(1)
    rows = things(rng, 20)
    annotations, _ = annotated(tmp_path / "data", rows, rng)
    model = saved(tmp_path / "model.bin", given({"y": rows}, labels=LABELS))
    page = str(tmp_path / "page.html")
    for given_model, data, pictures in ((model, annotations.parent, 4), (LENET5, digits, 0)):
        assert main(["evaluate", given_model, str(data), "--page", page]) == 0
        browser.check(Path(page))
        count, drawn = browser.evaluate(
            "[document.images.length, [...document.images].every(i => i.naturalWidth > 0)]"
        )
        assert count >= pictures
        assert drawn


def test_evaluate_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(1)
    rows = things(rng, 20)
    annotations, _ = annotated(tmp_path / "data", rows, rng)
    model = saved(tmp_path / "model.bin", given({"y": rows}, labels=LABELS))
    page, results = tmp_path / "page.html", tmp_path / "results.json"
    files = ["--page", str(page), "--output", str(results)]
    assert main(["evaluate", model, str(annotations.parent), *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"4 images, {len(json.loads(results.read_text()))} things found"
    table = [line.split() for line in lines]
    figure = by_pycocotools(annotations, results, "bbox")[0]
    assert [f"{figure:.3f}", "mAP"] in table
    assert {row[0] for row in table if row} >= set(LABELS)
    text = page.read_text()
    assert f"<b>{figure:.3f}</b>mAP" in text
    assert text.count("data:image/png") == 4
    assert main(["evaluate", model, str(annotations), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["bbox"]["mAP"] == figure
    assert set(document["bbox"]["classes"]) == set(LABELS)


def test_nothing_found_and_pictures_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(2)
    rows = things(rng, 20)
    annotations, document = annotated(tmp_path / "data", rows, rng)
    nothing = given({"y": np.zeros_like(rows)}, labels=LABELS)
    (boxes,) = cnnrt.evaluate_coco(nothing, annotations).precisions
    assert boxes.figures["mAP"] == 0
    (annotations.parent / "5.png").write_bytes(b"damaged")
    model = saved(tmp_path / "model.bin", given({"y": rows}, labels=LABELS))
    assert main(["evaluate", model, str(annotations), "--json"]) == 1
    out, err = capsys.readouterr()
    assert "5.png: is not an image" in err
    left = json.loads(out)
    assert left["images"] == 3
    things_left = [one["things"] for one in left["bbox"]["classes"].values()]
    expected = [a for a in document["annotations"] if a["image_id"] != 5 and not a["iscrowd"]]
    assert sum(things_left) == len(expected)
    with pytest.raises(ImageError, match=r"no such file; is .*nowhere right"):
        cnnrt.evaluate_coco(nothing, annotations, tmp_path / "nowhere")


def test_categories_that_differ_from_the_classes(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(3)
    rows = things(rng, 20)
    annotations, _ = annotated(tmp_path / "data", rows, rng)
    whole = cnnrt.evaluate_coco(given({"y": rows}, labels=LABELS), annotations)
    other = cnnrt.evaluate_coco(given({"y": rows}, labels=["a", "b", "c"]), annotations)
    assert other.notes == ["the categories are the classes by their order"]
    assert other.precisions[0].figures == whole.precisions[0].figures
    fewer = cnnrt.evaluate_coco(given({"y": rows}, labels=["Cat", "dog ", "cow"]), annotations)
    assert fewer.notes == [
        "categories that the network does not know count as missed: owl",
        "1 of the network's classes are no category, and do not count",
    ]
    assert fewer.precisions[0].classes["owl"][0] == 0
    with pytest.raises(FormatError, match="none of the 3 categories"):
        cnnrt.evaluate_coco(given({"y": rows}, labels=list("abcd")), annotations)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "images: expected a list"),
        ({"annotations": [{"image_id": 3}]}, r"annotations\[0\]: lacks the key 'category_id'"),
        (
            {"annotations": [{"image_id": 4, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
            r"annotations\[0\]: no image has the id 4",
        ),
        (
            {"annotations": [{"image_id": 3, "category_id": 1, "bbox": [0, 0, 1]}]},
            "left, top, width and height",
        ),
        ({"categories": [{"id": "1", "name": "cat"}]}, r"categories\[0\].id: expected an integer"),
        ({"images": []}, "has 0 images"),
    ],
)
def test_damaged_annotations(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(0)
    rows = things(rng, 5)
    path, document = annotated(tmp_path / "data", rows, rng)
    path.write_text(json.dumps({**document, **change}))
    with pytest.raises(FormatError, match=message):
        cnnrt.evaluate_coco(given({"y": rows}, labels=LABELS), path)


def test_accuracy_of_folders(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    page = digits.parent / "page.html"
    shutil.copy(digits / "3" / "3.png", digits / "5" / "really-3.png")
    assert main(["evaluate", LENET5, str(digits), "--page", str(page)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("11 images of 10 classes\naccuracy: 90.91% (95 % confidence: 62.26%")
    row = next(line for line in out.splitlines() if line.split()[:2] == ["5", "6"])
    assert row.split() == ["5", "6", ".", ".", ".", "1", ".", "1", ".", ".", ".", "."]
    text = page.read_text()
    assert "really-3.png" in text and "<b>90.9 %</b>accuracy" in text
    (digits / "0" / "damaged.png").write_bytes(b"no picture")
    assert main(["evaluate", LENET5, str(digits), "--json"]) == 1
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["accuracy"] == 10 / 11
    assert document["images"] == 11 and len(document["unread"]) == 1
    assert "damaged.png: is not an image" in err


def test_answers_are_those_of_classify(digits: Path) -> None:
    model = cnnrt.load(LENET5)
    found = cnnrt.evaluate_classes(model, digits)
    for file, row in zip(found.measured.files, found.measured.probabilities, strict=True):
        best = model.classify(file, top=1)[0]
        assert int(row.argmax()) == best.index
        assert row.max() == pytest.approx(best.probability, abs=1e-6)
    assert found.measured.accuracy == 1 and found.confused() == []


def test_folders_name_classes_by_order_or_not_at_all(digits: Path) -> None:
    model = cnnrt.load(LENET5)
    for folder in list(digits.iterdir()):
        folder.rename(digits / f"n0000{folder.name}")
    found = cnnrt.evaluate_classes(model, digits)
    assert found.by_order and found.measured.accuracy == 1
    shutil.rmtree(digits / "n00009")
    with pytest.raises(GraphError, match="n00000: is no class of this network"):
        cnnrt.evaluate_classes(model, digits)
    with pytest.raises(ImageError, match="no such folder"):
        cnnrt.evaluate_classes(model, digits / "n00009")


def test_the_best_five_with_equal_scores() -> None:
    p = np.zeros((3, 8), np.float32)
    p[1, 7] = 1
    measured = Measured("images", [Path(str(i)) for i in range(3)], np.array([4, 7, 5]), p)
    assert measured.top_accuracy(5) == pytest.approx(2 / 3)  # of equals the first five
    assert measured.top_accuracy(1) == pytest.approx(1 / 3)
    assert measured.top_accuracy(8) == 1


def test_what_does_not_fit_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["evaluate", LENET5, str(tmp_path / "x.json")]) == 1
    assert "annotations are for a network that finds things" in capsys.readouterr().err
    assert main(["evaluate", LENET5, str(tmp_path), "--min-score", "0.1"]) == 1
    assert "--min-score is for networks that detect, segment" in capsys.readouterr().err
    detector = given({"y": things(np.random.default_rng(0), 3)}, labels=LABELS)
    assert main(["evaluate", saved(tmp_path / "m.bin", detector), str(tmp_path)]) == 1
    assert "has 0 .json files" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.coco", None)
    with pytest.raises(ImportError, match="mean average precision needs pycocotools"):
        cnnrt.evaluate_coco(detector, tmp_path / "x.json")
