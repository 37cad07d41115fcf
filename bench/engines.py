"""The engines that are measured: those of `python -m cnnrt bench`, and more."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnrt.benchmark.worker import ENGINES, Engine, Run, Source, engine

Array = NDArray[Any]

__all__ = ["ENGINES", "Array", "Engine", "Run", "Source", "engine", "versions"]


class Ncnn(Engine):
    """ncnn, through pnnx. It has no batches: images run one after the other, as its users do."""

    package = "ncnn"

    def load(self, source: Source, threads: int) -> Run:
        import ncnn  # noqa: PLC0415

        if source.torchscript is None:
            raise ValueError("pnnx needs TorchScript, which this network has not")
        param, weights = self._convert(source.torchscript, (1, *source.shape[1:]))
        net = ncnn.Net()
        net.opt.num_threads = threads
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, f"use_{option}", False)
        winograd = [f"winograd{n}_convolution" for n in ("", "23", "43", "63")]
        for option in (*winograd, "sgemm_convolution", "packing_layout"):
            setattr(net.opt, f"use_{option}", True)  # as by default: it chooses by shape
        if net.load_param(str(param)) or net.load_model(str(weights)):
            raise RuntimeError("ncnn cannot load what pnnx wrote")
        first, last = net.input_names()[0], net.output_names()[0]

        def image(x: Array) -> Array:
            with net.create_extractor() as extractor:
                extractor.input(first, ncnn.Mat(x))
                failed, y = extractor.extract(last)
                if failed:
                    raise RuntimeError(f"ncnn returned {failed}")
                return np.array(y)

        def run(x: Array) -> Array:
            if len(x) == 1:
                return image(x[0])[None]
            return np.stack([image(one) for one in x])

        return run

    @staticmethod
    def _convert(torchscript: Path, shape: tuple[int, ...]) -> tuple[Path, Path]:
        """Converts to ncnn's two files, beside the TorchScript file."""
        folder = torchscript.with_name("ncnn")
        param, weights = folder / "model.ncnn.param", folder / "model.ncnn.bin"
        if not (folder / "done").exists():
            folder.mkdir(exist_ok=True)
            names = ["pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy"]
            subprocess.run(
                [
                    _pnnx(),
                    str(torchscript),
                    f"inputshape=[{','.join(map(str, shape))}]",
                    "fp16=0",
                    f"ncnnparam={param}",
                    f"ncnnbin={weights}",
                    *(f"{name}={folder / name}" for name in names),
                ],
                check=True,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                timeout=600,
            )
            for name in names:  # as large as the weights, and not needed
                (folder / name).unlink(missing_ok=True)
            if not param.exists() or not weights.exists():
                raise RuntimeError("pnnx wrote no ncnn model")
            (folder / "done").touch()
        return param, weights


def _pnnx() -> str:
    """The converter: the program in the package pnnx (importing that would import torch)."""
    spec = importlib.util.find_spec("pnnx")
    inside = Path(spec.origin).with_name("pnnx") if spec and spec.origin else None
    found = str(inside) if inside and inside.exists() else shutil.which("pnnx")
    if not found:
        raise FileNotFoundError("pnnx is not installed (pip install --no-deps pnnx)")
    return found


class Torch(Engine):
    """PyTorch: frozen TorchScript."""

    package = "torch"

    def load(self, source: Source, threads: int) -> Run:
        import torch  # noqa: PLC0415

        if source.torchscript is None:
            raise ValueError("the network has no TorchScript")
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        module = torch.jit.freeze(torch.jit.load(str(source.torchscript)).eval())  # type: ignore[no-untyped-call]
        module = torch.jit.optimize_for_inference(module)

        def run(x: Array) -> Array:
            y: Array = module(torch.from_numpy(x)).numpy()
            return y

        return run


class Mnn(Engine):
    """MNN at high precision, which is float32."""

    package = "MNN"

    def load(self, source: Source, threads: int) -> Run:
        import MNN  # noqa: PLC0415

        model = self._convert(source.onnx)
        interpreter = MNN.Interpreter(str(model))
        session = interpreter.createSession(
            {"backend": "CPU", "precision": "high", "numThread": threads}
        )
        given = interpreter.getSessionInput(session)
        interpreter.resizeTensor(given, source.shape)
        interpreter.resizeSession(session)
        result = interpreter.getSessionOutput(session)
        shape = tuple(result.getShape())
        kind, layout = MNN.Halide_Type_Float, MNN.Tensor_DimensionType_Caffe

        def run(x: Array) -> Array:
            given.copyFrom(MNN.Tensor(x.shape, kind, x, layout))
            interpreter.runSession(session)
            y = np.empty(shape, np.float32)
            host = MNN.Tensor(shape, kind, y, layout)
            result.copyToHostTensor(host)
            return np.array(host.getNumpyData()).reshape(shape)  # a copy: the data is host's

        return run

    @staticmethod
    def _convert(onnx: Path) -> Path:
        # Not through MNN.tools: importing it runs `pip install` and contacts a logging service.
        from _tools import mnnconvert  # noqa: PLC0415  (a top-level module of the package MNN)

        target = onnx.with_suffix(".mnn")
        if not target.exists():
            part = target.with_suffix(f".mnn{os.getpid()}")
            words = ["mnnconvert", "-f", "ONNX", "--modelFile", str(onnx)]
            mnnconvert([*words, "--MNNModel", str(part), "--bizCode", "bench"])
            if not part.exists():
                raise RuntimeError("MNN cannot convert the network")
            part.replace(target)
        return target


class OpenCv(Engine):
    """OpenCV's dnn module, by the engine that came with version 5."""

    package = "opencv-python-headless"
    module = "cv2"

    def load(self, source: Source, threads: int) -> Run:
        import cv2  # noqa: PLC0415

        cv2.setNumThreads(threads)
        net = cv2.dnn.readNetFromONNX(str(source.onnx), cv2.dnn.ENGINE_NEW)

        def run(x: Array) -> Array:
            net.setInput(x)
            return np.asarray(net.forward())

        return run


class LiteRt(Engine):
    """LiteRT (TensorFlow Lite) with the XNNPACK delegate. Its file has a fixed batch size."""

    package = "ai_edge_litert"

    def load(self, source: Source, threads: int) -> Run:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

        interpreter = Interpreter(str(self._convert(source)), num_threads=threads)
        interpreter.allocate_tensors()
        given = interpreter.get_input_details()[0]["index"]
        result = interpreter.get_output_details()[0]["index"]

        def run(x: Array) -> Array:
            interpreter.set_tensor(given, x)
            interpreter.invoke()
            y: Array = interpreter.get_tensor(result)
            return y

        return run

    @staticmethod
    def _convert(source: Source) -> Path:
        """Converts by litert-torch, in another process: it imports torch."""
        if source.torchscript is None:
            raise ValueError("litert-torch needs TorchScript, which this network has not")
        target = source.torchscript.with_name(f"model_b{source.shape[0]}.tflite")
        if not target.exists():
            words = [str(source.torchscript), str(target), ",".join(map(str, source.shape))]
            program = Path(__file__).with_name("litert.py")
            done = subprocess.run(
                [sys.executable, str(program), *words],
                check=False,
                capture_output=True,
                text=True,
                timeout=600,
            )
            if not target.exists():
                lines = done.stderr.strip().splitlines()
                raise RuntimeError(f"litert-torch wrote no file: {lines[-1] if lines else ''}")
        return target


ENGINES |= {"ncnn": Ncnn, "torch": Torch, "mnn": Mnn, "opencv": OpenCv, "litert": LiteRt}


def versions() -> dict[str, str | None]:
    """The installed version of every engine."""
    return {name: kind.version() for name, kind in ENGINES.items()}
