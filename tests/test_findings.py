"""`python -m cnnrt run` with networks that find things, and the files that name their task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cnnrt
from cnnrt import PreprocessingWarning, Task
from cnnrt.cli import main
from cnnrt.formats import read, write_model
from cnnrt.preprocessing import Preprocessing
from cnnrt.tasks import recognise
from cnnrt.tasks.decode.yolo import layout_of
from task_networks import given, letterbox

BOXES = np.zeros((1, 300, 6), np.float32)
BOXES[0, 0] = [8, 16, 40, 48, 0.9, 1]
BOXES[0, 1] = [0, 0, 16, 16, 0.6, 0]


def save(path: Path, model: cnnrt.Model) -> str:
    write_model(
        path,
        model.graph,
        preprocessing=model.preprocessing,
        labels=model.labels,
        task=model.task,
    )
    return str(path)


@pytest.fixture
def detector(tmp_path: Path) -> str:
    return save(tmp_path / "detector.bin", given({"y": BOXES}, labels=["cat", "dog"]))


@pytest.fixture
def masks(tmp_path: Path) -> str:
    rows = np.concatenate([BOXES, np.ones((1, 300, 1))], 2)
    prototypes = np.ones((1, 1, 16, 16))
    model = given({"y": rows, "p": prototypes}, labels=["cat", "a/b"], task=Task("segment", "yolo"))
    return save(tmp_path / "masks.bin", model)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    Image.new("RGB", (128, 128), "navy").save(folder / "street.png")
    Image.new("RGB", (64, 64), "navy").save(folder / "more" / "street.png")
    Image.new("RGB", (64, 64), "navy").save(folder / "park.jpg")
    return folder


def test_the_table(detector: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", detector, str(photos / "street.png"), "--min-score", "0.7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("1 found")
    assert lines[1].split() == ["90.0%", "dog", "16.0", "32.0", "80.0", "96.0"]
    assert len(lines) == 2


def test_json_and_tables_of_what_was_found(
    detector: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(photos / "street.png"), str(photos / "park.jpg")]
    assert main(["run", detector, *files, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["image"] == files[0]
    assert [one["label"] for one in first["detections"]] == ["dog", "cat"]
    assert second["detections"][0]["box"] == [8, 16, 40, 48]
    assert main(["run", detector, *files, "--output", str(tmp_path / "o.npz")]) == 0
    with np.load(tmp_path / "o.npz") as arrays:
        assert arrays["images"].tolist() == files
        assert arrays["image"].tolist() == [0, 0, 1, 1]
        assert arrays["boxes"][0].tolist() == [16, 32, 80, 96]
        assert arrays["labels"].tolist() == ["dog", "cat"] * 2
    assert main(["run", detector, *files, "--output", str(tmp_path / "o.jsonl")]) == 0
    lines = (tmp_path / "o.jsonl").read_text().splitlines()
    assert [len(json.loads(line)["detections"]) for line in lines] == [2, 2]


def test_a_parquet_file_of_what_was_found(detector: str, photos: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "o.parquet"
    assert main(["run", detector, str(photos), "--output", str(path)]) == 0
    rows = parquet.read_table(path).to_pylist()
    assert len(rows) == 6
    street = [row for row in rows if row["width"] == 128]
    assert [row["label"] for row in street] == ["dog", "cat"]
    assert [street[0][k] for k in ("left", "top", "right", "bottom")] == [16, 32, 80, 96]


def test_pictures_and_masks(masks: str, photos: Path, tmp_path: Path) -> None:
    """Every image is drawn, under a name of its own, and none that was given is written over."""
    given_bytes = {path: path.read_bytes() for path in photos.rglob("*.*")}
    assert main(["run", masks, str(photos), "--draw", str(photos)]) == 0
    assert all(path.read_bytes() == data for path, data in given_bytes.items())
    made = sorted(
        p.relative_to(photos).as_posix() for p in photos.rglob("*") if p not in given_bytes
    )
    assert [name for name in made if "masks/" not in name and name != "more"] == [
        *("park-2.jpg", "park-2.masks", "street-2.masks", "street-2.png"),
        *("street-3.masks", "street-3.png"),
    ]
    (mask,) = (photos / "street-3.masks").glob("000-*.png")
    assert mask.name == "000-a_b.png"
    with Image.open(mask) as image:
        pixels = np.asarray(image)
    size = len(pixels)
    assert pixels[size // 4 : size * 3 // 4, size // 8 : size * 5 // 8].all()
    assert pixels.sum() == (size // 2) ** 2
    single = tmp_path / "new" / "one.png"
    assert main(["run", masks, str(photos / "park.jpg"), "--draw", str(single)]) == 0
    assert single.exists()


def test_classes_of_pixels(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = np.zeros((1, 2, 64, 64), np.float32)
    scores[:, 1, :, 16:] = 1
    model = given({"y": scores}, labels=["road", "sky"])
    path = save(tmp_path / "m.bin", model)
    arguments = ["run", path, str(photos / "park.jpg"), "--task", "segment", "--family", "semantic"]
    assert (
        main([*arguments, "--draw", str(tmp_path / "o"), "--output", str(tmp_path / "o.npz")]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["75.00%", "sky"]
    with Image.open(tmp_path / "o" / "park.classes.png") as image:
        assert (np.asarray(image)[:, 16:] == 1).all()
        assert (np.asarray(image)[:, :16] == 0).all()
    with np.load(tmp_path / "o.npz") as arrays:
        assert arrays["classes.0"].shape == (64, 64)


def test_nothing_is_found(detector: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", detector, str(photos / "park.jpg"), "--min-score", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("0 found")


def test_images_that_cannot_be_read_lose_nothing(
    detector: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    assert main(["run", detector, str(photos), "--json", "--draw", str(photos / "o")]) == 1
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)) == 3
    assert "broken.png" in captured.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--family", "yolo"], "give --task too"),
        (["--task", "embed", "--family", "yolo"], "no family"),
        (["--min-score", "2"], "not from 0 to 1"),
        (["--output", "x.csv"], "ends in"),
    ],
)
def test_wrong_usage(
    detector: str,
    photos: Path,
    arguments: list[str],
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["run", detector, str(photos), *arguments])
    assert problem in capsys.readouterr().err


def test_a_classifier_does_not_draw(
    capsys: pytest.CaptureFixture[str], photos: Path, tmp_path: Path
) -> None:
    path = save(tmp_path / "c.bin", given({"y": np.ones((1, 2))}, labels=["a", "b"]))
    assert main(["run", path, str(photos / "park.jpg")]) == 0
    assert "50.00%  a" in capsys.readouterr().out
    assert main(["run", path, str(photos / "park.jpg"), "--draw", str(tmp_path / "o")]) == 1
    assert "--draw is for networks that detect" in capsys.readouterr().err


# The task of a file. ------------------------------------------------------------------------------


def test_convert_keeps_the_task(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    source = save(tmp_path / "a.bin", given({"y": np.zeros((1, 7, 84))}))
    there, back = str(tmp_path / "b.onnx"), str(tmp_path / "c.bin")
    assert main(["convert", source, there, "--task", "detect", "--family", "yolo"]) == 0
    assert main(["convert", there, back]) == 0
    assert read(back).task == Task("detect", "yolo")


@pytest.mark.parametrize(
    ("metadata", "task"),
    [
        ({"task": "detect"}, Task("detect", "yolo")),
        ({"task": "segment"}, Task("segment", "yolo")),
        ({"task": "classify"}, Task("classify")),
        (
            {"task": "pose", "kpt_shape": "[17, 3]"},
            Task("pose", "yolo", {"keypoints": 17, "dimensions": 3}),
        ),
        ({"task": "detect", "description": "Ultralytics RT-DETR model"}, Task("detect", "detr")),
        ({"task": "detect", "head": "RTDETRDecoder"}, Task("detect", "detr")),
        ({"task": "obb"}, None),
        ({}, None),
    ],
)
def test_metadata_of_ultralytics(metadata: dict[str, str], task: Task | None) -> None:
    assert recognise.of_metadata({"names": "{0: 'a'}", **metadata}) == task


@pytest.mark.parametrize(
    "shape", ["[0, 3]", "seventeen", "[1, 2, 3]", "[17, 9]", "__import__('os')"]
)
def test_metadata_that_cannot_be_understood(shape: str) -> None:
    with pytest.warns(PreprocessingWarning, match="ultralytics says of the task"):
        found = recognise.of_metadata({"task": "pose", "names": "{}", "kpt_shape": shape})
    assert found is None


@pytest.mark.parametrize("classes", [1, 2, 3, 80])
@pytest.mark.parametrize("extra", [0, 32, 51])
def test_the_form_of_rows(classes: int, extra: int) -> None:
    """No number of classes, masks or keypoints makes one form look like another."""
    row = 4 + classes + extra
    size = (640, 640)
    assert layout_of((row, 8400), size, classes, extra) == ("classes", False)
    assert layout_of((8400, row), size, classes, extra) == ("classes", True)
    assert layout_of((25200, row + 1), size, classes, extra) == ("objectness", True)
    assert layout_of((300, 6 + extra), size, classes, extra) == ("selected", True)


@pytest.mark.parametrize(
    ("shapes", "task"),
    [
        ([(1, 84, 8400)], "detect/yolo"),
        ([(1, 25200, 85)], "detect/yolo"),
        ([(1, 8400, 85)], "detect/yolox"),
        ([(1, 300, 6)], "detect/yolo"),
        ([(1, 116, 8400), (1, 32, 160, 160)], "segment/yolo"),
        ([(1, 300, 38), (1, 32, 160, 160)], "segment/yolo"),
        ([(1, 1000)], None),
        ([(1, 3, 640, 640)], None),
        ([(1, 8400, 3)], None),
    ],
)
def test_the_task_by_the_shapes_of_outputs(shapes: list[tuple[int, ...]], task: str | None) -> None:
    arrays = {f"y{i}": np.empty(shape, np.float32) for i, shape in enumerate(shapes)}
    found = recognise.of_outputs(arrays, (640, 640), None)
    assert (found and str(found)) == task


def test_pictures_without_a_word_on_preprocessing(photos: Path) -> None:
    """YOLO's usual preprocessing is taken, with a warning."""
    task = Task("detect", "yolo")
    model = given({"y": BOXES}, preprocessing=None, task=task)
    picture = np.asarray(Image.open(photos / "street.png"))
    with pytest.warns(PreprocessingWarning, match="as is usual for detect/yolo"):
        found = model.detect(picture)
    said = given({"y": BOXES}, preprocessing=letterbox((64, 64)), task=task).detect(picture)
    assert np.array_equal(found.boxes, said.boxes)


def test_a_batch_that_the_file_fixes() -> None:
    """Pictures go in by as many as the network takes, and each gets its own rows."""
    from cnnrt.graph import TensorSpec

    model = given({"y": np.concatenate([BOXES, BOXES * [1, 1, 1, 1, 0.5, 1]])})
    graph = model.graph
    graph.inputs[0] = TensorSpec("x", (2, 3, 64, 64))
    graph.constants["end"] = np.array([1, 1, 1, 1])
    two = cnnrt.Model(graph, preprocessing=letterbox((64, 64)))
    found = two.detect([np.zeros((64, 64, 3), np.uint8)] * 3)
    assert [len(one) for one in found] == [2, 2, 2]
    assert [round(float(one.scores[0]), 3) for one in found] == [0.9, 0.45, 0.9]


def test_export_states_a_task(tmp_path: Path) -> None:
    """A small head of YOLO in PyTorch, exported with its task, finds what its weights say."""
    torch = pytest.importorskip("torch", reason="PyTorch's wheel is declared for Python 3.11 only")

    class Head(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 6, 8, stride=8)

        def forward(self, x: Any) -> Any:
            y = self.conv(x).flatten(2)
            centres = torch.stack(
                [(torch.arange(64) % 8 + 0.5) * 8.0, (torch.arange(64) // 8 + 0.5) * 8.0]
            )
            sides = 8 + 8 * y[:, 2:4].sigmoid()
            return torch.cat([centres[None] + 0 * y[:, :2], sides, y[:, 4:].sigmoid()], 1)

    torch.manual_seed(0)
    module = Head().eval()
    steps = Preprocessing(size=(64, 64), resize=(64, 64), scale=1 / 255)
    path = tmp_path / "head.bin"
    cnnrt.export(
        module,
        torch.zeros(1, 3, 64, 64),
        path,
        labels=["a", "b"],
        preprocessing=steps,
        task="detect/yolo",
    )
    model = cnnrt.load(path)
    assert model.task == Task("detect", "yolo")
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with torch.no_grad():
        rows = module(torch.tensor(steps(picture)))[0].T.numpy()
    best = rows[:, 4:].max(1)
    found = model.detect(picture, float(np.median(best)), max_overlap=1.0)
    order = np.argsort(-best, kind="stable")[: len(found)]
    assert len(found) == 32
    assert found.scores == pytest.approx(best[order], abs=1e-5)
    corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], 1)
    assert found.boxes == pytest.approx(corners[order].clip(0, 64), abs=1e-3)
    with pytest.raises(ValueError, match="kind"):
        cnnrt.export(module, torch.zeros(1, 3, 64, 64), None, task="find")
