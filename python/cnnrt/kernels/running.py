"""A graph of one operator, made from arrays and run as a network is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import _core, ops
from ..errors import ShapeError
from ..graph import Array, Graph, Node, TensorSpec
from ..ops.activation import Activation

ACTIVATIONS: tuple[str, ...] = _core.activations
"""The activations that a kernel can apply to its result."""

Size = int | Sequence[int]
"""A number for all spatial axes, or one for each."""
ActivationLike = str | Sequence[Any] | None

AXES = {1: "N, C, L", 2: "N, C, H, W", 3: "N, C, D, H, W"}


def run(
    op: str,
    names: list[str],
    inputs: Mapping[str, Any],
    attributes: dict[str, Any],
    constants: Mapping[str, Any] | None = None,
    *,
    threads: int | None,
    isa: str | None,
    algorithm: str = "auto",
) -> Array:
    """The result of one operator.

    Args:
        op: name of the operator.
        names: names of its inputs in order, empty for one left out.
        inputs: arrays by name; they become float32.
        attributes: attributes of the operator.
        constants: weights by name.
    """
    from ..model import Model  # noqa: PLC0415  (which imports this package's other modules)

    arrays = {k: np.ascontiguousarray(v, np.float32) for k, v in inputs.items()}
    node = Node(op, op, names, ["y"], attributes)
    ops.complete(node)
    graph = Graph(
        inputs=[TensorSpec(k, v.shape) for k, v in arrays.items()],
        outputs=[TensorSpec("y", ())],
        nodes=[node],
        constants={k: np.ascontiguousarray(v, np.float32) for k, v in (constants or {}).items()},
        name=op,
    )
    model = Model(graph, threads=threads, algorithm=algorithm, isa=isa)
    result: Array = model.run(arrays)
    return result


def spatial(function: str, x: Any, axes: int | None = None) -> int:
    """The number of spatial axes of x.

    Args:
        function: name of the function, for the error.
        axes: the required number; None: 1 to 3.

    Raises:
        ShapeError: x has another number of axes than two more.
    """
    shape = np.shape(x)
    rank = len(shape) - 2
    if rank == axes or (axes is None and 1 <= rank <= 3):
        return rank
    wanted = axes or 2
    hint = ""
    if rank == wanted - 2:
        hint = ": for one image of one channel give x[None, None]"
    elif rank == wanted - 1:
        hint = ": for one image give x[None], for images of one channel x[:, None]"
    raise ShapeError(f"{function}: x has shape {shape}; expected ({AXES[wanted]}){hint}")


def filters(function: str, x: Any, weight: Any, groups: int) -> None:
    """Checks the filters of a convolution (M, C / groups, ...) against x (N, C, ...).

    Raises:
        ShapeError: they do not fit.
    """
    sizes, shape = np.shape(x), np.shape(weight)
    if len(shape) != len(sizes):
        kernel = {1: "k", 2: "kernel height, kernel width", 3: "kernel depth, height, width"}
        hint = ""
        if len(shape) == len(sizes) - 2:
            hint = ": for one filter on one channel give weight[None, None]"
        raise ShapeError(
            f"{function}: weight has shape {shape}; expected (M, C / groups, "
            f"{kernel[len(sizes) - 2]}){hint}"
        )
    if shape[1] * groups != sizes[1]:
        raise ShapeError(
            f"{function}: x has {sizes[1]} channels; weight, of shape {shape}, takes "
            f"{shape[1]} for each of {groups} groups"
        )


def per_axis(value: Any, rank: int, name: str = "stride") -> list[int]:
    """A number for each spatial axis.

    Raises:
        ValueError: it is no number, nor one for each axis.
    """
    try:
        found = [int(value)] * rank if np.ndim(value) == 0 else [int(v) for v in value]
    except (TypeError, ValueError):
        raise ValueError(f"{name} {value!r}; expected a number, or one for each axis") from None
    if len(found) != rank:
        raise ValueError(f"{name} {value!r}; expected a number, or {rank}, one for each axis")
    return found


def activation(value: ActivationLike) -> Activation | None:
    """An activation from its name, or its name and parameters.

    Raises:
        ValueError: there is no activation of this name.
    """
    if value is None:
        return None
    found = Activation(value) if isinstance(value, str) else Activation(*value)
    if found.name not in ACTIVATIONS:
        raise ValueError(f"activation {found.name!r}; expected one of {', '.join(ACTIVATIONS)}")
    return found
