"""A linear head on features: logistic regression, its strength chosen by cross-validation.

The regression itself is scikit-learn's (the extra `adapt`). It gets standardised features; the
returned head has that in its weight and bias.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Array
from ..process.extras import missing
from ..storage.cache import cache_folder, digest, read_arrays, write_arrays

STRENGTHS = tuple(10.0**e for e in range(-5, 3))
"""Inverse strengths of the L2 penalty to choose from, as scikit-learn's C. On standardised
features of ImageNet networks, 100 to 10,000 images, the best was 1e-3 to 1e-1."""

FOLDS = 5
MAX_ITERATIONS = 1000
TRIED_ITERATIONS = 100
"""Iterations for each strength that is tried, from where the one before ended. With 500 the same
strengths are chosen, on 1000 images of 1280 features and on their 3072 pixels. The latter take four
times as long."""
PATIENCE = 2
"""Number of strengths in a row worse than the best after which weaker penalties are not tried.
These take the longest, and the loss as a function of the strength has one minimum."""


@dataclass(frozen=True)
class Head:
    """A linear layer, scores = features weight^T + bias, and how it was fitted."""

    weight: Array
    """float32 (classes, features)."""
    bias: Array
    """float32 (classes,)."""
    strength: float
    """scikit-learn's C."""
    held_out: Array | None
    """float64 (images, classes): probabilities of each training image by a head that has not seen
    it. None: a class has a single image, and there was no cross-validation."""


def fit_head(features: Array, labels: Array, *, cache: bool = True) -> Head:
    """The head that tells the classes of images by their features.

    Args:
        features: float (images, features).
        labels: the class of each image, int (images,); every class from 0 to the greatest occurs.
        cache: keeps the result on disk, by the contents of both.

    Raises:
        GraphError: there are no features, or some are not finite.
        ImportError: scikit-learn is not installed.
    """
    if not features.shape[1]:
        raise GraphError("the layer has no features: the network gives none")
    if not np.isfinite(features).all():
        raise GraphError("some features are infinite or no numbers: the network gives such values")
    file = _cache_file(features, labels) if cache else None
    known = _read(file, features, labels) if file else None
    if known is None:
        require_scikit_learn()
        from threadpoolctl import threadpool_limits  # noqa: PLC0415  (scikit-learn's)

        # While another process has their core, threads of the BLAS spin between products as small
        # as these. That takes 1.3 s on one thread, 8 to 65 s on two (1000 images of 1280 features).
        with threadpool_limits(1):
            known = _fit(features.astype(np.float64), labels)
        if file:
            _write(file, known)
    return known


def require_scikit_learn() -> Any:
    """The package scikit-learn.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import sklearn  # noqa: PLC0415
    except ImportError:
        raise ImportError(missing("fitting a head", "sklearn")) from None
    return sklearn


def _fit(x: Array, y: Array) -> Head:
    strength, held_out = 1.0, None
    folds = min(FOLDS, int(np.bincount(y).min()))
    if folds > 1:
        strength, held_out = _cross_validate(x, y, folds)
    regression = _Regression(x, y)
    regression.fit(strength, MAX_ITERATIONS)
    weight, bias = regression.layer()
    return Head(weight.astype(np.float32), bias.astype(np.float32), strength, held_out)


def _cross_validate(x: Array, y: Array, folds: int) -> tuple[float, Array]:
    """The strength with the minimum log loss on images left out, and their probabilities with
    it."""
    from sklearn.model_selection import StratifiedKFold  # noqa: PLC0415

    split = StratifiedKFold(folds, shuffle=True, random_state=0).split(x, y)
    parts = [(_Regression(x[train], y[train]), rest) for train, rest in split]
    best: tuple[float, float, Array] | None = None
    worse = 0
    for strength in STRENGTHS:
        held_out = np.empty((len(y), int(y.max()) + 1))
        for regression, rest in parts:
            regression.fit(strength, TRIED_ITERATIONS)
            held_out[rest] = regression.probabilities(x[rest])
        chosen = held_out[np.arange(len(y)), y]
        loss = -float(np.log(np.maximum(chosen, 1e-15)).mean())
        if best is None or loss < best[0]:
            best, worse = (loss, strength, held_out), 0
        else:
            worse += 1
            if worse == PATIENCE:
                break
    assert best is not None
    return best[1], best[2]


class _Regression:
    """Logistic regression on standardised features; each fit begins where the last one ended."""

    def __init__(self, x: Array, y: Array) -> None:
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
        from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

        self.scaler = StandardScaler().fit(x)
        self.x, self.y = self.scaler.transform(x), y
        self.regression = LogisticRegression(warm_start=True)

    def fit(self, strength: float, iterations: int) -> None:
        from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415

        self.regression.set_params(C=strength, max_iter=iterations)
        with warnings.catch_warnings():
            # A penalty so weak that this happens loses the comparison.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.regression.fit(self.x, self.y)

    def probabilities(self, x: Array) -> Array:
        return np.asarray(self.regression.predict_proba(self.scaler.transform(x)))

    def layer(self) -> tuple[Array, Array]:
        """Weight and bias for features that are not standardised, a row per class."""
        weight, bias = self.regression.coef_, self.regression.intercept_
        if len(weight) == 1:  # of two classes only the second has a score; that of the first is 0
            weight = np.concatenate([np.zeros_like(weight), weight])
            bias = np.concatenate([np.zeros_like(bias), bias])
        weight = weight / self.scaler.scale_
        return weight, bias - weight @ self.scaler.mean_


def _cache_file(features: Array, labels: Array) -> Path | None:
    version = require_scikit_learn().__version__
    settings = repr((version, STRENGTHS, FOLDS, MAX_ITERATIONS, TRIED_ITERATIONS, PATIENCE))
    key = digest(
        np.ascontiguousarray(features).data.cast("B"),
        np.ascontiguousarray(labels, np.int64).data.cast("B"),
        settings.encode(),
    )
    folder = cache_folder()
    return folder and folder / "heads" / f"{key.hex()[:32]}.safetensors"


def _read(file: Path, features: Array, labels: Array) -> Head | None:
    """A head on disk; None if the file is missing, damaged or no head of these features."""
    arrays = read_arrays(file)
    if not arrays or arrays.keys() != {"weight", "bias", "strength", "held_out"}:
        return None
    held_out, classes = arrays["held_out"], int(labels.max()) + 1
    shapes = {
        "weight": (classes, features.shape[1]),
        "bias": (classes,),
        "strength": (1,),
        "held_out": (len(labels), classes) if held_out.size else (0, 0),
    }
    if any(arrays[name].shape != shape for name, shape in shapes.items()):
        return None
    if any(array.dtype.kind != "f" or not np.isfinite(array).all() for array in arrays.values()):
        return None
    return Head(
        arrays["weight"],
        arrays["bias"],
        float(arrays["strength"][0]),
        held_out if held_out.size else None,
    )


def _write(file: Path, head: Head) -> None:
    held_out = np.empty((0, 0)) if head.held_out is None else head.held_out
    arrays = {"weight": head.weight, "bias": head.bias, "held_out": held_out}
    write_arrays(file, {**arrays, "strength": np.array([head.strength])})
