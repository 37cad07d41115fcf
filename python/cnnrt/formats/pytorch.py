"""PyTorch module -> model.bin, through PyTorch's ONNX exporter."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import FormatError, PreprocessingWarning
from ..graph import Graph
from ..preprocessing import Preprocessing
from ..preprocessing.fitting import (
    check_labels,
    fitted,
    fixed_size,
    image_input,
    warn_of_missing,
    warn_of_unstated,
)
from ..preprocessing.presets import Found, imagenet_labels, named, of_weights
from ..progress import Steps
from ..tasks.task import Task
from . import write_model
from .onnx.importer import read_onnx
from .torch_exporter import as_tensors, check_module, to_onnx

if TYPE_CHECKING:
    import torch

FIELDS = tuple(field.name for field in dataclasses.fields(Preprocessing))


def export(
    module: torch.nn.Module,
    example_inputs: Any,
    path: str | os.PathLike[str] | None,
    *,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | str | None = None,
    weights: Any = None,
    float16: bool = False,
    notice: str | None = None,
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    multi_label: bool = False,
    task: Task | str | Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> bytes | None:
    """Writes a PyTorch module to a file that `cnnrt.load` reads.

    Layers keep their names: `model.run(x, outputs=["layer3.1.relu"])` gives the output of that
    module. PyTorch's exporter folds batch normalisation into a convolution before it; such a pair
    has only its result, under the name of the normalisation.

    timm's models carry their preprocessing and class names, and so do torchvision's weights, given
    as `weights`. `labels` and `preprocessing` take precedence over both.

    If PyTorch's newer exporter fails, its older one is tried. It records what the module does with
    the example, and a warning tells of it. torchvision's detectors always take that road, without
    a warning: they are made for it, and run on pictures of any size.

    Args:
        module: exported in evaluation mode, and left in the mode it was in.
        example_inputs: a tensor or an array, or a tuple of them, that the module takes.
        path: path of the file; None: the bytes are returned.
        labels: names of the classes, in the order of the output.
        preprocessing: the steps for pictures before the network sees them. It is a `Preprocessing`,
            a dict of its fields, or the name of a preset such as "imagenet"
            (`Preprocessing.preset`).
        weights: the torchvision weights in the module, such as `ResNet18_Weights.DEFAULT`.
        float16: stores weights in half the space; see `cnnrt.formats.write_model`.
        notice: where the weights come from and their licence.
        dynamic_shapes: which sizes are free, as `torch.export.export` takes them; (): none. None:
            the first size of each input, if these are equal and the exporter can do it.
        input_names: names for the inputs; None: those of the module's parameters.
        output_names: names for the outputs; None: those that the exporter gives.
        multi_label: several classes may hold at once: each score goes through a sigmoid, unless the
            network ends in one. False: the scores go through a softmax.
        task: what the network is for: "detect", or with the form of its outputs "detect/yolo", or a
            `Task`. None: as the shapes of the outputs tell.
        progress: shows the step on stderr; None: if that is a terminal.

    Raises:
        UnsupportedOperator: the network needs operators that cnnrt does not have, or has shapes
            that depend on the data. Or PyTorch has quantised it, or cannot export it for another
            reason.
        FormatError: this is no module; `labels` or `preprocessing` do not fit the network.
        ShapeError: the module does not take the example.
        ValueError: `preprocessing` is not one, or `task` is none.
        ImportError: PyTorch or the packages that its exporter uses are missing.
        OSError: the file cannot be written.
    """
    check_module(module)
    given = example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    inputs = as_tensors(tuple(given))
    if isinstance(preprocessing, Mapping):  # the checks before the work
        Preprocessing.from_json({"size": [1, 1], **preprocessing})
    elif isinstance(preprocessing, str):
        named(preprocessing)
    stated = None if task is None else Task.of(task)
    names = {"input_names": input_names, "output_names": output_names}
    name = type(module).__name__
    with Steps(f"exporting {name}", show=progress) as step:
        with _evaluating(module):
            proto = to_onnx(module, inputs, dynamic_shapes, names, step)
        step("reading the network")
        graph = read_onnx(proto, name=name)
        found = _described(module, graph, preprocessing, labels, weights)
        step("writing the file")
        return write_model(
            path,
            graph,
            preprocessing=found.preprocessing,
            labels=found.labels,
            notice=notice,
            float16=float16,
            multi_label=multi_label,
            task=stated,
        )


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """The module and its parts in evaluation mode; afterwards each as it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _described(
    module: torch.nn.Module,
    graph: Graph,
    preprocessing: Preprocessing | Mapping[str, Any] | str | None,
    labels: Sequence[str] | None,
    weights: Any,
) -> Found:
    """The preprocessing and the labels: those given, or those that come along.

    Raises:
        FormatError: what is given does not fit the network.
    """
    carried = _carried(module, graph, weights)
    image = image_input(graph)
    size = fixed_size(image) if image else None
    stated: set[str] = set(FIELDS)
    if isinstance(preprocessing, str):
        chosen = named(preprocessing, size)
        assert chosen.preprocessing is not None
        fits = fitted(chosen.preprocessing, graph)
        carried = Found(fits, chosen.labels or carried.labels)
    elif preprocessing is not None:
        if isinstance(preprocessing, Mapping):
            stated = set(preprocessing)
            filled = {"size": list(size), **preprocessing} if size else dict(preprocessing)
            preprocessing = Preprocessing.from_json(filled)
        else:
            stated = {"resize"}  # a value that is no default shows by itself
        carried = Found(fitted(preprocessing, graph), carried.labels)
        warn_of_unstated(preprocessing, graph, stated, stacklevel=4)
    check_labels(labels, graph)
    if labels is not None:
        carried = carried._replace(labels=list(labels))
    if labels and carried.preprocessing is None:
        warn_of_missing(graph, "the network", stacklevel=4)
    return carried


def _carried(module: torch.nn.Module, graph: Graph, weights: Any) -> Found:
    """The preprocessing and the class names that torchvision's weights or a timm model carry, as
    far as they fit the network."""
    config = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    try:
        if weights is not None:
            found = of_weights(weights)
        elif isinstance(config, Mapping) and "input_size" in config:
            image = image_input(graph)
            size = fixed_size(image) if image else None
            # The size that the example has: timm too keeps the share of the crop.
            sized = {**config, "input_size": (config["input_size"][0], *size)} if size else config
            found = Found(Preprocessing.from_timm(sized))
        else:
            return Found()
        found = found._replace(
            preprocessing=found.preprocessing and fitted(found.preprocessing, graph)
        )
    except (FormatError, KeyError, TypeError, ValueError) as error:
        warnings.warn(
            f"the model's own preprocessing is left out: {error}",
            PreprocessingWarning,
            stacklevel=4,
        )
        found = Found()
    labels = found.labels
    if weights is None and isinstance(config, Mapping):
        classes = getattr(module, "num_classes", None)
        labels = imagenet_labels({**config, "num_classes": classes})
        labels = labels if labels and len(labels) == classes else None
    try:
        check_labels(labels, graph)
    except FormatError:  # of a network whose classifier was replaced
        labels = None
    return found._replace(labels=labels)
