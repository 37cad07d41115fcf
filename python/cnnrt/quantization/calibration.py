"""The knowledge that images give about a network: scales of its tensors, and weights as
integers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ..errors import GraphError
from ..graph import Graph, TensorType
from ..model import Model
from ..preprocessing import Preprocessing
from .balance import balance
from .insertion import Weights, with_quantisation
from .measurement import Comparison, compare
from .observation import Moments, histograms, layer_inputs, moments
from .prepared import prepare
from .ranges import METHODS, Histogram, Quantiser, quantiser
from .rounding import compensated, scales, to_nearest
from .samples import Samples, split
from .scheme import Layer, Scheme, choose

SHARED_LOSS = 10 ** (0.5 / 10)
"""Largest factor by which sharing the scale of the others may raise the error of a concatenation's
input: 0.5 dB. An input that would lose more is requantised."""
BIAS_LIMIT = 2.0**30
"""Largest bias of int32, so that sums beside it do not overflow."""


class Calibration:
    """A network with statistics of its tensors on images, ready to be quantised in part or whole.

    Attributes:
        whole: the network as it was given.
        floats: the network as it is prepared; the reference of all comparisons.
        samples: the images.
        calibrated, held: numbers of the runs to calibrate and to check on.
        histograms: by tensor.
        quantisers: by tensor.
        weights: by name of the layer.
    """

    def __init__(
        self,
        whole: Model,
        samples: Samples,
        *,
        method: str,
        exclude: Collection[str],
        round_residual: bool,
        progress: bool | None,
    ) -> None:
        """Runs the network on the images.

        Raises:
            CalibrationError: a tensor is not finite.
            GraphError: no node has an excluded name, or nothing can run in integers.
        """
        self.whole, self.samples, self.progress = whole, samples, progress
        self.exclude, self.round_residual = frozenset(exclude), round_residual
        self.calibrated, self.held = split(len(samples))
        self._prepared = prepare(whole.graph, samples.shapes())
        nodes = [*self._prepared.graph.nodes, *whole.graph.nodes]
        if unknown := self.exclude - {node.name for node in nodes}:
            layers = ", ".join(self.scheme().candidates)
            raise GraphError(f"no node is named {sorted(unknown)[0]!r}; layers are {layers}")
        if not self.scheme().layers:
            raise GraphError(
                "nothing in this network can run in integers: it has no convolution or linear "
                "layer with constant weights of float32 that is not excluded"
            )
        self._prepared = balance(
            self._prepared, self.scheme(), samples, self.calibrated, progress=progress
        )
        self.floats = self._model(self._prepared.graph)
        # This rounds more than is needed now: a layer that goes back to floats moves what is
        # rounded.
        widest = choose(
            self._prepared.graph, self._prepared.types, exclude=exclude, round_residual=True
        )
        self.histograms = histograms(
            self.floats, list(widest.tensors), samples, self.calibrated, progress=progress
        )
        self.quantisers = self._quantisers(widest, method)
        self.weights = self._weights(widest.layers)

    @property
    def graph(self) -> Graph:
        """The network in floats."""
        return self._prepared.graph

    @property
    def types(self) -> Mapping[str, TensorType]:
        """The types of its tensors, for the sizes of the images."""
        return self._prepared.types

    def scheme(self, floats: Collection[str] = ()) -> Scheme:
        """The choice of nodes that run in integers if the nodes of these names do not."""
        return choose(
            self._prepared.graph,
            self._prepared.types,
            exclude={*self.exclude, *floats},
            round_residual=self.round_residual,
        )

    def quantised(self, floats: Collection[str] = ()) -> Model:
        """The network with Q and DQ, except for the nodes of these names."""
        graph = with_quantisation(
            self._prepared.graph,
            self._prepared.types,
            self.scheme(floats),
            self.quantisers,
            self.weights,
        )
        return self._model(graph)

    def compare(self, integers: Model, names: Sequence[str] = ()) -> Comparison:
        """Outputs and tensors of a quantised network beside those in floats, on held images."""
        return compare(
            self.floats, integers, names, self.samples, self.held, progress=self.progress
        )

    def _model(self, graph: Graph) -> Model:
        return Model(
            graph,
            preprocessing=self.whole.preprocessing,
            labels=self.whole.labels,
            notice=self.whole.notice,
            multi_label=self.whole.multi_label,
            task=self.whole.task,
            threads=self.whole.threads,
        )

    def _quantisers(self, scheme: Scheme, method: str) -> dict[str, Quantiser]:
        find = METHODS[method]
        groups = _Groups(scheme)
        for made, inputs in scheme.concats:
            self._share(groups, made, inputs, method)
        found: dict[str, Quantiser] = {}
        for root in dict.fromkeys(groups.root(name) for name in scheme.tensors):
            found[root] = quantiser(*find(self._merged(groups.members(root))))
        specs = self.graph.inputs
        if len(specs) == 1 and self.whole.preprocessing is not None and specs[0].name in found:
            found[specs[0].name] = quantiser(*input_range(self.whole.preprocessing))
        return {name: found[groups.root(name)] for name in scheme.tensors}

    def _merged(self, names: Sequence[str]) -> Histogram:
        merged = self.histograms[names[0]]
        for name in names[1:]:
            merged = merged.merged(self.histograms[name])
        return merged

    def _share(self, groups: _Groups, made: str, inputs: Sequence[str], method: str) -> None:
        """Gives a concatenation and its inputs one scale, except for inputs that lose much by
        it."""
        if made not in groups.parents:
            return
        find = METHODS[method]
        shared = find(self.histograms[made])
        for name in inputs:
            one = self._merged(groups.members(groups.root(name)))
            own = one.error(*find(one))
            if one.error(*shared) <= SHARED_LOSS * own:
                groups.join(name, made)

    def _weights(self, layers: Sequence[Layer]) -> dict[str, Weights]:
        inputs = layer_inputs(self.graph, layers)
        named = {layer.name: layer for layer in layers}
        found = moments(self.floats, inputs, self.samples, self.calibrated, progress=self.progress)
        return {name: self._rounded(named[name], seen) for name, seen in found}

    def _rounded(self, layer: Layer, seen: Moments) -> Weights:
        """The weight of a layer as integers, and the bias that takes up the mean error."""
        weight = np.asarray(self.graph.constants[layer.weight]).astype(np.float64)
        flat = weight.reshape(layer.group, weight.shape[0] // layer.group, -1)
        bias = np.zeros(flat.shape[:2])
        if layer.bias:
            bias = np.asarray(self.graph.constants[layer.bias]).astype(np.float64)
            bias = bias.reshape(flat.shape[:2])
        least = np.abs(bias) / (BIAS_LIMIT * self.quantisers[layer.input].scale)
        scale = scales(flat, least)
        rounded = to_nearest(flat, scale)
        for (begin, end), block in zip(seen.edges, seen.blocks, strict=True):
            part = flat[:, :, begin:end]
            rounded[:, :, begin:end] = compensated(part, scale, block)
        lost = flat - rounded * scale[..., None]
        bias = bias + np.matmul(lost, seen.means[:, :, None])[:, :, 0]
        return Weights(
            rounded.astype(np.int8).reshape(weight.shape),
            scale.reshape(-1),
            bias.reshape(-1) if layer.bias or np.any(bias) else None,
        )


class _Groups:
    """Tensors that share one scale, as a union-find."""

    def __init__(self, scheme: Scheme) -> None:
        self.parents = dict(scheme.tensors)

    def root(self, name: str) -> str:
        while self.parents[name] != name:
            name = self.parents[name]
        return name

    def join(self, name: str, other: str) -> None:
        self.parents[self.root(name)] = self.root(other)

    def members(self, root: str) -> list[str]:
        """The tensors of a group."""
        return [name for name in self.parents if self.root(name) == root]


def input_range(preprocessing: Preprocessing) -> tuple[float, float]:
    """The minimum and the maximum that pixels from 0 to 255 can become."""
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    ends = [(pixel * preprocessing.scale - mean) / std for pixel in (0, 255)]
    return float(np.min(ends)), float(np.max(ends))
