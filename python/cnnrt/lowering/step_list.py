"""The list of a plan's kernel calls, with helpers for calls that several families append."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..cost import Machine
from ..layout.strides import Strided, merge_axes
from ..layout.tensors import At, Blocked, Plain, Step, ViewAt
from ..ops.activation import Activation
from ..symbolic import call
from .lowered import ReferenceStep


class StepList:
    """The steps of a plan in the order in which they run."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.steps: list[Step | ReferenceStep] = []
        self._after_border = -1
        """The number of the step after the last one that made a border."""
        self._node = ""
        """The name of the present node."""
        self._cost_ns = 0.0

    def step(self, kernel: str, *, note: str = "", cost_ns: float = 0.0, **fields: Any) -> None:
        """Appends a kernel call; `cost_ns` is its estimated time on one thread."""
        number = len(self.steps)
        for value in fields.values():
            kind = value.__class__
            if kind is ViewAt:
                buffer = value.at.buffer
            elif kind is At:
                buffer = value.buffer
            else:
                continue
            buffer.last = number
            if buffer.first < 0:
                buffer.first = number
        independent = self._after_border == number and kernel != "border"
        self.steps.append(Step(kernel, fields, self._node, note, cost_ns, independent))
        self._cost_ns += cost_ns

    def copy(self, x: Plain, y: Plain) -> None:
        """Copies a whole row-major tensor."""
        self.copy_strided(x.at, y.at, (x.type.size,), (1,), (1,), x.type.dtype.itemsize)

    def copy_strided(
        self,
        x: At | Any,
        y: At,
        shape: Sequence[int],
        x_strides: Sequence[int],
        y_strides: Sequence[int],
        itemsize: int,
        note: str = "copy",
    ) -> None:
        """y[i] = x[i] for strides in elements; axes that can be merged are merged."""
        if 0 in shape:
            return
        sizes, (x_merged, y_merged) = merge_axes(shape, x_strides, y_strides)
        self.step(
            "copy",
            x=x,
            y=y,
            dims=len(sizes),
            element=itemsize,
            shape=sizes,
            x_stride=x_merged,
            y_stride=y_merged,
            note=note,
            cost_ns=math.prod(shape) * itemsize / 20,
        )

    def elementwise(
        self,
        op: str,
        shape: Sequence[int],
        a: Strided,
        b: Strided | None,
        y: Strided,
        activation: Activation | None = None,
    ) -> None:
        """y = activation(a op b) over `shape`, with the strides of each in floats."""
        sizes, merged = merge_axes(shape, a.strides, (b or a).strides, y.strides)
        self.step(
            "elementwise",
            a=a.at,
            b=b.at if b else None,
            y=y.at,
            op=op,
            dims=len(sizes),
            shape=sizes,
            a_stride=merged[0],
            b_stride=merged[1],
            y_stride=merged[2],
            epilogue=epilogue(activation),
            note=op if b else "unary",
            cost_ns=math.prod(shape) * (12 if b else 8) / self.machine.activations
            + self.machine.time_of(activation, math.prod(shape)),
        )

    def reorder(self, plain: Plain, blocked: Blocked, *, to_blocked: bool) -> None:
        """Copies a whole tensor from one layout to the other."""
        d, h, w = blocked.spatial
        self.step(
            "reorder",
            plain=plain.at,
            blocked=blocked.view(),
            element=blocked.itemsize,
            image=blocked.c * d * h * w,
            channel=d * h * w,
            n=blocked.n,
            c=blocked.c,
            d=d,
            h=h,
            w=w,
            to_blocked=int(to_blocked),
            note="plain to blocked" if to_blocked else "blocked to plain",
            cost_ns=plain.type.nbytes / 40,
        )


def epilogue(activation: Activation | None) -> tuple[str, float, float] | None:
    """The fields of the Epilogue struct of args.h."""
    return None if activation is None else tuple(activation)  # type: ignore[return-value]


def loop_order(weights: int, activations: int) -> str:
    """The outer loop of a matrix product: what is larger is read once.

    Args:
        weights: their number, or their bytes.
        activations: the same of input and output together.
    """
    return call(_loop_order, weights, activations)


def _loop_order(weights: int, activations: int) -> str:
    return "channels" if weights > activations else "rows"
