"""The constants of a plan in the order in which kernels read them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _core
from ..dtypes import FLOAT32
from ..errors import ShapeError
from ..graph import Array, Graph
from ..layout.tensors import BLOCK, ceil_div
from ..process.limits import check_memory
from ..symbolic import call, whole
from ..weights.lazy import LazyArray
from ..weights.packed import Key, Packed

LARGE = 1 << 20
"""Minimum bytes of a computed weight whose sources are given back before it is packed."""

LONG_TABLE = 10_000
"""Numbers of a table that are not made objects of Python, of 40 bytes each."""


class WeightPacker:
    """Packs the constants of one graph into the memory that all plans of a model share."""

    def __init__(self, graph: Graph, packed: Packed, limit: int) -> None:
        """
        Args:
            graph: the graph whose constants are packed.
            packed: the memory of the model.
            limit: bytes that the packed weights of one plan may take.
        """
        self._graph = graph
        self._packed = packed
        self._limit = limit
        self.used: list[Key] = []
        """The entries of the shared memory that the plan uses; one may come twice."""
        self.nbytes = 0
        """Bytes of packed weights so far."""

    def constant(self, name: str, kind: str, value: Array) -> Any:
        """The memory of a constant in the form `value`, which `kind` names."""
        key = (name, kind)
        self.used.append(key)
        source = self._graph.constants[name]
        return self._packed.get(source, key, lambda: _core.Memory(np.ascontiguousarray(value)))

    def plain(self, name: str) -> Any:
        """The memory of a constant as it is."""
        key, packed = (name, "plain"), self._packed
        self.used.append(key)

        def memory(value: Array) -> Any:
            return packed.get(value, key, lambda: _core.Memory(np.ascontiguousarray(value)))

        return call(memory, whole(self._graph.constants, name))

    def weight(
        self,
        node: str,
        name: str,
        kind: str,
        floats: int,
        pack: Callable[..., Any],
        stored: Array | None = None,
        variant: int | None = None,
    ) -> Any:
        """A constant as a kernel reads it.

        Args:
            node: the name of the node that reads it, for errors.
            name: the constant.
            kind: the order of its values; another order is another kind. A change of a kind's order
                is a change of `packed.PACKING`.
            floats: their number.
            pack: makes them from the constant; not called if a compiled file holds them.
            stored: what is packed instead of the floats of the constant, which are made from it.
            variant: a number that completes the kind, and that `pack` takes before the constant.
                It may depend on sizes.

        Raises:
            MemoryLimitError: the plan's packed weights take more than they may.
        """
        key = call(_key, name, kind, variant)
        self.used.append(key)
        size = floats * FLOAT32.itemsize
        self.nbytes += size
        if self.nbytes > self._limit:
            check_memory(self.nbytes, self._limit, f"node {node!r}: packed weights")
        source, packed = self._graph.constants[name], self._packed
        read = source if stored is None else stored
        lasting = name not in self._graph.varying

        def memory(key: Key, size: int, variant: int | None) -> Any:
            def make() -> Any:
                value = np.asarray(read)
                if isinstance(read, LazyArray) and value.nbytes >= LARGE:
                    packed.release()  # not needed any more: what it is computed from
                return pack(value) if variant is None else pack(variant, value)

            return packed.get(source, key, make, size if lasting else None)

        return call(memory, key, size, variant)

    def bias(self, name: str, channels: int) -> Any:
        """A bias in whole blocks of channels; zeros if `name` is empty or no constant."""
        value = self._graph.constants.get(name)

        def make() -> Any:
            padded = np.zeros(ceil_div(channels, BLOCK) * BLOCK, np.float32)
            if value is not None:
                padded[:channels] = value
            return _core.Memory(padded)

        key = (name, f"bias {channels}")
        self.used.append(key)
        return self._packed.get(value, key, make)


def _key(name: str, kind: str, variant: int | None) -> Key:
    return name, kind if variant is None else f"{kind}{variant}"


def int32_table(values: Sequence[int] | Array, node: str) -> Any:
    """A table of 32-bit integers; see `PlanBuilder.table`."""
    try:
        if isinstance(values, np.ndarray) and values.size > LONG_TABLE:
            narrow = np.ascontiguousarray(values, np.int32)
            if (narrow != values).any():
                raise OverflowError
            return _core.Memory(narrow)
        if isinstance(values, np.ndarray):
            values = values.reshape(-1).tolist()
        return _core.Memory(array("i", values))
    except OverflowError:
        raise ShapeError(f"node {node!r}: an image of more than 8 GB") from None
