"""Names of onnxruntime that are there to be imported; what they do, cnnrt does not have."""

from __future__ import annotations

import enum
from typing import Any, NoReturn


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


class OrtArenaCfg(_Unsupported):
    """Sizes of an arena shared by sessions; not supported."""

    _reason = "each model has the memory that its plans need, see cnnrt.Model.memory"


class OrtMemoryInfo(_Unsupported):
    """A kind of memory on a device; not supported."""

    _reason = "all memory is the CPU's"


class OrtAllocatorType(enum.IntEnum):
    """Kinds of allocators."""

    INVALID = -1
    ORT_DEVICE_ALLOCATOR = 0
    ORT_ARENA_ALLOCATOR = 1


class OrtMemType(enum.IntEnum):
    """Kinds of memory."""

    CPU_INPUT = -2
    CPU_OUTPUT = -1
    CPU = -1
    DEFAULT = 0


def create_and_register_allocator(*_: Any) -> NoReturn:
    raise NotImplementedError(f"cnnrt has no shared allocators: {OrtArenaCfg._reason}")


def create_and_register_allocator_v2(*_: Any) -> NoReturn:
    raise NotImplementedError(f"cnnrt has no shared allocators: {OrtArenaCfg._reason}")
