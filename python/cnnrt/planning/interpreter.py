"""Small stages, run operator by operator without a plan.

After a detector has selected its boxes come hundreds of operators on few elements, and each picture
leaves another number of boxes. A plan for each number takes 25 ms for 250 operators; their
references take 1 ms. So a stage is not planned at first if all its operators are among `EXACT` and
its inputs are small. If the same sizes come often, a plan pays: it runs ten times as fast. Both
ways give the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..dtypes import DType, as_dtype
from ..graph import Array, Graph, Node, TensorType, Value
from ..lowering import ReferenceStep
from ..ops import Operand
from .plan import StepInfo

_EXACT = """
    abs and argmax argmin bitwise_and bitwise_not bitwise_or bitwise_xor cast ceil clip compress
    concat constant_of_shape cumsum div equal expand flatten floor gather gather_elements gather_nd
    greater greater_or_equal identity is_inf is_nan less less_or_equal max min mod mul neg
    non_max_suppression non_zero not one_hot or pad range reciprocal reduce_max reduce_min
    reduce_prod reduce_sum relu reshape round scatter_elements scatter_nd shape sign size slice
    split sqrt squeeze sub add sum tile topk transpose trilu unique unsqueeze where xor
"""
EXACT = frozenset(_EXACT.split())
"""Operators whose references are as fast as a kernel on few elements, and give the same bits."""

ROUNDED = frozenset({"cumsum", "reduce_prod", "reduce_sum", "sum"})
"""Operators of `EXACT` for which this holds for integers only."""

SIZES = {"constant_of_shape": 0, "expand": 1, "one_hot": 1, "pad": 1, "range": 1, "tile": 1}
"""Operators whose results have the sizes that an input states, and the number of that input."""

MAX_INPUT, MAX_WORK = 2 << 20, 64 << 20
"""Bytes of the inputs of a stage, and of all its results, above which it is planned."""

UNSEEN = 1 << 22
"""Elements that a result may have without a look at its type, which would take longer."""

RUNS = 16
"""Runs of the same sizes without a plan before one is made. They take about as long as making it,
so at worst both together take twice the time of the better way."""

MAX_SIZES = 12
"""Sizes of which runs are counted, fewer than a cache keeps plans. With more, all are forgotten and
run without a plan again."""

MAX_COUNTED = 64
"""Bytes up to which integers are taken for sizes: a plan may hold for these values alone."""

Evaluate = Callable[[Node, Sequence[Value]], list[Value]]
"""The outputs of a node for the values of its inputs, with errors that name it."""


class _TooLarge(Exception):
    """The results of the stage are larger than allowed."""


class _Rounded(Exception):
    """References and kernels round a result of the stage differently."""


class Interpreter:
    """A graph of operators among `EXACT`, as it is run without a plan."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._constants = {k: np.asarray(v) for k, v in graph.constants.items()}
        self._known: dict[tuple[DType, ...], list[list[DType]] | None] = {}
        """The dtypes of all results, by those of the inputs; None if it is planned for these."""
        self._runs: dict[tuple[Any, ...], int] = {}
        """Runs so far by the sizes of the inputs."""

    @staticmethod
    def takes(graph: Graph) -> bool:
        """True if all operators are such that a small stage runs without a plan."""
        return all(node.op in EXACT for node in graph.nodes)

    def run(
        self, values: Sequence[Value], evaluate: Evaluate, spans: Array | None = None
    ) -> list[Value] | None:
        """The outputs in the graph's order; None if the values need a plan, or their sizes have
        come `RUNS` times.

        Args:
            values: values of the inputs, in the graph's order.
            evaluate: runs one node.
            spans: int64 (threads, nodes, 2), for the times of `Plan.trace`. Such a run is not
                counted, so that all runs of a profile have the same steps.
        """
        arrays = [value for value in values if isinstance(value, np.ndarray)]
        if len(arrays) < len(values) or sum(x.nbytes for x in arrays) > MAX_INPUT:
            return None
        signature = tuple(as_dtype(x.dtype) for x in arrays)
        dtypes = self._known.get(signature, [])
        if dtypes is None or any(_is_half(dtype) for dtype in signature):
            return None
        sizes = (signature, *map(_sizes, arrays))
        runs = self._runs.get(sizes, 0)
        if runs >= RUNS:
            return None
        try:
            found, results = self._run(arrays, dtypes, evaluate, spans)
        except _TooLarge:
            return None
        except _Rounded:
            self._known[signature] = None
            return None
        self._known[signature] = found
        if spans is None:
            if runs == 0 and len(self._runs) >= MAX_SIZES:
                self._runs.clear()
            self._runs[sizes] = runs + 1
        return results

    def _run(
        self,
        arrays: Sequence[Array],
        dtypes: list[list[DType]],
        evaluate: Evaluate,
        spans: Array | None,
    ) -> tuple[list[list[DType]], list[Value]]:
        """The dtypes of all results, and the outputs.

        Args:
            arrays: the inputs.
            dtypes: dtypes of all results, or none if they are not known yet.
            evaluate, spans: as for `run`.
        """
        known: dict[str, Any] = {"": None, **self._constants}
        known |= zip((spec.name for spec in self.graph.inputs), arrays, strict=True)
        made, found = 0, []
        began = time.perf_counter_ns()
        for number, node in enumerate(self.graph.nodes):
            start = time.perf_counter_ns() - began
            inputs = [known[name] for name in node.inputs]
            results: Sequence[Value] | None = None
            if ops.op(node).runs_on_values:  # to infer its types would be to compute it
                results = evaluate(node, inputs)
                given = [as_dtype(np.asarray(y).dtype) for y in results]
                if any(_is_half(dtype) for dtype in given):
                    raise _Rounded
            elif not dtypes or _max_elements(node, inputs) > UNSEEN:
                types = _types(node, inputs)
                if made + sum(t.nbytes for t in types) > MAX_WORK:
                    raise _TooLarge
                given = [t.dtype for t in types]
            else:
                given = dtypes[number]
            if results is None:
                results = evaluate(node, inputs)
            for name, value, dtype in zip(node.outputs, results, given, strict=False):
                array = np.asarray(value, dtype.numpy)
                made += array.nbytes
                known[name] = array
            known[""] = None
            if made > MAX_WORK:
                raise _TooLarge
            found.append(given)
            if spans is not None:
                spans[0, number] = start, time.perf_counter_ns() - began
        # An output may be a view of an input or of a constant.
        return found, [np.array(known[spec.name]) for spec in self.graph.outputs]

    # What a plan tells of itself -----------------------------------------------------------------

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The graph, as its nodes are run."""
        return (self.graph,)

    @property
    def steps(self) -> list[ReferenceStep]:
        """A step for each node."""
        return [ReferenceStep(node, [], []) for node in self.graph.nodes]

    def describe(self) -> list[StepInfo]:
        """The nodes in order."""
        note = "on few elements: not planned"
        return [StepInfo(n.name, "reference", f"{n.op} {note}", 0.0) for n in self.graph.nodes]

    def trace(self, values: Sequence[Value], threads: int, evaluate: Evaluate) -> Array | None:
        """The times of each node in one run, as in `Plan.trace`; None if the values need a plan."""
        spans = np.full((threads, len(self.graph.nodes), 2), -1, np.int64)
        return None if self.run(values, evaluate, spans) is None else spans


def _sizes(x: Array) -> tuple[tuple[int, ...], bytes]:
    """A plan for a value holds for its shape, and for its elements if they may be sizes."""
    few = x.dtype.kind in "iu" and x.nbytes <= MAX_COUNTED
    return x.shape, x.tobytes() if few else b""


def _max_elements(node: Node, inputs: Sequence[Array | None]) -> float:
    """An upper bound on the elements of the result: all pairs, or as many as an input states."""
    elements = 1.0
    for x in inputs:
        if x is not None:
            elements *= x.size or 1
    at = SIZES.get(node.op)
    if at is not None and at < len(inputs):
        sizes = inputs[at]
        for size in () if sizes is None else sizes.reshape(-1).tolist():
            elements *= abs(size) + 1
        if node.op == "range":
            elements = math.inf if inputs[2] is None or abs(inputs[2]) < 1 else elements
    return elements


def _types(node: Node, inputs: Sequence[Array | None]) -> list[TensorType]:
    """The types of a node's results.

    Raises:
        _Rounded: kernels may round them differently, or compute them in another precision.
    """
    at_places = node.op.startswith(("gather", "scatter"))  # their values are checked when read
    operands = [
        None
        if x is None
        else Operand(name, TensorType(x.shape, as_dtype(x.dtype)), None if at_places else x)
        for name, x in zip(node.inputs, inputs, strict=True)
    ]
    types = ops.op(node).infer(node, operands)
    floats = any(t.dtype.kind == "f" for t in types)
    if (floats and node.op in ROUNDED) or any(_is_half(t.dtype) for t in types):
        raise _Rounded
    return types


def _is_half(dtype: DType) -> bool:
    return dtype.kind == "f" and dtype.itemsize == 2
