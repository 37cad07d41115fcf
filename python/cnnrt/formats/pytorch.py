"""PyTorch module -> model.bin, through PyTorch's ONNX exporter."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedOperator
from ..preprocessing import Preprocessing
from . import write_model
from .onnx.importer import read_onnx

if TYPE_CHECKING:
    import torch

FREE_BATCH = "batch"
"""Name of the first axis of inputs whose size is left free."""


def export(
    module: torch.nn.Module,
    example_inputs: Any,
    path: str | os.PathLike[str] | None,
    *,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | None = None,
    weights: Any = None,
    float16: bool = False,
    notice: str | None = None,
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> bytes | None:
    """Writes a PyTorch module to a file that `cnnrt.load` reads.

    Layers keep their names: `model.run(x, outputs=["layer3.1.relu"])` gives the output of that
    module. PyTorch's exporter folds batch normalisation into a convolution before it; of such a
    pair only the result is there, under the name of the normalisation.

    timm's models say how they want their pictures; so do torchvision's weights, given as `weights`.
    Both know the names of their classes. What `labels` and `preprocessing` say comes first.

    Args:
        module: exported in evaluation mode, and left in the mode it was in.
        example_inputs: a tensor, or a tuple of tensors, that the module takes.
        path: where to; None: the bytes are returned.
        labels: names of the classes, in the order of the output.
        preprocessing: what is done to pictures before the network sees them; its fields may also
            come as a dict.
        weights: the torchvision weights in the module, such as `ResNet18_Weights.DEFAULT`.
        float16: stores weights in half the space; see `cnnrt.formats.write_model`.
        notice: where the weights come from and their licence.
        dynamic_shapes: which sizes are free, as `torch.export.export` takes them; (): none; None:
            the first of each input, if they are equal and the network can be exported so.
        input_names: names for the inputs; None: those of the module's parameters.
        output_names: names for the outputs; None: those that the exporter gives.

    Raises:
        UnsupportedOperator: the network needs operators that cnnrt does not have, has shapes that
            depend on the data, or is quantised by PyTorch.
        FormatError, ValueError: `preprocessing` is not one.
        ImportError: PyTorch or the packages that its exporter uses are missing.
        OSError: the file cannot be written.
    """
    inputs = (
        tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    )
    if isinstance(preprocessing, Mapping):
        preprocessing = Preprocessing.from_json(dict(preprocessing))
    found_preprocessing, found_labels = _carried(module, weights)
    names = {"input_names": input_names, "output_names": output_names}
    with _evaluating(module):
        try:
            proto = _to_onnx(module, inputs, dynamic_shapes, names)
        except RuntimeError as error:
            reason = _unsupported(error)
            if reason is None:
                raise
            raise UnsupportedOperator(f"{type(module).__name__} {reason}") from error
    graph = read_onnx(proto, name=type(module).__name__)
    return write_model(
        path,
        graph,
        preprocessing=preprocessing or found_preprocessing,
        labels=found_labels if labels is None else labels,
        notice=notice,
        float16=float16,
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


def _to_onnx(
    module: torch.nn.Module, inputs: tuple[Any, ...], dynamic_shapes: Any, names: Mapping[str, Any]
) -> Any:
    """The module as an ONNX ModelProto."""
    try:
        import onnxscript  # noqa: F401, PLC0415  (what the exporter would miss in many words)
        import torch  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            "exporting needs PyTorch and the packages of its exporter: pip install 'cnnrt[torch]'"
        ) from error

    def run(inputs: tuple[Any, ...], dynamic_shapes: Any) -> Any:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the exporter about its own inner workings
            program = torch.onnx.export(
                module,
                inputs,
                dynamo=True,
                verbose=False,
                dynamic_shapes=dynamic_shapes,
                **names,
            )
        assert program is not None  # it is None only if a file was asked for
        return program.model_proto

    if dynamic_shapes is not None:
        return run(inputs, dynamic_shapes or None)
    batches = {tensor.shape[0] if getattr(tensor, "ndim", 0) else None for tensor in inputs}
    if len(batches) != 1 or None in batches:
        return run(inputs, None)
    # PyTorch takes a size of 1 in the example for one that is always 1: it sees a batch of 2.
    several = tuple(torch.cat([tensor] * 2) for tensor in inputs)
    try:
        return run(several, tuple({0: FREE_BATCH} for _ in inputs))
    except Exception as error:  # the exporter's errors have no common base
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        proto = run(inputs, None)
        warnings.warn(
            f"the model runs only at the batch size of the example, {batches.pop()}: it cannot be "
            f"exported for any ({reason[0][:200]})",
            stacklevel=3,
        )
        return proto


def _unsupported(error: BaseException) -> str | None:
    """What PyTorch's exporter says in thousands of words of networks that no ONNX file can hold."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    kinds, text = {type(c).__name__ for c in causes}, " ".join(str(c) for c in causes)
    if kinds & DATA_DEPENDENT or "data-dependent" in text:
        return (
            "has shapes that depend on the values of its input, as a detection network's boxes: "
            "PyTorch cannot export it, and cnnrt runs networks whose shapes follow from the "
            "input's shape; export its backbone and heads, and select boxes in Python"
        )
    if "PackedParams" in text or "quantized" in text:
        return (
            "is quantised by torch.ao.quantization, whose packed int8 layers PyTorch cannot "
            "export to ONNX; export the float network instead"
        )
    return None


DATA_DEPENDENT = {"GuardOnDataDependentSymNode", "UserError", "PendingUnbackedSymbolNotFound"}
"""The exporter's exceptions about values that become shapes."""


def _carried(
    module: torch.nn.Module, weights: Any
) -> tuple[Preprocessing | None, list[str] | None]:
    """The preprocessing and the class names that torchvision's weights or a timm model carry."""
    if weights is not None:
        categories = weights.meta.get("categories")
        preset = weights.transforms()
        return Preprocessing.from_torchvision(preset), list(categories) if categories else None
    config = getattr(module, "pretrained_cfg", None) or getattr(module, "default_cfg", None)
    if not isinstance(config, Mapping) or "input_size" not in config:
        return None, None
    try:
        preprocessing = Preprocessing.from_timm(config)
    except (KeyError, TypeError, ValueError) as error:
        warnings.warn(f"the model's own preprocessing is left out: {error}", stacklevel=3)
        preprocessing = None
    return preprocessing, _timm_labels(module, config)


def _timm_labels(module: torch.nn.Module, config: Mapping[str, Any]) -> list[str] | None:
    """The names of a timm model's classes, if there are as many as it has outputs."""
    classes = getattr(module, "num_classes", None)
    labels = list(config.get("label_names") or ())
    if not labels:
        try:
            from timm.data.imagenet_info import (  # noqa: PLC0415
                ImageNetInfo,
                infer_imagenet_subset,
            )

            subset = infer_imagenet_subset(module)  # by the number of classes
            labels = list(ImageNetInfo(subset).label_descriptions()) if subset else []
        except (ImportError, AttributeError, OSError, ValueError):
            return None
    return labels if len(labels) == classes else None
