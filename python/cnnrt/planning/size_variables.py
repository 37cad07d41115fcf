"""The sizes of tensors as few variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..graph import Graph, TensorType


class SizeVariables:
    """The sizes of a graph's tensors as few variables."""

    def __init__(self, tables: Sequence[Mapping[str, TensorType]], graph: Graph) -> None:
        """
        Args:
            tables: the types at several sets of sizes. Two sizes are one variable if they agree
                in all tables, and none if they are the same in all of them.
            graph: the graph with its types.
        """
        fixed = graph.constants.keys() - graph.varying
        names = self.names = [name for name in graph.types if name not in fixed]
        self._dtypes = [tables[-1][n].dtype for n in names]
        self._ranks = [len(tables[-1][n].shape) for n in names]
        columns = zip(*([d for n in names for d in t[n].shape] for t in tables), strict=True)
        self._fixed: list[tuple[int, int]] = []
        self._first: dict[tuple[int, ...], int] = {}
        self._variable: list[tuple[int, int]] = []
        order: dict[tuple[int, ...], int] = {}
        for i, column in enumerate(columns):
            if len(set(column)) == 1:
                self._fixed.append((i, column[0]))
                continue
            self._first.setdefault(column, i)
            self._variable.append((i, order.setdefault(column, len(order))))

    def of(self, types: Mapping[str, TensorType]) -> list[int] | None:
        """The values of the variables; None if these types do not fit."""
        try:
            found = [types[name] for name in self.names]
        except KeyError:
            return None
        if [len(t.shape) for t in found] != self._ranks or [t.dtype for t in found] != self._dtypes:
            return None
        flat = [d for t in found for d in t.shape]
        variables = [flat[i] for i in self._first.values()]
        if any(flat[i] != n for i, n in self._fixed):
            return None
        return None if any(flat[i] != variables[v] for i, v in self._variable) else variables

    def symbolic(
        self, types: Mapping[str, TensorType], variables: Sequence[int]
    ) -> dict[str, TensorType]:
        """The types with variables in the place of sizes."""
        of_place = {i: variables[v] for i, v in self._variable}
        made, i = dict(types), 0
        for name in self.names:
            shape = types[name].shape
            places = range(i, i + len(shape))
            i += len(shape)
            if not of_place.keys().isdisjoint(places):
                sizes = tuple([of_place.get(p, n) for p, n in zip(places, shape, strict=True)])
                made[name] = TensorType(sizes, types[name].dtype)
        return made
