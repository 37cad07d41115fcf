"""The parts of an image from which a network's answer comes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..analysis.classifier import Classifier, find_classifier, input_shape
from ..classification import probabilities
from ..errors import GraphError
from ..graph import Array
from ..model import Model

Method = Literal["auto", "cam", "occlusion"]
METHODS = ("auto", "cam", "occlusion")

PATCH, STEP = 0.2, 0.06
"""Fractions of the image's sides: the grey square, and the step between its places. A fifth hides a
head or a wheel; at 224 pixels these make 15 x 15 runs."""

BATCH = 15


@dataclass(frozen=True)
class ActivationMap:
    """The weight of each place of the network's view of an image for a class."""

    values: Array
    """float32 (h, w). By "cam" it is the share of the score: the mean of all, and the classifier's
    bias, make the score. By "occlusion" it is the loss of probability when the place is hidden."""
    method: str
    """"cam" or "occlusion"."""
    index: int
    """Number of the class."""
    label: str
    probability: float

    def resized(self, height: int, width: int) -> Array:
        """The map at another size, bilinear between the middles of its cells; float32."""
        from PIL import Image  # noqa: PLC0415

        picture = Image.fromarray(np.ascontiguousarray(self.values, np.float32))
        method = Image.Resampling.BILINEAR
        return np.asarray(picture.resize((width, height), method), np.float32)

    @property
    def peak(self) -> tuple[float, float]:
        """The position of the maximum, as fractions of the view's width and height from the top
        left."""
        h, w = self.values.shape
        y, x = divmod(int(np.argmax(self.values)), w)
        return (x + 0.5) / w, (y + 0.5) / h


def activation_map(
    model: Model, image: Any, label: str | int | None = None, *, method: Method = "auto"
) -> ActivationMap:
    """The parts of an image that speak for a class.

    Networks that end in global average pooling and a linear layer get class activation mapping
    (Zhou et al., Learning Deep Features for Discriminative Localization, 2016). It is the sum of
    the feature maps before the pooling, weighted as the class weights them. Others get occlusion
    (Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014): a grey square
    hides one place after the other.

    Args:
        model: a network of one input, with preprocessing.
        image: a file, a PIL image or an array of uint8; see `Preprocessing`.
        label: a class, by its name or index; None: the likeliest.
        method: "auto": "cam" if that is possible, otherwise "occlusion".

    Raises:
        GraphError: there is no such class, or the model has no preprocessing. Or `method` is "cam"
            and the network does not end as it requires.
        ImageError: the image cannot be read.
        ValueError: there is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r}; expected one of {', '.join(METHODS)}")
    x = model.input_from(image)
    output = model.outputs[0].name
    p = probabilities(model.run(x, outputs=[output]).reshape(-1))
    index = _class(model, label, p)
    name = model.labels[index] if model.labels and index < len(model.labels) else str(index)
    classifier = None
    if method != "occlusion":
        classifier = _classifier(model, required=method == "cam")
    if classifier and classifier.maps:
        maps = model.run(x, outputs=[classifier.maps])[0]
        values = class_activation(classifier, maps, index)
        return ActivationMap(values, "cam", index, name, float(p[index]))
    values = _occlusion(model, x, output, index, float(p[index]))
    return ActivationMap(values, "occlusion", index, name, float(p[index]))


def mappable_classifier(model: Model) -> Classifier | None:
    """The classifier of a network that class activation mapping works for; None for any other. A
    run that outputs its tensor `maps` is all that `class_activation` needs."""
    found = _classifier(model, required=False)
    return found if found and found.maps else None


def class_activation(classifier: Classifier, maps: Array, index: int) -> Array:
    """float32 (h, w): the feature maps (K, h, w) of an image, weighted as a class weights them."""
    return np.tensordot(classifier.weight[index], maps, 1)


def _class(model: Model, label: str | int | None, p: Array) -> int:
    """The index of a class."""
    if label is None:
        return int(np.argmax(p))
    if isinstance(label, str):
        if label not in (model.labels or ()):
            raise GraphError(f"no class of this network is named {label!r}")
        return (model.labels or []).index(label)
    if not 0 <= label < len(p):
        raise GraphError(f"class {label} of a network that has {len(p)}")
    return int(label)


def _classifier(model: Model, *, required: bool) -> Classifier | None:
    """The classifier whose weights make the map; None if there is none that can."""
    shapes = {spec.name: input_shape(spec, model.preprocessing) for spec in model.inputs}
    try:
        found = find_classifier(model.graph, shapes)
    except GraphError:
        if required:
            raise
        return None
    if required and not found.maps:
        raise GraphError(
            f"class activation mapping needs global average pooling right before the classifier "
            f"{found.name!r}; the method 'occlusion' needs nothing"
        )
    return found


def _occlusion(model: Model, x: Array, output: str, index: int, before: float) -> Array:
    """The loss of a class's probability: for each pixel the mean over the squares that cover it;
    float32 (h, w)."""
    height, width = x.shape[2:]
    h, w = max(1, round(PATCH * height)), max(1, round(PATCH * width))
    tops, lefts = _places(height, h), _places(width, w)
    grey = x.mean(axis=(2, 3), keepdims=True)[0]
    total, count = np.zeros((2, height, width))
    corners = [(top, left) for top in tops for left in lefts]
    fixed = model.inputs[0].shape[0]
    batch = fixed if isinstance(fixed, int) else BATCH
    for start in range(0, len(corners), batch):
        here = corners[start : start + batch]
        hidden = np.repeat(x, batch if isinstance(fixed, int) else len(here), axis=0)
        for image, (top, left) in zip(hidden, here, strict=False):
            image[:, top : top + h, left : left + w] = grey
        scores = model.run(hidden, outputs=[output])
        for row, (top, left) in zip(scores, here, strict=False):
            area = slice(top, top + h), slice(left, left + w)
            total[area] += before - probabilities(row.reshape(-1))[index]
            count[area] += 1
    return np.asarray(total / count, np.float32)


def _places(size: int, patch: int) -> list[int]:
    """The beginnings of squares that cover an axis from one end to the other."""
    n = max(2, math.ceil((size - patch) / (STEP * size)) + 1)
    return sorted({round(i * (size - patch) / (n - 1)) for i in range(n)})
