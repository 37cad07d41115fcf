"""Compares a network with another runtime, node by node, to find where they diverge.

There are up to three kinds of runs. The first makes the outputs, as a user's run does. The second
also returns every inner tensor, so little is fused. If only the first differs, a run for each inner
tensor follows, fused as in the first up to there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import ops
from ..errors import CnnrtError, FormatError, GraphError, UnsupportedOperator
from ..feeds import as_input
from ..formats import read
from ..formats.onnx.importer import read_onnx
from ..formats.onnx.names import read_scopes
from ..graph import Array, Graph, Node
from ..model import Model

if TYPE_CHECKING:
    from onnx import ModelProto

Arrays = Mapping[str, Array]
Reference = Callable[[Arrays], dict[str, Array]]
"""Maps inputs by name to all tensors that the reference has, by cnnrt's name."""


@dataclass(frozen=True)
class Difference:
    """The distance of a tensor from the reference's."""

    tensor: str
    largest: float
    """max |cnnrt - reference|; infinite where one is not finite and the other differs."""
    allowed: float
    place: tuple[int, ...]
    """Index of the largest difference."""
    got: Any
    expected: Any

    @property
    def diverges(self) -> bool:
        return not self.largest <= self.allowed

    def __str__(self) -> str:
        if not self.diverges:
            return f"max difference {self.largest:.3g} (allowed {self.allowed:.3g}), agrees"
        return (
            f"max difference {self.largest:.3g} (allowed {self.allowed:.3g}) at "
            f"{list(self.place)}: {self.got}, expected {self.expected}"
        )


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`."""

    outputs: list[Difference]
    nodes: list[tuple[Node, Difference]]
    """Nodes in order, as far as the reference has their tensors."""
    first: tuple[Node, Difference] | None
    """The first node that diverges."""
    fused: bool
    """True if it diverges only when it is fused with others."""

    @property
    def diverges(self) -> bool:
        return self.first is not None or any(d.diverges for d in self.outputs)


def difference(tensor: str, got: Array, expected: Array, rtol: float, atol: float) -> Difference:
    """Compares two arrays; allowed is atol + rtol * max |expected|."""
    if got.shape != expected.shape:
        shapes = f"shape {list(got.shape)}", f"shape {list(expected.shape)}"
        return Difference(tensor, np.inf, 0.0, (), *shapes)
    a, b = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    scale = float(np.abs(b[finite]).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        error = np.where(finite, np.abs(a - b), np.inf)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    error = np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf))
    place = np.unravel_index(int(error.argmax()), error.shape) if error.size else ()
    at = tuple(int(i) for i in place)
    return Difference(
        tensor,
        float(error.max(initial=0.0)),
        atol + rtol * scale,
        at,
        got[at].item() if got.size else None,
        expected[at].item() if got.size else None,
    )


def compare(
    model: Model, reference: Reference, inputs: Arrays, *, rtol: float = 1e-4, atol: float = 1e-8
) -> Comparison:
    """Runs a model and a reference on the same inputs.

    A tensor diverges if max |cnnrt - reference| > atol + rtol * max |reference|.

    Raises:
        ShapeError: an input does not fit the model.
        GraphError: the reference lacks an output.
    """
    results = model.run(dict(inputs), outputs=[spec.name for spec in model.outputs])
    results = results if isinstance(results, dict) else {model.outputs[0].name: results}
    # After a run the inputs are known to fit; the reference gets them as cnnrt does.
    inputs = {spec.name: as_input(spec, inputs[spec.name]) for spec in model.inputs}
    wanted = reference(inputs)
    missing = [spec.name for spec in model.outputs if spec.name not in wanted]
    if missing:
        raise GraphError(f"the reference does not have the outputs {', '.join(missing)}")

    def differences(names: list[str]) -> list[Difference]:
        result = model.run(dict(inputs), outputs=names)
        arrays = {names[0]: result} if len(names) == 1 else result
        return [difference(n, arrays[n], wanted[n], rtol, atol) for n in names]

    outputs = [difference(n, y, wanted[n], rtol, atol) for n, y in results.items()]
    tensors = [
        (node, name) for node in model.graph.nodes for name in node.outputs if name in wanted
    ]
    names = [name for _, name in tensors]
    nodes: list[tuple[Node, Difference]] = []
    if names:
        pairs = zip(tensors, differences(names), strict=True)
        nodes = [(node, found) for (node, _), found in pairs]
    first = next((pair for pair in nodes if pair[1].diverges), None)
    fused = first is None and any(d.diverges for d in outputs)
    if fused:
        found_alone = ((node, differences([name])[0]) for node, name in tensors)
        first = next((pair for pair in found_alone if pair[1].diverges), None)
    return Comparison(outputs, nodes, first, fused)


# References -------------------------------------------------------------------------------------


def numpy_reference(graph: Graph) -> Reference:
    """cnnrt's own NumPy references of the operators, for the graph as it is in the file."""

    def run(inputs: Arrays) -> dict[str, Array]:
        known: dict[str, Array] = {**graph.constants, **inputs}
        for node in graph.nodes:
            arguments = [np.asarray(known[name]) if name else None for name in node.inputs]
            results = ops.op(node).reference(node, *arguments)
            known |= {n: y for n, y in zip(node.outputs, results, strict=False) if n}
        return known

    return run


def onnxruntime_reference(path: str) -> Reference:
    """ONNX Runtime, without its own optimisations, on an ONNX file.

    Raises:
        ImportError: the package onnxruntime is missing.
        UnsupportedOperator: it does not run the model.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            "the reference onnxruntime needs the package: pip install onnxruntime"
        ) from error
    proto = _load_onnx(path)
    outputs = {value.name for value in proto.graph.output}
    for node in proto.graph.node:
        for name in node.output:
            if name and name not in outputs:
                proto.graph.output.add(name=name)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its own classes, which have no common base
        raise UnsupportedOperator(f"{path}: ONNX Runtime does not load it: {error}") from None
    names = [value.name for value in session.get_outputs()]

    def run(inputs: Arrays) -> dict[str, Array]:
        try:
            results = session.run(names, dict(inputs))
        except Exception as error:
            raise UnsupportedOperator(f"{path}: ONNX Runtime does not run it: {error}") from None
        return {n: y for n, y in zip(names, results, strict=True) if isinstance(y, np.ndarray)}

    return run


def torch_reference(path: str, program: str) -> Reference:
    """PyTorch, running the program from which the ONNX file was made.

    The exporter notes at each node of ONNX the call of the program that it belongs to. The last
    node of a call makes its result.

    Args:
        path: the ONNX file.
        program: what `torch.export.save` wrote; load none that you do not trust.

    Raises:
        ImportError: the package torch is missing.
        FormatError: the program cannot be loaded, or takes other inputs.
    """
    try:
        import torch  # noqa: PLC0415
    except ImportError as error:
        raise ImportError("the reference torch needs the package: pip install torch") from error
    if not Path(program).is_file():
        raise FormatError(
            f"{program}: no such file; the reference torch needs the program of which the ONNX "
            "file was made, as torch.export.save writes it, beside it or given by --program"
        )
    try:
        module = torch.export.load(program).module()
    except Exception as error:  # whatever unpickling raises
        raise FormatError(f"{program}: is not what torch.export.save writes: {error}") from None
    proto = _load_onnx(path)
    initial = {tensor.name for tensor in proto.graph.initializer}
    input_names = [value.name for value in proto.graph.input if value.name not in initial]
    made = _tensors_of_calls(proto)

    class Recorder(torch.fx.Interpreter):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            super().__init__(module)
            self.known: dict[str, Array] = {}

        def run_node(self, node: Any) -> Any:
            result = super().run_node(node)
            if isinstance(result, torch.Tensor) and node.name in made:
                self.known[made[node.name]] = result.detach().numpy().copy()
            return result

    def run(inputs: Arrays) -> dict[str, Array]:
        recorder = Recorder()
        arguments = [torch.from_numpy(np.array(inputs[name])) for name in input_names]
        try:
            with torch.no_grad():
                result = recorder.run(*arguments)
        except Exception as error:
            raise FormatError(f"{program}: does not run on these inputs: {error}") from None
        leaves = torch.utils._pytree.tree_leaves(result)
        names = [value.name for value in proto.graph.output]
        if len(leaves) != len(names):
            raise FormatError(f"{program}: has {len(leaves)} outputs, {path} has {len(names)}")
        known = recorder.known
        return known | {n: y.numpy() for n, y in zip(names, leaves, strict=True)}

    return run


def _tensors_of_calls(proto: ModelProto) -> dict[str, str]:
    """The tensor of ONNX that is the result of each call of the exported program."""
    table: dict[str, str] = {}
    for node in proto.graph.node:
        scope = read_scopes(node)
        if scope is not None and len(node.output) == 1:
            table[scope.call] = node.output[0]
    return table


def _load_onnx(path: str) -> ModelProto:
    """An ONNX file with the data that lie beside it.

    Raises:
        FormatError: it is none.
    """
    import onnx  # noqa: PLC0415  (an optional dependency)

    try:
        return onnx.load(path)
    except OSError as error:
        raise FormatError(f"{path}: {error.strerror}") from None
    except Exception as error:
        raise FormatError(f"{path}: is not an ONNX file: {error}") from None


REFERENCES = ("onnxruntime", "torch", "numpy")


def load_pair(
    path: str, reference: str, program: str | None = None, **options: Any
) -> tuple[Model, Reference]:
    """A model, with tensors named as in its file, and the reference for it.

    Args:
        path: an ONNX file; for the reference numpy also a model.bin.
        reference: one of `REFERENCES`.
        program: see `torch_reference`; None: the model's file with the suffix .pt2.
        options: options of `Model`.

    Raises:
        FormatError: a file is missing, damaged or of another kind.
        UnsupportedOperator: cnnrt or the reference does not run it.
        ImportError: the reference is not installed.
    """
    document = read(path)
    is_onnx = "cnnrt.format_version" not in document.metadata and _is_onnx(path)
    graph = read_onnx(path, module_names=False) if is_onnx else document.graph
    model = Model(graph, preprocessing=document.preprocessing, **options)
    if reference == "numpy":
        return model, numpy_reference(graph)
    if not is_onnx:
        raise FormatError(
            f"{path}: the reference {reference} needs the ONNX file; for a model.bin add "
            "--reference numpy"
        )
    if reference == "onnxruntime":
        return model, onnxruntime_reference(path)
    return model, torch_reference(path, program or str(Path(path).with_suffix(".pt2")))


def _is_onnx(path: str) -> bool:
    with Path(path).open("rb") as file:
        return file.read(9)[8:9] != b"{"


def layers(path: str) -> dict[str, str]:
    """The module of PyTorch that makes each tensor of an ONNX file, if that is noted."""
    try:
        proto = _load_onnx(path)
    except (CnnrtError, ImportError):
        return {}
    pairs: Iterable[tuple[str, Any]] = (
        (name, read_scopes(node)) for node in proto.graph.node for name in node.output
    )
    return {name: scope.module for name, scope in pairs if scope and scope.module}
