"""Quantisers side by side on labelled photographs: cnnrt, ONNX Runtime and NNCF.

    python bench/quantizers.py [--model examples/efficientnet_lite0.bin] [--only NAME,...]
                               [--downloads DIR]

The twenty ImageNet photographs of the PyPI package foolbox are downloaded and read; nothing is
installed. Every second is for calibration, the others are seen by the measurement alone. Each
quantiser works in a process of its own. The files that they write run on ONNX Runtime, beside the
network in float32: decibels of the logits, right answers and equal answers. Quantisers whose
package is not installed are left out. The last column has the largest difference between cnnrt and
ONNX Runtime on the quantiser's file, over the largest logit.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import packages
import report
from machine import cache_folder

import cnnrt
from cnnrt.quantization import quantizer

REQUIREMENT = "foolbox==3.3.4"
Photos = list[tuple[str, int, Any]]
"""Name, class and the network's input of each photograph."""
Quantize = Callable[[Path, Path, list[Any], Path], str]
"""Takes the network, its ONNX file, inputs and the file to write. Returns a remark for the row."""


# ------------------------------------------------------------------------------------------------
# The quantisers: each writes an ONNX file from the network and the inputs for calibration.


def by_cnnrt(target_db: float, *, round_residual: bool = False) -> Quantize:
    """cnnrt's quantiser, which keeps that signal to noise on photos held back."""

    def quantize(model: Path, _: Path, inputs: list[Any], out: Path) -> str:
        found = quantizer.post_training(
            str(model),
            inputs,
            target_db=target_db,
            round_residual=round_residual,
            progress=False,
        )
        found.save(out)
        return (
            f"{sum(not layer.integers for layer in found.layers)} of {len(found.layers)} in float32"
        )

    return quantize


def by_onnxruntime(method: str) -> Quantize:
    """ONNX Runtime's static quantiser, with a scale per output channel."""

    def quantize(_: Path, onnx_file: Path, inputs: list[Any], out: Path) -> str:
        from onnxruntime import quantization as ort  # noqa: PLC0415  (the process of one quantiser)
        from onnxruntime.quantization.shape_inference import (  # noqa: PLC0415
            quant_pre_process,
        )

        prepared = out.with_suffix(".prepared.onnx")
        quant_pre_process(str(onnx_file), str(prepared))
        name = input_name(onnx_file)

        class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.left = iter(inputs)

            def get_next(self) -> dict[str, Any] | None:
                x = next(self.left, None)
                return None if x is None else {name: x}

        ort.quantize_static(
            str(prepared),
            str(out),
            Reader(),
            quant_format=ort.QuantFormat.QDQ,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            per_channel=True,
            calibrate_method=getattr(ort.CalibrationMethod, method),
        )
        return ""

    return quantize


def by_nncf(_: Path, onnx_file: Path, inputs: list[Any], out: Path) -> str:
    """NNCF's post-training quantiser on the ONNX file, with fast bias correction."""
    import nncf  # noqa: PLC0415  (the process of one quantiser)
    import onnx  # noqa: PLC0415

    name = input_name(onnx_file)
    samples = nncf.Dataset(inputs, lambda x: {name: x})
    made = nncf.quantize(onnx.load(str(onnx_file)), samples, subset_size=len(inputs))
    onnx.save(made, str(out))
    return ""


QUANTIZERS: dict[str, tuple[str, Quantize]] = {
    "cnnrt": ("cnnrt", by_cnnrt(quantizer.TARGET_DB)),
    "cnnrt-integers": ("cnnrt", by_cnnrt(0, round_residual=True)),
    "cnnrt-28dB": ("cnnrt", by_cnnrt(28)),
    "onnxruntime-MinMax": ("onnxruntime", by_onnxruntime("MinMax")),
    "onnxruntime-Percentile": ("onnxruntime", by_onnxruntime("Percentile")),
    "nncf": ("nncf", by_nncf),
}
"""By name: the package, and the function that writes the file."""


# ------------------------------------------------------------------------------------------------
# Photographs and measurement


def photographs(model: Path, downloads: Path) -> Photos:
    """All photographs, in the order of their names."""
    network = cnnrt.load(model)
    wheel = packages.download(REQUIREMENT, downloads)
    found = []
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        for name in sorted(n for n in archive.namelist() if "/imagenet_" in n):
            file = archive.extract(name, folder)
            label = int(Path(name).stem.split("_")[-1])
            found.append((Path(name).stem, label, network.input_from(file)))
    return found


def input_name(onnx_file: Path) -> str:
    """The name of the only input."""
    return str(session(onnx_file).get_inputs()[0].name)


def session(onnx_file: Path) -> Any:
    """The file in ONNX Runtime, on the CPU."""
    import onnxruntime  # noqa: PLC0415  (not where a quantiser of another package is timed)

    return onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])


def logits(onnx_file: Path, photos: Photos) -> Any:
    """Shape (photos, classes), by ONNX Runtime."""
    run = session(onnx_file)
    name = run.get_inputs()[0].name
    return np.concatenate([run.run(None, {name: x})[0] for _, _, x in photos])


def decibels(exact: Any, found: Any) -> float:
    """Signal to noise of all elements."""
    noise = np.square(exact.astype(np.float64) - found).sum()
    return float(10 * np.log10(np.square(exact, dtype=np.float64).sum() / noise))


def line(*cells: str) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def row(name: str, file: Path, words: str, seconds: str, photos: Photos, exact: Any) -> str:
    """A row of the table."""
    found = logits(file, photos)
    ours = np.concatenate([cnnrt.load(file)(x) for _, _, x in photos])
    apart = np.abs(ours.astype(np.float64) - found).max() / np.abs(found).max()
    labels = [label for _, label, _ in photos]
    unseen = slice(1, None, 2)
    return line(
        name + (f"; {words}" if words else ""),
        f"{decibels(exact[unseen], found[unseen]):.1f}",
        f"{(found.argmax(1) == labels).sum()}",
        f"{(found.argmax(1) == exact.argmax(1)).sum()} of {len(photos)}",
        seconds,
        "equal" if not apart else f"{apart:.0e}",
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("examples/efficientnet_lite0.bin"))
    parser.add_argument("--only", type=report.words, help=f"of {', '.join(QUANTIZERS)}")
    parser.add_argument("--downloads", type=Path, help="folder for wheels; default: in the cache")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    downloads = args.downloads or cache_folder(None) / "wheels"
    photos = photographs(args.model, downloads)
    if args.work:  # the process of one quantiser
        one(args.only[0], args.model, args.work, [x for _, _, x in photos[::2]])
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        convert = [sys.executable, "-m", "cnnrt", "convert", str(args.model)]
        subprocess.run([*convert, str(work / "float32.onnx")], check=True, capture_output=True)
        exact = logits(work / "float32.onnx", photos)
        right = sum(e.argmax() == label for e, (_, label, _) in zip(exact, photos, strict=True))
        print(f"float32: {right} of {len(photos)} right")
        print(line("quantiser", "dB unseen", "right", "same answer", "s (CPU)", "cnnrt"))
        for name, (package, _) in QUANTIZERS.items():
            if find_spec(package) is None or (args.only and name not in args.only):
                continue
            command = [sys.executable, __file__, "--model", str(args.model), "--work", folder]
            command += ["--only", name, "--downloads", str(downloads)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds, words = done.stdout.splitlines()[-2:]
            print(row(name, work / "out.onnx", words, seconds, photos, exact), flush=True)


def one(name: str, model: Path, work: Path, inputs: list[Any]) -> None:
    """Quantises, and prints the seconds and a remark as the last two lines."""
    wall, cpu = time.perf_counter(), time.process_time()
    words = QUANTIZERS[name][1](model, work / "float32.onnx", inputs, work / "out.onnx")
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{seconds[0]:.1f} ({seconds[1]:.1f})\n{words}")


if __name__ == "__main__":
    main()
