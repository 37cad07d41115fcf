"""The networks of networks.py in 8 bits, as ONNX Runtime's quantiser writes them.

    python bench/quantised.py [NAME ...] [--activations u8,s8] [--cache DIR]

`quantize_static` with MinMax ranges of seeded images, weights of int8 with a scale per output
channel, and Q/DQ nodes. Every engine then runs the same file. Its reference is the result of
ONNX Runtime on that file. A file is written once, beside the network that it is made of:

    model_u8.onnx  reference_u8.npy      activations of uint8
    model_s8.onnx  reference_s8.npy      activations of int8, the quantiser's default
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import cache_folder

import networks

IMAGES = 4
"""Images from which the ranges are taken."""

ACTIVATIONS = ("u8", "s8")
"""Types of the activations."""

ENGINES = ("cnnrt", "onnxruntime", "openvino")
"""Engines that run files with Q/DQ nodes."""

WRONG = 0.5
"""Relative difference from onnxruntime above which an engine does not compute the network. Engines
round at other places, and a rounding more or less changes a deep network by up to 20 %."""


def prepare(name: str, activations: str, cache: Path) -> networks.Prepared:
    """The files of a quantised network at batch size 1, made if they are not there yet."""
    source = networks.prepare(name, 1, cache)
    folder = source.onnx.parent
    path = folder / f"model_{activations}.onnx"
    reference = folder / f"reference_{activations}.npy"
    if not path.exists():
        _quantise(networks.NETWORKS[name], source.onnx, path, activations)
    if not reference.exists():
        np.save(reference, _run(path, np.load(source.input)))
    return networks.Prepared(path, None, source.input, reference)


def _quantise(network: networks.Network, source: Path, path: Path, activations: str) -> None:
    from onnxruntime.quantization import (  # noqa: PLC0415
        CalibrationDataReader,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self.inputs = iter({name: x} for x in images(network))

        def get_next(self) -> Any:
            return next(self.inputs, None)

    logging.getLogger().setLevel(logging.ERROR)  # the quantiser advises what is done here
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        kind = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}[activations]
        part = path.with_suffix(".part")
        quantize_static(
            str(prepared),
            str(part),
            Images(_input_name(prepared)),
            per_channel=True,
            activation_type=kind,
            weight_type=QuantType.QInt8,
        )
        part.replace(path)


def images(network: networks.Network, count: int = IMAGES) -> list[np.ndarray[Any, Any]]:
    """Seeded inputs of batch size 1."""
    made = [
        np.random.default_rng(2000 + i).standard_normal((1, *network.shape)) for i in range(count)
    ]
    return [x.astype(np.float32) for x in made]


def _input_name(path: Path) -> str:
    return _session(path).get_inputs()[0].name  # type: ignore[no-any-return]


def _run(path: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = _session(path)
    y: np.ndarray[Any, Any] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return y


def _session(path: Path) -> Any:
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME", choices=list(networks.NETWORKS))
    parser.add_argument("--activations", default="u8,s8", help="types, with commas")
    parser.add_argument("--cache", help="folder for the files")
    args = parser.parse_args()
    for name in args.names:
        for activations in args.activations.split(","):
            files = prepare(name, activations, cache_folder(args.cache))
            print(f"{name}: {files.onnx.name}")


if __name__ == "__main__":
    main()
