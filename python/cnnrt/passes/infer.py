"""Infers the types of all tensors for given input shapes, and computes constants on the way.

Here the numbers of a file meet what they lead to. Each type is checked before anything of its size
is made. The constants that are computed have a budget in bytes and in work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter, getitem
from typing import Any

import numpy as np

from .. import ops
from ..dtypes import DType
from ..errors import CnnrtError, GraphError, MemoryLimitError, ShapeError, ValueNeeded
from ..graph import Array, Graph, Node, TensorType
from ..ops import Op, Operand
from ..ops.common import ByValue
from ..process import limits
from ..symbolic import call, is_symbolic, known
from ..weights.lazy import LazyArray, lazy

LAZY = 1 << 16
"""Minimum bytes of a constant that is computed when it is packed. Quantised weights are widened so:
kept in float32 they would take four times the file's memory, again for every input size."""
PACKS = frozenset({"conv", "gru", "linear", "lstm", "rnn"})
"""Operators that read such a constant once for all input sizes, while they pack it."""

WIDENING = frozenset({"add", "cast", "dequantize_linear", "mul", "reshape", "sub", "transpose"})
"""Operators that make floats of quantised weights; each element is computed by itself."""

LOOP = 10_000
"""Approximate number of elements whose work equals one step of a loop in Python."""


class Budget:
    """The remaining budget for computing constants, and the bytes that a tensor may have.

    Raises:
        ShapeError: an input is larger than that.
    """

    def __init__(
        self, graph: Graph, types: Mapping[str, TensorType], limit: int | None = None
    ) -> None:
        if limit is None:
            limit = limits.memory_limit(sum(type_.nbytes for type_ in types.values()))
        self.limit = limit
        for spec in graph.inputs:
            if spec.kind == "tensor":
                _check_type(types[spec.name], limit, f"input {spec.name!r}")
        stored = sum(value.nbytes for value in graph.constants.values())
        self.nbytes = limits.FOLDED_FLOOR + limits.FOLDED_FACTOR * stored
        self.work = limits.FOLDED_WORK
        self.lazy: set[str] = set()
        """Constants that are computed at each use."""

    def take(self, nbytes: int, work: int) -> bool:
        """Spends a part of the budget; False, and nothing is spent, if there is not as much
        left."""
        if nbytes > self.nbytes or work > self.work:
            return False
        self.nbytes -= nbytes
        self.work -= work
        return True


def infer(graph: Graph, shapes: Mapping[str, tuple[int, ...]], limit: int | None = None) -> None:
    """Fills `graph.types` and turns nodes of constant inputs into constants.

    Args:
        graph: is changed.
        shapes: shapes of the inputs.
        limit: bytes that no tensor may exceed; None: `limits.memory_limit` of what is given.

    Raises:
        ShapeError: an operator does not take what these shapes lead to, or a tensor is too large.
    """
    types = known_types(graph, shapes)
    budget = Budget(graph, types, limit)
    graph.nodes = [node for node in graph.nodes if not infer_node(node, graph, types, budget)]
    graph.types = types
    if budget.lazy:
        settle(graph, graph.nodes, [spec.name for spec in graph.outputs], budget.lazy)


def settle(graph: Graph, nodes: Iterable[Node], outputs: Iterable[str], lazy: set[str]) -> None:
    """Computes the lazy constants that are read by others than `PACKS`, and drops those not read.

    Args:
        graph: its constants are changed.
        nodes: all that are left.
        outputs: tensors that are read beside those.
        lazy: names of lazy constants.
    """
    kept: set[str] = set()
    read = set(outputs)
    for node in nodes:
        (kept if node.op in PACKS else read).update(node.inputs)
    for name in lazy:
        if name in read:
            graph.constants[name] = np.asarray(graph.constants[name])
            graph.varying.add(name)  # another array for each size, as of any that is computed
        elif name not in kept:
            del graph.constants[name]


def problems(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, CnnrtError]:
    """The errors of nodes that cannot run on inputs of these shapes, by the nodes' names.

    Nodes that read the outputs of such a node are passed over.
    """
    graph = graph.copy()
    types = known_types(graph, shapes)
    budget = Budget(graph, types)
    found: dict[str, CnnrtError] = {}
    for node in graph.nodes:
        if all(name in types for name in node.inputs if name):
            try:
                infer_node(node, graph, types, budget)
            except CnnrtError as error:
                found[node.name] = error
    return found


def known_types(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, TensorType]:
    """The types of the constants and of the inputs that are tensors.

    Those of constants may be in `graph.types` already (`passes.prepare`).
    """
    known = graph.types
    types = {name: known[name] for name in graph.constants if name in known}
    types |= constant_types(graph, graph.constants.keys() - types.keys())
    for spec in graph.inputs:
        if spec.kind == "tensor":
            types[spec.name] = TensorType(tuple(shapes[spec.name]), spec.dtype)
    return types


def constant_types(graph: Graph, names: Iterable[str]) -> dict[str, TensorType]:
    """The types of constants of the graph."""
    values = {name: graph.constants[name] for name in names}
    return {name: TensorType(value.shape, value.dtype) for name, value in values.items()}


def infer_node(node: Node, graph: Graph, types: dict[str, TensorType], budget: Budget) -> bool:
    """Enters the types of a node's outputs. If these are constant, enters their values too and
    returns True."""
    constants = graph.constants
    operands: list[Operand | None] = []
    computed = False
    for name in node.inputs:
        if not name:
            operands.append(None)
            continue
        type_ = types.get(name)
        if type_ is None:
            problem = f"{_Place(node)}: {name!r} is no tensor"
            raise ValueNeeded(problem, name, runs_on_values=True)
        value = constants.get(name)
        computed = computed or value is None
        operands.append(Operand(name, type_, value))
    op = ops.op(node)
    inferred = _types(node, op, operands, budget, computed=computed)
    types.update(zip(node.outputs, inferred, strict=True))
    if computed and not op.type_only:  # nearly all
        return False
    if graph.varying.isdisjoint(node.inputs):
        value = _lazily(node, operands, inferred, budget)
        if value is not None:
            constants[node.outputs[0]] = value
            budget.lazy.add(node.outputs[0])
            return True
    values = _fold(node, op, operands, inferred, budget)
    if values is None:
        return False
    for name, value, type_ in zip(node.outputs, values, inferred, strict=True):
        if name:
            constants[name] = value
            graph.varying.add(name)
            shape = call(np.shape, value)
            if is_symbolic(shape):
                shape = tuple([call(getitem, shape, i) for i in range(known(call(len, shape)))])
            dtype = known(call(attrgetter("dtype"), value))
            if shape != type_.shape or dtype != type_.dtype.numpy:
                types[name] = TensorType(shape, dtype)
    return True


def inputs_of_value(graph: Graph, tensor: str) -> set[str]:
    """The names of the inputs that the value of a tensor depends on, not only its type."""
    producers = graph.producers()
    inputs = {spec.name for spec in graph.inputs}
    found: set[str] = set()
    pending, seen = [tensor], set()
    while pending:
        name = pending.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        if name in inputs:
            found.add(name)
        elif name in producers and not ops.op(producers[name]).type_only:
            pending += producers[name].inputs
    return found


def _types(
    node: Node, op: Op, operands: Sequence[Operand | None], budget: Budget, *, computed: bool
) -> list[TensorType]:
    """The checked types of a node's outputs; `computed`: if an input is no constant."""
    # Its shapes are its results: what they cost is paid here.
    by_value = not computed and isinstance(op, ByValue)
    if by_value and not budget.take(0, work_of(node, _types_of(operands), [])):
        problem = f"{_Place(node)}: is too much work to be done before the network runs"
        raise ShapeError(problem)
    try:
        inferred = op.infer(node, operands)
    except CnnrtError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        problem = f"{_Place(node)}: does not take its inputs and attributes: {error}"
        raise ShapeError(problem) from error
    if len(inferred) != len(node.outputs):
        raise GraphError(
            f"{_Place(node)} has {len(node.outputs)} outputs; the operator makes {len(inferred)}"
        )
    for name, type_ in zip(node.outputs, inferred, strict=True):
        if not _fits(type_, budget.limit):
            _check_type(type_, budget.limit, f"{_Place(node)}: output {name!r}")
    return inferred


def _fold(
    node: Node,
    op: Op,
    operands: Sequence[Operand | None],
    inferred: list[TensorType],
    budget: Budget,
) -> tuple[Array, ...] | None:
    """The values of a node's outputs, if they can be known now and are worth it.

    Args:
        operands: all of which are constant, or the operator asks for their types alone.
    """
    present = [x for x in operands if x is not None]
    if op.type_only:
        arrays = [call(_zeros, x.type.dtype, *x.shape) for x in present]
    elif present and op.pure:
        work = work_of(node, _types_of(operands), inferred)
        if not budget.take(sum(t.nbytes for t in inferred), work):
            return None
        arrays = [call(np.asarray, x.value) for x in present]
    else:
        return None
    given = iter(arrays)
    inputs = [None if x is None else next(given) for x in operands]
    values = call(_values, node, op, *inputs)
    return tuple([call(getitem, values, i) for i in range(len(inferred))])


def _lazily(
    node: Node,
    operands: Sequence[Operand | None],
    inferred: list[TensorType],
    budget: Budget,
) -> Array | None:
    """The value of a node's only output, computed at each use; None if it is small, or of another
    kind than widened weights."""
    if node.op not in WIDENING or len(inferred) != 1:
        return None
    (type_,) = inferred
    if any(map(is_symbolic, type_.shape)) or type_.nbytes < LAZY:
        return None
    values = [None if x is None else x.value for x in operands]
    if sum(isinstance(x, LazyArray) for x in values) > 1:
        return None  # a tree of them would be computed again for each of its branches
    if not budget.take(0, work_of(node, _types_of(operands), inferred)):
        return None
    attributes = tuple(sorted((k, _plain(v)) for k, v in node.attributes.items()))
    return lazy(type_.shape, type_.dtype.numpy, _widened, node.op, attributes, *values)


def _widened(op: str, attributes: tuple[tuple[str, Any], ...], *inputs: Array | None) -> Array:
    given = {k: list(v) if isinstance(v, tuple) else v for k, v in attributes}
    node = Node(op, op, [], [""], given)
    arrays = [None if x is None else np.asarray(x) for x in inputs]
    return _values(node, ops.op(node), *arrays)[0]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _zeros(dtype: DType, *shape: int) -> Array:
    """An array of a type, which takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _values(node: Node, op: Op, *inputs: Array | None) -> tuple[Array, ...]:
    at = f"node {node.name!r} ({node.op})"
    try:
        values = op.reference(node, *inputs)
    except CnnrtError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise ShapeError(f"{at} cannot be evaluated: {error}") from error
    except MemoryError as error:
        raise MemoryLimitError(f"{at} needs more memory than there is: {error}") from error
    return tuple(map(_contiguous, values))


def _contiguous(value: Array) -> Array:
    """The same elements in row-major order; a NumPy scalar as an array."""
    if isinstance(value, np.ndarray) and value.flags.c_contiguous:
        return value
    return np.ascontiguousarray(value).reshape(np.shape(value))


class _Place:
    """A node as errors name it, worded only if there is an error."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def __str__(self) -> str:
        return f"node {self._node.name!r} ({self._node.op})"


def _types_of(operands: Sequence[Operand | None]) -> list[TensorType]:
    return [x.type for x in operands if x is not None]


def work_of(node: Node, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
    """Rough upper bound on the work of the node's reference, in elements.

    Args:
        node: any.
        inputs: those that are present.
        outputs: none if they are not known; they count as the largest input then.
    """
    sizes = [x.size for x in inputs]
    made = sum(type_.size for type_ in outputs) if outputs else max(sizes, default=0)
    work = sum(sizes) + made * math.prod(node.attributes.get("kernel_shape") or (1,))
    op = ops.op(node)
    if op.all_pairs:
        work += made * math.prod(sorted(sizes)[:-1] if node.op == "einsum" else sizes[1:2])
    if op.python_loop:
        work += LOOP * max((max(x.shape, default=1) for x in inputs), default=1)
    return work


def _fits(type_: TensorType, limit: int) -> bool:
    """True if `_check_type` raises nothing; a quick look for the tensors of ordinary networks."""
    shape = type_.shape
    if not 0 < len(shape) <= limits.MAX_RANK:
        return False
    for n in shape:
        if n < 1 or n > limits.MAX_SIZE:
            return False
    return math.prod(shape) * type_.dtype.itemsize <= limit


def _check_type(type_: TensorType, limit: int, at: str) -> None:
    """Checks that a tensor can be held at all, and within the limit.

    Raises:
        ShapeError: it cannot (as a `MemoryLimitError` where it is only too large).
    """
    shape = type_.shape
    if len(shape) > limits.MAX_RANK or not all(0 <= n <= limits.MAX_SIZE for n in shape):
        raise ShapeError(
            f"{at} has shape {shape}; expected at most {limits.MAX_RANK} axes"
            f" of 0 to {limits.MAX_SIZE} elements"
        )
    # Arrays of no elements have axes that are as long as they say, and tables go along those.
    nbytes = math.prod(n for n in shape if n) * type_.dtype.itemsize
    if nbytes > limit:
        limits.check_memory(nbytes, limit, f"{at}, {type_},")
