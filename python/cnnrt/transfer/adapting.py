"""Transfer learning: a new head for the frozen backbone of a trained network."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import formats, ops, pages
from ..classification import probabilities
from ..errors import GraphError, ImageError
from ..evaluation.answers import Measured, groups_of
from ..formats import Source
from ..graph import Array, Graph, Node, TensorSpec
from ..images import image_files, open_image, resized
from ..model import Model, with_graph
from ..storage.cache import digest
from ..storage.text import escaped
from .features import AUTO, FeatureExtractor
from .head import Head, fit_head, require_scikit_learn

PIXELS = 32
"""Side of the pictures whose pixels stand beside the features in a comparison."""

Folder = str | os.PathLike[str]


@dataclass(frozen=True)
class Adaptation:
    """A network with a new head, and its measured accuracy."""

    model: Model
    """The backbone with the new head, its labels and its preprocessing, ready to run."""
    layer: str
    """The layer at which the backbone was cut."""
    features: int
    """Number of features of an image."""
    training: int
    """Number of images that the head was fitted on."""
    strength: float
    """Inverse strength of its L2 penalty, scikit-learn's C."""
    measured: Measured | None
    """Answers for images kept for measuring; None if there were none."""
    pixels: Measured | None
    """The same with pixels in place of features, if that was requested."""
    notice: str | None = None

    @property
    def labels(self) -> list[str]:
        """The names of the classes."""
        return list(self.model.labels or ())

    def save(self, path: str | os.PathLike[str], *, float16: bool = False) -> None:
        """Writes the network as model.bin.

        Args:
            path: path of the file.
            float16: stores weights in half the space, which can change predictions; see
                `cnnrt.formats.write_model`.

        Raises:
            OSError: the file cannot be written.
        """
        formats.write_model(
            path,
            self.model.graph,
            preprocessing=self.model.preprocessing,
            labels=self.labels,
            notice=self.notice,
            float16=float16,
        )

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes an HTML page: accuracy, confusion matrix, and the images that it is least sure of.

        Raises:
            ImportError: Jinja is not installed (``pip install 'cnnrt[html]'``).
            OSError: the file cannot be written.
        """
        measured = self.measured
        groups = groups_of(measured, self.labels) if measured else []
        pages.write(
            path,
            "adapt.html",
            title=f"{len(self.labels)} classes, told apart by {self.model.graph.name}",
            labels=self.labels,
            layer=self.layer,
            features=self.features,
            training=self.training,
            strength=self.strength,
            measured=measured,
            confusion=measured.confusion.tolist() if measured else [],
            pixels=self.pixels,
            groups=groups,
        )


def adapt(
    model: Model | Source,
    data: Folder,
    output: str | os.PathLike[str] | None = None,
    *,
    layer: str = AUTO,
    test_split: float = 0.2,
    test: Folder | None = None,
    compare_pixels: bool = False,
    threads: int | None = None,
    batch_size: int = 16,
    cache: bool = True,
    progress: bool | None = None,
) -> Adaptation:
    """Gives a trained network a new head, which tells the classes of other images.

    The features of all images are computed once with the frozen network. Logistic regression on
    them (scikit-learn) makes the head; cross-validation chooses the strength of its penalty.

    Args:
        model: a network with preprocessing, or its file.
        data: a folder with a folder of images for each class; their names become the labels.
        output: path of the new model.bin; None: the model is only returned.
        layer: the layer at which to cut the network; see `FeatureExtractor`. The mean over space is
            taken.
        test_split: the share of each class's images that is kept for measuring. Which ones depends
            on their contents alone. 0: the head is measured by cross-validation.
        test: a folder like `data` to measure on, in place of `test_split`.
        compare_pixels: also fits and measures the same head on the images' 32 x 32 pixels.
        threads: number of threads, for a model that is given as a file; see `cnnrt.load`.
        batch_size: images per run of the network.
        cache: keeps features and heads on disk (`CNNRT_CACHE`, or the user's cache folder), by the
            contents of network and images. Only new images cost time.
        progress: shows a bar on stderr, if tqdm is installed; None: if stderr is a terminal.

    Raises:
        ImageError: a folder holds fewer than two classes or an empty one, or an image is damaged.
        GraphError: the network cannot be cut there, or has no preprocessing.
        ValueError: `test_split` is not in [0, 1).
        ImportError: scikit-learn is not installed (``pip install 'cnnrt[adapt]'``).
        OSError: the file cannot be written.
    """
    if not 0 <= test_split < 1:
        raise ValueError(f"test_split must be at least 0 and less than 1, not {test_split}")
    require_scikit_learn()
    notice = None
    if not isinstance(model, Model):
        document = formats.read(model)
        notice = document.metadata.get("notice")
        model = Model(document.graph, preprocessing=document.preprocessing, threads=threads)
    extractor = FeatureExtractor(model, layer, pool=True, batch_size=batch_size, cache=cache)
    if len(extractor.shape) != 1:
        raise GraphError(f"layer {extractor.layer!r} has no features of an image, only a number")
    images = _Images.find(data, test, test_split)

    x = extractor(images.files, progress=progress)
    head, measured = _fit(x, images, cache)
    pixels = None
    if compare_pixels:
        pixels = _fit(np.stack([_pixels(file) for file in images.files]), images, cache)[1]

    adapted = with_graph(model, _with_head(extractor.model.graph, head))
    adapted.labels = images.labels
    adaptation = Adaptation(
        model=adapted,
        layer=extractor.layer,
        features=x.shape[1],
        training=images.training,
        strength=head.strength,
        measured=measured,
        pixels=pixels,
        notice=notice,
    )
    if output is not None:
        adaptation.save(output)
    return adaptation


@dataclass(frozen=True)
class _Images:
    """The images to fit on, then the images to measure on."""

    labels: list[str]
    files: list[Path]
    classes: Array
    training: int
    """Number of images to fit on."""

    @classmethod
    def find(cls, data: Folder, test: Folder | None, test_split: float) -> _Images:
        """The images in the folders; see `adapt`.

        Raises:
            ImageError: there are too few classes or images.
        """
        train = _folders(data)
        held: dict[str, list[Path]] = {}
        if test is not None:
            held = _folders(test)
            if unknown := sorted(held.keys() - train.keys()):
                raise ImageError(f"{test}: {unknown[0]!r} is no class of {data}")
        elif test_split:
            train, held = _split(train, test_split)
        labels = list(train)
        files, classes = [], []
        for part in (train, held):
            for i, name in enumerate(labels):
                files += part.get(name, [])
                classes += [i] * len(part.get(name, ()))
        shown = [escaped(name) for name in labels]  # names of folders may be any bytes
        return cls(shown, files, np.array(classes), sum(map(len, train.values())))


def _folders(data: Folder) -> dict[str, list[Path]]:
    """The images of each class, by its name, in alphabetical order.

    Raises:
        ImageError: there are not two classes, or one has no images.
    """
    folder = Path(data)
    if not folder.is_dir():
        raise ImageError(f"{data}: no such folder")
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    if len(names) < 2:
        raise ImageError(
            f"{data}: has {len(names)} folders; expected one with images for each of two or more "
            "classes"
        )
    return {name: image_files([folder / name]) for name in names}


def _split(
    classes: Mapping[str, Sequence[Path]], share: float
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """The images to fit and to measure on: at least one of each class, and `share` of it.

    They are in the order of their digests. An image that is added moves few others to the other
    side, and a copy of one is beside it.

    Raises:
        ImageError: a class has a single image.
    """
    train, held = {}, {}
    for name, files in classes.items():
        if len(files) < 2:
            raise ImageError(
                f"class {name!r} has one image; to keep some for measuring takes two (test_split=0 "
                "keeps none)"
            )
        ordered = sorted(files, key=lambda file: digest(file.read_bytes()))
        count = min(max(1, round(share * len(files))), len(files) - 1)
        train[name], held[name] = ordered[count:], ordered[:count]
    return train, held


def _fit(x: Array, images: _Images, cache: bool) -> tuple[Head, Measured | None]:
    """A head on features (or pixels), and its answers for images that it was not fitted on."""
    n = images.training
    head = fit_head(x[:n], images.classes[:n], cache=cache)
    if n < len(x):
        p = np.stack([probabilities(scores) for scores in _scores(head, x[n:])])
        return head, Measured("test images", images.files[n:], images.classes[n:], p)
    if head.held_out is None:
        return head, None
    how = "training images, each left out once"
    return head, Measured(how, images.files, images.classes, head.held_out)


def _with_head(backbone: Graph, head: Head) -> Graph:
    """The graph of features with a linear layer after it."""
    graph = backbone.copy()
    taken = {*graph.tensors(), *graph.constants}

    def unused(name: str) -> str:
        while name in taken:
            name += "_"
        return name

    features = graph.outputs[0]
    scores, weight, bias = unused("head"), unused("head.weight"), unused("head.bias")
    graph.constants |= {weight: head.weight, bias: head.bias}
    node = Node("gemm", scores, [features.name, weight, bias], [scores], {"transB": 1})
    ops.complete(node)
    graph.nodes.append(node)
    graph.outputs = [TensorSpec(scores, (features.shape[0], len(head.bias)))]
    return graph


def _scores(head: Head, x: Array) -> Array:
    """Scores of the head for features, computed as in the network: (images, classes)."""
    features = TensorSpec("features", ("batch", x.shape[1]))
    empty = Graph([features], [features], [], {}, "head")
    scores: Array = Model(_with_head(empty, head), threads=1)(x)
    return scores


def _pixels(file: Path) -> Array:
    """An image as a vector of 32 x 32 x 3 values from 0 to 1."""
    from PIL import Image  # noqa: PLC0415

    small = resized(open_image(file, "RGB"), PIXELS, PIXELS, Image.Resampling.BOX)
    return np.asarray(small, np.float32).reshape(-1) / 255
