"""Post-training quantisation: a network in floats becomes one in 8 bits that answers the same."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from typing import Any

from .. import formats
from ..formats import Source
from ..model import Model
from .calibration import Calibration
from .layer_choice import Goal, choose_floats
from .ranges import METHODS
from .report import Quantization, quantization_of
from .samples import Samples

TARGET_DB = 25.0
"""Signal to noise of the outputs, in dB, that is kept unless another target is given."""


def quantize(
    model: Model | Source,
    images: Any,
    *,
    method: str = "mse",
    target_db: float | None = None,
    keep_answers: float | None = None,
    exclude: Collection[str] = (),
    round_residual: bool = False,
    report: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Model:
    """Quantises a network to 8 bits after training, as `post_training` does.

        small = cnnrt.quantize("model.bin", "photos/")

    Args:
        report: a file for the report: an HTML page, or JSON if it ends in .json.

    Returns:
        The network with QuantizeLinear and DequantizeLinear around the nodes that run in integers.
            Write it
        with `cnnrt.formats.write_model`, or as ONNX with `python -m cnnrt convert`.

    The other arguments and the errors are those of `post_training`.
    """
    result = post_training(
        model,
        images,
        method=method,
        target_db=target_db,
        keep_answers=keep_answers,
        exclude=exclude,
        round_residual=round_residual,
        progress=progress,
    )
    if report is not None:
        result.report(report)
    return result.model


def post_training(
    model: Model | Source,
    images: Any,
    *,
    method: str = "mse",
    target_db: float | None = None,
    keep_answers: float | None = None,
    exclude: Collection[str] = (),
    round_residual: bool = False,
    progress: bool | None = None,
) -> Quantization:
    """Quantises a network to 8 bits after training, and reports the loss.

    Weights become int8 with one scale per output channel, rounded so that errors make up for each
    other, and biases take the mean error. Activations become uint8 with one scale per tensor, from
    histograms over the images. Every fourth image is held back for the check. Layers go back to
    float32 until the target holds: first those that lose the most for the time that they save.

    Args:
        model: a network, or its file.
        images: at least one, and better 20 to 100, as the network will see them. They are a folder,
            files, PIL images, arrays, or dicts of inputs by name.
        method: the way from a tensor's histogram to its range: "mse" (least squared error),
            "minmax", "percentile" (99.99 %) or "entropy".
        target_db: signal to noise of every output, in dB, that is to be kept; None: 25, unless
            `keep_answers` is given.
        keep_answers: share of images, from 0 to 1, whose likeliest class is to stay the same.
        exclude: names of nodes that stay in float32.
        round_residual: also rounds between a layer and the addition after it. Other runtimes need
            that to run both in integers; it costs some tenths of a dB.
        progress: shows bars on stderr, if tqdm is installed; None: if stderr is a terminal.

    Raises:
        CalibrationError: there are no images, or a tensor is not finite on one.
        GraphError: nothing in the network can run in integers; no node has an excluded name.
        ShapeError: an array is not what the network takes.
        ValueError: an argument is out of range.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r}; expected one of {', '.join(METHODS)}")
    if keep_answers is not None and not 0 <= keep_answers <= 1:
        raise ValueError(f"keep_answers must be from 0 to 1, not {keep_answers}")
    if target_db is None and keep_answers is None:
        target_db = TARGET_DB
    start = time.perf_counter()
    whole = model if isinstance(model, Model) else _loaded(model)
    calibration = Calibration(
        whole,
        Samples(whole, images),
        method=method,
        exclude=exclude,
        round_residual=round_residual,
        progress=progress,
    )
    goal = Goal(target_db, keep_answers)
    found = choose_floats(calibration, goal)
    return quantization_of(calibration, *found, goal, method, time.perf_counter() - start)


def _loaded(source: Source) -> Model:
    document = formats.read(source)
    return Model(
        document.graph,
        preprocessing=document.preprocessing,
        labels=document.labels,
        notice=document.metadata.get("notice"),
        multi_label=document.multi_label,
        task=document.task,
    )
