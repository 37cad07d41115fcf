"""Tensors in DLPack's capsules, as older clients pass them on.

Layout: https://github.com/dmlc/dlpack/blob/main/include/dlpack/dlpack.h
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ...graph import Array

CPU = (1, 0)
"""The device of every tensor: the kind of the CPU, and its number."""
UNSIGNED = 1
"""DLPack's code of unsigned integers."""


class _Tensor(ctypes.Structure):
    """The start of DLPack's tensor, up to the element type."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
    ]


class _Capsule:
    """A capsule as an object that NumPy takes."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU


def to_array(data: Any) -> Array:
    """The array over the memory of a tensor that has the protocol, or of a capsule."""
    try:
        capsule = data.__dlpack__() if hasattr(data, "__dlpack__") else data
    except BufferError:  # it is read-only, which such a capsule cannot say
        only_read: Array = np.from_dlpack(data)
        return only_read
    return _writable(np.from_dlpack(_Capsule(capsule)))


def _writable(array: Array) -> Array:
    """The same memory, which NumPy takes for read-only unless a capsule says that it is not."""
    same: Array
    if not array.size:
        same = np.empty(array.shape, array.dtype)
        return same
    strides = zip(array.shape, array.strides, strict=True)
    nbytes = array.itemsize + sum((size - 1) * stride for size, stride in strides)
    memory = (ctypes.c_char * nbytes).from_address(array.ctypes.data)
    memory.owner = array
    same = np.ndarray(array.shape, array.dtype, memory, strides=array.strides)
    return same


def is_dlpack_uint8_tensor(capsule: Any) -> bool:
    """True if the elements of a capsule are uint8, which some libraries give for bool."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = _Tensor.from_address(pointer(capsule, b"dltensor"))
    return bool(tensor.code == UNSIGNED and tensor.bits == 8)
