"""Compares a kernel's result with the float64 reference of its operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import cnnrt
from cnnrt import ops
from cnnrt.graph import Node
from cnnrt.ops.activation import Activation
from networks import operator

Random = Callable[..., np.ndarray]
"""The fixture `random`: shape -> float32 array."""


def reference(op: str, *inputs: Any, **attributes: Any) -> np.ndarray:
    """The operator's NumPy reference in float64."""
    node = Node(op, op, [], ["y"], attributes)
    ops.complete(node)
    wide = [None if x is None else np.asarray(x, np.float64) for x in inputs]
    return ops.op(node).reference(node, *wide)[0]


def by_algorithm(
    x: np.ndarray,
    weight: np.ndarray,
    algorithm: str,
    isa: str,
    threads: int,
    *,
    cut: bool,
    **attributes: Any,
) -> np.ndarray:
    """A convolution by the algorithm asked for.

    Args:
        cut: the image is smaller than the kernel. Taps that meet nothing but padding may be cut
            off, and the algorithm may then not fit any more.
    """
    graph, inputs = operator("conv", x, weight, **attributes)
    model = cnnrt.Model(graph, algorithm=algorithm, isa=isa, threads=threads)
    y = model.run(inputs)
    text = model.describe()
    assert cut or f"{algorithm}: asked for" in text, text
    assert isinstance(y, np.ndarray)
    return y


def activation(value: Any) -> Activation | None:
    """An activation in the forms that `cnnrt.kernels` takes."""
    if value is None:
        return None
    return Activation(value) if isinstance(value, str) else Activation(*value)


def assert_close(
    got: np.ndarray, want: np.ndarray, tolerance: float, case: object = "", scale: float = 0.0
) -> None:
    """max |got - want| <= tolerance * scale, with the worst place in the message.

    `scale` is max |want| unless given (as it must be if an activation has cut the large values).
    """
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}; {case}"
    assert got.dtype == np.float32
    nan = np.isnan(want)
    assert np.array_equal(np.isnan(got), nan), f"NaN at other places than expected; {case}"
    error = np.abs(np.where(nan, 0, got - want))
    scale = scale or np.abs(np.where(nan, 0, want)).max(initial=0.0) or 1.0
    worst = np.unravel_index(int(error.argmax()), error.shape) if error.size else ()
    assert error.max(initial=0.0) <= tolerance * scale, (
        f"error {error.max() / scale:.2e} of the largest output, allowed {tolerance:.1e}, at "
        f"{tuple(map(int, worst))}: got {got[worst]}, expected {want[worst]}; {case}"
    )


def exact_tolerance(depth: int) -> float:
    """Tolerance of a sum of `depth` products in one float32 accumulator: 1e-7 sqrt(depth), at least
    1e-6."""
    return max(1e-6, 1e-7 * depth**0.5)


WINOGRAD_TOLERANCE = {"winograd2": 5e-6, "winograd4": 2e-5, "winograd6": 1e-4}

THREADS = (1, 2, 3)
BATCHES = (1, 3, 8)


def assert_deterministic(models: Sequence[cnnrt.Model], images: np.ndarray, at: object) -> None:
    """Each image has the same output bits alone, by the first model, and in batches, by all.

    Args:
        models: alike but for their threads.
        images: eight.
    """
    alone = [models[0](images[i : i + 1])[0] for i in range(len(images))]
    for model in models:
        for batch in BATCHES:
            first = len(images) - batch  # so that an image has another place in each batch
            got = model(images[first:])
            for place in range(batch):
                want = alone[first + place]
                assert np.array_equal(got[place], want, equal_nan=True), (
                    f"{at}: with {model.threads} threads, image {place} of a batch of {batch} "
                    f"differs by {np.nanmax(np.abs(got[place] - want))} from the same alone"
                )
        assert np.array_equal(model(images), model(images), equal_nan=True), f"{at}: run to run"
