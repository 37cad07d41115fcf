"""A 720p video through a detector, end to end, beside ultralytics on onnxruntime.

    python bench/video.py [--frames 150] [--rounds 3] [--draw] [--folder packages]
    python bench/video.py --memory 10000      # memory of cnnrt over so many frames

The video has drifting digits, and the network is YOLOv8n at 640 x 640 with random weights, as
ultralytics exports it. Each engine decodes the video, runs the network and gives boxes; with
`--draw` it also writes a video of them. The engines take turns, each run in a process of its own,
and the best of each counts. The first run of a process is not timed.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
from detections import PACKAGES, install

import cnnrt

ROOT = Path(__file__).parent.parent
SIZE = (1280, 720)
PIECE = 250
"""Frames that a long video repeats."""
EXPORT = """
import sys
sys.path[:0] = {paths!r}
from torchvision_cpu import torchvision
import torch
from ultralytics import YOLO
torch.manual_seed(0)
network = YOLO("yolov8n.yaml")
for key, value in network.model.named_parameters():
    if "cv3" in key and key.split(".")[-2] == "2":  # scores that are far from each other
        value.data.normal_(-6, 1) if value.ndim == 1 else value.data.mul_(10)
network.export(format="onnx", imgsz=640, simplify=False)
"""
WORKERS = {
    "cnnrt": """
import sys, time
import cnnrt
from cnnrt.cli import main
def run(video, out):
    model = cnnrt.load("yolov8n.onnx")
    return sum(1 for frame in cnnrt.video.frames(video) if model.detect(frame) is not None)
def draw(video, out):
    assert main(["run", "yolov8n.onnx", video, "--draw", out]) == 0
""",
    "ultralytics": """
import sys, time
sys.path[:0] = {paths!r}
from torchvision_cpu import torchvision
from ultralytics import YOLO
def run(video, out, **more):
    model = YOLO("yolov8n.onnx", task="detect")
    results = model.predict(video, stream=True, imgsz=640, verbose=False, device="cpu", **more)
    return sum(1 for result in results if result.boxes is not None)
def draw(video, out):
    return run(video, out, save=True, project="drawn", exist_ok=True)
""",
}
TIMED = """
way = draw if {draw} else run
way({short!r}, "first.mp4")
start = time.perf_counter()
way({video!r}, "drawn.mp4")
print("@", time.perf_counter() - start)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--memory", type=int, metavar="FRAMES")
    parser.add_argument("--folder", type=Path, help="keeps the installed packages (default: none)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if options.memory:
            memory(options.memory, Path(temporary))
        else:
            race(options, Path(temporary))


def race(options: argparse.Namespace, place: Path) -> None:
    """Prints the frames per second of each engine, and their ratio."""
    (package,) = (p for p in PACKAGES if p.name == "ultralytics")
    site = install(package, (options.folder or place).resolve())
    paths = [str(site), str(ROOT / "tests")]
    short, video = make(place / "short.mp4", 10), make(place / "video.mp4", options.frames)
    run(EXPORT.format(paths=paths), place)
    timed = TIMED.format(draw=options.draw, short=str(short), video=str(video))
    seconds: dict[str, list[float]] = {name: [] for name in WORKERS}
    for _ in range(options.rounds):
        for name, program in WORKERS.items():
            printed = run(program.format(paths=paths) + timed, place)
            seconds[name].append(float(printed.rpartition("@")[2]))
    rates = {name: options.frames / min(values) for name, values in seconds.items()}
    for name, rate in rates.items():
        print(f"{name}: {rate:.1f} frames per second, the best of {options.rounds}")
    print(f"ratio: {rates['cnnrt'] / rates['ultralytics']:.2f}")


def memory(count: int, place: Path) -> None:
    """Prints the memory of this process over a long video, with the example detector."""
    video = lengthened(make(place / "short.mp4", PIECE), place / "video.mp4", -(-count // PIECE))
    model = cnnrt.load(ROOT / "examples" / "digit_detector.bin")
    begin = time.perf_counter()
    for number, frame in enumerate(cnnrt.video.frames(video), 1):
        model.detect(frame)
        if number in (100, count // 10, count // 4, count // 2, count):
            seconds = time.perf_counter() - begin
            print(f"{number} frames, {seconds:.0f} s: {resident():.1f} MB", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak: {peak:.1f} MB")


def resident() -> float:
    """Megabytes of this process in memory now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def make(path: Path, count: int) -> Path:
    """Writes a video of drifting digits."""
    program = [str(ROOT / "examples" / "digit_canvas.py"), str(ROOT / "examples" / "digits")]
    size = ["--size", *map(str, SIZE)]
    subprocess.run(
        [sys.executable, *program, str(path), "--count", str(count), *size],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return path


def lengthened(piece: Path, target: Path, times: int) -> Path:
    """A video that repeats another, whose packets are copied."""
    with av.open(str(target), "w") as whole:
        stream = None
        for i in range(times):
            with av.open(str(piece)) as source:
                own = source.streams.video[0]
                stream = stream or whole.add_stream_from_template(own)
                for packet in source.demux(own):
                    if packet.dts is not None:
                        packet.dts += i * own.duration
                        packet.pts += i * own.duration
                        packet.stream = stream
                        whole.mux(packet)
    return target


def run(program: str, place: Path) -> str:
    """The text that a Python program prints, in a process of its own."""
    quiet = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "1", "YOLO_CONFIG_DIR": str(place)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place,
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout


if __name__ == "__main__":
    main()
