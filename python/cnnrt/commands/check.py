"""`python -m cnnrt check`: lists everything in a model that cnnrt does not run."""

from __future__ import annotations

import argparse

import numpy as np

from .. import formats
from ..errors import UnsupportedOperator, ValueNeeded
from ..graph import Graph
from ..model import Model, plan_for
from ..passes import partition, problems
from ..planning.description import missing_kernels
from .common import add_input, planned_shapes

HELP = "list what in a model cnnrt does not run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists every node of a model that cnnrt does not run: its operator, name, source layer "
        "and input shapes. Nothing is converted or run. Exit status 0 if there is none, else 1."
    )
    parser.add_argument("model", help="an ONNX file or model.bin")
    parser.add_argument(
        "--verify", action="store_true", help="also compare a model.bin with its digests"
    )
    add_input(parser)


def execute(options: argparse.Namespace) -> int:
    """Prints the list, or one line that says that there is none.

    Raises:
        FormatError: the file is missing, damaged or of another kind.
    """
    try:
        graph = formats.read(options.model, verify=options.verify).graph
    except UnsupportedOperator as error:
        print(error)
        return 1
    shapes, unknown = planned_shapes(graph.inputs, options.input)
    if not unknown and (found := _problems(graph, shapes)):
        print(f"{options.model}: cnnrt does not run {len(found)} of its {len(graph.nodes)} nodes:")
        print("\n".join(f"  {line}" for line in found))
        return 1
    operators = len({node.op for node in graph.nodes})
    nodes, ops = _count(len(graph.nodes), "node"), _count(operators, "operator")
    stages = "" if unknown else _stages(graph, shapes)
    slow = "" if unknown or stages else _without_kernel(graph, shapes)
    print(f"{options.model}: cnnrt runs it: {nodes}, {ops}{stages}{slow}{_note(unknown)}")
    return 0


def _problems(graph: Graph, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """A line for each node that does not run on inputs of these shapes."""
    found = problems(graph, shapes).values()
    return [str(error) for error in found if not isinstance(error, ValueNeeded)]


def _stages(graph: Graph, shapes: dict[str, tuple[int, ...]]) -> str:
    """A line about sizes that depend on more than the shapes of the inputs; empty if none does."""
    try:
        parts = partition(graph, shapes)
    except ValueNeeded as error:
        return f"\nsizes depend on the value of {error.tensor!r}: planned for each value of it"
    if not parts.on_values and parts.rest is None:
        return ""
    names = ", ".join(f"{node.name} ({node.op})" for node in parts.on_values) or "computed sizes"
    count = 0 if parts.rest is None else len(parts.rest.nodes)
    return (
        f"\nin stages: the types of results depend on values at {names}; "
        f"{_count(count, 'node')} after that, planned when the sizes are known"
    )


def _without_kernel(graph: Graph, shapes: dict[str, tuple[int, ...]]) -> str:
    """A line about the steps that NumPy computes, as they have no kernel; empty if none does."""
    if any(spec.kind != "tensor" for spec in graph.inputs):
        return ""
    arrays = [np.zeros(shapes[spec.name], spec.dtype) for spec in graph.inputs]
    missing = missing_kernels(plan_for(Model(graph), arrays))
    return f"\n{missing}" if missing else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _note(unknown: list[str]) -> str:
    if not unknown:
        return ""
    return f" (free sizes, {', '.join(unknown)}: give --input to have the shapes checked too)"
