"""Small networks written out in a test, run by kernels and by the operators' references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnrt import Model, ops
from cnnrt.graph import Array, Graph, Node, TensorSpec


def network(
    inputs: Mapping[str, Array],
    constants: Mapping[str, Any],
    *nodes: tuple[Any, ...],
    outputs: Sequence[str] = ("y",),
) -> Graph:
    """A graph of nodes (outputs, op, inputs) or (outputs, op, inputs, attributes), names apart by
    spaces."""
    made = []
    for to, op, names, *attributes in nodes:
        node = Node(op, to.split()[0], names.split(" "), to.split(), dict(*attributes))
        ops.complete(node)
        made.append(node)
    return Graph(
        inputs=[TensorSpec(name, x.shape, x.dtype) for name, x in inputs.items()],
        outputs=[TensorSpec(name, ()) for name in outputs],
        nodes=made,
        constants={name: np.asarray(value) for name, value in constants.items()},
    )


def by_reference(graph: Graph, inputs: Mapping[str, Array]) -> list[Array]:
    """The outputs in float64, operator by operator."""
    values = {
        name: value.astype(np.float64) if value.dtype == np.float32 else value
        for name, value in {**graph.constants, **inputs}.items()
    }
    for node in graph.nodes:
        arrays = [values[name] if name else None for name in node.inputs]
        results = ops.op(node).reference(node, *arrays)
        values.update(zip(node.outputs, results, strict=False))
    return [values[spec.name] for spec in graph.outputs]


def by_kernels(
    graph: Graph, inputs: Mapping[str, Array], *, isa: str | None = None, threads: int = 1
) -> list[Array]:
    """The outputs of a model that must not leave any operator to its reference, unless empty.

    A second run must give the same bits: a step may have written over what the plan keeps.
    """
    model = Model(graph, threads=threads, isa=isa)
    one = len(graph.outputs) == 1
    runs = []
    for _ in range(2):
        result = model.run(dict(inputs))
        runs.append([result] if one else [result[spec.name] for spec in graph.outputs])
    results, again = runs
    for first, second in zip(results, again, strict=True):
        np.testing.assert_array_equal(second, first)
    if any(y.size for y in results):
        assert "no kernel" not in str(model.describe()), model.describe()
    return results


def operator(
    op: str,
    x: Array,
    *others: Any,
    outputs: int = 1,
    computed: Sequence[int] = (),
    **attributes: Any,
) -> tuple[Graph, dict[str, Array]]:
    """One operator as a network, and its inputs. These are x and those of `others` whose numbers
    are in `computed` (from 1, as x is input 0). The rest of `others` are constants, or absent if
    None."""
    arrays = {f"x{i}": np.asarray(a) for i, a in enumerate((x, *others)) if a is not None}
    inputs = {name: a for name, a in arrays.items() if name == "x0" or int(name[1:]) in computed}
    constants = {name: a for name, a in arrays.items() if name not in inputs}
    names = " ".join(f"x{i}" if a is not None else "" for i, a in enumerate((x, *others)))
    made = [f"y{i}" for i in range(outputs)]
    return network(inputs, constants, (" ".join(made), op, names, attributes), outputs=made), inputs
