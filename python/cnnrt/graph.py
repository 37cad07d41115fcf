"""The graph of a network: formats read it, passes rewrite it, and a plan is made from it.

Operators are those of ONNX (https://onnx.ai/onnx/operators/) with their attributes, inputs and
outputs in the same order, named in snake_case: ``Conv`` is ``conv``. `cnnrt.ops` defines each, and
a few fused operators that only the passes make.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from . import dtypes
from .dtypes import FLOAT32, DType, as_dtype
from .errors import GraphError
from .process.locks import importing

Array = np.ndarray[Any, np.dtype[Any]]
Value = Array | list[Any] | None
"""The content of a tensor at run time: an array, the list of a sequence, or None for an empty
optional or an absent input."""
Dim = int | str
"""A size, or the name of a size that is known only when an input is seen."""
Kind = Literal["tensor", "sequence", "optional"]

DTYPES = tuple(name for name in dtypes.DTYPES if name != "bfloat16")
"""Names that attributes such as `to` and `dtype` take. NumPy has no bfloat16 in which to compute
references: tensors of that type are float32 in a graph."""


@dataclass(frozen=True, init=False)
class TensorType:
    """Shape and dtype of a tensor whose sizes are all known."""

    shape: tuple[int, ...]
    dtype: DType

    def __init__(self, shape: tuple[int, ...], dtype: DType | DTypeLike = FLOAT32) -> None:
        """Raises TypeError if no tensor can have such elements."""
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "dtype", dtype if isinstance(dtype, DType) else as_dtype(dtype))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


ANY_SHAPE = ("...",)
"""The shape of an input that takes arrays of any rank."""


@dataclass(frozen=True, init=False)
class TensorSpec:
    """Name, shape and dtype of a model's input or output; named sizes are free."""

    name: str
    shape: tuple[Dim, ...]
    dtype: DType
    kind: Kind = "tensor"
    """ONNX's kind of value. For a sequence or an optional, dtype is that of its elements."""

    def __init__(
        self,
        name: str,
        shape: tuple[Dim, ...],
        dtype: DType | DTypeLike = FLOAT32,
        kind: Kind = "tensor",
    ) -> None:
        """Raises TypeError if no tensor can have such elements."""
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "dtype", as_dtype(dtype))
        object.__setattr__(self, "kind", kind)

    def accepts(self, shape: Sequence[int]) -> bool:
        """True if an array of this shape fits: same rank, and equal wherever a size is fixed."""
        if self.shape == ANY_SHAPE:
            return True
        return len(shape) == len(self.shape) and all(
            isinstance(want, str) or want == got
            for want, got in zip(self.shape, shape, strict=True)
        )


@dataclass(slots=True)
class Node:
    """One operator applied to named tensors. An absent optional input is the empty name."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, attribute: str) -> Any:
        return self.attributes[attribute]

    def input(self, index: int) -> str:
        """The name of an input; empty if it is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def subgraphs(self) -> dict[str, Graph]:
        """The branches or bodies of a control-flow operator, by attribute."""
        return {k: v for k, v in self.attributes.items() if isinstance(v, Graph)}

    def __str__(self) -> str:
        attributes = ", ".join(f"{k}={v}" for k, v in self.attributes.items())
        return (
            f"{', '.join(self.outputs)} = {self.op}({', '.join(self.inputs)})"
            f"{' ' if attributes else ''}{attributes}"
        )


@dataclass
class Graph:
    """Nodes in topological order, the constants they read, and the names at both ends."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    nodes: list[Node]
    constants: dict[str, Array]
    name: str = "model"
    types: dict[str, TensorType] = field(default_factory=dict)
    """The type of every tensor, once `passes.infer` has seen the sizes of the inputs."""
    varying: set[str] = field(default_factory=set)
    """The constants whose value depends on the sizes of the inputs."""
    optional_inputs: list[TensorSpec] = field(default_factory=list)
    """The constants that are the defaults of inputs, which a run may give instead."""

    def copy(self) -> Graph:
        """A graph whose nodes and tables may be changed; the constants' arrays are shared."""
        nodes = [
            Node(n.op, n.name, list(n.inputs), list(n.outputs), dict(n.attributes))
            for n in self.nodes
        ]
        return Graph(
            list(self.inputs),
            list(self.outputs),
            nodes,
            dict(self.constants),
            self.name,
            dict(self.types),
            set(self.varying),
            list(self.optional_inputs),
        )

    def with_own_nodes(self) -> Graph:
        """A graph whose tables may be changed, and whose nodes may be given other inputs, outputs
        and attributes. The lists and dicts themselves are shared with this graph, and may not
        change."""
        nodes = [Node(n.op, n.name, n.inputs, n.outputs, n.attributes) for n in self.nodes]
        return replace(
            self,
            nodes=nodes,
            constants=dict(self.constants),
            types=dict(self.types),
            varying=set(self.varying),
        )

    def with_inputs(self, names: Iterable[str]) -> Graph:
        """A copy in which these optional inputs are required."""
        result, wanted = self.copy(), set(names)
        result.optional_inputs = [s for s in self.optional_inputs if s.name not in wanted]
        result.inputs += [s for s in self.optional_inputs if s.name in wanted]
        for name in wanted:
            del result.constants[name]
        return result

    def producers(self) -> dict[str, Node]:
        """The node that makes each tensor, for tensors that a node makes."""
        return {output: node for node in self.nodes for output in node.outputs if output}

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each tensor (once per reading)."""
        table: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                if name in table:
                    table[name].append(node)
                elif name:
                    table[name] = [node]
        return table

    def reader_counts(self) -> dict[str, int]:
        """The number of times that each tensor is read; an output of the graph counts as read
        once."""
        counts: dict[str, int] = {}
        for node in self.nodes:
            for name in node.inputs:
                if name:
                    counts[name] = counts.get(name, 0) + 1
        for spec in self.outputs:
            counts[spec.name] = counts.get(spec.name, 0) + 1
        return counts

    def tensors(self) -> Iterator[str]:
        """The names of all tensors that can be requested: inputs, then the outputs of nodes."""
        yield from (spec.name for spec in self.inputs)
        for node in self.nodes:
            yield from filter(None, node.outputs)

    def ending_at(self, outputs: Sequence[str]) -> Graph:
        """The part of this graph that computes the tensors `outputs`, and no more.

        Raises:
            GraphError: no tensor has one of these names.
        """
        producers = self.producers()
        known = {spec.name: spec for spec in (*self.inputs, *self.outputs)}
        needed: set[str] = set()
        pending = list(outputs)
        while pending:
            name = pending.pop()
            if name in needed:
                continue
            needed.add(name)
            if name in producers:
                pending.extend(filter(None, producers[name].inputs))
            elif name not in known and name not in self.constants:
                raise GraphError(
                    f"no tensor of {self.name!r} is named {name!r}; {_nearest(name, self)}"
                )
        nodes = [n for n in self.nodes if any(o in needed for o in n.outputs)]
        return Graph(
            inputs=list(self.inputs),
            outputs=[known.get(name, TensorSpec(name, ())) for name in outputs],
            nodes=nodes,
            constants={k: v for k, v in self.constants.items() if k in needed},
            name=self.name,
        )

    def beginning_at(self, given: TensorSpec) -> Graph:
        """The part of this graph, to its outputs, that needs no input but this tensor."""
        rest = self.copy()
        rest.inputs = [given]
        rest.nodes = [n for n in rest.nodes if given.name not in n.outputs]
        return rest.ending_at([spec.name for spec in self.outputs])

    def sort(self) -> None:
        """Puts the nodes in topological order, keeping the present order if possible.

        Raises:
            GraphError: a tensor is made twice, read without being made, or depends on itself.
        """
        ready = {spec.name for spec in self.inputs} | set(self.constants) | {""}
        made: dict[str, str] = {}
        for node in self.nodes:
            for output in filter(None, node.outputs):
                if output in made or output in ready:
                    raise GraphError(f"tensor {output!r} is made twice, last by {node.name!r}")
                made[output] = node.name
        for node in self.nodes:
            for name in node.inputs:
                if name not in ready and name not in made:
                    raise GraphError(
                        f"node {node.name!r} ({node.op}) reads {name!r}, which nothing makes"
                    )
        # The first node in the present order whose inputs are all made comes next.
        missing = [len(set(node.inputs) - ready) for node in self.nodes]
        readers: dict[str, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for name in set(node.inputs) - ready:
                readers.setdefault(name, []).append(i)
        heap = [i for i, count in enumerate(missing) if count == 0]
        done = []
        while heap:
            node = self.nodes[heapq.heappop(heap)]
            done.append(node)
            ready.update(node.outputs)
            for output in node.outputs:
                for i in readers.get(output, []):
                    missing[i] -= 1
                    if missing[i] == 0:
                        heapq.heappush(heap, i)
        if len(done) < len(self.nodes):
            stuck = next(n for n, count in zip(self.nodes, missing, strict=True) if count)
            raise GraphError(f"the graph has a cycle through node {stuck.name!r}")
        self.nodes = done
        for spec in self.outputs:
            if spec.name not in ready:
                raise GraphError(f"nothing makes the output {spec.name!r}")

    def __str__(self) -> str:
        lines = [f"{spec.name}: {spec.dtype}{list(spec.shape)}" for spec in self.inputs]
        lines += [str(node) for node in self.nodes]
        return "\n".join([*lines, "return " + ", ".join(spec.name for spec in self.outputs)])


def _nearest(name: str, graph: Graph) -> str:
    with importing:
        import difflib  # noqa: PLC0415  (only needed to word an error)

    close = difflib.get_close_matches(name, list(graph.tensors()), n=3, cutoff=0.4)
    if not close:
        return "model.describe() lists them"
    return "did you mean " + " or ".join(repr(c) for c in close) + "?"
