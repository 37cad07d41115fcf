"""An uploaded image becomes classes, and a map of the places that speak for the likeliest."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from PIL.Image import Image

from ..classification import is_scores
from ..errors import CnnrtError
from ..graph import Array
from ..images import decoded, open_image
from ..inspection.activation_maps import class_activation, mappable_classifier
from ..model import Model
from .errors import RequestError
from .protocol import Bytes, InferRequest
from .service import Service

Gone = Callable[[], bool]


async def classify(
    service: Service, name: str, body: Bytes, gone: Gone, *, top: int, mapped: bool
) -> dict[str, Any]:
    """The answer to an image, as a JSON document.

    Args:
        service: the server's models.
        name: of the model.
        body: the bytes of an image file.
        gone: asks whether the client has hung up.
        top: number of classes.
        mapped: adds the class activation map of the likeliest class.

    Raises:
        RequestError: the body is no image, the model takes none, or the run is refused.
    """
    if not body:
        raise RequestError(400, "the body is empty; send the bytes of an image")
    model = service.repository.model(name)
    if model.preprocessing is None:
        raise RequestError(400, f"model {name!r} does not say how an image becomes its input")
    shape = model.outputs[0].shape
    if any(isinstance(size, int) and size > 1 for size in shape[2:]):  # before a run for nothing
        raise _no_scores(name, shape)
    with service.counting(name), service.batcher(name).preparing():
        try:
            picture, x = await asyncio.to_thread(_prepared, model, body)
        except CnnrtError as error:
            raise RequestError(400, f"the body is no image: {error}") from None
    began = time.monotonic()
    scores = await _run(service, name, x, gone)
    if not is_scores(scores.shape):
        raise _no_scores(name, scores.shape)
    found = [
        {"label": c.label, "index": c.index, "probability": _finite(c.probability)}
        for c in model.classes(scores, top)
    ]
    milliseconds = (time.monotonic() - began) * 1e3
    answer = {"model_name": name, "classes": found, "milliseconds": milliseconds}
    if mapped:
        answer["map"] = await _map(service, name, model, picture, x, found, gone)
    return answer


def _no_scores(name: str, shape: Sequence[Any]) -> RequestError:
    sizes = [size if isinstance(size, int) else -1 for size in shape]
    return RequestError(
        400, f"model {name!r} has no score for each class: its output has shape {sizes}; use infer"
    )


def _finite(value: float) -> float | None:
    """The number, or None for those that JSON does not have."""
    return value if math.isfinite(value) else None


def _prepared(model: Model, body: Bytes) -> tuple[Image, Array]:
    """The picture, upright, and the network's input."""
    assert model.preprocessing is not None
    mode: Literal["L", "RGB"] = "L" if model.preprocessing.channels == "L" else "RGB"
    picture = open_image(decoded(bytes(body)), mode)
    return picture, model.input_from(picture)


async def _run(service: Service, name: str, x: Array, gone: Gone, inner: str = "") -> Array:
    """The first output for the network's input (1, ...), or an inner tensor."""
    (spec, *_) = service.repository.model(name).inputs
    batch = spec.shape[0] if spec.shape and isinstance(spec.shape[0], int) else 1
    filled = np.concatenate([x] * batch) if batch > 1 else x
    output = service.repository.model(name).outputs[0].name

    def read(_: Any) -> InferRequest:
        return InferRequest({spec.name: filled}, [output])

    _, outputs = await service.infer(name, None, read, gone, inner)
    ((_, values),) = outputs.values()
    return np.asarray(values[:1])


async def _map(
    service: Service,
    name: str,
    model: Model,
    picture: Image,
    x: Array,
    found: list[dict[str, Any]],
    gone: Gone,
) -> dict[str, Any] | None:
    """The map of the likeliest class; None if the network does not end in global pooling and a
    linear layer. Occlusion would take hundreds of runs for a request."""
    assert model.preprocessing is not None
    classifier = await asyncio.to_thread(mappable_classifier, model)
    if classifier is None or classifier.maps is None or not found:
        return None
    try:
        left, top, right, bottom = model.preprocessing.view(*picture.size)
    except CnnrtError:
        return None
    maps = await _run(service, name, x, gone, classifier.maps)
    values = class_activation(classifier, maps[0], found[0]["index"])
    return {
        "label": found[0]["label"],
        "index": found[0]["index"],
        "box": [
            left / picture.width,
            top / picture.height,
            right / picture.width,
            bottom / picture.height,
        ],
        "values": [[_finite(value) for value in row] for row in values.tolist()],
    }
