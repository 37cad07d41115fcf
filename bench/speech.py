"""silero-vad over a minute of audio, window by window, on cnnrt and onnxruntime.

    python bench/speech.py [--rounds R] [--downloads DIR]

Downloads the wheel and reads its ONNX files; nothing is installed. The audio is made of tones whose
loudness rises and falls, and of noise. Each window is 32 ms with the end of the one before; the
state goes from one to the next. Both engines have one thread and take turns at whole minutes. The
table has the largest difference of a probability, the spread of all, the least time of a minute on
each, and the ratio of both: more than 1 if cnnrt is faster. The exit status is 1 if a probability
differs by 1e-4.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import packages
from machine import cache_folder

import cnnrt

REQUIREMENT = "silero-vad==6.2.3"
SECONDS = 60
PROMISED = 1e-4
STATES = {"state": (2, 1, 128), "h": (1, 1, 128), "c": (1, 1, 128)}
Array = Any
Call = Callable[[dict[str, Array]], list[Array]]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=3, help="minutes of each engine; the least counts"
    )
    parser.add_argument("--downloads", type=Path, help="folder of wheels")
    args = parser.parse_args()
    folder = args.downloads or cache_folder(None) / "wheels"
    wheel = packages.download(REQUIREMENT, folder)
    worst = 0.0
    print("file, rate: windows, difference, spread; seconds of cnnrt and onnxruntime, ratio")
    for path, data in packages.onnx_files(wheel):
        name = Path(path).stem
        ours, theirs = cnnrt_call(data), onnxruntime_call(data)
        for rate in (16000,) if "16k" in name else (16000, 8000):
            given = windows(audio(rate), rate)
            times: dict[str, list[float]] = {"ours": [], "theirs": []}
            for _ in range(args.rounds):
                for key, (names, call) in (("ours", ours), ("theirs", theirs)):
                    start = time.perf_counter()
                    found = minute(names, call, given, rate)
                    times[key].append(time.perf_counter() - start)
                    if key == "ours":
                        got = found
            error = float(np.abs(got - found).max())
            worst = max(worst, error)
            least = {key: min(value) for key, value in times.items()}
            ratio = least["theirs"] / least["ours"]
            print(f"{name}, {rate}: {len(given)}, {error:.1e}, {np.ptp(found):.2f};", end=" ")
            print(f"{least['ours']:.3f} {least['theirs']:.3f}, {ratio:.2f}", flush=True)
    return int(not worst < PROMISED)


def audio(rate: int) -> Array:
    """A minute of samples from -1 to 1: harmonics of a voice's pitch in syllables, and noise."""
    random = np.random.default_rng(0)
    t = np.arange(SECONDS * rate) / rate
    pitch = 120 + 40 * np.sin(2 * np.pi * 0.4 * t) + 15 * np.sin(2 * np.pi * 2.3 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = sum(np.sin(k * phase) / k * (1 + np.sin(1.7 * k * t)) for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * t), 0, 1) * (np.sin(2 * np.pi * t / 10) > -0.3)
    noise = random.standard_normal(len(t)) * (0.02 + 0.1 * (np.sin(2 * np.pi * t / 14) > 0.7))
    return np.clip(0.12 * voice * syllables + noise, -1, 1).astype(np.float32)


def windows(samples: Array, rate: int) -> Array:
    """Windows of 32 ms, each with 4 ms before it: float32 (windows, samples)."""
    size, before = rate * 32 // 1000, rate * 4 // 1000
    padded = np.pad(samples[: len(samples) // size * size], (before, 0))
    return np.ascontiguousarray(
        np.lib.stride_tricks.sliding_window_view(padded, size + before)[::size]
    )


def minute(names: list[str], call: Call, given: Array, rate: int) -> Array:
    """The probability of speech in each window."""
    states = {name: np.zeros(STATES[name], np.float32) for name in names if name in STATES}
    fixed = {"sr": np.array(rate, np.int64)} if "sr" in names else {}
    if "h" in names:  # all windows at once
        return call({"input": given, **states})[0].reshape(-1)
    found = []
    for one in given:
        probability, states["state"] = call({"input": one[None], **states, **fixed})
        found.append(float(probability.reshape(())))
    return np.array(found)


def cnnrt_call(data: bytes) -> tuple[list[str], Call]:
    """The names of a file's inputs, and the function that runs it."""
    model = cnnrt.load(data, threads=1)
    return [spec.name for spec in model.inputs], lambda x: list(model.run(x).values())


def onnxruntime_call(data: bytes) -> tuple[list[str], Call]:
    """The same on onnxruntime, without its notes on the file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return [x.name for x in session.get_inputs()], lambda x: list(session.run(None, x))


if __name__ == "__main__":
    raise SystemExit(main())
