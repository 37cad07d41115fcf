"""One pass over the images: histograms of tensors, and second moments of the layers' inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..graph import Array, Graph, Node
from ..model import Model
from ..ops.windows import resolve_windows
from ..progress import progress_bar
from .ranges import CalibrationError, Histogram
from .samples import Feed, Samples
from .scheme import Layer

WINDOWS = 128
"""Windows per image, at random places, from which second moments are taken."""
TOGETHER = 1024
"""Windows whose products are summed at a time: one large matrix product instead of small ones."""
COLUMNS = 1152
"""Maximum inputs of an output for which all pairs are looked at; beyond, blocks of as many are."""
MOMENT_BYTES = 1 << 29
"""Bytes of second moments at a time. Networks that have more go through the images again."""


class Moments:
    """Sums over the windows that a layer multiplies with its weight."""

    def __init__(self, group: int, edges: Sequence[int]) -> None:
        self.edges = list(pairwise(edges))
        """The boundaries of the blocks of columns."""
        self.blocks = [np.zeros((group, end - begin, end - begin)) for begin, end in self.edges]
        """Sums of products of two inputs for each block, (groups, inputs, inputs)."""
        self.sums = np.zeros((group, edges[-1]))
        self.count = 0
        """Windows seen."""
        self._pending: list[Array] = []

    def add(self, windows: Array) -> None:
        """Counts windows, (groups, columns, windows)."""
        self.sums += windows.sum(axis=2, dtype=np.float64)
        self.count += windows.shape[2]
        self._pending.append(windows)
        if sum(w.shape[2] for w in self._pending) >= TOGETHER:
            self.finish()

    def finish(self) -> None:
        """Brings the sums of products up to date."""
        if not self._pending:
            return
        windows = np.concatenate(self._pending, axis=2)
        self._pending = []
        for i, (begin, end) in enumerate(self.edges):
            part = windows[:, begin:end]
            self.blocks[i] += np.matmul(part, part.transpose(0, 2, 1))

    @property
    def means(self) -> Array:
        """The mean of each input, (groups, columns)."""
        return self.sums / max(self.count, 1)


class Inputs:
    """The windows of its input that a layer multiplies with its weight."""

    def __init__(self, layer: Layer, node: Node, weight: tuple[int, ...]) -> None:
        self.layer, self.node, self.weight = layer, node, weight
        self.columns = int(np.prod(weight[1:]))
        count = -(-self.columns // COLUMNS)
        self.edges = [round(i * self.columns / count) for i in range(count + 1)]
        """The boundaries of the blocks of columns."""

    @property
    def nbytes(self) -> int:
        """Bytes of the moments."""
        sizes = (end - begin for begin, end in pairwise(self.edges))
        return 8 * self.layer.group * sum(n * n for n in sizes)

    def windows(self, x: Array, generator: np.random.Generator) -> Array:
        """Windows at random places, float32 (groups, columns, windows)."""
        if self.layer.op == "linear":
            flat = x.reshape(-1, x.shape[-1])
            return np.ascontiguousarray(flat[_places(len(flat), generator)].T)[None]
        windows = resolve_windows(self.node, x.shape[2:], kernel=self.weight[2:])
        view = np.moveaxis(windows.patches(x), 1, 0)  # (C, N, *out, *kernel)
        sizes = view.shape[1 : x.ndim]
        places = np.unravel_index(_places(int(np.prod(sizes)), generator), sizes)
        at: tuple[Any, ...] = (slice(None), *places)
        found: Array = view[at]  # (C, windows, *kernel)
        group, count = self.layer.group, found.shape[1]
        found = found.reshape(group, -1, count, int(np.prod(self.weight[2:])))
        found = found.transpose(0, 1, 3, 2)
        return found.reshape(group, self.columns, count)


def _places(count: int, generator: np.random.Generator) -> Array:
    """Up to `WINDOWS` of `count` places."""
    if count <= WINDOWS:
        return np.arange(count)
    return generator.integers(0, count, WINDOWS)


def layer_inputs(graph: Graph, layers: Iterable[Layer]) -> dict[str, Inputs]:
    """The windows of each layer's input, by the layer's name."""
    nodes = {node.name: node for node in graph.nodes}
    return {
        layer.name: Inputs(layer, nodes[layer.name], graph.constants[layer.weight].shape)
        for layer in layers
    }


def runs(
    model: Model,
    outputs: Sequence[str],
    samples: Samples,
    chosen: Sequence[int],
    *,
    progress: bool | None = None,
) -> Iterator[tuple[Feed, dict[str, Array]]]:
    """The inputs and the requested tensors of each run, with a progress bar."""
    with progress_bar(len(chosen), show=progress) as bar:
        for index in chosen:
            feed = samples.feed(index)
            yield feed, tensors(model, feed, outputs)
            bar.update(1)


def tensors(model: Model, feed: Feed, names: Sequence[str]) -> dict[str, Array]:
    """Tensors of a run by name, inputs of the network among them."""
    made = [name for name in names if name not in feed]
    result = {name: feed[name] for name in names if name in feed}
    if len(made) == 1:
        result[made[0]] = model.run(feed, outputs=made)
    elif made:
        result |= model.run(feed, outputs=made)
    return result


def histograms(
    model: Model,
    names: Sequence[str],
    samples: Samples,
    chosen: Sequence[int],
    *,
    progress: bool | None = None,
) -> dict[str, Histogram]:
    """The histogram of each tensor over the images.

    Raises:
        CalibrationError: a tensor has values that are not finite.
    """
    found = {name: Histogram() for name in names}
    for _, values in runs(model, names, samples, chosen, progress=progress):
        for name, value in values.items():
            try:
                found[name].add(value)
            except CalibrationError as error:
                raise CalibrationError(f"tensor {name!r}: {error}") from None
    return found


def moments(
    model: Model,
    inputs: Mapping[str, Inputs],
    samples: Samples,
    chosen: Sequence[int],
    *,
    progress: bool | None = None,
) -> Iterator[tuple[str, Moments]]:
    """The second moments of every layer's input, by the layer's name.

    No more than `MOMENT_BYTES` of them are in memory at a time, or those of one layer."""
    pending = list(inputs.items())
    while pending:
        part = [pending.pop(0)]
        while pending and sum(one.nbytes for _, one in (*part, pending[0])) < MOMENT_BYTES:
            part.append(pending.pop(0))
        found = {name: Moments(one.layer.group, one.edges) for name, one in part}
        names = list(dict.fromkeys(one.layer.input for _, one in part))
        generator = np.random.default_rng(0)
        for _, values in runs(model, names, samples, chosen, progress=progress):
            for name, one in part:
                found[name].add(one.windows(values[one.layer.input], generator))
        while found:
            name = next(iter(found))
            found[name].finish()
            yield name, found.pop(name)
