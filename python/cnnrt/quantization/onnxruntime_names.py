"""The names of `onnxruntime.quantization`, for programs that were written for it.

The arguments are those of ONNX Runtime 1.32. The results are files of cnnrt's quantiser: QDQ, int8
weights with one scale per output channel, uint8 activations. They run in both runtimes.
"""

from __future__ import annotations

import abc
import enum
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import formats
from ..analysis.classifier import input_shape
from ..formats import Source
from ..graph import Graph
from ..model import load
from .dynamic import with_dynamic_quantisation
from .quantizer import post_training

OP_TYPES = {"Conv": {"conv"}, "Gemm": {"gemm"}, "MatMul": {"matmul"}}
"""Operators that can be asked for by type, as ONNX and as a graph name them. What leads from one to
the next follows them."""
GIVEN_OPTIONS = {"WeightSymmetric": True, "ActivationSymmetric": False, "QuantizeBias": True}
"""Extra options that describe what is done anyway."""


class QuantType(enum.Enum):
    """Element types of weights and activations."""

    QInt8 = 0
    QUInt8 = 1


class QuantFormat(enum.Enum):
    """Forms of a quantised network."""

    QOperator = 0
    QDQ = 1


class CalibrationMethod(enum.Enum):
    """Ways to find ranges; MSE, the least squared error, is cnnrt's own."""

    MinMax = 0
    Entropy = 1
    Percentile = 2
    MSE = 4


class CalibrationDataReader(abc.ABC):
    """Gives the inputs of one run after the other."""

    @abc.abstractmethod
    def get_next(self) -> Mapping[str, Any] | None:
        """The next inputs by name; None: there are no more."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.get_next, None)


def quantize_static(
    model_input: Source,
    model_output: str | os.PathLike[str],
    calibration_data_reader: Any,
    quant_format: QuantFormat = QuantFormat.QDQ,
    op_types_to_quantize: Sequence[str] | None = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    activation_type: QuantType = QuantType.QInt8,
    weight_type: QuantType = QuantType.QInt8,
    nodes_to_quantize: Sequence[str] | None = None,
    nodes_to_exclude: Sequence[str] | None = None,
    use_external_data_format: bool = False,
    calibrate_method: CalibrationMethod = CalibrationMethod.MinMax,
    extra_options: Mapping[str, Any] | None = None,
) -> None:
    """Writes a network in 8 bits, calibrated on the inputs that a reader gives.

    `per_channel` and `reduce_range` change nothing: weights always have a scale per channel, and
    products of 8 bits do not saturate. Activations are uint8 for either `activation_type`: the
    integers are those of int8, moved by 128.

    Args:
        model_input: the network, as `cnnrt.load` takes it.
        model_output: the file to write; ONNX if its name ends in .onnx, else model.bin.
        calibration_data_reader: has `get_next`. All its inputs are kept in memory.
        quant_format: QDQ.
        op_types_to_quantize: some of "Conv", "Gemm" and "MatMul"; None: all.
        weight_type: QInt8.
        nodes_to_quantize: names of layers; None: all.
        nodes_to_exclude: names of nodes that stay in float32.
        use_external_data_format: False.
        calibrate_method: how ranges are found.
        extra_options: those of `GIVEN_OPTIONS`, at their values.

    Raises:
        ValueError: an argument asks for what is not supported.
        CalibrationError, GraphError, ShapeError: see `post_training`.
    """
    _check(quant_format=(quant_format, QuantFormat.QDQ), weight_type=(weight_type, QuantType.QInt8))
    _check(use_external_data_format=(use_external_data_format, False))
    _check_options(extra_options)
    model = load(model_input)
    exclude = _excluded(
        model.graph, op_types_to_quantize, nodes_to_quantize, nodes_to_exclude or ()
    )
    found = post_training(
        model,
        iter(calibration_data_reader.get_next, None),
        method=CalibrationMethod(calibrate_method.value).name.lower(),
        target_db=-math.inf,  # as in ONNX Runtime nothing goes back to floats
        exclude=exclude,
    )
    found.save(model_output)


def quantize_dynamic(
    model_input: Source,
    model_output: str | os.PathLike[str],
    op_types_to_quantize: Sequence[str] | None = None,
    per_channel: bool = False,
    reduce_range: bool = False,
    weight_type: QuantType = QuantType.QInt8,
    nodes_to_quantize: Sequence[str] | None = None,
    nodes_to_exclude: Sequence[str] | None = None,
    use_external_data_format: bool = False,
    extra_options: Mapping[str, Any] | None = None,
) -> None:
    """Writes a network whose linear layers run in 8 bits, without calibration.

    Each input of a layer gets its scale when it comes. Convolutions stay in float32: finding the
    scale of each feature map takes the time that integers would save.

    Args are those of `quantize_static`.

    Raises:
        ValueError: an argument asks for what is not supported.
        GraphError: no linear layer is left to quantise.
    """
    _check(weight_type=(weight_type, QuantType.QInt8))
    _check(use_external_data_format=(use_external_data_format, False))
    _check_options(extra_options)
    model = load(model_input)
    exclude = _excluded(
        model.graph, op_types_to_quantize, nodes_to_quantize, nodes_to_exclude or ()
    )
    sizes = {spec.name: input_shape(spec, model.preprocessing) for spec in model.inputs}
    graph = with_dynamic_quantisation(model.graph, sizes, exclude=exclude)
    described: dict[str, Any] = {
        "preprocessing": model.preprocessing,
        "labels": model.labels,
        "notice": model.notice,
        "multi_label": model.multi_label,
        "task": model.task,
    }
    if str(model_output).endswith(".onnx"):
        from ..formats.onnx.writer import write_onnx  # noqa: PLC0415  (needs a package)

        write_onnx(model_output, graph, **described)
    else:
        formats.write_model(model_output, graph, **described)


def _check(**given: tuple[Any, Any]) -> None:
    """Raises ValueError unless each argument has the one value that is supported."""
    for name, (value, wanted) in given.items():
        if value is not wanted:
            raise ValueError(f"{name}={value}: only {wanted} is supported")


def _check_options(options: Mapping[str, Any] | None) -> None:
    """Raises ValueError for an extra option that would change the result."""
    for name, value in (options or {}).items():
        if name not in GIVEN_OPTIONS or value != GIVEN_OPTIONS[name]:
            known = ", ".join(f"{k}={v}" for k, v in GIVEN_OPTIONS.items())
            raise ValueError(f"extra option {name}={value!r} is not supported; known: {known}")


def _excluded(
    graph: Graph,
    op_types: Sequence[str] | None,
    names: Sequence[str] | None,
    excluded: Sequence[str],
) -> set[str]:
    """The layers that are not asked for, and the nodes that are excluded."""
    if unknown := set(op_types or ()) - OP_TYPES.keys():
        raise ValueError(
            f"op_types_to_quantize {sorted(unknown)[0]!r}: only {', '.join(OP_TYPES)} can be chosen"
        )
    wanted = {op for type_ in op_types or OP_TYPES for op in OP_TYPES[type_]}
    layers = {op for ops in OP_TYPES.values() for op in ops}
    unwanted = {
        node.name
        for node in graph.nodes
        if node.op in layers
        and (node.op not in wanted or (names is not None and node.name not in names))
    }
    return {*unwanted, *excluded}
