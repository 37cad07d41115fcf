"""Arrays computed at each use: weights with a norm folded in.

A pass that changes weights need not touch them: the result is read once, while it is packed. So a
network's weights are never in memory in two forms. If they are packed already, they are not even
read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from ..graph import Array
from ..storage.files import MappedFile, file_of

MAX_DEPTH = 32
"""Maximum depth of lazy arrays inside each other. A norm behind a convolution makes one or two."""


class LazyArray:
    """A stand-in for an array: its shape and dtype are known, its elements computed at each use."""

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        function: Callable[..., Array],
        arguments: tuple[Any, ...],
    ) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize
        self.function, self.arguments = function, arguments
        self.depth: int = 1 + max((a.depth for a in _lazy(arguments)), default=0)
        """Depth of lazy arrays inside each other, this one included."""

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        value = np.asarray(self.function(*self.arguments), self.dtype)
        assert value.shape == self.shape, (self.function, value.shape, self.shape)
        return value if dtype is None else value.astype(dtype, copy=False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols of Python and NumPy that this class does not support
            raise AttributeError(name)
        return getattr(self.__array__(), name)

    def __getitem__(self, index: Any) -> Any:
        return self.__array__()[index]

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyArray, (self.shape, self.dtype, self.function, self.arguments)


def lazy(
    shape: Sequence[int], dtype: DTypeLike, function: Callable[..., Array], *arguments: Any
) -> Array:
    """An array of this shape and dtype whose elements are `function(*arguments)`, computed at each
    use.

    The function belongs to a module, and its arguments are arrays (perhaps lazy) and plain values,
    so that `same` can compare lazy arrays. It is computed now if it would go deeper than
    `MAX_DEPTH`: a file can have any number of norms in a row.
    """
    result = LazyArray(shape, dtype, function, arguments)
    return cast(Array, result if result.depth <= MAX_DEPTH else result.__array__())


def _lazy(arguments: tuple[Any, ...]) -> Iterator[LazyArray]:
    return (argument for argument in arguments if isinstance(argument, LazyArray))


def stored(array: Array | None) -> Iterator[Array]:
    """The arrays that a lazy array is computed from; any other array itself."""
    if isinstance(array, LazyArray):
        for argument in array.arguments:
            yield from stored(argument)
    elif isinstance(array, np.ndarray):
        yield array


def files_of(array: Array | None) -> set[MappedFile]:
    """The mapped files that an array lies in, or is computed from."""
    return {file for part in stored(array) if (file := file_of(part)) is not None}


def same(a: Any, b: Any) -> bool:
    """True if two arrays are one object, or computed by the same function from the same arrays."""
    if a is b:
        return True
    if isinstance(a, LazyArray) and isinstance(b, LazyArray):
        return (
            a.function is b.function
            and len(a.arguments) == len(b.arguments)
            and all(map(same, a.arguments, b.arguments))
        )
    plain = (int, float, str, tuple)
    return isinstance(a, plain) and isinstance(b, plain) and a == b
