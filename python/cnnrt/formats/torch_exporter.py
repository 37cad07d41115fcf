"""PyTorch's exporters to ONNX: the newer one, the older if that fails, and their messages."""

from __future__ import annotations

import inspect
import io
import logging
import re
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import FormatError, ShapeError, UnsupportedOperator
from ..process.extras import require

if TYPE_CHECKING:
    import torch

FREE_BATCH = "batch"
"""Name of the first axis of inputs, if its size is left free."""

DATA_DEPENDENT = {"GuardOnDataDependentSymNode", "UserError", "PendingUnbackedSymbolNotFound"}
"""The exporter's exceptions about values that become shapes."""

DETECTOR_OPSET = 18
"""The opset of detectors: one for which torchvision states its operators to the older exporter."""

EXPORT = "build the module, module.load_state_dict(...), then cnnrt.export(module, inputs, path)"


def check_module(module: Any) -> None:
    """Checks that this is a PyTorch module.

    Raises:
        FormatError: it is something else that is often taken for one.
        ImportError: PyTorch, or a package that its exporter needs, is missing.
    """
    require("exporting", "torch", "onnx", "onnxscript")
    import torch  # noqa: PLC0415  (an optional dependency)

    if isinstance(module, torch.nn.Module):
        return
    if isinstance(module, Mapping):
        raise FormatError(
            "expected a PyTorch module, got a dict: a state dict or checkpoint has weights and no "
            f"network; {EXPORT}"
        )
    if isinstance(module, (str, bytes)) or hasattr(module, "__fspath__"):
        raise FormatError(
            f"expected a PyTorch module, got {module!r}: a file of weights has no network; "
            f"{EXPORT}. What cnnrt.load reads needs no export"
        )
    if type(module).__module__.split(".")[0] in ("keras", "tensorflow", "tf_keras"):
        raise FormatError(
            "expected a PyTorch module; Keras writes ONNX: model.export(path, 'onnx')"
        )
    raise FormatError(f"expected a PyTorch module, got {type(module).__name__}")


def as_tensors(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The example inputs, arrays as tensors."""
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    return tuple(torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in inputs)


def to_onnx(
    module: torch.nn.Module,
    inputs: tuple[Any, ...],
    dynamic_shapes: Any,
    names: Mapping[str, Any],
    say: Callable[[str], None] = lambda _: None,
) -> Any:
    """The module as an ONNX ModelProto.

    Args:
        say: called with each step's description.

    Raises:
        ShapeError: the module does not take the example.
        UnsupportedOperator: PyTorch cannot export it. The error has its reason in a line and names
            a file with all that PyTorch said.
    """
    import torch  # noqa: PLC0415

    name = type(module).__name__
    said = io.StringIO()
    with _captured(said), torch.no_grad():
        say("running the module on the example")
        try:
            module(*inputs)
        except Exception as error:
            raise ShapeError(
                f"{name} fails on the example input, before any export: {_reason(error)}"
            ) from error
        try:
            return _first_that_works(module, inputs, dynamic_shapes, names, say)
        except Exception as error:  # the exporters' errors have no common base
            known = _unsupported(error)
            if known:
                raise UnsupportedOperator(f"{name} {known}") from error
            said.write(traceback.format_exc())
            raise UnsupportedOperator(
                f"PyTorch cannot export {name}: {_reason(error)}. All that it said is in "
                f"{_log_file(said.getvalue())}"
            ) from error


def _first_that_works(
    module: Any,
    inputs: tuple[Any, ...],
    dynamic_shapes: Any,
    names: Mapping[str, Any],
    say: Callable[[str], None],
) -> Any:
    """The first of these exports that PyTorch manages: any batch, then the example's batch; each
    with the newer exporter, then with the older."""
    import torch  # noqa: PLC0415

    if _is_detector(module):
        say("PyTorch's older exporter")
        return _detector(module, inputs, dynamic_shapes, names)
    if isinstance(module, torch.jit.ScriptModule):
        say("torch.onnx.export (of a TorchScript program)")
        return _older(module, inputs, _free_axes(inputs) if dynamic_shapes is None else {}, names)
    if dynamic_shapes is not None:
        say("torch.onnx.export")
        return _newer(module, inputs, dynamic_shapes or None, names)
    axes = _free_axes(inputs)
    failed: Exception | None = None
    if axes:
        # PyTorch takes a size of 1 in the example for one that is always 1: it sees a batch of 2.
        several = tuple(torch.cat([tensor] * 2) for tensor in inputs)
        say("torch.onnx.export, with a free batch")
        try:
            return _newer(module, several, tuple({0: FREE_BATCH} for _ in inputs), names)
        except Exception as error:
            if _unsupported(error):
                raise
            failed = error
    if not _is_conversion(failed):
        say("torch.onnx.export, with the example's sizes")
        try:
            proto = _newer(module, inputs, None, names)
        except Exception as error:
            if _unsupported(error):
                raise
            failed = failed or error
        else:
            if failed:
                _warn_of_batch(inputs, failed)
            return proto
    assert failed is not None
    say("PyTorch's older exporter")
    try:
        proto = _older(module, inputs, axes, names)
    except Exception:
        raise failed from None
    warnings.warn(
        f"written by PyTorch's older exporter, as the newer one fails ({_reason(failed)}). It "
        "records what the module does with the example: compare the results with PyTorch's",
        stacklevel=4,
    )
    return proto


def _newer(module: Any, inputs: tuple[Any, ...], dynamic_shapes: Any, names: Any) -> Any:
    import torch  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about its own inner workings
        program = torch.onnx.export(
            module, inputs, dynamo=True, verbose=False, dynamic_shapes=dynamic_shapes, **names
        )
    assert program is not None  # it is None only if a file was asked for
    return program.model_proto


def _older(module: Any, inputs: tuple[Any, ...], free: dict[int, str], names: Any) -> Any:
    """The export by the older exporter, which runs the module once and records it.

    Args:
        free: the free axes of every input, by their numbers.
    """
    given = names.get("input_names") or _parameters(module, len(inputs))
    return _recorded(
        module,
        inputs,
        input_names=given,
        output_names=names.get("output_names"),
        dynamic_axes=dict.fromkeys(given, free) if free else None,
    )


def _recorded(module: Any, inputs: tuple[Any, ...], **options: Any) -> Any:
    """The message that PyTorch's older exporter makes, without its warnings."""
    import onnx  # noqa: PLC0415
    import torch  # noqa: PLC0415

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, inputs, file, dynamo=False, verbose=False, **options)  # type: ignore[arg-type]
    return onnx.load_from_string(file.getvalue())


def _is_detector(module: Any) -> bool:
    """True if a part of torchvision's detectors is in it. These depend on values in their shapes,
    and mark the places for the older exporter themselves."""
    home = "torchvision.models.detection."
    return any(type(part).__module__.startswith(home) for part in module.modules())


def _detector(module: Any, inputs: tuple[Any, ...], dynamic_shapes: Any, names: Any) -> Any:
    """The export of a detector, with free sizes of its pictures unless `dynamic_shapes` says which.

    Its outputs are those that it has in PyTorch, one after the other, named by the keys of their
    dict if there is one.
    """
    from torch.utils import _pytree  # noqa: PLC0415  (it has no public name)

    tensors = _pytree.tree_leaves(inputs)
    one = len(tensors) == 1
    given = names.get("input_names") or (
        ["images"] if one else [f"image{i}" for i in range(len(tensors))]
    )
    found, _ = _pytree.tree_flatten_with_path(module(*inputs))
    keys = [str(getattr(path[-1], "key", "")) if path else "" for path, _ in found]
    named = all(keys) and len({*keys}) == len(keys)
    if dynamic_shapes is None:
        free = [{x.ndim - 2: "height", x.ndim - 1: "width"} for x in tensors]
    else:
        leaves = _pytree.tree_leaves(dynamic_shapes, is_leaf=lambda x: isinstance(x, dict))
        free = [{a: str(getattr(n, "__name__", n)) for a, n in x.items()} for x in leaves if x]
    return _recorded(
        module,
        inputs,
        opset_version=DETECTOR_OPSET,
        input_names=given,
        output_names=names.get("output_names") or (keys if named else None),
        dynamic_axes=dict(zip(given, free, strict=False)),
    )


def _parameters(module: Any, count: int) -> list[str]:
    """Names for the inputs: those of the parameters of `forward`."""
    try:
        found = list(inspect.signature(module.forward).parameters)[:count]
    except (TypeError, ValueError):
        found = []
    return found if len(found) == count else [f"input_{i}" for i in range(count)]


def _free_axes(inputs: tuple[Any, ...]) -> dict[int, str]:
    """The first axis, if all inputs have one of the same size."""
    batches = {tensor.shape[0] if getattr(tensor, "ndim", 0) else None for tensor in inputs}
    return {0: FREE_BATCH} if len(batches) == 1 and None not in batches else {}


def _warn_of_batch(inputs: tuple[Any, ...], failed: Exception) -> None:
    warnings.warn(
        f"the model runs only at the batch size of the example, {inputs[0].shape[0]}: PyTorch "
        f"could not leave the first axis free ({_reason(failed)}). If it is no batch, say which "
        "sizes are free by dynamic_shapes",
        stacklevel=5,
    )


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _is_conversion(error: Exception | None) -> bool:
    """True if PyTorch traced the module but has no ONNX for a part of it. Other sizes of the
    example would not help."""
    return any(type(cause).__name__ == "ConversionError" for cause in _causes(error))


def _reason(error: BaseException) -> str:
    """The first line of the first error."""
    text = str(_causes(error)[-1]).strip() or str(error).strip() or type(error).__name__
    line = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()[0].strip()
    return line if len(line) <= 200 else f"{line[:200]}..."


def _unsupported(error: BaseException) -> str | None:
    """A sentence about a network that no ONNX file can hold; None if that is not the problem."""
    causes = _causes(error)
    kinds, text = {type(c).__name__ for c in causes}, " ".join(str(c) for c in causes)
    if kinds & DATA_DEPENDENT or "data-dependent" in text:
        return (
            "has shapes, or branches, that depend on the values of its input, as a detection "
            "network's boxes and `if x.sum() > 0` do. PyTorch cannot export that; export the parts "
            "before it, and do the rest in Python"
        )
    if "PackedParams" in text or "quantized" in text:
        return (
            "is quantised by torch.ao.quantization, whose packed int8 layers PyTorch cannot "
            "export to ONNX; export the float network instead"
        )
    return None


@contextmanager
def _captured(said: io.StringIO) -> Iterator[None]:
    """Has PyTorch's loggers write into `said`, not to stderr."""
    import torch  # noqa: PLC0415

    names = ("torch", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    loggers += [
        logger
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger) and name.split(".")[0] in names
    ]
    print_graph = getattr(torch._C, "_jit_onnx_log", None)  # the older exporter's, to stdout
    kept = [(logger, list(logger.handlers), logger.propagate) for logger in loggers]
    handler = logging.StreamHandler(said)
    handler.setLevel(logging.WARNING)
    try:
        for logger in loggers:
            logger.handlers = [handler] if logger.name in names else []
            logger.propagate = logger.name not in names
        if print_graph:
            torch._C._jit_onnx_log = lambda *parts: print(*parts, file=said)
        yield
    finally:
        if print_graph:
            torch._C._jit_onnx_log = print_graph
        for logger, handlers, propagate in kept:
            logger.handlers, logger.propagate = handlers, propagate


def _log_file(text: str) -> str:
    """The name of a new file with this text."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="cnnrt-export-", suffix=".log", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
    return file.name
