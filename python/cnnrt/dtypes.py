"""Element types of tensors: one table, that of the kernels (cpp/kernels/dtypes.def).

NumPy's dtypes belong to arrays, a `DType` to tensors. They differ in bfloat16, which NumPy does not
have. An array of bfloat16 is one of uint16 that holds the bits (`DType.numpy`). A file's header or
the tensor's type gives it its meaning. `ml_dtypes.bfloat16` is known by its name, and an array of
it is a valid input of a float32 network, as any float array is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import _core


@dataclass(frozen=True, eq=False)
class DType:
    """The type of a tensor's elements.

    There is one object per type, which `as_dtype` finds. Like NumPy's dtypes, it compares equal to
    everything that names it: `dtype == "float32"`, `dtype == np.float32`. NumPy accepts it as a
    dtype.
    """

    name: str
    """As NumPy spells it: "float32"."""
    itemsize: int
    """Bytes of an element."""
    kind: str
    """NumPy's letter: "b" bool, "u" unsigned integer, "i" signed integer, "f" float."""
    code: int
    """The number of the type in ONNX's TensorProto, and in the kernels' arguments."""
    numpy: np.dtype[Any]
    """The dtype of arrays that hold such elements: uint16 for bfloat16, else the one of the same
    name."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Returns `numpy`: by this name NumPy asks objects that stand for a dtype."""
        return self.numpy

    __numpy_dtype__ = dtype  # the name that NumPy 2.4 and newer ask for

    def __eq__(self, other: object) -> bool:
        return self is other or _find(other) is self

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


def _numpy(name: str) -> np.dtype[Any]:
    return np.dtype("uint16" if name == "bfloat16" else name)


DTYPES: dict[str, DType] = {
    name: DType(name, itemsize, kind, code, _numpy(name))
    for name, itemsize, kind, code in _core.dtypes
}
"""Every element type by its name."""
BY_CODE: dict[int, DType] = {dtype.code: dtype for dtype in DTYPES.values()}
"""Every element type by its number in ONNX."""

_KNOWN: dict[Any, DType] = {
    **DTYPES,
    **{d.numpy: d for d in DTYPES.values() if d.numpy.name == d.name},
    **{d.numpy.type: d for d in DTYPES.values() if d.numpy.name == d.name},
}


def _find(value: object) -> DType | None:
    """The type that a name, a class or a dtype of NumPy's stands for, if any."""
    if value is None:  # NumPy takes it for float64
        return None
    try:
        return _KNOWN.get(value) or DTYPES.get(np.dtype(value).name)  # type: ignore[call-overload]
    except TypeError:
        return None


def as_dtype(value: DType | DTypeLike) -> DType:
    """The element type that `value` names.

    Args:
        value: a name, a class or dtype of NumPy's of either byte order, or `ml_dtypes.bfloat16`.

    Raises:
        TypeError: no tensor can have such elements.
    """
    if isinstance(value, DType):
        return value
    found = _find(value)
    if found is None:
        raise TypeError(f"no tensor has elements of {value!r}; expected one of {', '.join(DTYPES)}")
    return found


BOOL = DTYPES["bool"]
UINT8 = DTYPES["uint8"]
INT8 = DTYPES["int8"]
INT32 = DTYPES["int32"]
INT64 = DTYPES["int64"]
BFLOAT16 = DTYPES["bfloat16"]
FLOAT16 = DTYPES["float16"]
FLOAT32 = DTYPES["float32"]
FLOAT64 = DTYPES["float64"]
