"""Turns a network's scores into the classes that a picture may show."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .errors import PreprocessingWarning, ShapeError
from .graph import Array, Graph

Scores = Literal["logits", "logits of each class", "probabilities"]
"""Scores that softmax turns into probabilities, scores that sigmoid does one by one, and
probabilities."""

CHUNK = 16
"""Pictures that are prepared and run together. A plan is kept for each number of images."""

_PASSED = {
    *("identity", "reshape", "flatten", "squeeze", "unsqueeze", "cast", "transpose", "cast_like"),
    *("quantize_linear", "dequantize_linear"),
}
"""Operators between the last activation and the output that leave the values as they are."""
_PROBABILITIES = {"softmax", "sigmoid", "hard_sigmoid"}


@dataclass(frozen=True)
class Classification:
    """One class that an image may show."""

    label: str
    index: int
    probability: float


def kind_of_scores(graph: Graph, *, multi_label: bool = False) -> Scores:
    """The kind of scores in a network's first output, by the operators before it.

    Args:
        multi_label: several classes may hold at once, as the network's file says.
    """
    makers = {name: node for node in graph.nodes for name in node.outputs}
    name = graph.outputs[0].name
    while name in makers:
        node = makers[name]
        if node.op in _PROBABILITIES:
            return "probabilities"
        if node.op not in _PASSED:
            break
        name = node.inputs[0]
    return "logits of each class" if multi_label else "logits"


def probabilities(scores: Array, kind: Scores = "logits") -> Array:
    """float64 (classes,): the probabilities of one picture's scores (classes,).

    Softmax, unless they are probabilities already (of that kind, or in [0, 1] with sum 1). A
    single score, and each score if several classes may hold at once, goes through a sigmoid.
    """
    s = scores.astype(np.float64)
    if kind == "logits of each class" or (kind == "logits" and s.size == 1):
        return np.asarray(0.5 * (1 + np.tanh(s / 2)))
    if kind == "probabilities" or (s.size and s.min() >= 0 and abs(s.sum() - 1) < 1e-3):
        return s
    e = np.exp(s - s.max())
    return np.asarray(e / e.sum())


def is_scores(shape: Sequence[int]) -> bool:
    """True if an output of this shape has one score per class: (classes,), (N, classes), and axes
    of 1 after that."""
    return len(shape) <= 2 or all(size == 1 for size in shape[2:])


def classes(
    scores: Array, top: int, labels: Sequence[str] | None, kind: Scores
) -> list[Classification] | list[list[Classification]]:
    """The `top` likeliest classes by the scores of one picture, or a list for each of several."""
    scores = np.asarray(scores)
    if not scores.size and scores.ndim != 2:
        return []
    if not is_scores(scores.shape):
        raise ShapeError(
            f"an output of shape {scores.shape} has no score for each class of a picture: expected "
            "(classes,) or (N, classes); take the output itself, model(model.input_from(image))"
        )
    if scores.ndim < 2:
        return _of_one(scores.reshape(-1), top, labels, kind)
    rows = scores.reshape(scores.shape[0], scores.shape[1])
    if len(rows) == 1:
        return _of_one(rows[0], top, labels, kind)
    return [_of_one(row, top, labels, kind) for row in rows]


def _of_one(
    scores: Array, top: int, labels: Sequence[str] | None, kind: Scores
) -> list[Classification]:
    if not scores.size:
        return []
    if labels and len(labels) != scores.size:
        warnings.warn(
            f"{len(labels)} labels for {scores.size} classes: the names may be wrong",
            PreprocessingWarning,
            stacklevel=4,
        )
    p = probabilities(scores, kind)
    order = [int(i) for i in np.argsort(-p, kind="stable")[:top]]
    names = labels or ()
    return [Classification(names[i] if i < len(names) else str(i), i, float(p[i])) for i in order]


def scores_of_images(
    run: Callable[[Array], Any],
    prepare: Callable[[list[Any]], Array],
    images: Sequence[Any],
    batch: int | str,
) -> list[Array]:
    """Each picture's scores (classes,), some pictures at a time; the bits are those of one at a
    time.

    Args:
        run: the network: (N, ...) to scores (N, ...).
        prepare: pictures to the network's input.
        batch: the size of the input's first axis; a name: it is free.
    """
    count = batch if isinstance(batch, int) else CHUNK
    found: list[Array] = []
    for start in range(0, len(images), count):
        here = list(images[start : start + count])
        x = prepare(here)
        if isinstance(batch, int) and len(here) < batch:  # filled up with the last picture
            x = np.concatenate([x, *[x[-1:]] * (batch - len(here))])
        scores = np.asarray(run(x))
        if scores.ndim > 2 and is_scores(scores.shape):
            scores = scores.reshape(scores.shape[:2])
        found += list(scores[: len(here)])
    return found
