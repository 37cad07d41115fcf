"""Control flow: if, loop, scan and sequence_map, which run subgraphs.

Definitions: https://onnx.ai/onnx/operators/ (If, Loop, Scan, SequenceMap). A subgraph may read
tensors of the surrounding graph. They are its last inputs, and the node passes them as its own last
inputs, `captured` of them. So a pass may rename a tensor without looking into subgraphs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ..errors import ShapeError
from ..graph import Array, Graph, Node, Value
from . import REQUIRED, RunSubgraph, register
from .common import RuntimeTyped


def fail(node: Node, problem: str) -> ShapeError:
    return ShapeError(f"node {node.name!r} ({node.op}): {problem}")


def condition_of(node: Node, value: Value) -> bool:
    """The truth of a condition of one element.

    Raises:
        ShapeError: it has several elements, or is no tensor.
    """
    if not isinstance(value, np.ndarray) or value.size != 1:
        what = f"shape {value.shape}" if isinstance(value, np.ndarray) else "no tensor"
        raise fail(node, f"expected a condition of one element, got {what}")
    return bool(value.reshape(()))


def split_captured(node: Node, values: Sequence[Value]) -> tuple[list[Value], list[Value]]:
    """The values of the node's own inputs, and of those that its subgraphs capture."""
    own = len(values) - node["captured"]
    return list(values[:own]), list(values[own:])


class Collected:
    """Stacked outputs of the iterations of a loop, within the memory limit."""

    def __init__(self, node: Node, count: int, run: RunSubgraph) -> None:
        self.node = node
        self.values: list[list[Array]] = [[] for _ in range(count)]
        self._run = run

    def add(self, values: Sequence[Value]) -> None:
        """Takes the outputs of one iteration.

        Raises:
            ShapeError: an output is not a tensor, or has another shape than before.
            MemoryLimitError: all of them together exceed what a run may use.
        """
        for kept, value in zip(self.values, values, strict=True):
            if not isinstance(value, np.ndarray):
                raise fail(self.node, "only tensors can be stacked to an output")
            if kept and kept[0].shape != value.shape:
                raise fail(
                    self.node,
                    f"an output to be stacked has shape {kept[0].shape}, then {value.shape}",
                )
            # Its copy among the others too, and 128 bytes of the array itself.
            self._run.hold(2 * value.nbytes + 128)
            kept.append(value)

    def stacked(self, i: int, axis: int, body: Graph, output: int) -> Array:
        """Output `i` of all iterations along a new axis; if there was none, of length 0."""
        if self.values[i]:
            try:
                return np.stack(self.values[i], axis)
            except ValueError as error:
                raise fail(self.node, str(error)) from None
        spec = body.outputs[output]
        shape = [size if isinstance(size, int) else 0 for size in spec.shape]
        shape.insert(axis if axis >= 0 else axis + len(shape) + 1, 0)
        return np.zeros(shape, spec.dtype)


@register
class If(RuntimeTyped):
    """The outputs of `then_branch` if the condition holds, else those of `else_branch`.

    Both branches take the captured tensors as their inputs.
    """

    name = "if"
    attributes = {"captured": 0, "else_branch": REQUIRED, "then_branch": REQUIRED}

    def evaluate(self, node: Node, inputs: Sequence[Value], run: RunSubgraph) -> list[Value]:
        (condition,), captured = split_captured(node, inputs)
        branch = "then_branch" if condition_of(node, condition) else "else_branch"
        return run(node[branch], captured)


@register
class Loop(RuntimeTyped):
    """Runs `body` while its condition holds, `M` times at most.

    Inputs: M and the first condition, either of which may be absent, the first values of the
    carried tensors, the captured tensors. The body takes the iteration's number, the condition, the
    carried and the captured tensors. It gives a condition, the carried tensors, and outputs that
    are stacked along a new first axis.
    """

    name = "loop"
    attributes = {"body": REQUIRED, "captured": 0}

    def evaluate(self, node: Node, inputs: Sequence[Value], run: RunSubgraph) -> list[Value]:
        (count, condition, *carried), captured = split_captured(node, inputs)
        body: Graph = node["body"]
        if count is not None and (not isinstance(count, np.ndarray) or count.size != 1):
            raise fail(node, "expected a trip count of one element")
        limit = None if count is None else int(count.reshape(()))
        holds = condition is None or condition_of(node, condition)
        stacked = len(body.outputs) - 1 - len(carried)
        collected = Collected(node, stacked, run)
        for i in itertools.count():
            if not holds or (limit is not None and i >= limit):
                break
            going, *results = run(
                body, [np.array(i, np.int64), np.array(holds), *carried, *captured]
            )
            carried = results[: len(carried)]
            collected.add(results[len(carried) :])
            holds = condition_of(node, going)
        last = [collected.stacked(i, 0, body, 1 + len(carried) + i) for i in range(stacked)]
        return [*carried, *last]


@register
class Scan(RuntimeTyped):
    """Runs `body` for each slice of the scanned inputs along their axes.

    Inputs: the first values of the state, the scanned tensors, the captured tensors. The body takes
    the state, a slice of each scanned tensor and the captured tensors; it gives the state, and
    outputs that are stacked. Direction 1 goes, or stacks, from the end to the beginning. In the
    form of opset 8 (`batched`) the first input has the lengths. All others have a first axis of
    images, each of which is scanned by itself.
    """

    name = "scan"
    attributes = {
        "batched": 0,
        "body": REQUIRED,
        "captured": 0,
        "num_scan_inputs": REQUIRED,
        "scan_input_axes": (),
        "scan_input_directions": (),
        "scan_output_axes": (),
        "scan_output_directions": (),
    }

    def evaluate(self, node: Node, inputs: Sequence[Value], run: RunSubgraph) -> list[Value]:
        own, captured = split_captured(node, inputs)
        if not node["batched"]:
            return list(self._scan(node, own, captured, run, None))
        lengths, *tensors = own
        images = self._arrays(node, tensors)
        n = images[0].shape[0]
        rows = [
            self._scan(
                node,
                [x[i] for x in images],
                captured,
                run,
                None if lengths is None else int(np.asarray(lengths).reshape(-1)[i]),
            )
            for i in range(n)
        ]
        return [np.stack(column) for column in zip(*rows, strict=True)]

    def _arrays(self, node: Node, values: Sequence[Value]) -> list[Array]:
        if any(not isinstance(value, np.ndarray) for value in values):
            raise fail(node, "scans tensors only")
        return cast(list[Array], list(values))

    def _scan(
        self,
        node: Node,
        own: Sequence[Value],
        captured: list[Value],
        run: RunSubgraph,
        length: int | None,
    ) -> list[Array]:
        body: Graph = node["body"]
        scanned = node["num_scan_inputs"]
        first = len(own) - scanned
        if scanned < 1 or first < 0:
            raise fail(node, f"has {len(own)} inputs, {scanned} of them to be scanned")
        state: list[Value] = list(own[:first])
        arrays = self._arrays(node, own[first:])
        axes = tuple(node["scan_input_axes"]) or (0,) * scanned
        directions = tuple(node["scan_input_directions"]) or (0,) * scanned
        stacked = len(body.outputs) - first
        out_axes = tuple(node["scan_output_axes"]) or (0,) * stacked
        out_directions = tuple(node["scan_output_directions"]) or (0,) * stacked
        if {len(axes), len(directions)} != {scanned} or {len(out_axes), len(out_directions)} != {
            stacked
        }:
            raise fail(node, "its axes and directions do not fit its inputs and outputs")
        for x, axis in zip(arrays, axes, strict=True):
            if not -x.ndim <= axis < x.ndim:
                raise fail(node, f"axis {axis} of a tensor with {x.ndim} axes")
        lanes = [np.moveaxis(x, axis, 0) for x, axis in zip(arrays, axes, strict=True)]
        lanes = [x[::-1] if d else x for x, d in zip(lanes, directions, strict=True)]
        steps = {len(x) for x in lanes}
        if len(steps) != 1:
            raise fail(node, f"the scanned inputs have {sorted(steps)} slices; expected as many")
        count = steps.pop() if length is None else min(length, *steps)
        collected = Collected(node, stacked, run)
        for i in range(count):
            slices = [np.ascontiguousarray(x[i]).reshape(x.shape[1:]) for x in lanes]
            results = run(body, [*state, *slices, *captured])
            state = results[:first]
            collected.add(results[first:])
        outputs = []
        for i, (axis, direction) in enumerate(zip(out_axes, out_directions, strict=True)):
            y = collected.stacked(i, axis, body, first + i)
            outputs.append(np.ascontiguousarray(np.flip(y, axis) if direction else y))
        return [*self._arrays(node, state), *outputs]


@register
class SequenceMap(RuntimeTyped):
    """The outputs of `body` for each element of a sequence, as sequences.

    Inputs: the sequence, further sequences of as many elements or tensors that stay the same, the
    captured tensors.
    """

    name = "sequence_map"
    attributes = {"body": REQUIRED, "captured": 0}

    def evaluate(self, node: Node, inputs: Sequence[Value], run: RunSubgraph) -> list[Value]:
        own, captured = split_captured(node, inputs)
        first: Any = own[0]
        if not isinstance(first, list):
            raise fail(node, "its first input is no sequence")
        if any(isinstance(x, list) and len(x) != len(first) for x in own):
            raise fail(node, "its sequences have different lengths")
        body: Graph = node["body"]
        outputs: list[list[Any]] = [[] for _ in body.outputs]
        for i in range(len(first)):
            element = [x[i] if isinstance(x, list) else x for x in own]
            for kept, value in zip(outputs, run(body, [*element, *captured]), strict=True):
                run.hold(np.asarray(value).nbytes + 128)
                kept.append(value)
        return list(outputs)
