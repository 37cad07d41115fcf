"""Rewriting a graph before it is lowered. Each pass is one function on a graph, in place.

`ONCE` needs no sizes and runs when a model is loaded; `PER_SHAPE` runs for every new set of input
shapes. Order matters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from ..graph import Array, Graph, TensorType
from .batch_independence import dependence
from .channels_first import channels_first
from .eliminate import eliminate
from .fold_affine import fold_affine
from .fold_norm import fold_norm
from .fuse_attention import fuse_attention
from .fuse_epilogue import fuse_activations, fuse_epilogue
from .fuse_pointwise import fuse_pointwise
from .fuse_quantised import PRODUCTS, fuse_quantised
from .fuse_scale import fuse_scale
from .half_storage import half_storage
from .hoist_reshapes import hoist_reshapes
from .infer import constant_types, infer, inputs_of_value, problems, work_of
from .partition import Partition, partition
from .push_gather_up import push_gather_up
from .quantised import quantised
from .recognise_activations import recognise_activations
from .recognise_rows import REDUCTIONS, recognise_rows
from .rewrite import RULES, rewrite
from .split_transposed import split_transposed
from .to_linear import to_linear
from .widen_weights import widen_weights

ONCE: list[Callable[[Graph], None]] = [
    eliminate,  # what does nothing at inference, and what nobody reads
    fold_norm,  # batch normalisation into the convolution or layer before it
    split_transposed,  # transposed convolutions into ordinary ones
    to_linear,  # gemm and matmul by a constant into linear
    channels_first,  # what is done channels last between two transposes
    eliminate,
    fold_affine,  # bias and scale per channel into the layer before them
    eliminate,
]

PER_SHAPE: list[tuple[Callable[[Graph], None], Sequence[Collection[str]]]] = [
    (recognise_rows, [REDUCTIONS]),  # normalisations that are written as arithmetic
    (rewrite, [RULES]),  # patterns of several operators into the one they mean
    (eliminate, []),  # the parts of those patterns: they are readers no more
    (fuse_quantised, [PRODUCTS]),  # additions and tables of bytes into the product before them
    (fuse_attention, [{"softmax"}, {"matmul"}]),  # products around a softmax into attention
    (push_gather_up, [{"gather"}]),  # a selection of rows before what works row by row
    (hoist_reshapes, [{"linear"}, {"add"}]),  # what lies between a layer and a residual addition
    (fuse_epilogue, []),  # residual additions and activations into what makes their input
    (fuse_scale, [{"mul"}, {"conv"}]),  # squeeze-and-excite's product into the 1x1 after it
    (eliminate, []),
    (fuse_pointwise, []),  # elementwise operators that are left, and connected, into one
]
"""Passes with the operators that they work on. The graph must have one of every group."""


def prepare(
    graph: Graph,
    outputs: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    values: Mapping[str, Array] | None = None,
    limit: int | None = None,
) -> Graph:
    """A copy of the graph, ending at `outputs`, after the passes that need no sizes.

    Args:
        graph: the network, which may come from anybody.
        outputs: names of tensors.
        shapes: shapes of the inputs, to check the graph by. Passes trust it: that a batch
            normalisation has as many channels as the convolution before it, say. None: the graph
            was checked.
        values: values of the inputs that shapes depend on.
        limit: see `infer`.

    Raises:
        GraphError: no tensor has one of the names.
        ShapeError: an operator does not take its inputs, or a tensor is too large.
        ValueNeeded: shapes depend on the value of a tensor that is not given.
    """
    result = graph.ending_at(outputs).copy()
    types: dict[str, TensorType] = {}
    if shapes is not None:
        checked = result.copy()
        checked.constants |= values or {}
        infer(checked, shapes, limit)
        half_storage(result, checked.types)
        types = checked.types
    quantised(result, types)
    widen_weights(result)
    for run in ONCE:
        run(result)
    recognise_activations(result, types)
    eliminate(result)
    fuse_activations(result, types)
    result.types = constant_types(result, result.constants)  # once, and not for every size
    return result


def with_types(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    values: Mapping[str, Array] | None = None,
    limit: int | None = None,
) -> Graph:
    """A copy of a prepared graph for inputs of these shapes: types known, constants folded.

    Args:
        graph: stays as it is.
        shapes: shapes of all inputs, by name.
        values: values of the inputs that are taken as constants.

    Raises:
        ShapeError: an operator does not take what these shapes lead to, or a tensor is larger than
            `limit` bytes (see `infer`).
        ValueNeeded: shapes depend on the value of a tensor that is not constant.
    """
    result = graph.with_own_nodes()
    result.constants |= values or {}
    result.varying |= set(values or {})
    infer(result, shapes, limit)
    return result


def fuse(graph: Graph) -> None:
    """Runs the passes that need sizes, in place on a graph `with_types`."""
    for run, groups in PER_SHAPE:
        present = {node.op for node in graph.nodes}
        if all(not present.isdisjoint(group) for group in groups):
            run(graph)


def specialise(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    values: Mapping[str, Array] | None = None,
    limit: int | None = None,
) -> Graph:
    """A copy of a prepared graph for inputs of these shapes: `with_types`, then `fuse`."""
    result = with_types(graph, shapes, values, limit)
    fuse(result)
    return result


__all__ = [
    "ONCE",
    "PER_SHAPE",
    "Partition",
    "dependence",
    "fuse",
    "infer",
    "inputs_of_value",
    "partition",
    "prepare",
    "problems",
    "specialise",
    "with_types",
    "work_of",
]
