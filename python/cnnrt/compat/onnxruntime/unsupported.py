"""Names of onnxruntime that are there to be imported; what they do, cnnrt does not have."""

from __future__ import annotations

import enum
from typing import Any


class OrtSparseFormat(enum.IntEnum):
    """Forms of sparse tensors."""

    ORT_SPARSE_UNDEFINED = 0
    ORT_SPARSE_COO = 1
    ORT_SPARSE_CSRC = 2
    ORT_SPARSE_BLOCK_SPARSE = 4


class OrtCompileApiFlags(enum.IntFlag):
    """Cases that `ModelCompiler` refuses."""

    NONE = 0
    ERROR_IF_NO_NODES_COMPILED = 1
    ERROR_IF_OUTPUT_FILE_EXISTS = 2


class _Unsupported:
    _reason = ""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError(f"cnnrt has no {type(self).__name__}: {self._reason}")


class LoraAdapter(_Unsupported):
    """Weights added to a language model's; not supported."""

    _reason = "it runs convolutional networks, whose files hold all weights"


class AdapterFormat(LoraAdapter):
    """Files of `LoraAdapter`; not supported."""


class ModelCompiler(_Unsupported):
    """Compiles a model for a device; not supported."""

    _reason = "python -m cnnrt compile writes files that load faster"


class SparseTensor(_Unsupported):
    """A tensor of few elements; not supported."""

    _reason = "all tensors are dense"


class OrtSyncStream(_Unsupported):
    """A stream of a device; not supported."""

    _reason = "a run is over when the call returns"


class OrtExternalInitializerInfo(_Unsupported):
    """A place in a file; not supported."""

    _reason = "SessionOptions.add_external_initializers takes arrays"
