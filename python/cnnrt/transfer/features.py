"""Features: the tensor that a network makes from an image before its classifier, or at any
layer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .. import ops
from ..analysis.classifier import find_classifier, input_shape
from ..errors import GraphError
from ..feeds import as_input
from ..formats import Source, write_model
from ..graph import Array, Dim, Graph, Node, TensorSpec
from ..images import as_list
from ..model import Model, load, settings, with_graph
from ..passes.infer import infer
from ..progress import ProgressBar, progress_bar
from ..storage.cache import digest
from .feature_cache import FeatureCache

AUTO = "auto"


class FeatureExtractor:
    """The part of a network that ends at one layer, as a function from images to features.

    Transfer learning takes features from just before the classifier (Donahue et al., DeCAF, 2014).
    Features learnt from a million photos tell other things apart too.

        extractor = cnnrt.FeatureExtractor("model.bin")
        x = extractor("photos/")  # float32 (images, features)
        maps = cnnrt.FeatureExtractor("model.bin", "layer3.1.relu")("photo.png")

    Only the nodes that the layer needs are computed. An image has the same features, to the bit, in
    any batch.

    Attributes:
        layer: name of the tensor with the features, or of the tensor whose mean they are.
        pooled: True if they are its mean over space (over tokens, if it has three axes).
        model: the part of the network, with one output.
        batch_size: images per run.
    """

    def __init__(
        self,
        model: Model | Source,
        layer: str = AUTO,
        *,
        pool: bool | None = None,
        batch_size: int = 16,
        cache: bool = False,
    ) -> None:
        """Cuts a network.

        Args:
            model: a loaded model, or a file to be loaded.
            layer: the name of a layer, as `Model.run` takes it; "auto": the input of the
                classifier, which is the last linear layer, or the last 1x1 convolution beside
                global pooling.
            pool: takes the mean over all axes but image and channels; None: for "auto" only.
            batch_size: images per run, for a network that leaves it free.
            cache: keeps the features of files on disk (`CNNRT_CACHE`, or the user's cache folder),
                by the contents of network and file. They are computed only once.

        Raises:
            GraphError: there is no such layer, or it does not have a row for each image. Or the
                network has several inputs or, with "auto", does not end in a classifier.
            ValueError: `batch_size` is less than 1.
        """
        whole = model if isinstance(model, Model) else load(model)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if len(whole.inputs) != 1:
            raise GraphError(f"features are of one input; this network has {len(whole.inputs)}")
        shape = input_shape(whole.inputs[0], whole.preprocessing)
        shapes = {whole.inputs[0].name: shape}
        pool = layer == AUTO if pool is None else pool
        self.layer = find_classifier(whole.graph, shapes).features if layer == AUTO else layer
        graph, self.pooled = _cut(whole.graph, shape, self.layer, pool)
        self.model = with_graph(whole, graph)
        batch = whole.inputs[0].shape[0]
        self.batch_size = batch if isinstance(batch, int) else batch_size
        self._fixed_batch = isinstance(batch, int)
        self._cache = FeatureCache(self._digest(), self.shape, self.dtype) if cache else None

    @property
    def shape(self) -> tuple[Dim, ...]:
        """Shape of the features of one image; a named size depends on that of the image."""
        return self.model.outputs[0].shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the features."""
        return self.model.outputs[0].dtype.numpy

    @property
    def layers(self) -> list[str]:
        """The names of all layers up to this one; each can be requested."""
        return list(self.model.graph.tensors())[1:]

    def __call__(self, images: Any, *, progress: bool | None = None) -> Array:
        """The features of one or many images.

        Args:
            images: a file, a folder, a PIL image, an array, or a sequence of these. Of a folder the
                images are taken in the order of their paths, as `cnnrt.image_files` lists them.
                Arrays of uint8 have the shape (H, W), (H, W, 3) or, for several images,
                (N, H, W, 3). A float32 array (N, C, h, w) is the network's input already.
            progress: shows a bar on stderr, if tqdm is installed; None: if stderr is a terminal.

        Returns:
            An array (N, *shape), a row for each image.

        Raises:
            ImageError: one cannot be read as an image; a folder holds none.
            ShapeError: an array is not what the network takes.
            GraphError: the model does not say how an image becomes its input.
        """
        spec = self.model.inputs[0]
        is_array = isinstance(images, np.ndarray)
        if is_array and (images.dtype != np.uint8 or spec.dtype == np.uint8):
            return self._of_inputs(images, progress)
        return self._of_images(as_list(images), progress)

    # --------------------------------------------------------------------------------------------

    def _of_inputs(self, x: Array, progress: bool | None) -> Array:
        spec = self.model.inputs[0]
        checked = as_input(TensorSpec(spec.name, ("batch", *spec.shape[1:]), spec.dtype), x)
        parts = []
        with progress_bar(len(checked), show=progress) as bar:
            for start in range(0, len(checked), self.batch_size):
                parts.append(self._run(checked[start : start + self.batch_size], bar))
        return self._joined(parts)

    def _of_images(self, images: Sequence[Any], progress: bool | None) -> Array:
        known, digests = self._known(images)
        missing = [i for i in range(len(images)) if i not in known]
        # Pillow lets other threads go on while it decodes and resizes.
        with (
            progress_bar(len(images), show=progress) as bar,
            ThreadPoolExecutor(self.model.threads) as pool,
        ):
            bar.update(len(known))
            try:
                for start in range(0, len(missing), self.batch_size):
                    batch = missing[start : start + self.batch_size]
                    inputs = list(pool.map(self.model.input_from, (images[i] for i in batch)))
                    known |= zip(batch, self._run(np.concatenate(inputs), bar), strict=True)
                    for i in batch:
                        if self._cache and i in digests:
                            self._cache.add(digests[i], known[i])
            finally:
                if self._cache:
                    self._cache.flush()
        return self._joined([known[i][None] for i in range(len(images))])

    def _known(self, images: Sequence[Any]) -> tuple[dict[int, Array], dict[int, bytes]]:
        """The features that the cache has, and the digests of all files, by place in `images`."""
        known: dict[int, Array] = {}
        digests: dict[int, bytes] = {}
        for i, image in enumerate(images if self._cache else ()):
            if isinstance(image, Path) and image.is_file():
                digests[i] = digest(image.read_bytes())
                assert self._cache
                features = self._cache.get(digests[i])
                if features is not None:
                    known[i] = features
        return known, digests

    def _run(self, x: Array, bar: ProgressBar) -> Array:
        """Features of one batch, filled up if the network has a fixed one."""
        n = len(x)
        if self._fixed_batch and n < self.batch_size:
            x = np.concatenate([x, np.zeros((self.batch_size - n, *x.shape[1:]), x.dtype)])
        y: Array = self.model(x)[:n]
        bar.update(n)
        return y

    def _joined(self, parts: Sequence[Array]) -> Array:
        if parts:
            return np.concatenate(parts)
        return np.empty((0, *(d if isinstance(d, int) else 0 for d in self.shape)), self.dtype)

    def _digest(self) -> bytes:
        """Digest of everything that features depend on besides the image."""
        content = write_model(None, self.model.graph, preprocessing=self.model.preprocessing)
        assert content is not None
        return digest(content, settings(self.model).encode())


def _cut(graph: Graph, shape: tuple[int, ...], layer: str, pool: bool) -> tuple[Graph, bool]:
    """The part of a graph that makes a layer, and its mean over space; True if there is a mean.

    Raises:
        GraphError: there is no such layer, or its first axis is not that of the images.
    """
    cut = graph.ending_at([layer]).copy()
    typed = cut.copy()
    source = graph.inputs[0]
    infer(typed, {source.name: shape})
    found = typed.types[layer]
    if found.rank < 1 or found.shape[0] != shape[0]:
        raise GraphError(
            f"layer {layer!r} has shape {list(found.shape)} for {shape[0]} images; features are "
            "taken of layers whose first axis is the images'"
        )
    pool = pool and found.rank > 2
    dims: tuple[Dim, ...] = found.shape[1:]
    if pool:
        # The channels are axis 1 of a convolution's output, the last axis of a list of tokens.
        axes = [1] if found.rank == 3 else list(range(2, found.rank))
        dims = (found.shape[2 if found.rank == 3 else 1],)
        layer = _add_mean(cut, layer, axes)
    elif any(isinstance(d, str) for d in source.shape[1:]):
        dims = tuple(d if i == 0 else f"size_{i}" for i, d in enumerate(dims))
    cut.outputs = [TensorSpec(layer, (source.shape[0], *dims), found.dtype)]
    return cut, pool


def _add_mean(graph: Graph, layer: str, axes: list[int]) -> str:
    """Adds a mean over axes to a graph; returns its name."""
    taken = {*graph.tensors(), *graph.constants}
    name = f"{layer}.mean"
    while name in taken or f"{name}.axes" in taken:
        name += "_"
    graph.constants[f"{name}.axes"] = np.array(axes, np.int64)
    node = Node("reduce_mean", name, [layer, f"{name}.axes"], [name], {"keepdims": 0})
    ops.complete(node)
    graph.nodes.append(node)
    return name
