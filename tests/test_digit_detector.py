"""The example that finds digits: its file, the pictures it is measured on, and its script."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnrt
from digit_canvas import canvas, digits_of, frames, write_coco

EXAMPLES = Path(__file__).parent.parent / "examples"
DETECTOR = EXAMPLES / "digit_detector.bin"


def test_it_finds_the_digits(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    assert DETECTOR.stat().st_size < 300_000
    model = cnnrt.load(DETECTOR)
    assert model.task and (model.task.kind, model.task.family) == ("detect", "yolo")
    digits, labels = digits_of(EXAMPLES / "digits")
    kept = [i for i, label in enumerate(labels) if label != 3]  # one that it takes for an 8
    write_coco(tmp_path, [digits[i] for i in kept], [labels[i] for i in kept], 20)
    found = cnnrt.evaluate_coco(model, tmp_path / "instances.json")
    figures = found.precisions[0].figures
    assert figures["mAP"] is not None and figures["mAP"] > 0.8
    assert figures["mAP 50"] is not None and figures["mAP 50"] > 0.9


def test_boxes_of_a_canvas_hold_the_ink() -> None:
    """A box lies in the picture, and its pixels differ as ink and ground do."""
    digits, labels = digits_of(EXAMPLES / "digits")
    rng = np.random.default_rng(3)
    picture, boxes, classes = canvas(rng, digits, labels)
    assert len(boxes) == len(classes) > 0
    assert ((boxes[:, :2] >= 0) & (boxes[:, 2:] <= 256)).all()
    pixels = np.asarray(picture).astype(int)
    for left, top, right, bottom in boxes.astype(int):
        inside = pixels[top:bottom, left:right].reshape(-1, 3)
        assert inside.std(0).max() > 20


def test_canvases_are_annotated(tmp_path: Path) -> None:
    digits, labels = digits_of(EXAMPLES / "digits")
    write_coco(tmp_path, digits, labels, 3)
    document = json.loads((tmp_path / "instances.json").read_text())
    assert [one["file_name"] for one in document["images"]] == ["0001.png", "0002.png", "0003.png"]
    for one in document["images"]:
        with Image.open(tmp_path / one["file_name"]) as picture:
            assert picture.size == (one["width"], one["height"]) == (256, 256)
    for one in document["annotations"]:
        assert one["area"] == one["bbox"][2] * one["bbox"][3] > 0


def test_drifting_digits_are_found() -> None:
    digits, labels = digits_of(EXAMPLES / "digits")
    model = cnnrt.load(DETECTOR)
    shown = [digits[i] for i, label in enumerate(labels) if label in (2, 4, 6)]
    places = []
    for frame in frames(shown, 320, 180, 3):
        assert frame.shape == (180, 320, 3)
        found = model.detect(frame, 0.3)
        places.append(len(found))
    assert max(places) >= 2


def test_the_script_trains_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("torch", "onnxscript"):
        pytest.importorskip(package)
    import digit_detector

    digits, labels = digits_of(EXAMPLES / "digits")
    images = np.stack([np.asarray(Image.fromarray(d).resize((28, 28))) for d in digits])
    (tmp_path / "train-images-idx3-ubyte").write_bytes(
        bytes([0, 0, 8, 3]) + bytes(12) + images.tobytes()
    )
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(
        bytes([0, 0, 8, 1]) + bytes(4) + bytes(labels)
    )
    output = tmp_path / "out.bin"
    arguments = [str(tmp_path), "--output", str(output), "--steps", "3", "--batch", "2"]
    monkeypatch.setattr("sys.argv", ["digit_detector.py", *arguments])
    digit_detector.main()
    model = cnnrt.load(output)
    assert model.labels == [str(d) for d in range(10)]
    assert model.outputs[0].shape[1:] == (14, 1024)
    assert len(model.detect(np.zeros((100, 200, 3), np.uint8), 0.0)) == 300
