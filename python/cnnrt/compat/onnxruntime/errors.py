"""The exceptions of ONNX Runtime, each also one of cnnrt's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ...errors import (
    CnnrtError,
    FormatError,
    GraphError,
    ImageError,
    ShapeError,
    UnsupportedOperator,
)


class Fail(CnnrtError):
    """A run or a load failed for another reason than those below."""


class InvalidArgument(ShapeError):
    """An input or output has another name, shape or type than the network's."""


class NoSuchFile(FormatError):
    """There is no file at the path of the model."""


class NoModel(FormatError):
    """No model has been loaded."""


class EngineError(CnnrtError):
    """The engine failed."""


class RuntimeException(CnnrtError):
    """An operator failed during a run."""


class InvalidProtobuf(FormatError):
    """The file or the bytes are no model."""


class ModelLoaded(CnnrtError):
    """A model has been loaded already."""


class NotImplemented(UnsupportedOperator):
    """The network needs an operator that cnnrt does not run."""


class InvalidGraph(GraphError):
    """The graph of the model is inconsistent."""


class EPFail(CnnrtError):
    """An execution provider failed."""


class ModelLoadCanceled(CnnrtError):
    """Loading was cancelled."""


class ModelRequiresCompilation(CnnrtError):
    """The model must be compiled first."""


class NotFound(CnnrtError):
    """Nothing has the name that was asked for."""


class DeviceReset(CnnrtError):
    """A device was reset."""


_CODES: dict[type[CnnrtError], tuple[int, str]] = {
    Fail: (1, "FAIL"),
    InvalidArgument: (2, "INVALID_ARGUMENT"),
    NoSuchFile: (3, "NO_SUCHFILE"),
    RuntimeException: (6, "RUNTIME_EXCEPTION"),
    InvalidProtobuf: (7, "INVALID_PROTOBUF"),
    NotImplemented: (9, "NOT_IMPLEMENTED"),
    InvalidGraph: (10, "INVALID_GRAPH"),
    ModelLoadCanceled: (12, "MODEL_LOAD_CANCELED"),
}


def status(kind: type[CnnrtError], message: str) -> CnnrtError:
    """An error whose text begins with ONNX Runtime's code, as its clients expect."""
    code, name = _CODES[kind]
    return kind(f"[ONNXRuntimeError] : {code} : {name} : {message}")


@contextlib.contextmanager
def translated(*, loading: bool) -> Iterator[None]:
    """Raises cnnrt's errors as those of ONNX Runtime that mean the same.

    Args:
        loading: true while a model is read, false while it runs.
    """
    try:
        yield
    except tuple(_CODES):
        raise  # of this API already
    except UnsupportedOperator as error:
        raise status(NotImplemented, str(error)) from error
    except (ShapeError, ImageError) as error:
        raise status(InvalidGraph if loading else InvalidArgument, str(error)) from error
    except FormatError as error:
        raise status(InvalidProtobuf, str(error)) from error
    except GraphError as error:
        raise status(InvalidGraph if loading else InvalidArgument, str(error)) from error
    except CnnrtError as error:
        raise status(Fail if loading else RuntimeException, str(error)) from error
