"""docs/detection.md: its program and its commands, run with a network that a test gives."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnrt
from cnnrt.cli import main
from cnnrt.formats import write_model
from cnnrt.tasks.task import FAMILIES
from task_networks import given

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "detection.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page speaks of: two networks and a picture."""
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    from cnnrt.formats.onnx.writer import write_onnx

    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 0], rows[0, 1] = [8, 16, 40, 48, 0.902, 0], [0, 0, 16, 16, 0.615, 1]
    for name, outputs in (
        ("yolov8n", {"y": rows}),
        ("network", {"y": np.random.default_rng(0).random((1, 3, 16, 16))}),
    ):
        model = given(outputs, labels=["person", "dog"])
        write_onnx(
            tmp_path / f"{name}.onnx",
            model.graph,
            preprocessing=model.preprocessing,
            labels=model.labels,
        )
    Image.new("RGB", (64, 64), "navy").save(tmp_path / "street.jpg")
    with contextlib.suppress(ImportError), cnnrt.video.VideoWriter("street.mp4", (64, 64)) as out:
        for i in range(3):
            out.write(np.zeros((64, 64, 3), np.uint8), i / 25)
    annotate(tmp_path / "val")
    shutil.copy(ROOT / "examples" / "lenet5.bin", tmp_path / "resnet50.bin")
    shutil.copytree(ROOT / "examples" / "digits", tmp_path / "photos" / "person")
    images = given({"y": np.array([[2.0, 1.0]])}, labels=["person", "dog"])
    write_model("model.bin", images.graph, preprocessing=images.preprocessing, labels=images.labels)
    return tmp_path


def annotate(folder: Path) -> None:
    """Writes a picture with one person, where the network finds it, and its annotation."""
    folder.mkdir()
    Image.new("RGB", (64, 64), "navy").save(folder / "1.png")
    document = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [8, 16, 32, 32]}],
    }
    (folder / "instances.json").write_text(json.dumps(document))


def test_the_program(folder: Path) -> None:
    pytest.importorskip("av")
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    assert len(blocks) == 3
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("90% person (8.0, 16.0, 40.0, 48.0)\n")
    assert (folder / "people.png").exists()
    assert len(list(cnnrt.video.frames(folder / "drawn.mp4"))) == 3


def test_the_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("pycocotools", "jinja2", "av"):
        pytest.importorskip(package)
    commands = re.findall(r"^    python -m cnnrt (.*)$", PAGE, re.M)
    assert len(commands) == 10
    for command in commands:
        assert main(shlex.split(command)) == 0, command
    printed = capsys.readouterr().out.splitlines()
    table = re.search(r"^street\.jpg \(14\.2 ms\): 2 found\n(.*?)^```", PAGE, re.M | re.S)
    assert table
    assert "  1.000  mAP 50" in printed
    assert "accuracy: 100.00% (95 % confidence: 72.25% to 100.00%)" in printed
    assert printed[1:3] == table[1].splitlines()
    for name in (
        "found/street.jpg",
        "found.npz",
        "network.bin",
        "val.html",
        "found.mp4",
        "found.jsonl",
    ):
        assert (folder / name).exists()


def test_every_family_is_listed() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \|.*\| ([\w, ]+) \|$", PAGE, re.M))
    families = {family for known in FAMILIES.values() for family in known}
    assert listed.keys() == families
    for family, kinds in listed.items():
        of_code = {kind for kind, known in FAMILIES.items() if family in known}
        assert set(kinds.split(", ")) == of_code, family
